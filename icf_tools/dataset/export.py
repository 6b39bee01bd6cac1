"""The file <visit>_XDLRA--repo-export: a ZIP of a bare repository.

in: a bare repository in a folder    out: the ZIP; and back

What datalad-next reads of it: docs/formats.md.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from icf_tools.dataset.repository import create, export_files

_BROKEN = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError)


def write_export(out: BinaryIO, folder: Path, commits: Mapping[str, str]) -> None:
    """Write the ZIP; the same repository gives the same bytes."""
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in export_files(folder, commits):
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3
            info.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
            info.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
            with archive.open(info, "w") as member:
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        while piece := file.read(1 << 20):
                            member.write(piece)
                else:
                    member.write(content)


def exported_refs(path: Path) -> str | None:
    """Its packed-refs; None where there is no ZIP, or it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
            return archive.read("packed-refs").decode()
    except (FileNotFoundError, *_BROKEN):
        return None


def unpack(path: Path, folder: Path) -> None:
    """Make an empty folder the repository, with its packs and nothing that git would obey."""
    create(folder)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            where = PurePosixPath(name)
            if str(where.parent) == "objects/pack" and where.suffix in (".pack", ".idx"):
                with archive.open(name) as packed, (folder / where).open("wb") as out:
                    while piece := packed.read(1 << 20):
                        out.write(piece)
