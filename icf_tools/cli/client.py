"""What a user of a store runs: set up once, be let in, clone."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icf_tools.cli import report
from icf_tools.cli.options import AsJson
from icf_tools.errors import UsageError

if TYPE_CHECKING:
    from icf_tools.client.login import Login

_URL_HELP = "Where the store is served; unless given, what icf setup-client was told."

ClientUrl = Annotated[
    str | None,
    typer.Option("--store-url", metavar="URL", envvar="ICF_STORE_URL", help=_URL_HELP),
]


class NoVisitNamed(UsageError):
    message = "{!r} names no visit; give study and visit, as in my-study/P000123"


def clone(
    visit: Annotated[
        str, typer.Argument(metavar="STUDY/VISIT", help="The study's and the visit's identifier.")
    ],
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Folder to clone into; VISIT unless given."),
    ] = None,
    store_url: ClientUrl = None,
    as_json: AsJson = False,
) -> None:
    """Clone a visit's dataset: all its files by name, and content when it is asked for.

    Example: icf clone my-study/P000123
    """
    from icf_tools.access.credential import ask_terminal
    from icf_tools.client import site
    from icf_tools.client.clone import clone
    from icf_tools.model.visit import Visit

    name = visit.removeprefix(site.SCHEME)
    if name.count("/") != 1:
        raise NoVisitNamed(visit)
    wanted = Visit.parse(name)
    path = path or Path(wanted.visit)
    cloned = clone(wanted, site.store_url(store_url), path, ask_terminal)
    lines = [
        f"cloned {wanted} into {path}: version {cloned.version}, commit {cloned.commit}",
        "get images in that folder with icf get, or with datalad get",
    ]
    content = asdict(cloned) | {"study": wanted.study, "visit": wanted.visit}
    report.result(content, lines, as_json)


def login(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY",
            help="The study's identifier; unless given, the one of the clone around this folder.",
        ),
    ] = None,
    store_url: ClientUrl = None,
    as_json: AsJson = False,
) -> None:
    """See that a study lets you in; ask for user and password where none are known.

    Example: icf login my-study
    """
    from icf_tools.access.credential import ask_terminal
    from icf_tools.client import site
    from icf_tools.client.login import login

    if study is None:
        of = site.study_of(Path.cwd())
        wanted = of if store_url is None else site.Study(site.store_url(store_url), of.name)
    else:
        wanted = site.Study(site.store_url(store_url), study)
    done = login(wanted, ask_terminal)
    report.result(asdict(done), [_login_line(done)], as_json)


def setup_client(
    store_url: Annotated[
        str,
        typer.Option(
            "--store-url", metavar="URL", envvar="ICF_STORE_URL", help="Where the store is served."
        ),
    ],
    studies: Annotated[
        list[str] | None,
        typer.Argument(metavar="STUDY...", help="Studies to log in to, as icf login does."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell DataLad and icf once where the store is: datalad clone icf://STUDY/VISIT then works.

    Example: icf setup-client --store-url https://data.example.org/store my-study
    """
    from icf_tools.access.credential import ask_terminal
    from icf_tools.client import programs, site
    from icf_tools.client.enable import enable_remote
    from icf_tools.client.files import NoClone
    from icf_tools.client.login import login

    url = site.store_url(store_url)
    wanted = [site.Study(url, study) for study in studies or ()]
    site.reach(url)
    site.check_free(url)
    logins = [login(study, ask_terminal) for study in wanted]
    made = site.remember(url)
    try:
        enabled = enable_remote(Path.cwd())
    except NoClone:
        enabled = False
    missing = programs.missing()
    for program in missing:
        report.note(f"{program} is not on the PATH; put {programs.FOLDER} on it")
    lines = [
        f"setting {'made' if made else 'was there'}: icf:// stands for {url}",
        *map(_login_line, logins),
        *(["enabled in this clone: git-annex-remote-icf"] if enabled else []),
        "clone a visit with: icf clone STUDY/VISIT, or datalad clone icf://STUDY/VISIT",
    ]
    content = {
        "store_url": url,
        "made": made,
        "logins": list(map(asdict, logins)),
        "enabled": enabled,
        "not_on_path": missing,
    }
    report.result(content, lines, as_json)


def _login_line(login: "Login") -> str:
    if not login.realm:
        return f"study {login.study} asks for no credential"
    who = f"user {login.user}" if login.user else "a token"
    known = f"DataLad knows the credential as {login.credential}"
    if not login.credential:
        known = "it is not kept"
    return f"{who} is let in to {login.realm}; {known}"
