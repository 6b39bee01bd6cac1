"""What a user of the store has: a home, stock programs, and the clones made with them.

Nothing of this package is on the user's path.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icf_tools.model.visit import StorePath, Visit
from tests.conftest import BIN

PROGRAMS = (
    "datalad",
    "git-annex",
    "git-annex-backend-XDLRA",
    "git-annex-remote-archivist",
    "git-annex-remote-uncurl",
    "git-annex-shell",
    "git-remote-datalad-annex",
)
SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin")
ICF_REMOTE = "git-annex-remote-icf"

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Client:
    """A user: everything is run in a session of its own, so nothing can ask questions."""

    home: Path
    authority: Path | None = None  #: certificate of who signs those of the servers

    @classmethod
    def new(cls, home: Path, authority: Path | None = None) -> "Client":
        client = cls(home, authority)
        client.bin.mkdir(parents=True)
        client.install(*PROGRAMS)
        (home / ".gitconfig").write_text("[user]\n\tname = Tester\n\temail = tester@example.org\n")
        return client

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def environment(self) -> dict[str, str]:
        known = {"REQUESTS_CA_BUNDLE": str(self.authority)} if self.authority else {}
        return known | {
            "HOME": str(self.home),
            "PATH": os.pathsep.join([str(self.bin), *SYSTEM]),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
            "DATALAD_UI_PROGRESSBAR": "none",
        }

    def which(self, program: str) -> str | None:
        return shutil.which(program, path=self.environment["PATH"])

    def install(self, *programs: str) -> None:
        """Have programs of this environment, too."""
        for program in programs:
            self.bin.joinpath(program).symlink_to(BIN / program)

    def program(self, name: str, text: str) -> None:
        """Put a program first on the path."""
        self.bin.joinpath(name).write_text(text)
        self.bin.joinpath(name).chmod(0o755)

    def attempt(self, *command: object, cwd: Path, text: str | None = None) -> Done:
        """Run it, whatever comes of it."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
        return subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            timeout=300,
            start_new_session=True,
            **given,
        )

    def run(self, *command: object, cwd: Path, text: str | None = None) -> str:
        """What it printed; it must succeed."""
        done = self.attempt(*command, cwd=cwd, text=text)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def clone(self, url: str, path: Path) -> "Clone":
        self.run("datalad", "clone", url, path, cwd=self.home)
        return Clone(self, path)

    def set_credential(self, name: str, realm: str, user: str, password: str) -> None:
        properties = (f"realm={realm}", f"user={user}", f"secret={password}")
        command = ("datalad", "credentials", "set", name, "type=user_password", *properties)
        self.run(*command, cwd=self.home)


@dataclass(frozen=True, slots=True)
class Clone:
    """A dataset on the user's disk."""

    client: Client
    path: Path

    def attempt(self, *command: object) -> Done:
        return self.client.attempt(*command, cwd=self.path)

    def run(self, *command: object) -> str:
        return self.client.run(*command, cwd=self.path)

    def annex(self, *arguments: object) -> str:
        return self.run("git", "annex", *arguments)

    def records(self, *arguments: object) -> list[dict[str, Any]]:
        """What a git-annex command reports with --json."""
        return [json.loads(line) for line in self.annex(*arguments, "--json").splitlines()]

    def get(self, *paths: object) -> str:
        return self.run("datalad", "get", "--", *paths)

    def urls(self, path: str) -> list[str]:
        """From where the file at this path can come, wherever it is."""
        [report] = self.records("whereis", path)
        return [url for place in report["whereis"] for url in place["urls"]]

    def tell(self, key: str, suffix: str, text: str) -> None:
        """Have the branch git-annex say this in the log of a key."""
        folder = self.annex("examinekey", "--format", "${hashdirlower}", key)
        blob = self.client.run("git", "hash-object", "-w", "--stdin", cwd=self.path, text=text)
        script = (
            "export GIT_INDEX_FILE=.git/other-index\n"
            "git read-tree git-annex\n"
            f"git update-index --add --cacheinfo '100644,{blob.strip()},{folder}{key}{suffix}'\n"
            "git update-ref refs/heads/other/git-annex"
            " $(git commit-tree -p git-annex -m told $(git write-tree))\n"
        )
        self.run("sh", "-euc", script)
        self.annex("metadata", "--key", key)  # it takes over such a branch
        self.run("git", "update-ref", "-d", "refs/heads/other/git-annex")

    def fsck(self) -> None:
        """Digests of all that is here; and every file is here."""
        reports = self.records("fsck")
        bad = [report for report in reports if not report["success"]]
        assert bad == []
        assert {report["file"] for report in reports} == set(self.links)
        assert self.here == set(self.links)

    @property
    def links(self) -> dict[str, str]:
        """Target by path of every link in the tree of HEAD."""
        listed = self.run("git", "ls-tree", "-r", "-z", "HEAD").split("\0")[:-1]
        paths = [line.partition("\t")[2] for line in listed if line.startswith("120000 ")]
        return {path: os.readlink(self.path / path) for path in paths}

    @property
    def here(self) -> set[str]:
        """Paths whose content is on this disk."""
        return {path for path in self.links if (self.path / path).exists()}

    def content(self) -> dict[str, str]:
        """MD5 by path of all annexed files; the tarball is left out."""
        return {path: md5(self.path / path) for path in self.links if not path.startswith("icf/")}


@dataclass(frozen=True, slots=True)
class Deposit:
    """A visit in a store, and the files that went into it."""

    store: StorePath
    source: Path  #: folder that was packed
    store_url: str

    @property
    def clone_url(self) -> str:
        """Written out, for it is what users have in their notes."""
        return (
            "datalad-annex::?type=external&externaltype=uncurl&encryption=none"
            f"&url={self.store_url}/{self.store.visit}_{{{{annex_key}}}}"
        )

    @property
    def expected(self) -> dict[str, str]:
        """MD5 of the source file by path in the dataset."""
        return digests(self.source, self.store.visit.prefix)

    @property
    def tarball(self) -> str:
        """Its path in the dataset."""
        return f"icf/{self.store.visit.visit}_dicom.tar"


def deposit(root: Path, source: Path, store_url: str, visit: str = "study/visit") -> Deposit:
    """Add a folder to the store, as an admin does."""
    store = StorePath(root, Visit.parse(visit))
    study, name = visit.split("/")
    icf("add", study, name, source, store_dir=root, store_url=store_url)
    return Deposit(store, source, store_url)


def icf(command: str, *arguments: object, store_dir: Path, store_url: str | None = None) -> str:
    """Run a command of this package; it must succeed."""
    options = ["--store-dir", str(store_dir)]
    options += ["--store-url", store_url] if store_url else []
    done = subprocess.run(
        [sys.executable, "-m", "icf_tools", command, *map(str, arguments), *options],
        env={"PATH": os.environ["PATH"], "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def digests(folder: Path, prefix: str) -> dict[str, str]:
    """MD5 of every file below a folder, by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {f"{prefix}/{path.relative_to(folder)}": md5(path) for path in files}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def fill(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
