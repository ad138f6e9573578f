"""A real browser for the tests of pages: Debian's chromium, driven by playwright."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser import Watched, launch, open_watched

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note what failed, for the screenshots."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; per module, as no test may use asyncio itself while playwright runs."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def open_page(
    chromium: Browser, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Watched]]:
    """Open pages in windows of their own; what ``Watched.faults`` has in the end fails the test."""
    opened: list[Watched] = []

    def opening(**wishes: Any) -> Watched:
        opened.append(open_watched(chromium, **wishes))
        return opened[-1]

    yield opening
    for number, one in enumerate(opened):
        if request.node.stash.get(_FAILED, False) and not one.page.is_closed():
            picture = tmp_path / f"page-{number}.png"
            one.page.screenshot(path=picture, full_page=True)
            print(f"{one.page.url} when it failed: {picture}")
        one.page.context.close()
    assert [fault for one in opened for fault in one.faults] == []
