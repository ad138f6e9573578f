"""Takes the pictures of MLflow's pages in docs/images from a registry: ``make pictures``.

Two small networks are trained, one of them for longer, and one is promoted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

from models.console import say
from tests.browser import launch
from tests.conftest import ROOT, hold_port, wait_until
from tests.trainer.conftest import CONFIG, machine, write_recording
from trainer import config
from trainer.registry import promotion, training
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable
from trainer.registry.window import Recorded

IMAGES = ROOT / "docs" / "images"
_WAIT_S_MAX = 600.0
_SETTLED_MS = 5000  # MLflow's pages draw their charts some time after they are loaded


class Shot(NamedTuple):
    """A picture: its name, the page, a text that is there when the page is, what is searched."""

    name: str
    path: str
    text: str
    search: str = ""


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as name:
        registry = _filled(Path(name))
        version = registry.versions("pump")[0]
        run = f"/#/experiments/{registry.store.experiment}/runs/{version.run}"
        shots = (
            Shot("registry-curves", f"{run}/model-metrics", "detector.loss", "detector"),
            Shot("registry-versions", "/#/models/pump", "champion"),
        )
        with _served(registry) as address, sync_playwright() as playwright:
            browser = launch(playwright)
            page = _begun(browser, address)
            for shot in shots:
                _take(page, address, shot)
            browser.close()


def _filled(directory: Path) -> Registry:
    """Return a registry with two versions of a pump, and a champion."""
    rules = {"window_hours_min": 0.1}
    registry = Registry(RegistryTable.model_validate({"promotion": rules}), directory)
    write_recording(directory / "normal.csv", *machine(4000, seed=1))
    write_recording(directory / "newest.csv", *machine(4000, seed=3))
    for number, epochs in ((1, 8), (2, 30)):
        text = CONFIG.partition("[forecast]")[0].replace('"tiny"', f'"pump"\nversion = {number}')
        path = directory / f"{number}.toml"
        path.write_text(text.replace("epochs = 20", f"epochs = {epochs}"))
        training.train(registry, config.read(path), directory / str(number), None, say, accept=True)
    recorded = Recorded([directory / "newest.csv"])
    for line in promotion.promote(registry, "pump", recorded).lines():
        say(line)
    return registry


@contextmanager
def _served(registry: Registry) -> Iterator[str]:
    """Serve the pages meanwhile; yield their address."""
    port = hold_port(registry)
    words = ["ui", "--url", registry.store.uri, "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "trainer", *words], cwd=ROOT, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=60).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, "the pages", _WAIT_S_MAX)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _begun(browser: Browser, address: str) -> Page:
    """Open the pages for trainings, without what MLflow has for language models."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(_WAIT_S_MAX * 1000)
    page.goto(address)
    page.get_by_role("button", name="Close").first.click()
    page.get_by_text("Model training").first.click()
    page.wait_for_timeout(_SETTLED_MS)
    return page


def _take(page: Page, address: str, shot: Shot) -> None:
    page.goto(f"{address}{shot.path}")
    if shot.search:
        page.get_by_placeholder("Search metric charts").fill(shot.search)
    page.get_by_text(shot.text).first.wait_for()
    page.wait_for_timeout(_SETTLED_MS)
    page.screenshot(path=IMAGES / f"{shot.name}.png")
    say(f"{IMAGES / shot.name}.png")


if __name__ == "__main__":
    main()
