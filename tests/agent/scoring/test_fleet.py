"""What a fleet promises: streams that share a detector share nothing else."""

from __future__ import annotations

import numpy as np

from agent.store.batch import Batch
from models.messages import Readings
from tests.fleet_rig import FAR, NORMAL, START_S, WARM_UP, Fleeting, rows


def scores(batch: Batch, stream: str) -> list[float]:
    return [value for name, _, score in batch.samples if name == stream for value in score.tolist()]


def test_each_stream_is_scored_as_if_it_were_alone() -> None:
    seeds = {"a": 1, "b": 2, "c": 3}
    together, found = Fleeting(*seeds), Batch()
    for second in range(60):
        for number, seed in enumerate(seeds.values()):
            if (second + number) % 3:  # they do not bring the same seconds
                together.take(rows(60, seed=seed)[second : second + 1], second, number)
    found = together.flush()
    for number, (name, seed) in enumerate(seeds.items()):
        alone = Fleeting(name)
        for second in range(60):
            if (second + number) % 3:
                alone.take(rows(60, seed=seed)[second : second + 1], second)
        expected = scores(alone.flush(), name)
        assert len(expected) >= 50
        np.testing.assert_array_equal(scores(found, name), expected)


def test_an_anomaly_is_that_of_its_stream_alone() -> None:
    fleet = Fleeting("a", "b")
    for number in (0, 1):
        fleet.take(rows(WARM_UP + 20, seed=number), 0, number)
    fleet.take(rows(5, FAR), WARM_UP + 20, 1)
    fleet.take(rows(5, NORMAL), WARM_UP + 20, 0)
    batch = fleet.flush()
    assert [(alarm["stream"], alarm["kind"]) for alarm in batch.alarms] == [("b", "anomaly")]
    counters = {stream.name: stream.counters["alarms_opened"] for stream in fleet.fleet.streams}
    assert counters == {"a": 0, "b": 1}


def test_an_alarm_does_not_wait_for_the_flush() -> None:
    fleet = Fleeting("a")
    fleet.take(rows(WARM_UP + 20))
    assert fleet.batch.alarms == []
    fleet.take(rows(5, FAR), WARM_UP + 20)
    assert [alarm["state"] for alarm in fleet.batch.alarms] == ["opened"]
    assert fleet.batch.samples == []


def test_a_flush_gives_each_sample_once() -> None:
    fleet = Fleeting("a", "b")
    fleet.take(rows(30), 0, 0)
    fleet.take(rows(7), 0, 1)
    assert {name: len(samples.times) for name, samples, _ in fleet.flush().samples} == {
        "a": 30,
        "b": 7,
    }
    assert fleet.flush().samples == []
    fleet.take(rows(1), 30, 0)
    ((name, samples, _),) = fleet.flush().samples
    assert (name, samples.times.tolist()) == ("a", [START_S + 30])


def test_values_are_counted_where_there_are_some() -> None:
    fleet = Fleeting("a", "b")
    fleet.take([[1.0, 2.0], [1.0, np.nan], [np.nan, np.nan]], 0, 1)
    fleet.flush()
    assert [stream.counters["readings"] for stream in fleet.fleet.streams] == [0, 3]


def test_rows_that_may_come_again_are_no_news() -> None:
    fleet = Fleeting("a", "b")
    fleet.take(rows(10))
    times = START_S + np.arange(5.0, 15.0)
    again = Readings(times, np.array(rows(10), np.float32))
    assert fleet.fleet.news(0, again).times.tolist() == (START_S + np.arange(10.0, 15.0)).tolist()
    assert fleet.fleet.news(1, again).times.tolist() == times.tolist()  # it had none of them
