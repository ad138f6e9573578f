"""Takes the pictures of the page in docs/images from a gateway that runs: ``make pictures``.

A real agent watches three simulated pumps, of which two get a fault. The pictures are those of a
phone and of a panel.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from agent.demo.page import DemoPage
from agent.store.reader import Reader
from models.console import say
from models.errors import StoreError
from tests.browser import PANEL, PHONE, launch, open_watched
from tests.conftest import ROOT, ZOO_BUNDLE

IMAGES = ROOT / "docs" / "images"
BEFORE_S, AFTER_S = 75.0, 75.0  # that the chart of the alarm shows
_WAIT_S_MAX = 600.0
_ALL_THERE = "() => [...document.querySelectorAll('.spark')].every(one => one.naturalWidth)"
_STREAM, _SEEN = "cooling-pump", "feed-pump"


class Shot(NamedTuple):
    """A picture: the view, the window, and how it looks."""

    name: str
    path: str
    size: tuple[int, int]
    theme: str = "light"
    whole: bool = False  # the whole page instead of the window


SHOTS = (
    Shot("page-overview-phone", "/", PHONE),
    Shot("page-overview-panel", "/", PANEL, "dark"),
    Shot("page-alarm-phone", f"/alarms/{_STREAM}/1", PHONE),
    Shot("page-alarm-panel", f"/alarms/{_STREAM}/1", (PANEL[0], 1150)),
)


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as name, _gateway(Path(name)) as page:
        with sync_playwright() as playwright:
            browser = launch(playwright)
            for shot in SHOTS:
                _take(browser, page, shot)
            browser.close()


@contextmanager
def _gateway(directory: Path) -> Iterator[DemoPage]:
    """Run an agent until its alarms are there, and its page."""
    page = DemoPage(directory)
    config = directory / "agent.toml"
    config.write_text(_config(directory) + page.tables)
    command = [sys.executable, "-m", "agent", "run", "--quiet", "--config", str(config)]
    agent = subprocess.Popen(command, cwd=ROOT)
    page.start(config)
    try:
        _wait_for_alarms(directory / "data")
        time.sleep(AFTER_S)
        yield page
    finally:
        page.stop()
        agent.terminate()
        agent.wait()


def _config(directory: Path) -> str:
    (directory / "data").mkdir()
    parts = [
        '[gateway]\nsite = "north"\nname = "gateway-7"\n'
        f'[store]\ndirectory = "{directory / "data"}"\n'
    ]
    faults = {_STREAM: "blocked_valve", _SEEN: "cavitation", "reserve-pump": None}
    for seed, (stream, fault) in enumerate(faults.items(), 1):
        title = stream.replace("-", " ").capitalize()
        parts.append(
            f'[[streams]]\nname = "{stream}"\ntitle = "{title}"\nbundle = "{ZOO_BUNDLE}"\n'
            f'[[inputs]]\nname = "{stream}"\ntype = "simulator"\n'
            f'stream = "{stream}"\nseed = {seed}\n'
        )
        if fault:
            parts.append(f'fault = "{fault}"\nfault_at_s = {BEFORE_S}\n')
    return "".join(parts)


def _wait_for_alarms(store: Path) -> None:
    deadline = time.monotonic() + _WAIT_S_MAX
    with Reader(store) as reader:
        while time.monotonic() < deadline:
            try:
                found = {alarm["stream"] for alarm in reader.alarms(100)}
            except StoreError:  # not there yet
                found = set()
            if {_STREAM, _SEEN} <= found:
                return
            time.sleep(1)
    raise SystemExit(f"no alarm within {_WAIT_S_MAX:.0f} s")


def _take(browser: Browser, page: DemoPage, shot: Shot) -> None:
    theme = "dark" if shot.theme == "dark" else "light"
    watched = open_watched(browser, size=shot.size, theme=theme)
    seen = watched.page
    seen.goto(f"{page.address}login?next={shot.path}")
    seen.fill("input[name=name]", "demo")
    seen.fill("input[name=password]", page.password)
    seen.click("main button")
    seen.wait_for_url(f"**{shot.path}")
    if "/alarms/" in shot.path:
        seen.wait_for_selector(".plot canvas")
    if seen.query_selector(".spark"):
        seen.reload()  # titles and units come from a process that the first view has started
        while not seen.evaluate(_ALL_THERE):
            seen.wait_for_timeout(200)
    path = IMAGES / f"{shot.name}.png"
    seen.screenshot(path=path, full_page=shot.whole)
    say(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    seen.context.close()


if __name__ == "__main__":
    main()
