"""Write what docs/ takes from the code: python docs/make_reference.py

in: commands, recorded elements    out: reference.md, tables in settings.md and catalog.md
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from icf_tools.cli import scripts
from icf_tools.cli.app import app
from icf_tools.model.dicom import ANNEX_METADATA, DENIED, RECORDED
from icf_tools.model.search import DEFAULT

DOCS = Path(__file__).resolve().parent


def main() -> None:
    """Write the files."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The text of each file that is made, all or in part, from the code."""
    return {
        "reference.md": reference(),
        "settings.md": with_tables("settings.md", recorded=_recorded(), denied=_denied()),
        "catalog.md": with_tables("catalog.md", elements=_elements()),
    }


def commands() -> dict[str, Any]:
    """Every command as a user calls it; `icf` itself is left out."""
    icf: Any = typer.main.get_command(app)
    found = {f"icf {name}": command for name, command in icf.commands.items()}
    return found | {
        name: _program(getattr(scripts, f"_{name}"))
        for name in vars(scripts)
        if hasattr(scripts, f"_{name}")
    }


def reference() -> str:
    """One section for each command."""
    parts = [
        "# Command reference",
        "Made from the code by `docs/make_reference.py`; `--help` of each command says the same.",
        "`icf --version` prints the version. `-h` and `--help` print the help of any command.\n"
        "[Exit codes](admin.md#exit-codes) are the same for all.",
    ]
    for name, command in commands().items():
        parts += _section(name, command)
    return "\n\n".join(parts) + "\n"


def with_tables(page: str, **tables: str) -> str:
    """The page with its tables made anew."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, content in tables.items():
        start = f"<!-- made by docs/make_reference.py: {name} -->"
        text = re.sub(
            rf"({start}\n).*?(<!-- end -->)",
            lambda match, content=content: f"{match[1]}{content}{match[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


def _program(function: Callable[..., object]) -> Any:
    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    program.command()(function)
    return typer.main.get_command(program)


def _section(name: str, command: Any) -> Iterator[str]:
    summary, example = command.help.split("\n\nExample: ")
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [
        param
        for param in command.params
        if param.param_type_name == "option" and "--help" not in param.opts
    ]
    usage = " ".join(_usage(param) for param in arguments)
    yield f"## {name}"
    yield summary
    yield f"```text\n{name} [OPTIONS] {usage}".rstrip() + "\n```"
    for title, rows in (
        ("argument", [(_name(param), _meaning(param)) for param in arguments]),
        ("option", [(_flags(param), _meaning(param)) for param in options]),
    ):
        if rows:
            lines = [f"| {title} | meaning |", "|---|---|"]
            yield "\n".join(lines + [f"| `{left}` | {right} |" for left, right in rows])
    yield f"Example:\n\n```text\n{example.strip()}\n```"


def _name(param: Any) -> str:
    return str(param.metavar).strip("[]")


def _usage(param: Any) -> str:
    return _name(param) if param.required else f"[{_name(param)}]"


def _flags(param: Any) -> str:
    flags = ", ".join(sorted(param.opts, key=len, reverse=True))
    return flags if param.metavar is None else f"{flags} {param.metavar}"


def _meaning(param: Any) -> str:
    notes = []
    if param.param_type_name == "option" and param.required:
        notes.append("Required.")
    if param.envvar:
        notes.append(f"Environment: `{param.envvar}`.")
    if param.default not in (None, False) and not param.required:
        notes.append(f"Default: `{param.default}`.")
    return " ".join([param.help, *notes]).replace("|", r"\|")


def _recorded() -> str:
    rows = [
        f"| {tag.keyword} | ({tag.number >> 16:04X},{tag.number & 0xFFFF:04X}) | {tag.vr} "
        f"| {'list' if tag.many else ''} | {'field' if tag.keyword in ANNEX_METADATA else ''} |"
        for tag in RECORDED
    ]
    head = ["| element | tag | VR | list | field |", "|---|---|---|---|---|"]
    return "\n".join(["", *head, *rows, "", ""])


def _denied() -> str:
    parts = re.split(r"\|(?![^(]*\))", DENIED.pattern)
    return "\n" + ",\n".join(f"`{part}`" for part in parts) + ".\n\n"


def _elements() -> str:
    rows = [
        f"| {element.label} | `{element.type}` | `{'`, `'.join(element.keywords)}` |"
        for element in DEFAULT
    ]
    return "\n".join(["", "| label | type | keywords |", "|---|---|---|", *rows, "", ""])


if __name__ == "__main__":
    main()
