"""The report of a bundle in a real browser: everyone can read it, and it loads nothing."""

from __future__ import annotations

from playwright.sync_api import sync_playwright

from tests.browser import PANEL, PHONE, launch, open_watched, violations
from tests.trainer.conftest import Trained
from trainer import pages


def test_axe_finds_nothing_in_the_report_and_the_report_loads_nothing(trained: Trained) -> None:
    report = trained.path.with_suffix(".report.html")
    with sync_playwright() as playwright, launch(playwright) as browser:
        for size in (PHONE, PANEL):
            watched = open_watched(browser, size=size)
            watched.page.goto(report.as_uri())
            assert violations(watched.page) == []
            assert watched.faults == []
            assert watched.loaded == ["file://"]


def test_a_header_says_of_what_it_is() -> None:
    one, two = "<td>1</td>", "<td>2</td>"
    a, b = '<th scope="col">a</th>', '<th scope="col">b</th>'
    row = '<th scope="row">1</th>'
    for header, rows in (
        (("a", "b"), [f"{a}{b}", f"{one}{two}"]),
        (("", "b"), [f"<td></td>{b}", f"{row}{two}"]),
        (("", ""), [f"{row}{two}"]),
    ):
        lines = "".join(f"<tr>{line}</tr>\n" for line in rows)
        assert pages.table(header, [(1, 2)]) == f"<table>{lines}</table>"
