"""Hooks with a real store: who is told of what, in which order, how often, and what is counted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.alarms.points import Points, Request
from agent.config.onsite import HookTable
from agent.onsite.hooks import Hooks
from agent.store.batch import Batch
from agent.store.migrations import RECORDS
from agent.store.reader import Reader
from agent.store.salvage import mend
from agent.store.writer import Store
from tests.conftest import WAIT_S_MAX, wait_until
from tests.web_receiver import Answer, Receiver

NOW_S = 1.7e9
OPENED = "2023-11-14T22:13:20.000Z"
ALARM: dict[str, Any] = {
    "stream": "pump",
    "number": 1,
    "kind": "anomaly",
    "state": "opened",
    "onset": OPENED,
    "opened": OPENED,
    "closed": None,
    "score": 2.0,
    "severity": "medium",
    "action": "look at the machine",
    "channels": [
        {"channel": "flow", "unit": "m", "score": 2.0, "observed": 90.0, "expected": 50.0}
    ],
    "quality": {},
    "limit": None,
}
DONE: Answer = (204, {})


class Site:
    """A store, its points and hooks, committed as the loop does."""

    def __init__(self, directory: Path, *hooks: HookTable) -> None:
        self.directory = directory
        self.store = Store(directory, "plant", "gw-1", 100, 1000)
        self.store.open()
        self.points = Points({})
        self.points.restore(self.store.records.standings(), NOW_S, {})
        self.hooks = Hooks(self.store.origin, directory, self.store.records.alarm)
        self.configure(*hooks)
        self.hooks.start()

    def configure(self, *hooks: HookTable) -> None:
        self.hooks.configure(hooks, "en")
        self.store.records.notices.rows_max = self.hooks.rows_max

    def commit(self, *alarms: dict[str, Any], clock: str = "unsynced") -> None:
        for alarm in alarms:
            self.points.take(alarm, NOW_S)
        made, changed = self.points.drain()
        settled = self.hooks.settled()
        notices = self.hooks.notices(made, alarms)
        self.store.commit(
            Batch(
                transitions=made,
                standings=changed,
                alarms=list(alarms),
                notices=notices,
                settled=list(settled),
            ),
            clock,
        )
        self.hooks.committed(settled)

    def raised(self, number: int, stream: str = "pump", **more: Any) -> None:
        self.commit(ALARM | {"number": number, "stream": stream} | more)

    def cleared(self, number: int, stream: str = "pump") -> None:
        end = {"state": "closed", "closed": OPENED, "ended": "normal"}
        self.commit(ALARM | {"number": number, "stream": stream} | end)

    def told(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = self.hooks.document(self.store.records.notices.totals)[name]
        return told

    def until(self, name: str, **wanted: int) -> None:
        def reached() -> bool:
            self.commit()
            return wanted.items() <= self.told(name).items()

        wait_until(reached, f"{name}: {wanted}")

    def close(self) -> None:
        self.hooks.stop()
        self.store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def web(receiver: Receiver, name: str = "ops", **more: Any) -> HookTable:
    settings = {"backoff_min_s": 0.01, "backoff_max_s": 0.05} | more
    return HookTable(name=name, url=f"http://127.0.0.1:{receiver.port}/", **settings)


def whats(receiver: Receiver) -> list[str]:
    return [got.body["transition"]["what"] for got in receiver.got]


def test_an_alarm_and_its_end_are_told_in_order_with_what_a_person_needs(
    tmp_path: Path, receiver: Receiver
) -> None:
    site = Site(tmp_path, web(receiver))
    site.raised(1)
    site.commit()
    request = Request("acknowledged", ALARM, "maria", "terminal", 1)
    site.points.ask(request, NOW_S)  # calls nobody
    site.commit()
    site.cleared(1)
    site.until("ops", sent=2, waiting=0)
    site.close()
    assert whats(receiver) == ["raised", "cleared"]
    body = receiver.got[0].body
    assert (body["form"], body["site"], body["gateway"]) == (1, "plant", "gw-1")
    assert body["transition"]["announces"]
    assert body["alarm"]["number"] == 1
    assert "ump" in body["text"]
    assert receiver.got[0].headers["Idempotency-Key"] == body["id"]


def test_a_return_is_told_while_the_alarm_is_shelved_and_a_rise_then_is_not(
    tmp_path: Path, receiver: Receiver
) -> None:
    site = Site(tmp_path, web(receiver))
    site.raised(1)
    site.points.ask(Request("shelved", ALARM, "maria", "terminal", 1, "tests", 60.0), NOW_S)
    site.commit()
    site.raised(1, severity="high")
    site.cleared(1)
    site.until("ops", sent=2)
    site.close()
    assert whats(receiver) == ["raised", "cleared"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, ["raised", "raised", "cleared"]),
        ({"transitions": ["raised"]}, ["raised", "raised"]),
        ({"transitions": ["all"]}, ["raised", "raised", "noted", "cleared"]),
        ({"transitions": ["noted"]}, ["noted"]),
        ({"streams": ["fan"]}, ["raised"]),
        ({"kinds": ["stuck"]}, []),
        ({"priority_min": "high"}, ["raised"]),
    ],
)
def test_a_hook_gets_what_it_asks_for(
    tmp_path: Path, receiver: Receiver, more: dict[str, Any], wanted: list[str]
) -> None:
    site = Site(tmp_path, web(receiver, **more), web(receiver, "last", transitions=["reset"]))
    site.raised(1)
    site.raised(2, "fan", severity="high")
    site.points.ask(Request("noted", ALARM, "maria", "terminal", None, "a"), NOW_S)
    site.commit()
    site.cleared(1)
    site.until("ops", sent=len(wanted), waiting=0)
    assert site.told("last")["sent"] == 0
    site.close()
    assert whats(receiver) == wanted


def test_what_fails_is_tried_again_with_the_same_id_and_nothing_is_lost(tmp_path: Path) -> None:
    receiver = Receiver(lambda number: (503, {}) if number < 4 else DONE)
    site = Site(tmp_path, web(receiver))
    site.raised(1)
    site.raised(2, "fan")
    site.until("ops", sent=2, retried=3, waiting=0)
    assert not site.told("ops")["failing"]
    site.close()
    receiver.close()
    ids = [got.body["id"] for got in receiver.got]
    assert ids[:4] == [ids[0]] * 4
    assert ids[4] != ids[0]


def test_one_that_always_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    def answer(_: int) -> Answer:
        return (500, {}) if server.got[-1].body["transition"]["stream"] == "pump" else DONE

    receiver = server = Receiver(answer)
    site = Site(tmp_path, web(receiver))
    site.raised(1)
    site.raised(2, "fan")
    site.until("ops", sent=1, waiting=1)
    site.close()
    receiver.close()


def test_what_is_refused_is_dropped_and_counted(tmp_path: Path) -> None:
    receiver = Receiver(lambda number: (400, {}) if number == 1 else DONE)
    site = Site(tmp_path, web(receiver))
    site.raised(1)
    site.raised(2, "fan")
    site.until("ops", sent=1, refused=1, dropped=1, waiting=0)
    site.close()
    receiver.close()


def test_a_slow_hook_does_not_hold_up_another(tmp_path: Path, receiver: Receiver) -> None:
    slow = HookTable(name="slow", command=["/bin/sleep", "600"], timeout_s=300)
    site = Site(tmp_path, slow, web(receiver))
    site.raised(1)
    site.until("ops", sent=1)
    assert site.told("slow")["waiting"] == 1
    site.close()  # ends it, and does not wait for the 300 s


def test_what_waits_survives_a_restart_and_what_is_told_is_not_told_again(tmp_path: Path) -> None:
    hook = HookTable(name="ops", command=["/bin/false"], backoff_min_s=600, backoff_max_s=600)
    site = Site(tmp_path, hook)
    site.raised(1)
    site.until("ops", retried=1)
    site.close()
    receiver = Receiver()
    site = Site(tmp_path, web(receiver))
    site.until("ops", sent=1, waiting=0)
    site.close()
    site = Site(tmp_path, web(receiver))
    site.raised(2, "fan")
    site.until("ops", sent=1, waiting=0)
    site.close()
    receiver.close()
    assert [got.body["transition"]["number"] for got in receiver.got] == [1, 2]


BLOCKED: dict[str, Any] = {
    "command": ["/bin/false"],
    "backoff_min_s": 600,
    "backoff_max_s": 600,
}


def test_the_oldest_go_above_the_cap_and_are_counted(tmp_path: Path) -> None:
    site = Site(tmp_path, HookTable(name="ops", waiting_max=2, **BLOCKED))
    for number in range(1, 6):
        site.raised(number, f"s{number}")
    assert (site.told("ops")["waiting"], site.told("ops")["excess"]) == (2, 3)
    with Reader(tmp_path) as reader:
        left = [json.loads(one.document) for one in reader.notices("ops", 10)]
    assert [one["transition"]["number"] for one in left] == [4, 5]
    site.close()


def test_what_is_too_old_is_dropped_and_counted(tmp_path: Path) -> None:
    quick = BLOCKED | {"backoff_min_s": 0.01, "backoff_max_s": 0.05}
    site = Site(tmp_path, HookTable(name="ops", waiting_h_max=0.2 / 3600, **quick))
    site.raised(1)
    site.until("ops", expired=1, waiting=0, sent=0)
    site.close()


def test_notices_of_a_removed_hook_are_dropped_and_counted(
    tmp_path: Path, receiver: Receiver
) -> None:
    site = Site(tmp_path, HookTable(name="ops", **BLOCKED), web(receiver, "other"))
    site.raised(1)
    site.configure(web(receiver, "other"))
    site.commit()
    assert site.store.document()["dropped"]["notices_removed"] == 1
    site.until("other", sent=1)
    site.close()


def test_new_settings_are_taken_over_and_the_counts_stay(
    tmp_path: Path, receiver: Receiver
) -> None:
    site = Site(tmp_path, HookTable(name="ops", **BLOCKED))
    site.raised(1)
    site.until("ops", retried=1)
    site.configure(web(receiver))
    site.until("ops", sent=1, retried=1, waiting=0)
    site.close()


def test_a_repaired_file_keeps_what_waits(tmp_path: Path) -> None:
    site = Site(tmp_path, HookTable(name="ops", **BLOCKED))
    site.raised(1)
    site.close()
    assert mend(tmp_path / RECORDS)["saved"]["notices"] == 1
    receiver = Receiver()
    site = Site(tmp_path, web(receiver))
    site.until("ops", sent=1)
    site.close()
    receiver.close()


def test_one_that_is_told_although_the_cap_dropped_it_is_counted_once_in_the_queue(
    tmp_path: Path,
) -> None:
    free = threading.Event()

    def answer(_: int) -> Answer:
        assert free.wait(WAIT_S_MAX)
        return DONE

    receiver = Receiver(answer)
    site = Site(tmp_path, web(receiver, waiting_max=2, timeout_s=WAIT_S_MAX))
    site.raised(1)
    wait_until(lambda: len(receiver.got) == 1, "the first one, which is on its way")
    for number in range(2, 5):
        site.raised(number, f"s{number}")
    assert (site.told("ops")["waiting"], site.told("ops")["excess"]) == (2, 2)
    free.set()
    site.until("ops", sent=3, waiting=0, excess=2, dropped=2)
    with Reader(tmp_path) as reader:
        assert reader.notices("ops", 10) == []
    site.close()
    receiver.close()
    assert [got.body["transition"]["stream"] for got in receiver.got] == ["pump", "s3", "s4"]


def test_what_a_hook_has_told_before_its_settings_changed_is_deleted_and_not_told_again(
    tmp_path: Path, receiver: Receiver
) -> None:
    site = Site(tmp_path, web(receiver))
    site.raised(1)
    wait_until(lambda: site.told("ops")["sent"] == 1, "the delivery")  # and no commit after it
    for timeout_s in (5.0, 6.0, 7.0):
        site.configure(web(receiver, timeout_s=timeout_s))
    site.raised(2, "fan")
    site.until("ops", sent=2, waiting=0)
    site.close()
    assert [got.body["transition"]["stream"] for got in receiver.got] == ["pump", "fan"]


def test_all_hooks_together_have_one_deadline_at_a_stop(tmp_path: Path) -> None:
    """Each hangs in a request, which nobody can end; 20 deadlines of 3 s would be a minute."""
    free = threading.Event()

    def answer(_: int) -> Answer:
        free.wait(WAIT_S_MAX)
        return DONE

    receivers = [Receiver(answer) for _ in range(20)]
    hooks = [web(one, f"hook-{number}", timeout_s=300.0) for number, one in enumerate(receivers)]
    site = Site(tmp_path, *hooks)
    site.raised(1)
    wait_until(lambda: all(one.got for one in receivers), "all requests")
    began_s = time.monotonic()
    site.hooks.stop()
    took_s = time.monotonic() - began_s
    free.set()
    site.store.close()
    for one in receivers:
        one.close()
    assert took_s < 30.0


def test_without_hooks_nothing_is_made(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.raised(1)
    assert site.hooks.document(site.store.records.notices.totals) == {}
    site.close()


def test_an_agent_without_hooks_and_panel_loads_none_of_it() -> None:
    code = (
        "from agent import memory; memory.begin(); import sys, agent.daemon;"
        "print([name for name in ('agent.onsite.worker', 'agent.onsite.panel',"
        " 'agent.onsite.webhook', 'http.client') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
