"""A folder that only the container has is told from one that is bound."""

from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath
from icf_tools.store import container
from icf_tools.store.container import NotBound, lies_outside
from icf_tools.store.files import locked
from tests.conftest import Run

BLANKS = "größe\u3000\u2028\x85"  # of Unicode; only ASCII ones divide fields and lines
CONTAINED = r"""
93 64 0:41 / / rw,nodev unbindable - overlay overlay ro,lowerdir=/x
103 93 0:40 /dev /dev rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
104 103 0:45 / /dev/shm rw,nosuid,nodev,relatime - tmpfs tmpfs rw
116 93 0:40 /root /root rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
117 93 0:40 /tmp /tmp rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
120 93 0:40 /etc/passwd /etc/passwd rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
122 117 254:0 /srv/store /tmp/store rw master:1 - ext4 /dev/vda rw,discard
123 93 254:0 /srv/our\040store /our\040store rw master:1 - ext4 /dev/vda rw
125 93 254:0 /srv/x /BLANKS rw master:1 - ext4 /dev/vda rw
124 93 0:77 / /ramdisk rw master:1 - tmpfs tmpfs rw
""".strip().replace("BLANKS", BLANKS)
WRITABLE = """
93 64 0:50 / / rw - overlay overlay rw
103 93 0:40 /dev /dev rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
117 93 0:40 /tmp /tmp rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
119 93 0:40 /etc/resolv.conf /etc/resolv.conf rw - tmpfs tmpfs rw,size=65536k
""".strip()
PLAIN = """
92 63 0:40 / / rw,nodev,relatime unbindable - overlay overlay ro
94 92 0:6 / /dev rw,relatime master:16 - devtmpfs devtmpfs rw
95 94 0:23 / /dev/shm rw,relatime master:17 - tmpfs tmpfs rw
105 92 254:0 /tmp /tmp rw,nosuid,nodev,relatime master:1 - ext4 /dev/vda rw
111 92 0:39 /etc/resolv.conf /etc/resolv.conf rw,nosuid master:21 - tmpfs tmpfs rw
""".strip()
SANDBOX = """
93 64 254:0 /tmp/rootfs / rw - ext4 /dev/vda rw
120 93 254:0 /etc/passwd /etc/passwd rw - ext4 /dev/vda rw
122 93 254:0 /srv/store /srv/store rw - ext4 /dev/vda rw
""".strip()


@pytest.mark.parametrize(
    ("place", "mounts", "expected"),
    [
        ("/tmp/store", CONTAINED, True),
        ("/tmp/store/new/one", CONTAINED, True),
        ("/our store/study", CONTAINED, True),
        (f"/{BLANKS}/study", CONTAINED, True),
        ("/ramdisk/store", CONTAINED, True),
        ("/tmp", CONTAINED, False),
        ("/tmp/store2", CONTAINED, False),
        ("/root/store", CONTAINED, False),
        ("/dev/shm/store", CONTAINED, False),
        ("/our", CONTAINED, False),
        ("/data/store", CONTAINED, False),
        ("/", CONTAINED, False),
        ("/tmp/store", WRITABLE, False),
        ("/dev/shm/store", PLAIN, True),
        ("/tmp/store", PLAIN, True),
        ("/srv/store", SANDBOX, True),
        ("/srv", SANDBOX, False),
    ],
)
def test_lies_outside(place: str, mounts: str, expected: bool) -> None:
    assert lies_outside(Path(place), mounts) is expected


@pytest.fixture(params=["APPTAINER", "SINGULARITY"])
def contained(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The mounts of the container that this is."""
    mounts = tmp_path / "mounts"
    mounts.write_text(CONTAINED)
    monkeypatch.setattr(container, "_MOUNTS", mounts)
    assert container.is_bound(Path("/data/store"))  # it is none yet
    monkeypatch.setenv(f"{request.param}_CONTAINER", "/srv/icf.sif")
    return mounts


def test_in_a_container_it_is_judged_where_it_lies(contained: Path, tmp_path: Path) -> None:
    assert container.is_bound(Path("/tmp/store"))
    assert not container.is_bound(Path("/data/store"))
    assert not container.is_bound(Path("/tmp/store/../../root"))
    (tmp_path / "link").symlink_to("/tmp/store/study")
    assert container.is_bound(tmp_path / "link")
    contained.unlink()
    assert container.is_bound(Path("/data/store"))  # there is no telling


def test_what_is_not_bound_is_refused(
    contained: Path, store: StorePath, icf: Run, incoming: Path
) -> None:
    with pytest.raises(NotBound), locked(store):
        pass
    assert not store.root.exists()
    contained.write_text(CONTAINED + f"\n130 93 254:0 /srv {store.root} rw - ext4 /dev/vda rw\n")
    with locked(store):
        pass
    done = icf("status", "--store-dir", "/nowhere/store")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("icf: the folder /nowhere/store is not bound into the ")
