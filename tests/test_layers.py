"""Imports point upstream; refusals follow the table of exit codes."""

import ast
import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import icf_tools
from icf_tools import errors
from icf_tools.errors import IcfError

PACKAGE = Path(icf_tools.__file__).parent
LAYERS = ["errors", "model", "store", "dicom", "archive", "index", "settings", "dataset"]
LAYERS += ["derive", "pipeline", "catalog", "access", "client", "cli", "__main__"]
DEPTH = {name: depth for depth, name in enumerate(LAYERS)}
MODULES = sorted(PACKAGE.rglob("*.py"))


def downstream(file: Path) -> Iterator[str]:
    """Names that the file imports from below itself."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            if top == "icf_tools" and rest and DEPTH.get(rest[0], -1) > DEPTH[parts[0]]:
                yield name


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_upstream(file: Path) -> None:
    if file != PACKAGE / "__init__.py":
        assert list(downstream(file)) == []


def test_every_module_is_in_a_layer() -> None:
    tops = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in MODULES}
    assert tops - {"__init__"} == set(LAYERS)


def refusals() -> list[type[IcfError]]:
    for module in pkgutil.walk_packages(icf_tools.__path__, "icf_tools."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, pending = [], [IcfError]
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending += kind.__subclasses__()
    return found


def test_kinds_have_the_exit_codes_of_the_table() -> None:
    kinds = {kind.__name__: kind.exit_code for kind in IcfError.__subclasses__()}
    table = {
        "UsageError": 2,
        "NotFound": 3,
        "Conflict": 4,
        "Damaged": 5,
        "Refused": 6,
        "Locked": 7,
        "AccessDenied": 8,
        "RemoteFailed": 9,
        "PartlyDone": 10,
    }
    assert {name: kinds.get(name) for name in table} == table
    assert set(kinds.values()) <= {1, *table.values()}


@pytest.mark.parametrize("kind", refusals(), ids=lambda kind: kind.__name__)
def test_a_refusal_survives_the_way_back_from_a_worker(kind: type[IcfError]) -> None:
    error = kind(*"abcdef")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))


@pytest.mark.parametrize("kind", refusals(), ids=lambda kind: kind.__name__)
def test_a_refusal_is_one_sentence_that_says_what_to_do(kind: type[IcfError]) -> None:
    if kind.message != errors.IcfError.message:
        text = str(kind(*"abcdef"))
        assert "\n" not in text
        assert ";" in text or kind.__name__ in ("BadSettings", "BadUrl"), text  # in their arguments
