"""A browser that looks at pages as a visitor does, and tells what is wrong with them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

_PATIENCE = 60_000  # ms; a busy machine is slow, not broken
expect.set_options(timeout=_PATIENCE)

_FLAGS = (  # nothing but the pages: no look-up of another host, nothing in the background
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
    *("--disable-sync", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
_AXE = files("axe_playwright_python") / "axe.min.js"
_WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_POLICY = """addEventListener("securitypolicyviolation", fault =>
    console.error(`Content Security Policy: ${fault.effectiveDirective} ${fault.blockedURI}`))"""
_RUN = "tags => axe.run({runOnly: tags, resultTypes: ['violations']})"


@contextmanager
def chromium(program: str, home: Path) -> Iterator[Browser]:
    """The browser of the system, without a window; all that it writes is in `home`."""
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags, env=env)  # type: ignore[arg-type]
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True, slots=True)
class Visitor:
    """One who opens the pages at `home`, with a fresh browser."""

    home: str  #: URL; nothing may be requested from elsewhere
    page: Page
    shots: Path  #: where screenshots go
    requests: list[str] = field(default_factory=list)  #: every URL that was asked for
    told: list[str] = field(default_factory=list)  #: faults, in the words of the browser
    forgiven: list[str] = field(default_factory=list)  #: texts of faults that a test wants

    def open(self, path: str = "") -> Page:
        """Show a page and wait for all that it loads by itself."""
        self.page.goto(f"{self.home}{path}", wait_until="load")
        return self.page

    def axe(self) -> list[str]:
        """Where the page breaks a rule of WCAG 2.2, level A or AA."""
        before = len(self.told)
        self.page.evaluate(f"() => {{ {_AXE.read_text(encoding='utf-8')} }}")
        found = self.page.evaluate(_RUN, _WCAG)["violations"]
        # axe tries out what a policy may forbid to the page
        self.told[before:] = [fault for fault in self.told[before:] if "eval" not in fault]
        return [
            f"{rule['id']} ({rule['impact']}), {rule['help']}: {node['html']}"
            for rule in found
            for node in rule["nodes"]
        ]

    def forgive(self, text: str) -> None:
        """Mind no fault that holds a text; there must be one, be it after a while."""
        for _ in range(400):
            if any(text in fault for fault in self.told):
                self.forgiven.append(text)
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"no fault holds {text!r}; there are {self.told}")

    @property
    def faults(self) -> list[str]:
        return [fault for fault in self.told if not any(text in fault for text in self.forgiven)]

    def shot(self, name: str, *, whole: bool = True) -> Path:
        """Keep what the page looks like."""
        path = self.shots / f"{name}.png"
        self.page.screenshot(path=path, full_page=whole, animations="disabled")
        return path

    def took(self, url: str) -> None:
        self.requests.append(url)
        if urlsplit(url).scheme not in ("blob", "data") and _origin(url) != _origin(self.home):
            self.told.append(f"requested from elsewhere: {url}")


def _origin(url: str) -> tuple[str, str]:
    return urlsplit(url)[:2]


class Look(Protocol):
    """Visit pages below a URL, or in a folder; see `visitor` for the options."""

    def __call__(self, home: str | Path, **options: Any) -> Visitor: ...


@contextmanager
def visitors(browser: Browser, shots: Path) -> Iterator[Look]:
    """Any number of them, which must have found no fault in the end.

    What a test wants to be a fault it forgives.
    """
    guests: list[Visitor] = []
    with ExitStack() as running:

        def look(home: str | Path, **options: Any) -> Visitor:
            url = home.resolve().as_uri() if isinstance(home, Path) else home
            guests.append(running.enter_context(visitor(browser, url, shots, **options)))
            return guests[-1]

        yield look
        for guest in guests:
            if not guest.page.is_closed():
                guest.page.wait_for_timeout(50)  # what was under way arrives
        faults = [fault for guest in guests for fault in guest.faults]
        if faults:
            pytest.fail("\n".join(faults))


@contextmanager
def visitor(
    browser: Browser,
    home: str,
    shots: Path,
    *,
    dark: bool = False,
    size: tuple[int, int] = (1280, 800),
    credential: tuple[str, str] | None = None,
    scripts: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Visitor]:
    """Someone with a window of a size in CSS pixels; `options` are those of new_context."""
    context = browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport={"width": size[0], "height": size[1]},
        http_credentials=(
            {"username": credential[0], "password": credential[1]} if credential else None
        ),
        java_script_enabled=scripts,
        service_workers="block",
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
        **(options or {}),
    )
    context.set_default_timeout(_PATIENCE)
    try:
        guest = Visitor(home, context.new_page(), shots)
        _listen(context, guest)
        yield guest
    finally:
        context.close()


def _listen(context: BrowserContext, guest: Visitor) -> None:
    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            guest.told.append(f"{message.text} ({message.location['url']})")

    context.add_init_script(_POLICY)  # the browser is silent where a script catches the error
    context.on("request", lambda request: guest.took(request.url))
    context.on("console", console)
    context.on("weberror", lambda error: guest.told.append(f"uncaught: {error.error}"))
    guest.page.on("websocket", lambda socket: guest.took(socket.url))
    guest.page.on("crash", lambda _: guest.told.append("the page crashed"))
