"""The page in a real browser: a real agent with a real broker, the page's process, and chromium."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import PANEL, PHONE, Watched, violations
from tests.conftest import WAIT_S_MAX, wait_until
from tests.gateway_rig import FINE, HIGH, HOSTILE, LOW, USER, VALVE, Gateway, gateway_in
from tests.page_rig import PASSWORD

OpenPage = Callable[..., Watched]
NOTE = "<img src=x onerror=alert(1)> \"quoted\" & 'so'"
WAYS = {  # how people look at it
    "phone, light, German": {"size": PHONE, "theme": "light", "language": "de"},
    "phone, dark, English": {"size": PHONE, "theme": "dark", "language": "en"},
    "panel, light, English": {"size": PANEL, "theme": "light", "language": "en"},
    "panel, dark, German": {"size": PANEL, "theme": "dark", "language": "de"},
}
expect.set_options(timeout=WAIT_S_MAX * 1000)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway_in(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture
def fine(gateway: Gateway) -> Iterator[Gateway]:
    """The valve is as it should be, and nothing of it waits; so it is again in the end."""
    _calm(gateway)
    yield gateway
    _calm(gateway)


def _calm(gateway: Gateway) -> None:
    gateway.level = FINE
    wait_until(lambda: all(one["state"] == "closed" for one in gateway.alarms_of(VALVE)), "calm")
    gateway.calm(VALVE)


# keeps everything that is read out
ANNOUNCED = """() => {
  const place = document.getElementById("announce");
  window.announced = [];
  const watcher = new MutationObserver(() => window.announced.push(place.textContent));
  watcher.observe(place, {childList: true});
}"""


def raised(gateway: Gateway, level: float = HIGH) -> int:
    """Let the valve pass a limit; return the number of the alarm."""
    before = {one["number"] for one in gateway.alarms_of(VALVE)}
    gateway.level = level

    def new() -> list[int]:
        return [n for one in gateway.alarms_of(VALVE) if (n := one["number"]) not in before]

    wait_until(lambda: bool(new()), "an alarm")
    return new()[-1]


def log_in(gateway: Gateway, watched: Watched, path: str = "/") -> Page:
    """Open a view as a person does who has not logged in before."""
    page = watched.page
    page.goto(f"{gateway.url}/login?next={path}")
    page.locator("[name=name]").fill(USER)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("form.log-in button").click()
    expect(page).to_have_url(f"{gateway.url}{path}")
    return page


def button(page: Page, verb: str) -> Locator:
    """The button of an action, whatever its language."""
    return page.locator(f"form.act.{verb} button")


def opened(page: Page, verb: str) -> Locator:
    """Open what an action needs to know, and return its form."""
    form = page.locator(f"form.act.{verb}")
    page.locator("#actions details", has=form).locator("summary").click()
    return form


def hears(page: Page) -> None:
    """Wait until a tab has heard how many alarms there are."""
    wait_until(lambda: bool(page.evaluate("typeof unacknowledged === 'number'")), "the first news")


def handled(gateway: Gateway, number: int) -> dict[str, Any]:
    """Return an alarm as a terminal shows it."""
    alarm: dict[str, Any] = gateway.command("show", f"{VALVE}#{number}", "--json")["alarm"]
    return alarm


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_alarm_appears_by_itself_and_people_handle_it(
    fine: Gateway, open_page: OpenPage, way: dict[str, Any]
) -> None:
    watched = open_page(**way, throttle=4.0 if way["size"] == PHONE else 1.0)
    page = log_in(fine, watched)
    expect(page.locator("html")).to_have_attribute("lang", way["language"])
    card = page.locator(f"#stream-{VALVE}")
    expect(card).to_have_class(re.compile(r"\b(normal|warming)\b"))
    page.evaluate("window.kept = true")  # a page that is loaded again forgets it
    number = raised(fine)
    expect(card).to_have_class(re.compile(r"\bhigh\b"))
    assert page.evaluate("window.kept")
    card.locator(".newest a").click()
    expect(page).to_have_url(f"{fine.url}/alarms/{VALVE}/{number}")

    button(page, "acknowledge").click()
    expect(page.locator(".done")).to_be_visible()
    expect(button(page, "acknowledge")).to_have_count(0)
    assert handled(fine, number)["handling"]["state"] == "ACKED"

    form = opened(page, "note")
    form.locator("[name=reason]").fill(noted := f"note {number} {NOTE}")
    form.locator("button").click()
    expect(page.locator("#logbook li").first).to_contain_text(noted)

    form = opened(page, "label")
    form.locator("[name=label][value=false]").check()
    form.locator("[name=reason]").fill(labelled := f"label {number} {NOTE}")
    form.locator("button").click()
    expect(page.locator("#logbook li").first).to_contain_text(labelled)

    form = opened(page, "shelve")
    form.locator("[name=reason]").fill("noon")
    form.locator("button").click()
    expect(button(page, "unshelve")).to_be_visible()

    shown = handled(fine, number)
    assert shown["handling"]["state"] == "SHLVD"
    rows = [row for row in shown["logbook"] if row["number"] == number]
    assert [row["what"] for row in rows[:5]] == [
        "raised",
        "acknowledged",
        "noted",
        "labelled",
        "shelved",
    ]
    assert [row["why"] for row in rows[2:5]] == [noted, labelled, "noon"]
    assert {row["by"] for row in rows[1:5]} == {USER}
    assert watched.loaded == [fine.url]


VIEWS = {
    "overview": "/",
    "open": "/alarms",
    "aside": "/alarms?show=aside",
    "over": "/alarms?show=over",
    "alarm": f"/alarms/{VALVE}/1",
    "anomaly": "/alarms/pump/1",
    "stream": "/streams/pump",
    "hostile stream": f"/streams/{VALVE}",
    "health": "/health",
    "about": "/about",
}


def drawn(page: Page) -> None:
    """Wait until the charts of a view have been drawn."""
    for box in page.locator(".chart, .forecast").all():
        expect(
            box.locator("canvas").first.or_(box.locator("p[role=status]:not(:empty)"))
        ).to_be_visible()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_everybody_can_use_every_view(
    gateway: Gateway, open_page: OpenPage, way: dict[str, Any]
) -> None:
    if not gateway.alarms_of(VALVE):
        raised(gateway)
    wait_until(lambda: bool(gateway.alarms_of("pump")), "the simulated fault")
    found = {}
    watched = open_page(**way, reduced_motion=way["size"] == PANEL)
    page = log_in(gateway, watched)
    for name, path in VIEWS.items():
        page.goto(f"{gateway.url}{path}")
        drawn(page)
        wide = page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
        found[name] = violations(page) + (["wider than the window"] if wide else [])
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert watched.loaded == [gateway.url]


def test_what_does_not_exist_is_said(gateway: Gateway, open_page: OpenPage) -> None:
    for path in ("/nothing", "/alarms/valve/999", "/alarms/fan/1", "/streams/fan"):
        watched = open_page()
        watched.expected.append("404")
        log_in(gateway, watched)
        answer = watched.page.goto(f"{gateway.url}{path}")
        assert answer is not None
        assert answer.status == 404
        assert violations(watched.page) == []


def test_with_the_keyboard_alone(fine: Gateway, open_page: OpenPage) -> None:
    number = raised(fine)
    page = log_in(fine, open_page())

    def focused() -> Any:
        return page.evaluate("document.activeElement.outerHTML")

    def to(what: str, key: str = "Tab") -> None:
        for _ in range(100):
            page.keyboard.press(key)
            if page.evaluate(f"document.activeElement.matches({what!r})"):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", focused()
                return
        pytest.fail(f"{what} is not reached; the last was {focused()}")

    to(".skip")
    page.keyboard.press("Enter")
    to(f'a[href="/alarms/{VALVE}/{number}"]')
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{fine.url}/alarms/{VALVE}/{number}")
    to("form.act.acknowledge button")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_be_visible()
    to("#actions details:has(form.act.note) summary")
    page.keyboard.press("Enter")
    to("form.act.note [name=reason]")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    expect(page.locator("#logbook li").first).to_contain_text("typed")
    assert handled(fine, number)["handling"]["state"] == "ACKED"


def test_without_scripts(fine: Gateway, open_page: OpenPage) -> None:
    number = raised(fine, LOW)
    page = log_in(fine, open_page(javascript=False))
    page.locator(f'a[href="/alarms/{VALVE}/{number}"]').click()
    button(page, "acknowledge").click()
    expect(page.locator(".done")).to_be_visible()
    assert handled(fine, number)["handling"]["state"] == "ACKED"


def test_no_text_from_outside_becomes_markup(fine: Gateway, open_page: OpenPage) -> None:
    number = raised(fine)
    fine.ask("label", VALVE, number, label="confirmed", reason=NOTE)
    watched = open_page()
    page = log_in(fine, watched)
    # the page learns of titles in the background
    expect(page.locator(f"#stream-{VALVE}")).to_contain_text(
        re.compile(f"^\\s*{re.escape(HOSTILE)}")
    )
    for path in ("/", "/alarms", f"/alarms/{VALVE}/{number}", f"/streams/{VALVE}"):
        page.goto(f"{fine.url}{path}")
        drawn(page)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        expect(page.locator("main")).to_contain_text(HOSTILE)
        assert page.locator('b[title="x"], main i, img[src="x"], main script').count() == 0
        assert page.locator('a[href^="javascript:"]').count() == 0
    page.goto(f"{fine.url}/alarms/{VALVE}/{number}")
    expect(page.locator("#logbook")).to_contain_text(NOTE)
    assert watched.loaded == [fine.url]


def test_the_last_alarm_is_drawn_beside_this_one(fine: Gateway, open_page: OpenPage) -> None:
    raised(fine)
    _calm(fine)
    number = raised(fine)
    for way in ({"size": PHONE, "language": "de"}, {"theme": "dark"}):
        page = log_in(fine, open_page(**way), f"/alarms/{VALVE}/{number}")
        drawn(page)
        beside = page.locator(".last-time")
        expect(beside.locator("canvas")).to_be_visible()
        expect(beside.locator(".u-series:visible")).to_have_count(2)
        expect(page.locator("section", has=beside)).to_contain_text(f"{VALVE}#")
        assert violations(page) == []
        assert not page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
    fine.level = FINE
    expect(page.locator(".back")).to_be_visible()


def test_a_page_says_when_it_is_old_and_catches_up(fine: Gateway, open_page: OpenPage) -> None:
    number = raised(fine)
    watched = open_page(size=PHONE)
    watched.expected.extend(("net::ERR", "401"))
    page = log_in(fine, watched, f"/alarms/{VALVE}/{number}")
    expect(button(page, "acknowledge")).to_be_enabled()
    fine.page.stop()
    expect(page.locator("#connection")).not_to_be_empty()
    expect(button(page, "acknowledge")).to_be_disabled()
    fine.ask("acknowledge", VALVE, number)
    fine.page.start()
    expect(page.locator("form.log-in")).to_be_visible()  # its sessions have ended with it
    log_in(fine, watched, f"/alarms/{VALVE}/{number}")
    expect(button(page, "acknowledge")).to_have_count(0)


def test_nobody_watches_is_on_every_view(fine: Gateway, open_page: OpenPage) -> None:
    page = log_in(fine, open_page())
    expect(page.locator(".dead")).to_have_count(0)
    fine.agent.kill()
    try:
        expect(page.locator(".dead")).to_be_visible()
        for path in ("/alarms", "/health", f"/streams/{VALVE}"):
            page.goto(f"{fine.url}{path}")
            expect(page.locator(".dead")).to_be_visible()
            assert violations(page) == []
    finally:
        fine.start_agent()
    expect(page.locator(".dead")).to_have_count(0)


def test_a_form_that_is_open_can_be_sent_once_the_page_answers_again(
    fine: Gateway, open_page: OpenPage
) -> None:
    number = raised(fine)
    watched = open_page(size=PHONE)
    watched.expected.append("net::ERR")
    page = log_in(fine, watched, f"/alarms/{VALVE}/{number}")
    form = opened(page, "note")
    form.locator("[name=reason]").fill("typed before")
    assert fine.page.process is not None
    fine.page.process.send_signal(signal.SIGSTOP)
    expect(form.locator("button")).to_be_disabled()
    fine.page.process.send_signal(signal.SIGCONT)
    expect(form.locator("button")).to_be_enabled()
    form.locator("button").click()
    expect(page.locator("#logbook li").first).to_contain_text("typed before")


def test_what_is_refreshed_keeps_the_focus(fine: Gateway, open_page: OpenPage) -> None:
    number = raised(fine)
    page = log_in(fine, open_page(), f"/alarms/{VALVE}/{number}")
    page.locator("#actions summary").last.focus()
    page.locator("#actions summary").last.evaluate("one => { one.kept = true }")
    fine.ask("note", VALVE, number, reason="from elsewhere")
    fine.ask("acknowledge", VALVE, number, revision=handled(fine, number)["handling"]["revision"])
    expect(button(page, "acknowledge")).to_have_count(0)
    assert page.evaluate("document.activeElement.matches('#actions summary')")
    assert not page.evaluate("Boolean(document.activeElement.kept)")


def test_a_refusal_is_told_in_the_language_of_the_page(fine: Gateway, open_page: OpenPage) -> None:
    number = raised(fine)
    watched = open_page(language="de")
    watched.expected.append("409")
    page = log_in(fine, watched, f"/alarms/{VALVE}/{number}")
    form = opened(page, "shelve")  # while it is open, the page shows the alarm as it was
    form.locator("[name=reason]").fill("noon")
    fine.ask("acknowledge", VALVE, number)
    form.locator("button").click()
    told = page.locator(".error")
    expect(told).to_contain_text("Es wurde nichts getan: der Alarm hat sich seitdem geändert")
    expect(told).to_contain_text(
        re.compile(rf"Zustand von {VALVE}#{number}\.\d+: quittiert, Schwere hoch")
    )


def test_the_sound_stays_on_in_the_next_view(fine: Gateway, open_page: OpenPage) -> None:
    page = log_in(fine, open_page())
    page.get_by_role("button", name="Sound is off").click()
    page.get_by_role("link", name="Health").click()
    expect(page.get_by_role("heading", name="Health")).to_be_visible()
    expect(page.get_by_role("button", name="Sound is on")).to_be_visible()
    page.get_by_role("button", name="Sound is on").click()
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_role("button", name="Sound is off")).to_be_visible()


def test_the_alarm_that_is_new_is_read_out_and_not_the_most_urgent(
    fine: Gateway, open_page: OpenPage
) -> None:
    first = raised(fine)
    page = log_in(fine, open_page())
    expect(page.locator(f'.newest a[href="/alarms/{VALVE}/{first}"]')).to_be_visible()
    # once it has heard how many there are, what is more is new
    hears(page)
    page.evaluate(ANNOUNCED)
    raised(fine, LOW)
    # another alarm may follow it at any time
    wait_until(
        lambda: any("below 0" in told for told in page.evaluate("window.announced")), "the limit"
    )
    expect(page.locator(f'.newest a[href="/alarms/{VALVE}/{first}"]')).to_be_visible()


def tab_of(page: Page, path: str = "/") -> Page:
    """Open one more tab of a browser, with its cookies, and wait until it hears of changes."""
    made = page.context.new_page()
    made.goto(f"{page.url.rstrip('/')}{path}", wait_until="domcontentloaded")
    hears(made)
    return made


IN_ALARM = re.compile(r"\bhigh\b")
TABS = 8  # HTTP/1.1: a browser opens six connections to a host


def test_more_tabs_than_connections_hear_of_a_new_alarm(fine: Gateway, open_page: OpenPage) -> None:
    page = log_in(fine, open_page())
    tabs = [page, *(tab_of(page) for _ in range(TABS))]
    tabs.pop(1).close()
    raised(fine)
    for tab in tabs:
        expect(tab.locator(f"#stream-{VALVE}")).to_have_class(IN_ALARM)


def show(tab: Page, visible: bool) -> None:
    """Hide a tab behind another one, or bring it to the front."""
    state = "visible" if visible else "hidden"
    tab.evaluate(
        "Object.defineProperty(document, 'visibilityState',"
        f" {{value: '{state}', configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_a_hidden_tab_gives_its_connection_back_where_tabs_cannot_share_one(
    fine: Gateway, open_page: OpenPage
) -> None:
    watched = open_page(size=PHONE)
    watched.page.context.add_init_script("delete window.SharedWorker")
    page = log_in(fine, watched)
    show(page, visible=False)
    for _ in range(TABS):
        show(last := tab_of(page), visible=False)
    raised(fine)
    show(page, visible=True)
    expect(page.locator(f"#stream-{VALVE}")).to_have_class(IN_ALARM)
    expect(last.locator(f"#stream-{VALVE}")).not_to_have_class(IN_ALARM)
