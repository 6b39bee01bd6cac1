"""The programs beside the recipe, with a runtime that only tells how it was called."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dataset.clients import Done
from tests.singularity.conftest import TOP

STUB = """\
#!/bin/sh
printf '%s\\n' "$@"
exit {code}
"""
Program = Callable[..., Done]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An image, settings that name it, and a runtime."""
    folder = tmp_path / "site of ours"
    folder.mkdir()
    (folder / "icf.sif").write_text("image")
    (folder / "conf").write_text(f"ICF_IMAGE='{folder}/icf.sif'\nICF_BIND=/data,/scratch\n")
    runtime(folder / "bin" / "apptainer")
    return folder


def runtime(path: Path, script: str = STUB.format(code=0)) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def call(program: Path | str, *arguments: object, site: Path, **variables: str) -> Done:
    path = program if isinstance(program, Path) else TOP / "singularity" / program
    return subprocess.run(
        [path, *map(str, arguments)],
        cwd=site,
        env={"PATH": f"{site}/bin:/usr/bin:/bin", "ICF_CONF": f"{site}/conf", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_wrapper_hands_arguments_on_as_they_are(site: Path) -> None:
    arguments = ["icf", "status", "a b", "$HOME `id` *", "", "--", "-x"]
    done = call("icf-utils", *arguments, site=site)
    told = ["--quiet", "run", "--bind", "/data,/scratch", f"{site}/icf.sif", *arguments]
    assert (done.returncode, done.stdout.split("\n")[:-1], done.stderr) == (0, told, "")


def test_wrapper_takes_the_environment_first(site: Path) -> None:
    (site / "next.sif").write_text("another")
    done = call("icf-utils", "x", site=site, ICF_IMAGE="next.sif", ICF_BIND="/mine")
    assert done.stdout.splitlines() == ["--quiet", "run", "--bind", "/mine", "next.sif", "x"]


def test_wrapper_binds_the_store(site: Path) -> None:
    done = call("icf-utils", "x", site=site, ICF_STORE_DIR="our store")
    assert f"{site}/our store,/data,/scratch" in done.stdout.splitlines()


def test_wrapper_calls_the_store_what_the_caller_does(site: Path) -> None:
    runtime(site / "bin" / "apptainer", '#!/bin/sh\necho "$4" "$ICF_STORE_DIR"\n')
    (site / "real").mkdir()
    (site / "link").symlink_to("real")
    (site / "conf").write_text("ICF_IMAGE=icf.sif\n")
    done = call("icf-utils", "x", site=site, ICF_STORE_DIR="x/../link")
    assert done.stdout == f"{site}/link {site}/link\n"


def test_wrapper_reads_settings_that_end_with_a_test(site: Path) -> None:
    with (site / "conf").open("a") as file:
        file.write("[ -d /nowhere ] && ICF_BIND=/nowhere\n")
    assert call("icf-utils", "x", site=site).stdout.startswith("--quiet\nrun\n")


def test_wrapper_with_a_short_path(site: Path) -> None:
    done = call("icf-utils", "x", site=site, PATH=f"{site}/bin")
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "--quiet")


def test_wrapper_without_settings_binds_nothing(site: Path) -> None:
    (site / "conf").write_text("")
    done = call("icf-utils", "x", site=site, ICF_IMAGE="icf.sif")
    assert done.stdout.splitlines() == ["--quiet", "run", "icf.sif", "x"]


def test_wrapper_reads_the_settings_of_the_system(site: Path) -> None:
    text = (TOP / "singularity" / "icf-utils").read_text()
    copy = site / "bin" / "icf-utils"
    runtime(copy, text.replace("/etc/icf-utils.conf", "conf"))
    assert "icf.sif" in call(copy, "x", site=site, ICF_CONF="").stdout


@pytest.mark.parametrize(
    ("code", "variables", "said"),
    [
        (3, {"ICF_IMAGE": "/nowhere/icf.sif"}, "no image at /nowhere/icf.sif; "),
        (3, {"ICF_IMAGE": "/usr"}, "no image at /usr; "),
        (3, {"ICF_CONF": "/nowhere/conf"}, "there is no /nowhere/conf, which ICF_CONF names"),
        (2, {"ICF_STORE_DIR": "/a,b"}, "a folder with , or : in its path cannot be bound: /a,b"),
        (2, {"ICF_STORE_DIR": "/a:b"}, "a folder with , or : in its path cannot be bound: /a:b"),
    ],
)
def test_wrapper_says_what_is_wrong(
    code: int, variables: dict[str, str], said: str, site: Path
) -> None:
    done = call("icf-utils", "x", site=site, **variables)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith(f"icf-utils: {said}")


TELLS = """\
#!/bin/sh
echo "$4 $ICF_STORE_DIR $ICF_STORE_URL $ICF_DEPOSIT_URL"
"""


def test_wrapper_settings_reach_the_command(site: Path) -> None:
    runtime(site / "bin" / "apptainer", TELLS)
    with (site / "conf").open("a") as file:
        file.write("ICF_BIND=/a:/a:ro\nICF_STORE_DIR=/s\nICF_STORE_URL=u\nICF_DEPOSIT_URL=d\n")
    assert call("icf-utils", "x", site=site).stdout == "/s,/a:/a:ro /s u d\n"
    mine = {"ICF_STORE_DIR": "/t", "ICF_STORE_URL": "it's; $HOME"}
    assert call("icf-utils", "x", site=site, **mine).stdout == "/t,/a:/a:ro /t it's; $HOME d\n"


@pytest.mark.parametrize("bind", ["/data/store", "/x,/data/store", "/data/store:/data/store:rw,/x"])
def test_wrapper_binds_the_store_once(bind: str, site: Path) -> None:
    runtime(site / "bin" / "apptainer", TELLS)
    done = call("icf-utils", "x", site=site, ICF_BIND=bind, ICF_STORE_DIR="/data/store")
    assert done.stdout.split(" ")[0] == bind


@pytest.mark.parametrize("code", [0, 4, 143])
def test_wrapper_ends_with_the_exit_code(site: Path, code: int) -> None:
    runtime(site / "bin" / "apptainer", STUB.format(code=code))
    assert call("icf-utils", "x", site=site).returncode == code


def test_wrapper_finds_singularity_where_there_is_no_apptainer(site: Path) -> None:
    text = (TOP / "singularity" / "icf-utils").read_text()
    copy = site / "icf-utils"
    runtime(copy, text.replace("PATH=$PATH:/usr/local/bin:/usr/bin:/bin", ""))
    tools = site / "tools"
    tools.mkdir()
    (tools / "realpath").symlink_to(shutil.which("realpath") or "/usr/bin/realpath")
    path = f"{site}/bin:{tools}"
    (site / "bin" / "apptainer").rename(site / "bin" / "singularity")
    assert call(copy, "x", site=site, PATH=path).stdout.startswith("--quiet\nrun\n")
    (site / "bin" / "singularity").unlink()
    done = call(copy, "x", site=site, PATH=path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "neither apptainer nor singularity" in done.stderr


def test_build_never_overwrites(site: Path) -> None:
    done = call("build", "icf.sif", site=site)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"build: {site}/icf.sif exists and is not overwritten; move it away or name another\n"
    )


BUILDS = """\
#!/bin/sh
[ "$1" = build ] || { echo org.opencontainers.image.version: 1; exit 0; }
for last; do image=$before before=$last; done
"""


def test_build_hands_options_on(site: Path) -> None:
    runtime(site / "bin" / "apptainer", BUILDS + 'echo "$PWD: $*"\necho new > "$image"\n')
    done = call("build", "new image.sif", "--build-arg", "BASE=x", site=site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{TOP}: build --build-arg BASE=x {site}/new image.sif.")
    assert (site / "new image.sif").read_text() == "new\n"
    assert sorted(os.listdir(site)) == ["bin", "conf", "icf.sif", "new image.sif"]


def test_build_that_fails_leaves_nothing(site: Path) -> None:
    runtime(site / "bin" / "apptainer", BUILDS + 'echo half > "$image"\nexit 255\n')
    assert call("build", "new.sif", site=site).returncode == 255
    assert sorted(os.listdir(site)) == ["bin", "conf", "icf.sif"]


def test_check_tells_each_thing_that_is_wrong(site: Path) -> None:
    runtime(site / "bin" / "apptainer", STUB.format(code=0))
    done = call("check", "icf.sif", site, site=site)
    assert done.returncode == 1
    said = [line.split()[0] for line in done.stdout.splitlines() if line[:2] in ("ok", "FA")]
    assert said == ["ok", "ok", "FAIL", "FAIL", "ok", "FAIL", "FAIL", "ok", "ok", "ok"]
    assert "FAIL  prints its usage: exit code 0 instead of 2:\n      --quiet\n" in done.stdout
    assert sorted(os.listdir(site)) == ["bin", "conf", "icf.sif"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", ["build", "check"])
def test_nothing_is_left_of_what_is_stopped(program: str, number: int, site: Path) -> None:
    runtime(site / "bin" / "apptainer", '#!/bin/sh\ntouch "$RUNNING"\nsleep 60\n')
    running = site.parent / "running"
    image = {"build": "new.sif", "check": "icf.sif"}[program]
    process = subprocess.Popen(
        [TOP / "singularity" / program, image],
        cwd=site,
        env={"PATH": f"{site}/bin:/usr/bin:/bin", "RUNNING": str(running), "TMPDIR": str(site)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # a shell cannot trap what it was started to ignore, as in the background of another
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 50
    while not running.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    while process.poll() is None and time.monotonic() < deadline:
        os.killpg(process.pid, number)  # again and again, as an impatient user does
        time.sleep(0.001)
    assert process.wait(20) == 128 + number
    assert sorted(os.listdir(site)) == ["bin", "conf", "icf.sif"]


def test_check_ends_where_the_image_does_not_start(site: Path) -> None:
    runtime(site / "bin" / "apptainer", STUB.format(code=255))
    done = call("check", "icf.sif", site, site=site)
    assert (done.returncode, done.stdout.count("FAIL")) == (1, 1)
    assert sorted(os.listdir(site)) == ["bin", "conf", "icf.sif"]


def test_check_cleans_up_where_nobody_reads_on(site: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    runtime(site / "bin" / "apptainer", "#!/bin/sh\nexit 0\n")
    process = subprocess.run(
        [TOP / "singularity" / "check", site / "icf.sif", site],
        env={"PATH": f"{site}/bin:/usr/bin:/bin"},
        stdout=writer,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=300,
    )
    os.close(writer)
    assert process.returncode != 0
    assert sorted(os.listdir(site)) == ["bin", "conf", "icf.sif"]


def test_check_refuses_what_cannot_be_bound(site: Path) -> None:
    odd = site / "a,b"
    odd.mkdir()
    done = call("check", "icf.sif", odd, site=site)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert os.listdir(odd) == []


@pytest.mark.parametrize("program", ["build", "check"])
def test_help(program: str, site: Path) -> None:
    done = call(program, "--help", site=site)
    assert done.returncode == 0
    assert f"singularity/{program} [IMAGE" in done.stdout
    assert "set -" not in done.stdout


def test_check_of_nothing(site: Path) -> None:
    done = call("check", "nowhere.sif", site=site)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
