"""The logbook in the store: rows come with their change, stay as they are, and are salvaged."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.alarms.points import Points, Request
from agent.handling.states import Standing
from agent.store.batch import WAITING_TRANSITIONS_MAX, Batch
from agent.store.migrations import RECORDS
from agent.store.reader import Reader
from agent.store.retention import Retention
from agent.store.salvage import mend
from agent.store.writer import Store
from tests.agent.store.test_migrations import make

KEY = ("pump", "anomaly")
ALARM: dict[str, Any] = {
    "stream": "pump",
    "number": 1,
    "kind": "anomaly",
    "state": "opened",
    "opened": "2023-11-14T22:13:20.000Z",
    "severity": "medium",
    "channels": [],
}


def opened(directory: Path, logbook_rows_max: int = 100) -> Store:
    store = Store(directory, "plant", "gw-1", 100, 1000, logbook_rows_max=logbook_rows_max)
    store.open()
    return store


def batch(points: Points, **more: Any) -> Batch:
    made, changed = points.drain()
    return Batch(transitions=made, standings=changed, **more)


def raised(at: float = 1.7e9) -> Points:
    points = Points({})
    points.take(ALARM, at)
    return points


def note(points: Points, text: str, at: float = 1.7e9) -> None:
    points.ask(Request("noted", ALARM, "maria", "terminal", why=text), at)


def test_a_change_and_its_row_are_one_transaction_and_come_back(tmp_path: Path) -> None:
    store, points = opened(tmp_path), raised()
    store.commit(batch(points, alarms=[ALARM]), "unsynced")
    points.ask(Request("acknowledged", ALARM, "maria", "terminal", 1, "valve"), 1.7e9 + 9)
    store.commit(batch(points), "synced")
    assert store.records.standings()[KEY].state == "ACKED"
    with Reader(tmp_path) as reader:
        assert reader.standings() == store.records.standings()
        book = reader.logbook(*KEY, 10)
        assert reader.logbook(*KEY, 1) == book[1:]
        assert [number for number, _ in reader.logbook_after(1, 10)] == [reader.last_logbook_row()]
    assert [(row["revision"], row["after"], row["by"], row["clock"]) for row in book] == [
        (1, "UNACK", "agent", "unsynced"),
        (2, "ACKED", "maria", "synced"),
    ]
    store.close()


def test_the_oldest_rows_go_and_how_it_stands_stays(tmp_path: Path) -> None:
    store, points = opened(tmp_path, logbook_rows_max=3), raised()
    for text in "abcd":
        note(points, text)
        store.commit(batch(points), "synced")
    with Reader(tmp_path) as reader:
        assert [row["why"] for row in reader.logbook(*KEY, 10)] == ["b", "c", "d"]
    assert store.document()["dropped"]["logbook_excess"] == 2
    assert store.records.standings()[KEY].revision == 5
    store.close()


def test_rows_of_a_time_whose_alarms_are_dropped_go_too(tmp_path: Path) -> None:
    store, points = opened(tmp_path), raised(1.7e9)
    note(points, "old", 1.7e9)
    note(points, "new", 1.7e9 + 10 * 86_400)
    store.commit(batch(points), "synced")
    store.records.drop_old(Retention(alarms_days_max=5), 1.7e9 + 10 * 86_400)
    with Reader(tmp_path) as reader:
        assert [row["why"] for row in reader.logbook(*KEY, 10)] == ["new"]
    store.close()


def test_rows_live_as_long_as_their_alarm(tmp_path: Path) -> None:
    store, points = opened(tmp_path, 10_000), raised(1.7e9)
    points.take(closed(), 1.7e9 + 1)  # it waits for an acknowledgement, so it stays
    for number in range(1, 1101):  # more than a search deletes
        points.take(ALARM | {"stream": "fan", "number": number, "kind": "stuck"}, 1.7e9 + 2)
    note(points, "looked at it", 1.7e9 + 3)
    store.commit(batch(points, alarms=[closed()]), "synced")
    later_s = 1.7e9 + 10 * 86_400
    for _ in range(2):
        store.records.drop_old(Retention(alarms_days_max=5), later_s)
    with Reader(tmp_path) as reader:
        book = reader.logbook_after(0, 10_000)
        assert [row["what"] for _, row in book] == ["raised", "cleared", "noted"]
    points.ask(Request("acknowledged", closed(), "maria", "terminal"), 1.7e9 + 4)
    store.commit(batch(points), "synced")
    store.records.drop_old(Retention(alarms_days_max=5), later_s)
    with Reader(tmp_path) as reader:
        assert (reader.alarms(10), reader.logbook_after(0, 10)) == ([], [])
    store.close()


def closed(number: int = 1, **more: Any) -> dict[str, Any]:
    over = {"number": number, "state": "closed", "closed": ALARM["opened"], "ended": "normal"}
    return ALARM | over | more


def numbers(directory: Path) -> list[int]:
    with Reader(directory) as reader:
        return [alarm["number"] for alarm in reader.alarms(1000)]


def test_an_alarm_that_waits_for_somebody_is_kept_however_old(tmp_path: Path) -> None:
    store, points = opened(tmp_path), raised()
    points.take(closed(), 1.7e9)  # returned to normal, not acknowledged
    store.commit(batch(points, alarms=[closed()]), "synced")
    later_s = 1.7e9 + 10 * 86_400
    store.records.drop_old(Retention(alarms_days_max=5), later_s)
    assert numbers(tmp_path) == [1]
    points.ask(Request("acknowledged", closed(), "maria", "terminal"), later_s)
    store.commit(batch(points), "synced")
    store.records.drop_old(Retention(alarms_days_max=5), later_s)
    assert numbers(tmp_path) == []
    store.close()


def test_an_alarm_that_waits_for_somebody_is_kept_whatever_the_cap(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 1000, alarm_rows_max=3)
    store.open()
    points = raised()
    points.take(closed(), 1.7e9)
    others = [closed(number, stream="fan") for number in range(2, 9)]
    store.commit(batch(points, alarms=[closed(), *others]), "synced")
    assert numbers(tmp_path) == [1, 6, 7, 8]
    store.close()


def test_a_repaired_file_keeps_acknowledgements_and_gives_no_revision_twice(
    tmp_path: Path,
) -> None:
    store, points = opened(tmp_path), raised()
    points.ask(Request("acknowledged", ALARM, "maria", "terminal", 1), 1.7e9)
    store.commit(batch(points, alarms=[ALARM]), "synced")
    store.close()
    report = mend(tmp_path / RECORDS)
    assert (report["saved"]["points"], report["saved"]["logbook"]) == (1, 2)
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as connection:
        connection.execute("UPDATE points SET document = '{}'")  # is damaged
        connection.commit()
    report = mend(tmp_path / RECORDS)
    assert (report["saved"]["points"], report["saved"]["logbook"]) == (0, 2)
    store = opened(tmp_path)
    assert store.records.standings() == {KEY: Standing(revision=2)}
    store.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_version_has_no_logbook(tmp_path: Path, version: int) -> None:
    make(tmp_path, RECORDS, version)
    with Reader(tmp_path) as reader:
        assert (reader.standings(), reader.logbook(*KEY, 9), reader.labels()) == ({}, [], [])
        assert (reader.last_logbook_row(), reader.logbook_after(0, 9)) == (0, [])
    report = mend(tmp_path / RECORDS)
    assert report["lost"] == {"alarms": 0, "outbox": 0, "state": 0}


def test_while_nothing_can_be_stored_the_oldest_rows_are_dropped_and_counted() -> None:
    points = raised()
    for number in range(WAITING_TRANSITIONS_MAX + 2):
        note(points, str(number))
    waiting = batch(points)
    assert waiting.shed()["logbook"] == 3
    assert waiting.transitions[0].why == "2"
    assert waiting.standings[KEY].revision == WAITING_TRANSITIONS_MAX + 3
