"""A visit behind a server that does as it is told, and what was asked of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import dicoms
from tests.dataset.clients import Deposit, deposit, fill
from tests.faults import FaultyServer, faulty_server

TARBALL = "/study/visit_dicom.tar"


@dataclass(frozen=True, slots=True)
class Archive:
    deposit: Deposit
    server: FaultyServer

    @property
    def asked(self) -> list[str]:
        """Ranges of the tarball, or nothing for all of it."""
        return [each.range for each in self.server.requests if each.path == TARBALL]

    @property
    def sent(self) -> int:
        """Bytes of the tarball."""
        return sum(each.sent for each in self.server.requests if each.path == TARBALL)


@contextmanager
def served_archive(folder: Path, files: Mapping[str, bytes]) -> Iterator[Archive]:
    """With two series of three images, and these files."""
    source = dicoms.visit(folder / "incoming")
    fill(source, files)
    with faulty_server(folder / "store") as server:
        yield Archive(deposit(folder / "store", source, server.url), server)
