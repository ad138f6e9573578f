"""Figures of the local page: ``python -m tests.bench.page``; prints JSON.

A real agent with a simulated pump, the page's process, and chromium on a phone's window:

- the bytes of each view with all that it loads, as they are sent;
- the time until the first chart is drawn, with the browser's processor four times slower;
- the memory of the page's process: idle, with viewers, and of its chart worker, in MB;
- the time from a reading beyond a limit until its alarm is in the document, in ms; the reading's
  time is that of its slot, one of two a second;
- the loop's lag and the time from a reading to its commit (p99), in ms: alone, and with viewers who
  each load the overview again whenever the page tells them of news.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from agent.control.client import ask
from models.times import unix_s
from tests.browser import PHONE, launch, open_watched
from tests.conftest import wait_until
from tests.gateway_rig import FINE, HIGH, USER, VALVE, Gateway, gateway_in
from tests.page_rig import PASSWORD, Visitor

VIEWS = {"overview": "/", "alarms": "/alarms", "alarm": "/alarms/pump/1", "stream": "/streams/pump"}
THROTTLE = 4.0
LOOK_S = 0.5  # between two looks at the loop
# notes when the card of the valve becomes that of an alarm
NOTE = """
window.seen = 0;
new MutationObserver(() => {
  const card = document.querySelector("#stream-valve.high");
  if (card && !window.seen) window.seen = Date.now() / 1000;
  if (!card) window.seen = 0;
}).observe(document.body, { subtree: true, childList: true, attributes: true });
"""


def log_in(gateway: Gateway, page: Page) -> None:
    page.goto(f"{gateway.url}/login")
    page.locator("[name=name]").fill(USER)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("form.log-in button").click()
    page.locator("#cards").wait_for()


def weights(gateway: Gateway, browser: Browser) -> dict[str, int]:
    """Return the bytes that each view takes in a browser that has nothing of it."""
    found = {}
    for name, path in VIEWS.items():
        page = open_watched(browser, PHONE).page
        log_in(gateway, page)
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        sizes: list[float] = []
        session.on(
            "Network.loadingFinished", lambda one, to=sizes: to.append(one["encodedDataLength"])
        )
        page.goto(f"{gateway.url}{path}")
        if name in ("alarm", "stream"):
            page.locator(".chart canvas").first.wait_for()
        page.wait_for_timeout(500)
        found[name] = round(sum(sizes))
        page.context.close()
    return found


def first_chart_s(gateway: Gateway, browser: Browser, rounds: int) -> float:
    """Return the median time from a click until a chart is there, on a slow processor."""
    took = []
    for _ in range(rounds):
        page = open_watched(browser, PHONE, throttle=THROTTLE).page
        log_in(gateway, page)
        began = time.perf_counter()
        page.goto(f"{gateway.url}/alarms/pump/1", wait_until="commit")
        page.locator(".chart canvas").first.wait_for()
        took.append(time.perf_counter() - began)
        page.context.close()
    return round(statistics.median(took), 2)


def to_the_document_ms(gateway: Gateway, browser: Browser, rounds: int) -> dict[str, float]:
    """Return how long alarms take from their reading to the document of a browser."""
    page = open_watched(browser, PHONE).page
    log_in(gateway, page)
    page.evaluate(NOTE)
    card, took = page.locator(f"#stream-{VALVE}.high"), []
    for _ in range(rounds):
        before = len(gateway.alarms_of(VALVE))
        gateway.level = HIGH
        card.wait_for()
        (alarm,) = gateway.alarms_of(VALVE)[before:]
        took.append(1000 * (float(page.evaluate("window.seen")) - unix_s(alarm["onset"])))
        gateway.level = FINE
        wait_until(lambda: gateway.alarms_of(VALVE)[-1]["state"] == "closed", "the end")
        gateway.calm(VALVE)
        card.wait_for(state="detached")
    page.context.close()
    return percentiles(took)


def percentiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


class Viewers:
    """Browsers without a window: each waits for news, and then loads the overview again."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self._visitor = Visitor(gateway.page)
        self._visitor.log_in(USER)
        self._over = threading.Event()
        self.loads = 0
        self._threads = [threading.Thread(target=self._look) for _ in range(count)]

    def _look(self) -> None:
        cookies = {"Cookie": "; ".join(f"{k}={v}" for k, v in self._visitor.cookies.items())}
        port = self._visitor.page.port
        news, views = (http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(2))
        news.request("GET", "/events", headers=cookies)
        answer = news.getresponse()
        while not self._over.is_set():
            if not answer.readline().startswith(b"data:"):
                continue
            views.request("GET", "/", headers=cookies)
            assert views.getresponse().read()
            self.loads += 1
        news.close()
        views.close()

    @contextmanager
    def looking(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        yield
        self._over.set()
        for thread in self._threads:
            thread.join()


def loop_ms(gateway: Gateway, seconds: float) -> dict[str, Any]:
    """Return how the agent's loop does for some time."""
    lags, commits = [], []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = ask(gateway.socket, "state")
        lags.append(state["loop"]["lag_ms_last"])
        commits.append(state["latency"]["reading_to_commit_ms_p99"])
        time.sleep(LOOK_S)
    return {"lag_p99": percentiles(lags)["p99"], "reading_to_commit_p99": commits[-1]}


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(one for one in status.splitlines() if one.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def worker_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def figures(gateway: Gateway, rounds: int, seconds: float, viewers: int) -> dict[str, Any]:
    process = gateway.page.process
    assert process is not None
    gateway.page.ask("GET", "/login")
    found: dict[str, Any] = {"page_mb": {"idle": rss_mb(process.pid)}}
    wait_until(lambda: bool(gateway.alarms_of("pump")), "the simulated fault")
    found["loop_ms"] = {"alone": loop_ms(gateway, seconds)}
    for count in (10, viewers):
        crowd = Viewers(gateway, count)
        with crowd.looking():
            measured = loop_ms(gateway, seconds)
            found["page_mb"][f"with {count} viewers"] = rss_mb(process.pid)
        found["loop_ms"][f"with {count} viewers"] = measured | {"loads": crowd.loads}
    with sync_playwright() as playwright, launch(playwright) as browser:
        found["bytes"] = weights(gateway, browser)
        found["worker_mb"] = rss_mb(worker_of(process.pid))
        found["first_chart_s"] = first_chart_s(gateway, browser, 5)
        found["to_the_document_ms"] = to_the_document_ms(gateway, browser, rounds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="alarms that are raised")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each look at the loop")
    parser.add_argument("--viewers", type=int, default=50)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, gateway_in(Path(directory)) as gateway:
        found = figures(gateway, wanted.rounds, wanted.seconds, wanted.viewers)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
