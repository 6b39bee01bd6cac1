"""The command `icf`: every command by name, and errors as exit codes."""

import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from icf_tools import __version__
from icf_tools.cli.catalog import catalog
from icf_tools.cli.client import clone, login, setup_client
from icf_tools.cli.commands import add, archive, dataset, index
from icf_tools.cli.derive import check_nifti, convert, derive
from icf_tools.cli.fetch import fetch
from icf_tools.cli.get import get
from icf_tools.cli.report import plain
from icf_tools.cli.status import status
from icf_tools.errors import IcfError

_PATIENCE = 60  # s; cleaning up takes less

HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Manage versioned imaging datasets: a folder of DICOM in, `datalad clone` out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(add, archive, index, dataset, derive, catalog, status, convert, check_nifti),
    *(setup_client, login, clone, get, fetch),
)
for command in COMMANDS:
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"icf {__version__}")
        raise typer.Exit


@app.callback()
def _icf(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(program: Callable[[], object], name: str) -> NoReturn:
    """Run a program; a refusal becomes one sentence and an exit code."""
    _stop_on_signals(name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # it is None where the caller closed it
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            program()
        finally:
            _flush_output()
    except BrokenPipeError:  # who read it has seen enough
        sys.exit(1)
    except IcfError as err:
        _fail(name, err, err.exit_code)
    except MemoryError:
        _fail(name, "there is not enough memory; give it more, or fewer jobs, and run it again", 1)
    except PermissionError as err:
        _fail(name, f"no permission for {err.filename}; give it to this user", 8)
    except OSError as err:
        _fail(
            name,
            f"{err.strerror or err} ({err.filename or 'writing'}); mend that and run it again",
            1,
        )
    sys.exit(0)


def _flush_output() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # at its end the interpreter would try again, and say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _stop_on_signals(name: str) -> None:
    """Clean up when stopped, once: a container's runtime passes on what a group gets, too."""
    stops = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        stops.append(signal.SIGHUP)

    def stop(number: int, _: object) -> NoReturn:
        sys.unraisablehook = lambda _: None  # Python complains of one that comes while it sets them
        for each in stops:  # and of one that came meanwhile and finds SIG_IGN
            signal.signal(each, lambda *_: None)
        for each in stops:  # at its end Python puts the default in the place of the other
            signal.signal(each, signal.SIG_IGN)
        # it may have come while a lock was held, for which cleaning up would wait for ever
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
        signal.alarm(_PATIENCE)
        _fail(name, "stopped", 128 + number)

    for each in stops:
        signal.signal(each, stop)


def _fail(name: str, message: object, code: int) -> NoReturn:
    print(plain(f"{name}: {message}"), file=sys.stderr)
    sys.exit(code)


def main() -> NoReturn:
    """Be the program icf."""
    run(app, "icf")
