"""The forecast on the page, in a real browser: its rivals beside it, and what if."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from agent.bundles.load import Loader, load
from agent.store.batch import Batch
from agent.store.writer import Store
from models.bundle import Bundle
from tests.browser import PANEL, PHONE, Watched, violations
from tests.conftest import WAIT_S_MAX
from tests.forecast_rig import COUPLED, NAMES, Gateway, configure, rising, write
from tests.page_rig import RealPage

OpenPage = Callable[..., Watched]
TWO = COUPLED | {  # people set the voltage, too
    "plannable": [NAMES.index("flow"), NAMES.index("voltage")],
    "effects": [[[*row, 0.0, 0.0] for row in rows] for rows in COUPLED["effects"]],
}
expect.set_options(timeout=WAIT_S_MAX * 1000)


def prepared(directory: Path, old: Bundle, new: Bundle) -> Path:
    """A gateway that ran one bundle, then another, and has a history and a status."""
    config = configure(directory, old)
    loader = Loader(directory / "data", require_signature=False)
    for bundle in (old, new):
        found = load(write(directory, bundle), require_signature=False).bundle
        loader.note_running({"pump": found}, {"pump"})
    gateway = Gateway(config)
    gateway.feed(rising(200))
    document = gateway.stream.document()
    gateway.close()
    status = {"running": True, "updated": document["last_sample"], "streams": {"pump": document}}
    store = Store(directory / "data", "plant", "gw-1", 1000, 100_000)
    store.open()
    store.commit(Batch(status=lambda: json.dumps(status)), "synced")
    store.close()
    return config


def serving(config: Path) -> Iterator[str]:
    page = RealPage(config)
    page.start()
    yield f"http://127.0.0.1:{page.port}"
    page.stop()


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: Callable[..., Bundle]
) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("foretold")
    old, new = forecasting_bundle(stride_steps=4), forecasting_bundle(coupling=TWO)
    yield from serving(prepared(directory, old, new))


@pytest.fixture(scope="module")
def unplannable(
    tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: Callable[..., Bundle]
) -> Iterator[str]:
    bundle = forecasting_bundle()
    yield from serving(prepared(tmp_path_factory.mktemp("unplannable"), bundle, bundle))


def at_the_stream(watched: Watched, site: str) -> Page:
    page = watched.page
    page.goto(f"{site}/streams/pump")
    expect(page.locator("table.rivals")).to_be_visible()
    expect(page.locator("#what-if")).to_be_visible()
    return page


@pytest.mark.parametrize(
    ("size", "language"), [(PHONE, "de"), (PANEL, "en")], ids=["phone", "panel"]
)
def test_the_rivals_stand_beside_the_forecast(
    open_page: OpenPage, site: str, size: tuple[int, int], language: str
) -> None:
    page = at_the_stream(open_page(size=size, language=language), site)
    rows = page.locator("table.rivals tbody").first.locator("tr")
    words = {
        "en": ["this forecast", "previous model (pump version 1)", "last value"],
        "de": ["diese Vorhersage", "voriges Modell (pump version 1)", "letzter Wert"],
    }
    titles = rows.locator("th[scope=row]")
    assert titles.all_text_contents() == words[language]
    assert rows.locator("th[scope=rowgroup]").all_text_contents() == ["vibration x"]
    assert page.locator("table.rivals td").filter(has_text="✓").count() >= len(NAMES)
    legend = page.locator(".legend li")
    expect(legend).to_have_count(3)
    dashes = legend.locator("path").evaluate_all(
        "paths => paths.map((one) => one.getAttribute('stroke-dasharray'))"
    )
    assert len(set(dashes)) == 3  # no color is needed to tell them apart
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def test_why_there_is_no_forecast_is_told_in_the_language_of_the_page(
    tmp_path: Path, forecasting_bundle: Callable[..., Bundle]
) -> None:
    config = configure(tmp_path, forecasting_bundle())
    page = RealPage(config)
    page.start()
    try:
        for name, says in (("pump", "keine Vorhersage"), ("fan", "Das lässt die Konfiguration")):
            for path in ("forecast", "rivals"):
                told = page.ask(
                    "GET", f"/streams/{name}/{path}.json", headers={"Accept-Language": "de"}
                )
                error = json.loads(told.body)["error"]
                assert says in error or error.startswith("kein Vergleich"), error
    finally:
        page.stop()


def answered(site: str, path: str, language: str = "en") -> dict[str, Any]:
    request = urllib.request.Request(f"{site}{path}", headers={"Accept-Language": language})
    with urllib.request.urlopen(request, timeout=WAIT_S_MAX) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def test_programs_get_the_lines(site: str) -> None:
    document = answered(site, "/streams/pump/rivals.json")
    forecast = answered(site, "/streams/pump/forecast.json")
    assert [one["line"] for one in document["lines"]] == ["previous", "last"]
    assert document["times"] == forecast["times"]
    assert len(document["lines"][1]["values"]["flow"]) == len(forecast["times"])
    assert [one["title"] for one in document["channels"]][:2] == ["vibration x", "vibration y"]
    assert "at 12 past times" in document["caption"]
    german = answered(site, "/streams/pump/rivals.json", "de")
    assert german["notes"][0].startswith("Nicht verglichen: Saison, denn keine ist konfiguriert")


def plan(page: Page, row: int, channel: str, value: str) -> None:
    at = page.locator(".plan").nth(row)
    at.locator("select").select_option(channel)
    at.locator("input").fill(value)


def test_several_channels_are_planned(open_page: OpenPage, site: str) -> None:
    page = at_the_stream(open_page(), site)
    options = page.locator(".plan option")
    disabled = page.locator(".plan option:disabled")
    expect(options).to_have_count(len(NAMES))
    expect(disabled).to_have_count(len(NAMES) - 2)
    assert all("cannot be set" in text for text in disabled.all_text_contents())
    expect(page.locator("#what-if .hint")).to_contain_text("named it as plannable")
    page.get_by_role("button", name="Another channel").click()
    expect(page.locator(".plan")).to_have_count(2)
    expect(page.get_by_role("button", name="Another channel")).to_be_hidden()
    for button in page.locator("#what-if button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
    plan(page, 0, "flow", "80,5")
    plan(page, 1, "voltage", "390")
    with page.expect_response("**/forecast.json?*") as answer:
        page.get_by_role("button", name="Show").click()
    assert answer.value.json()["plan"] == [
        {"channel": "flow", "adds": False, "value": 80.5},
        {"channel": "voltage", "adds": False, "value": 390.0},
    ]
    expect(page.locator(".legend li").nth(1)).to_have_text("with your values")
    assert page.locator(".plan input").first.input_value() == "80,5"
    page.locator(".plan").first.get_by_role("button", name="Remove").click()
    expect(page.locator(".plan")).to_have_count(1)
    assert page.locator(".plan input").input_value() == "390"
    assert violations(page) == []


def test_what_is_refused_is_said_in_the_form_and_stays(open_page: OpenPage, site: str) -> None:
    watched = open_page()
    page = at_the_stream(watched, site)
    error = page.locator("#what-if-error")
    plan(page, 0, "flow", "much")
    page.get_by_role("button", name="Show").click()
    expect(error).to_have_text("This must be a number.")
    expect(page.locator(".plan input")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".plan input")).to_be_focused()
    assert page.locator(".plan input").input_value() == "much"
    assert violations(page) == []
    page.get_by_role("button", name="Another channel").click()
    plan(page, 0, "flow", "80")
    plan(page, 1, "flow", "81")
    page.get_by_role("button", name="Show").click()
    expect(error).to_have_text("This channel is there twice.")
    page.locator(".plan").nth(1).get_by_role("button", name="Remove").click()
    # a program that removes the mark gets the agent's own answer
    page.locator(".plan option[value=motor_current]").evaluate("(one) => { one.disabled = false; }")
    plan(page, 0, "motor_current", "7")
    page.get_by_role("button", name="Show").click()
    expect(error).to_contain_text("--plan motor_current: no such channel can be planned")
    assert page.locator(".plan input").input_value() == "7"
    assert page.locator(".forecast .plot").count() == len(NAMES)  # as it was
    assert any("400" in fault for fault in watched.faults)
    watched.faults.clear()  # the console notes the refused request
    plan(page, 0, "flow", "80")
    page.get_by_role("button", name="Show").click()
    expect(error).to_be_hidden()
    expect(page.locator(".legend li").nth(1)).to_have_text("with your values")


def test_where_no_channel_can_be_set_the_form_says_why(
    open_page: OpenPage, unplannable: str
) -> None:
    page = at_the_stream(open_page(), unplannable)
    expect(page.locator("#what-if .hint")).to_contain_text("No channel can be set here")
    expect(page.locator(".plan input")).to_be_disabled()
    expect(page.get_by_role("button", name="Show")).to_be_disabled()
    expect(page.locator("table.rivals tbody").first.locator("tr")).to_have_count(3)
    _, *notes = page.locator("#rivals p").all_text_contents()
    assert notes[0] == (
        "Not compared: previous model, because no other model ran on this gateway, or its copy is"
        " gone."
    )
    assert violations(page) == []


@pytest.fixture(scope="module")
def berlin(
    tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: Callable[..., Bundle]
) -> Iterator[str]:
    """A gateway whose clock has summer time."""
    bundle = forecasting_bundle()
    config = prepared(tmp_path_factory.mktemp("berlin"), bundle, bundle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        yield from serving(config)


def test_each_time_of_a_chart_has_the_offset_of_its_own_day(
    open_page: OpenPage, berlin: str
) -> None:
    page = open_page().page
    page.goto(f"{berlin}/streams/pump")
    page.wait_for_load_state()
    times = ["2025-10-26T00:30Z", "2025-10-26T01:30Z", "2025-07-01T12:00Z", "1970-01-01T00:00Z"]
    seconds = [datetime.fromisoformat(time).timestamp() for time in times]
    words = "JSON.parse(document.querySelector('.chart').dataset.words)"
    ticks = f"clockTimes({words})(null, {seconds}, 0, 0, 3600)"
    assert page.evaluate(ticks) == ["02:30", "02:30", "14:00", "01:00"]
    hours = f"{seconds}.map(clockDate({words})).map((at) => at.getHours())"
    assert page.evaluate(hours) == [2, 2, 14, 1]
