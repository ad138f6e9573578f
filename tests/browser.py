"""Pages in a real browser, for tests: how a window is, what goes wrong in it, what axe finds."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request

from tests.conftest import PARTS, WAIT_S_MAX

PHONE = (360, 740)
PANEL = (1024, 600)
_MILLISECONDS = 1000
# the size of targets is in WCAG 2.2, and off by default
_WISHES = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}


def launch(playwright: Playwright) -> Browser:
    """Start chromium; see ``scripts/get-parts``."""
    found = shutil.which("chromium")
    environment: dict[str, str | float | bool] = dict(os.environ)
    if found is None:
        unpacked = PARTS / "usr" / "lib" / "chromium" / "chromium"
        assert unpacked.exists(), "the tests need chromium; get it with: make test"
        libraries = (str(directory) for directory in PARTS.glob("usr/lib/*-linux-*"))
        environment["LD_LIBRARY_PATH"] = ":".join(libraries)
        if (PARTS / "etc" / "fonts").exists():  # the system has none
            environment["FONTCONFIG_SYSROOT"] = str(PARTS)
        found = str(unpacked)
    # it shows our own pages only, and its sandbox needs what root and containers do not have
    return playwright.chromium.launch(
        executable_path=found,
        args=["--no-sandbox"],
        env=environment,
        timeout=WAIT_S_MAX * _MILLISECONDS,
    )


class Watched(NamedTuple):
    """A page, and what went wrong in it: in its console, in its scripts, in what it loads."""

    page: Page
    faults: list[str]
    loaded: list[str]  # the origins of all that it asked for, in order, each once
    expected: list[str]  # what is no fault here: parts of messages in the console


def open_watched(
    browser: Browser,
    size: tuple[int, int] = PANEL,
    language: str = "en",
    theme: Literal["light", "dark"] = "light",
    reduced_motion: bool = False,
    throttle: float = 1.0,
    javascript: bool = True,
) -> Watched:
    """Open an empty page.

    Args:
        browser: it gets a window of its own, without cookies.
        size: width and height in CSS pixels.
        language: which the browser prefers.
        theme: which it prefers.
        reduced_motion: whether it prefers that nothing moves.
        throttle: how many times slower its processor is.
        javascript: whether it runs scripts.

    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        locale=language,
        color_scheme=theme,
        reduced_motion="reduce" if reduced_motion else "no-preference",
        java_script_enabled=javascript,
    )
    context.set_default_timeout(WAIT_S_MAX * _MILLISECONDS)
    page = context.new_page()
    watched = Watched(page, [], [], [])
    page.on("console", lambda message: _note_console(watched, message))
    page.on("pageerror", lambda error: watched.faults.append(f"script: {error}"))
    page.on("request", lambda request: _note_origin(watched, request))
    if throttle != 1.0:
        session = context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": throttle})
    return watched


def _note_console(watched: Watched, message: ConsoleMessage) -> None:
    """Note errors; a violation of the content security policy is one."""
    if message.type in ("error", "warning") and not any(
        text in message.text for text in watched.expected
    ):
        watched.faults.append(f"console: {message.text}")


def _note_origin(watched: Watched, request: Request) -> None:
    parts = urlsplit(request.url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if origin not in watched.loaded:
        watched.loaded.append(origin)


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong in a page: a line for each rule, with its elements."""
    page.evaluate(_axe())  # which no content security policy forbids
    found: dict[str, Any] = page.evaluate(f"axe.run(document, {json.dumps(_WISHES)})")
    return [
        f"{one['id']}: {one['help']}: {len(one['nodes'])} times, {one['nodes'][0]['html']}"
        for one in found["violations"]
    ]
