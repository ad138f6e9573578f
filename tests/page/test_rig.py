"""The rig itself: what goes wrong in a page is seen, however it goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser import PHONE, Watched, violations

OpenPage = Callable[..., Watched]
HEAD = '<!doctype html><html lang="en"><title>t</title><main><h1>A page</h1>'
PAGES = {
    "/": HEAD,
    "/favicon.ico": "",  # each browser asks for it
    "/inline": f"{HEAD}<script>alert(1)</script>",
    "/broken": f"{HEAD}<script src=broken.js></script>",
    "/broken.js": "nobody.knows()",
    "/absent": f"{HEAD}<img src=absent.png alt=nothing>",
    "/foreign": f"{HEAD}<link rel=stylesheet href=http://127.0.0.2:9/style.css>",
    "/unlabelled": f"{HEAD}<input>",
}


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGES.get(self.path)
        self.send_response(404 if body is None else 200)
        script = self.path.endswith(".js")
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src 'self' data:")
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def shown(watched: Watched, url: str) -> list[str]:
    """Return what went wrong in a page, and forget it."""
    watched.page.goto(url)
    watched.page.wait_for_load_state("networkidle")
    faults = list(watched.faults)
    watched.faults.clear()
    return faults


def test_a_window_is_as_wished(open_page: OpenPage, site: str) -> None:
    watched = open_page(size=PHONE, language="de", theme="dark", reduced_motion=True, throttle=4)
    assert shown(watched, f"{site}/") == []
    asked = watched.page.evaluate
    assert asked("[innerWidth, innerHeight]") == [*PHONE]
    assert asked("navigator.language") == "de"
    for wish in ("prefers-color-scheme: dark", "prefers-reduced-motion: reduce"):
        assert asked(f"matchMedia('({wish})').matches")
    assert watched.loaded == [site]
    assert violations(watched.page) == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("inline", "Content Security Policy"),
        ("broken", "nobody is not defined"),
        ("absent", "404"),
        ("foreign", "Content Security Policy"),
    ],
)
def test_a_fault_is_seen(open_page: OpenPage, site: str, path: str, says: str) -> None:
    faults = shown(watched := open_page(), f"{site}/{path}")
    assert any(says in fault for fault in faults), faults
    assert watched.loaded[0] == site


def test_what_nobody_can_use_is_found(open_page: OpenPage, site: str) -> None:
    watched = open_page()
    watched.page.goto(f"{site}/unlabelled")
    (found,) = violations(watched.page)
    assert found.startswith("label: ")
    assert found.endswith("1 times, <input>")
    watched.faults.clear()
