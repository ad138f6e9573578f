"""Times of a clock that was wrong are put right where they are still here, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import Clock
from agent.corrections import Corrections
from agent.dialects.cloudevents import CloudEvents
from agent.handling.transition import Transition
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.record import Origin, Outgoing
from agent.store.writer import Store
from models.errors import StoreError
from models.messages import Float32, Samples
from models.times import iso_time
from tests.disk import Disk

ORIGIN = Origin("plant", "gw-1", "e")
WRONG_S, RIGHT_S = 100.0, 1_790_000_000.0
BY_S = RIGHT_S - WRONG_S
SYNCED_BEFORE_S = 1_780_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, "plant", "gw-1", 10_000, 100_000)
    made.open()
    yield made
    made.close()


def summary(stream: str, time: float) -> Outgoing:
    data = {name: iso_time(time) for name in ("from", "to", "last_sample")}
    return Outgoing("summary", stream, time, data | {"n": 5})


def alarm(stream: str, number: int, time: float, closed: float | None) -> dict[str, Any]:
    return {
        "stream": stream,
        "number": number,
        "state": "opened" if closed is None else "closed",
        "onset": iso_time(time - 1),
        "opened": iso_time(time),
        "closed": closed and iso_time(closed),
        "limit": {"made": iso_time(time), "value": 1},
    }


def samples(stream: str, time: float) -> tuple[str, Samples, Float32]:
    times = time + np.arange(5.0)
    return stream, Samples(times, np.ones((5, 2), np.float32)), np.ones(5, np.float32)


def queued(directory: Path) -> list[dict[str, Any]]:
    with Reader(directory) as reader:
        found = reader.outbox(["summary", "health"], 0, 10**6)
    return [json.loads(CloudEvents(ORIGIN).record(one).body) for one in found]


def correct(store: Store, batch: Batch, times: int = 100) -> int:
    by = store.correction(BY_S, WRONG_S, WRONG_S + 60, frozenset({"line"}), batch)
    for step in range(times):
        store.correct(by)
        if by.done:
            return step + 1
    raise AssertionError("it does not end")


def test_what_waits_is_moved_and_says_so(store: Store) -> None:
    store.commit(Batch(messages=[summary("line", SYNCED_BEFORE_S)]), "synced")
    health = Outgoing("health", None, WRONG_S, {"started": iso_time(WRONG_S), "n": "1970"})
    wrong = [summary("line", WRONG_S), summary("device", RIGHT_S), health]
    store.commit(Batch(messages=wrong), "unsynced")
    batch = Batch()
    assert correct(store, batch) == 1
    before, moved, device, told = queued(store.directory)
    assert (before["time"], before["clock"]) == (iso_time(SYNCED_BEFORE_S), "synced")
    assert (moved["time"], moved["clock"]) == (iso_time(RIGHT_S), "corrected")
    assert moved["data"] == summary("line", RIGHT_S).data
    assert moved["seq"] == 2
    assert (device["time"], device["clock"]) == (iso_time(RIGHT_S), "unsynced")
    assert (told["time"], told["data"]) == (
        iso_time(RIGHT_S),
        {"started": iso_time(RIGHT_S), "n": "1970"},
    )


def test_samples_and_alarms_of_arrivals_are_moved_and_older_ones_not(store: Store) -> None:
    rows = [samples("line", SYNCED_BEFORE_S), samples("line", WRONG_S), samples("device", 50.0)]
    alarms = [
        alarm("line", 1, SYNCED_BEFORE_S, SYNCED_BEFORE_S + 5),
        alarm("line", 2, WRONG_S + 5, WRONG_S + 9),
        alarm("device", 1, WRONG_S, None),
    ]
    store.commit(Batch(samples=rows, alarms=alarms), "unsynced")
    correct(store, Batch())
    with Reader(store.directory) as reader:
        first, second = (np.frombuffer(t) for t, *_ in reader.newest_samples("line", 100))
        (third,) = (np.frombuffer(t) for t, *_ in reader.newest_samples("device", 100))
        assert (first[0], second[0], third[0]) == (SYNCED_BEFORE_S, RIGHT_S, 50.0)
        moved = alarm("line", 2, RIGHT_S + 5, RIGHT_S + 9)
        assert reader.alarms(10) == [alarms[0], moved, alarms[2]]


@pytest.mark.parametrize("by_s", [BY_S, 30.0])  # a clock that was never set; one that was not exact
def test_what_is_written_meanwhile_is_right_and_what_is_older_is_still_moved(
    store: Store, by_s: float
) -> None:
    alarms = [alarm("line", 1, WRONG_S + 5, WRONG_S + 9), alarm("line", 2, WRONG_S + 7, None)]
    store.commit(Batch(alarms=alarms), "unsynced")
    by = store.correction(by_s, WRONG_S, WRONG_S + 60, frozenset({"line"}), Batch())
    right = [
        alarm("line", 1, WRONG_S + 5 + by_s, WRONG_S + 9 + by_s),
        alarm("line", 2, WRONG_S + 7 + by_s, None),
    ]
    store.commit(Batch(alarms=right[1:]), "synced")  # it is open, so that it is written again
    again = store.correction(1.0, WRONG_S + 60 + by_s, WRONG_S + 61 + by_s, by.streams, Batch())
    while not (by.done and again.done):
        store.correct(again if by.done else by)
    with Reader(store.directory) as reader:
        assert reader.alarms(10) == right


def test_an_alarm_that_waits_to_be_stored_is_moved_once(store: Store) -> None:
    wall, steady = [WRONG_S], [0.0]
    clock = Clock(lambda: "unsynced", lambda: wall[0], lambda: steady[0])
    corrections = Corrections(store, clock)
    waiting = [alarm("line", 1, WRONG_S + 5, WRONG_S + 9), alarm("device", 1, WRONG_S, None)]
    batch = Batch(alarms=waiting)
    steady[0], wall[0] = 20.0, WRONG_S + 50.0
    assert (step := clock.look()) is not None
    assert corrections.begin(step, frozenset({"line"}), batch) is not None
    store.commit(batch, "synced")
    while corrections.busy:
        corrections.go_on()
    with Reader(store.directory) as reader:
        assert reader.alarms(10) == [alarm("line", 1, WRONG_S + 35, WRONG_S + 39), waiting[1]]


def label(number: int, at: float, begin: float, end: float) -> Transition:
    return Transition(
        *("line", "anomaly", 1, number, at, "labelled", "NORM", "NORM", "normal"),
        *("low", "major", "low", "maria", "terminal"),
        label="nothing-found",
        begin=begin,
        end=end,
        until=at + 30,
    )


def test_what_a_label_is_about_follows_the_readings_and_its_row_keeps_its_time(
    store: Store,
) -> None:
    known = label(1, SYNCED_BEFORE_S, SYNCED_BEFORE_S - 9, SYNCED_BEFORE_S - 5)
    relative = label(2, WRONG_S + 20, WRONG_S + 5, WRONG_S + 9)  # as "--from -15s"
    by_a_watch = label(3, WRONG_S + 20, RIGHT_S - 900, RIGHT_S - 800)
    store.commit(Batch(transitions=[known]), "synced")
    messages = [
        Outgoing("transition", "line", one.at, one.document()) for one in (relative, by_a_watch)
    ]
    store.commit(Batch(transitions=[relative, by_a_watch], messages=messages), "unsynced")
    correct(store, Batch())
    with Reader(store.directory) as reader:
        found = reader.labels()
        sent = [one.read() for one in reader.outbox(["transition"], 0, 10)]
    times = [(one["begin"], one["end"], one["until"]) for one in found]
    again = iso_time(RIGHT_S + 50)
    assert times == [
        (known.document()["begin"], known.document()["end"], known.document()["until"]),
        (iso_time(RIGHT_S + 5), iso_time(RIGHT_S + 9), again),
        (iso_time(RIGHT_S - 900), iso_time(RIGHT_S - 800), again),
    ]
    assert [(one["begin"], one["end"], one["until"]) for one in sent] == times[1:]
    assert [one["at"] for one in found[1:]] == [iso_time(WRONG_S + 20)] * 2
    assert [one["at"] for one in sent] == [iso_time(RIGHT_S + 20)] * 2


def test_many_take_several_commits_and_what_comes_meanwhile_is_not_touched(store: Store) -> None:
    rows = [samples("line", WRONG_S + number / 1000) for number in range(1200)]
    messages = [summary("line", WRONG_S + number / 1000) for number in range(1200)]
    store.commit(Batch(messages=messages, samples=rows), "unsynced")
    waiting = Batch(messages=[summary("line", WRONG_S)], samples=[samples("line", WRONG_S + 2)])
    by = store.correction(BY_S, WRONG_S, WRONG_S + 60, frozenset({"line"}), waiting)
    waiting.messages.append(summary("line", RIGHT_S + 61))
    waiting.samples.append(samples("line", RIGHT_S + 61))
    store.commit(waiting, "unsynced")
    steps = 0
    while not by.done:
        store.correct(by)
        steps += 1
    assert steps == 3
    assert {message["time"][:7] for message in queued(store.directory)} == {iso_time(RIGHT_S)[:7]}
    with Reader(store.directory) as reader:
        chunks = reader.newest_samples("line", 10**6)
    assert min(np.frombuffer(times)[0] for times, *_ in chunks) == pytest.approx(RIGHT_S)
    assert max(np.frombuffer(times)[0] for times, *_ in chunks) == RIGHT_S + 61


def test_a_disk_that_is_full_leaves_it_for_later(store_on_disk: Store, disk: Disk) -> None:
    store = store_on_disk
    store.commit(Batch(samples=[samples("line", WRONG_S)]), "unsynced")
    by = store.correction(BY_S, WRONG_S, WRONG_S + 60, frozenset({"line"}), Batch())
    disk.fails("full")
    with pytest.raises(StoreError, match="full"):
        store.correct(by)
    disk.works()
    assert not by.done
    store.correct(by)
    assert by.done
