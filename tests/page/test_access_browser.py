"""The log-in in a real browser: what its rules for cookies, origins and forms make of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser import PANEL, PHONE, Watched, violations
from tests.kept_rig import Kept, alarm
from tests.page_rig import PASSWORD, RealPage

OpenPage = Callable[..., Watched]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[RealPage]:
    kept = Kept(tmp_path)
    kept.take(alarm(1, severity="high"))
    kept.store.close()
    made = RealPage(kept.config, 'users_file = "page-users"')
    made.add("maria", "operator")
    made.start()
    yield made
    made.stop()


def log_in(watched: Watched, page: RealPage, path: str) -> None:
    """Go to a view, and log in there."""
    # the chart of an alarm asks for a history that there is not, perhaps before the next page comes
    watched.expected.append("404 (Not Found)")
    shown = watched.page
    shown.goto(f"http://127.0.0.1:{page.port}{path}")
    shown.get_by_label("Name").fill("maria")
    shown.get_by_label("Password").fill(PASSWORD)
    shown.get_by_role("button", name="Log in").click()
    shown.wait_for_url(f"**{path}")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_person_logs_in_asks_for_something_and_logs_out(
    page: RealPage, open_page: OpenPage, javascript: bool
) -> None:
    watched = open_page(javascript=javascript)
    log_in(watched, page, "/alarms/pump/1")
    shown = watched.page
    assert shown.get_by_text("Logged in: maria").is_visible()
    shown.locator(".act.acknowledge button").click()
    shown.get_by_role("alert").wait_for()  # every guard let it pass, and there is no agent
    assert "The agent does not answer" in shown.get_by_role("alert").inner_text()
    watched.faults.clear()  # of the 503
    shown.get_by_role("button", name="Log out").click()
    shown.wait_for_url("**/login")
    shown.goto(f"http://127.0.0.1:{page.port}/alarms")
    assert "/login" in shown.url
    assert watched.loaded == [f"http://127.0.0.1:{page.port}"]


@pytest.mark.parametrize("size", [PHONE, PANEL])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_the_form(
    page: RealPage, open_page: OpenPage, size: tuple[int, int], theme: str
) -> None:
    watched = open_page(size=size, theme=theme)
    shown = watched.page
    shown.goto(f"http://127.0.0.1:{page.port}/login")
    assert violations(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= size[0]
    button = shown.get_by_role("button", name="Log in").bounding_box()
    assert button is not None and button["height"] >= 44
    shown.get_by_label("Name").fill("maria")
    shown.get_by_label("Password").fill("a wrong password")
    shown.keyboard.press("Enter")
    shown.get_by_role("alert").wait_for()
    assert violations(shown) == []
    watched.faults.clear()  # of the 403


class _Elsewhere(BaseHTTPRequestHandler):
    """Another site: a link to an alarm, and a form that would acknowledge it."""

    target = ""

    def do_GET(self) -> None:
        body = (
            f'<!doctype html><title>t</title><a href="{self.target}">alarm</a>'
            f'<form method=post action="{self.target}/acknowledge"><button>win</button></form>'
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(page: RealPage) -> Iterator[str]:
    handler = type(
        "Handler", (_Elsewhere,), {"target": f"http://127.0.0.1:{page.port}/alarms/pump/1"}
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://localhost:{server.server_port}/favicon.ico"
        server.shutdown()


def test_a_link_from_another_site_opens_the_alarm_and_its_form_does_nothing(
    page: RealPage, open_page: OpenPage, elsewhere: str
) -> None:
    watched = open_page()
    log_in(watched, page, "/alarms")
    shown = watched.page
    shown.goto(elsewhere)
    shown.get_by_role("link").click()
    shown.get_by_text("Logged in: maria").wait_for()
    assert shown.url == f"http://127.0.0.1:{page.port}/alarms/pump/1"
    shown.goto(elsewhere)
    shown.get_by_role("button").click()
    shown.get_by_text("This request came from another site, and was not done.").wait_for()
    watched.faults.clear()  # of the 403


def test_a_view_that_is_open_when_the_session_ends_shows_the_log_in(
    page: RealPage, open_page: OpenPage
) -> None:
    watched = open_page()
    log_in(watched, page, "/alarms")
    page.remove("maria")
    page.add("tom")
    watched.page.wait_for_url("**/login?next=/alarms")
    watched.faults.clear()  # of the 401 of the events
