"""A folder that only the container has is told from one that is bound."""

from pathlib import Path

import pytest

from icf_tools.cli import container
from icf_tools.cli.container import is_bound
from tests.conftest import Run

CONTAINED = r"""
93 64 0:41 / / rw,nodev unbindable - overlay overlay ro,lowerdir=/x
103 93 0:40 /dev /dev rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
116 93 0:40 /root /root rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
117 93 0:40 /tmp /tmp rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
120 93 0:40 /etc/passwd /etc/passwd rw,nosuid master:21 - tmpfs tmpfs rw,size=65536k
122 117 254:0 /srv/store /tmp/store rw master:1 - ext4 /dev/vda rw,discard
123 93 254:0 /srv/our\040store /our\040store rw master:1 - ext4 /dev/vda rw
124 93 0:77 / /ramdisk rw master:1 - tmpfs tmpfs rw
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
        ("/ramdisk/store", CONTAINED, True),
        ("/tmp", CONTAINED, False),
        ("/tmp/store2", CONTAINED, False),
        ("/root/store", CONTAINED, False),
        ("/our", CONTAINED, False),
        ("/data/store", CONTAINED, False),
        ("/", CONTAINED, False),
        ("/srv/store", SANDBOX, True),
        ("/srv", SANDBOX, False),
    ],
)
def test_is_bound(place: str, mounts: str, expected: bool) -> None:
    assert is_bound(Path(place), mounts) is expected


@pytest.mark.parametrize("runtime", ["APPTAINER", "SINGULARITY"])
def test_what_is_not_bound_is_refused(
    icf: Run, tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(CONTAINED)
    monkeypatch.setattr(container, "_MOUNTS", mounts)
    assert container.bound(Path("/data/store")) == Path("/data/store")
    monkeypatch.setenv(f"{runtime}_CONTAINER", "/srv/icf.sif")
    assert container.bound(Path("/tmp/store")) == Path("/tmp/store")
    for folder in ("/data/store", "/tmp", "/tmp/store/../../root"):
        with pytest.raises(container.NotBound):
            container.bound(Path(folder))
    done = icf("status", "--store-dir", "/")  # the root is bound nowhere
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("icf: the folder / is not bound into the container; ")
