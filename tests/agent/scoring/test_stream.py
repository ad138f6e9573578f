"""What a stream promises of its alarms, its memory and its times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.alarms.document import Reason
from agent.bundles.load import baseline
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.scoring.fleet import Fleet
from agent.scoring.origin import Origin, Refusal
from agent.scoring.stream import Stream
from agent.store.batch import THROUGH, Batch
from models.errors import ConfigError
from models.messages import Samples
from models.times import iso_time
from tests.agent.test_clock import World
from tests.fleet_rig import FAR, NORMAL, START_S, WARM_UP, Fleeting, rows

CALM = WARM_UP + 20  # samples, after which the baseline knows what is normal
HOUR_S = 3600.0


def alarmed(**settings: Any) -> Fleeting:
    """Return a stream with an alarm that is open."""
    fleet = Fleeting("pump", **settings)
    fleet.take(rows(CALM))
    fleet.take(rows(5, FAR), CALM)
    return fleet


def saved(fleet: Fleeting) -> Batch:
    """Return a batch as the loop would commit it, with the whole memory."""
    fleet.fleet.flush(fleet.batch)
    fleet.stream.save(fleet.batch, fleet.batch.rows())
    return fleet.flush()


def states(batch: Batch) -> list[tuple[int, str, str]]:
    return [(alarm["number"], alarm["kind"], alarm["state"]) for alarm in batch.alarms]


def test_an_alarm_is_kept_sent_and_counted_when_it_opens_and_when_it_closes() -> None:
    fleet = alarmed()
    fleet.take(rows(10, NORMAL), CALM + 5)
    batch = fleet.flush()
    both = [(1, "anomaly", "opened"), (1, "anomaly", "closed")]
    assert states(batch) == both
    sent = [message.data for message in batch.messages if message.kind == "alarm"]
    assert sent == batch.alarms
    assert {channel["channel"] for channel in batch.alarms[0]["channels"]} == {"flow"}
    counters = fleet.stream.counters
    assert (counters["alarms_opened"], counters["alarms_closed"]) == (1, 1)


def test_an_alarm_stays_open_over_a_restart_and_closes_after_it() -> None:
    before = alarmed()
    batch = saved(before)
    after = Fleeting("pump")
    alarms = after.batch.alarms
    assert after.stream.restore(batch.state["pump"], batch.alarms[-1:], 1, after.batch)
    assert alarms == []
    after.take(rows(10, NORMAL), CALM + 5)
    assert states(after.flush()) == [(1, "anomaly", "closed")]


@pytest.mark.parametrize("parts", ["nothing saved", "another detector"])
def test_where_the_memory_is_of_no_use_nobody_watches_open_alarms_and_numbers_go_on(
    parts: str,
) -> None:
    batch = saved(alarmed())
    after = Fleeting("pump", deviations_max=7.0)
    memory = batch.state["pump"] if parts == "another detector" else {}
    assert not after.stream.restore(memory, batch.alarms[-1:], 1, after.batch)
    assert after.batch.forgotten == {"pump"}
    closed = after.flush()
    assert states(closed) == [(1, "anomaly", "closed")]
    assert closed.alarms[0]["closed"] is not None
    assert [message.data for message in closed.messages] == closed.alarms
    after.take(rows(CALM))
    after.take(rows(5, FAR), CALM)
    assert states(after.flush()) == [(2, "anomaly", "opened")]


def test_a_part_that_an_older_version_did_not_save_has_a_default() -> None:
    batch = saved(alarmed())
    needed = {"aligner", "summary"}
    optional = {"doubts", "limits", "features", THROUGH}
    parts = {name: part for name, part in batch.state["pump"].items() if name not in optional}
    assert needed <= parts.keys()
    assert Fleeting("pump").stream.restore(parts, batch.alarms[-1:], 1, Batch())


def test_silence_is_told_once_and_ends_with_the_next_reading() -> None:
    world = World(START_S)
    fleet = Fleeting("pump", clock=world.clock())
    fleet.take(rows(3))
    world.wait(60)
    for _ in range(3):
        fleet.stream.open_silence(2.0, fleet.batch)
    assert states(fleet.batch) == [(1, "silent", "opened")]
    fleet.take(rows(1), 60)
    assert states(fleet.flush()) == [(1, "silent", "opened"), (1, "silent", "closed")]


def test_a_silence_says_if_something_comes_that_cannot_be_used() -> None:
    world = World(START_S)
    fleet = Fleeting("pump", clock=world.clock())
    fleet.take(rows(3))
    world.wait(60)
    why = Reason("unusable", "nothing usable comes, 40 malformed a minute")
    fleet.stream.open_silence(2.0, fleet.batch, why)
    fleet.take(rows(1), 60)
    said = [(a["cause"], a["action"]) for a in fleet.flush().alarms if a["kind"] == "silent"]
    assert said == [why[:2]] * 2


def test_a_silence_that_an_older_sample_ends_does_not_end_before_it_began() -> None:
    """A device that tells late, what it kept meanwhile, has times of before the alarm."""
    world = World(START_S)
    fleet = Fleeting("pump", clock=world.clock())
    fleet.take(rows(3))
    world.wait(60)
    fleet.stream.open_silence(2.0, fleet.batch)
    fleet.take(rows(1), 30)
    opened, closed = [one for one in fleet.flush().alarms if one["kind"] == "silent"]
    assert closed["closed"] == closed["opened"] == opened["opened"]


def test_an_alarm_that_nobody_watches_does_not_close_before_it_opened() -> None:
    """The device's clock may be ahead of the gateway's."""
    batch = saved(alarmed())
    world = World(START_S - HOUR_S)
    after = Fleeting("pump", clock=world.clock(), deviations_max=7.0)
    after.stream.restore(batch.state["pump"], batch.alarms[-1:], 1, after.batch)
    (closed,) = after.flush().alarms
    assert closed["closed"] == closed["opened"]


def test_the_log_says_why_an_alarm_closes(caplog: pytest.LogCaptureFixture) -> None:
    fleet = alarmed()
    fleet.take(rows(10, NORMAL), CALM + 5)
    batch = saved(alarmed())
    Fleeting("pump").stream.restore({}, batch.alarms[-1:], 1, Batch())
    said = [message for message in caplog.messages if "alarm closed" in message]
    assert said[0].endswith(": back to normal")
    assert said[1].endswith(": another detector watches the stream, or its memory is lost")


def test_the_memory_is_saved_where_that_is_due_or_something_was_told() -> None:
    fleet = Fleeting("pump")
    fleet.take(rows(CALM // 10 * 10 + 5))
    assert THROUGH in saved(fleet).state["pump"]

    def parts(first: int, made: list[list[float]]) -> dict[str, bytes]:
        fleet.take(made, first)
        fleet.fleet.flush(fleet.batch)
        fleet.stream.save(fleet.batch, 100, whole=False)
        return fleet.flush().state["pump"]

    assert THROUGH not in parts(CALM + 5, rows(2))  # within an interval of the summary
    assert parts(CALM + 7, rows(5, FAR))[THROUGH] == b"100"


def test_times_of_arrival_move_with_the_clock_and_a_devices_own_do_not() -> None:
    for by_arrival in (True, False):
        world = World(START_S, "unsynced")
        clock = world.clock()
        fleet = Fleeting("pump", clock=clock)
        fleet.stream.teller.timed_by_arrival = by_arrival
        world.wall_s += HOUR_S
        assert clock.look() is not None
        fleet.take(rows(CALM))
        fleet.take(rows(5, FAR), CALM)
        batch = fleet.flush()
        ((_, samples, _),) = batch.samples
        moved = HOUR_S if by_arrival else 0.0
        assert samples.times[0] == START_S + moved
        (message,) = [one for one in batch.messages if one.kind == "alarm"]
        assert START_S + moved + CALM <= message.time < START_S + moved + CALM + 5
        assert fleet.stream.document()["last_sample"] == (
            "2023-11-14T23:14:04.000Z" if by_arrival else "2023-11-14T22:14:04.000Z"
        )


def test_the_document_says_what_the_last_commit_knew() -> None:
    fleet = Fleeting("pump")
    before = fleet.stream.document()
    assert (before["last_sample"], before["last_score"], before["open_alarms"]) == (None, None, [])
    fleet.take(rows(CALM))
    fleet.take(rows(5, FAR), CALM)
    assert fleet.stream.document()["open_alarms"] == []
    saved(fleet)
    after = fleet.stream.document()
    assert after["detector"] == "hampel"
    assert after["last_score"] > 1
    assert [alarm["number"] for alarm in after["open_alarms"]] == [1]
    assert after["counters"]["samples"] == CALM + 5
    assert after["counters"]["readings"] == 2 * (CALM + 5)


def in_place_of_a_bundle(**more: Any) -> tuple[StreamTable, Stream]:
    """Return a stream whose baseline stands in for its bundle, and its settings."""
    table = StreamTable.model_validate(
        Fleeting("pump").tables[0].model_dump() | {"bundle": "b", **more}
    )
    origin = Origin(refused=Refusal(Path("b"), "truncated"), stands_in="baseline")
    assert table.baseline is not None
    fleet = Fleet(baseline(table.baseline), [table], 10.0, Clock(), [origin])
    return table, fleet.streams[0]


def test_limits_do_not_keep_the_baseline_from_standing_in_for_a_bundle() -> None:
    limit = {"channel": "flow", "high_critical": 80.0}
    table, stream = in_place_of_a_bundle(limits=[limit])
    stream.check(table)
    stream.reconfigure(table, 20.0, Batch())
    document = stream.document()
    assert document["stands_in"] == "baseline"
    assert document["refused"] == {"bundle": "b", "why": "truncated"}
    assert document["forecast"] is None


def test_a_baseline_that_stands_in_guards_the_limits_of_the_channels_that_it_has() -> None:
    limits = [{"channel": name, "unit": "l", "high_warning": 1.0} for name in ("head", "flow")]
    table, stream = in_place_of_a_bundle(limits=limits)
    batch, late = Batch(), Samples(np.array([START_S]), np.full((1, 2), 50.0, np.float32))
    stream.keep(late, np.full((1, 2), np.nan, np.float32), np.full(1, np.nan, np.float32), batch)
    assert states(batch) == [(1, "limit_passed", "opened")]
    with pytest.raises(ConfigError, match=r"limits: channel = 'head': no channel of the stream"):
        Fleet(stream.detector, [table], 10.0, Clock())  # as its own it needs all


def test_what_the_bundle_found_stays_open_and_a_silence_goes_on() -> None:
    found = [open_alarm(1, "anomaly"), open_alarm(2, "silent"), open_alarm(3, "limit")]
    _, stream = in_place_of_a_bundle()
    batch = Batch()
    assert not stream.restore({"of": b"a bundle"}, found, 3, batch)
    assert states(batch) == []
    stream.save(Batch(), 1)
    assert sorted(alarm["number"] for alarm in stream.document()["open_alarms"]) == [1, 2, 3]
    assert stream.teller.take_number() == 4
    stream.close("stream_removed", batch)  # it leaves
    assert sorted(states(batch)) == [
        (1, "anomaly", "closed"),
        (2, "silent", "closed"),
        (3, "limit", "closed"),
    ]


def open_alarm(number: int, kind: str) -> dict[str, Any]:
    told = iso_time(START_S)
    times = {"onset": told, "opened": told}
    return {"number": number, "kind": kind, "state": "opened", "channels": []} | times
