"""Fast channels on the gateway: streams together, a stop, a crash."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agent.clock import Clock
from agent.config.inputs import InputTable
from agent.config.load import StreamTable
from agent.inputs.plant import CHANNELS, PERIOD_S
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from models.bundle import Bundle
from models.messages import Float32, Float64, Readings
from models.pipeline import Pipeline
from tests.conftest import ZOO_BUNDLE

START_S = 1_700_000_000.0
RATE_HZ = 250.0
NAMES = [channel.name for channel in CHANNELS]


@pytest.fixture(scope="module")
def detector(signal_bundle: Bundle) -> Pipeline:
    return Pipeline(signal_bundle)


class Rig:
    """Streams of a bundle with features, as the loop has them."""

    def __init__(self, detector: Pipeline, streams: int = 1) -> None:
        tables = [StreamTable(name=f"s{n}", bundle=ZOO_BUNDLE) for n in range(streams)]
        self.fleet = Fleet(detector, tables, 60.0, Clock())
        self.batch = Batch()

    def take(self, streams: list[int], readings: Readings) -> None:
        self.fleet.take(np.array(streams), readings, self.batch)

    def samples(self, stream: int = 0) -> tuple[Float64, Float32]:
        self.fleet.flush(self.batch)
        own = [one for name, one, _ in self.batch.samples if name == f"s{stream}"]
        return np.concatenate([s.times for s in own]), np.concatenate([s.values for s in own])


def recorded(seconds: float, seed: int) -> Readings:
    """Six slow channels and the raw one, in every row."""
    count = round(seconds * RATE_HZ)
    times = START_S + np.arange(1, count + 1) / RATE_HZ
    return Readings(times, np.random.default_rng(seed).normal(50, 1, (count, 7)).astype(np.float32))


def part(readings: Readings, begin: int, end: int) -> Readings:
    return Readings(readings.times[begin:end], readings.values[begin:end])


def test_inputs_bring_the_raw_channel(detector: Pipeline) -> None:
    table = InputTable(name="a", stream="s0", columns=["time", *NAMES[2:], "accel"])
    parser = LineParser(table, detector.manifest.source_channels)
    line = b"1700000000.0," + b",".join(b"%d" % number for number in range(1, 8))
    assert parser.parse([line], 0.0).values.tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert np.isnan(parser.parse([line.replace(b",7", b",101")], 0.0).values[0, -1])
    assert parser.counters == {"out_of_range": 1}


def test_streams_together_are_as_each_by_itself(detector: Pipeline) -> None:
    given = [recorded(4.0, seed) for seed in range(3)]
    together = Rig(detector, 3)
    rng = np.random.default_rng(9)
    at = [0, 0, 0]
    while min(at) < len(given[0].times):
        who = sorted(rng.integers(0, 3, 40).tolist(), key=lambda _: rng.random())
        rows = [(stream, at[stream] + who[:n].count(stream)) for n, stream in enumerate(who)]
        rows = [(stream, row) for stream, row in rows if row < len(given[0].times)]
        if rows:
            times = np.array([given[stream].times[row] for stream, row in rows])
            values = np.array([given[stream].values[row] for stream, row in rows])
            together.take([stream for stream, _ in rows], Readings(times, values))
        for stream in who:
            at[stream] += 1
    for stream in range(3):
        alone = Rig(detector)
        alone.take([0] * len(given[stream].times), given[stream])
        for found, expected in zip(together.samples(stream), alone.samples(), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert len(alone.samples()[0]) == round(4.0 / PERIOD_S) - 1  # the last waits for its end


def saved(rig: Rig, stopping: bool) -> dict[str, bytes]:
    rig.fleet.flush(rig.batch)
    rig.fleet.streams[0].save(rig.batch, rig.batch.rows(), True, stopping)
    return dict(rig.batch.state["s0"])


@pytest.mark.parametrize("stopping", [True, False])
def test_a_stop_keeps_the_raw_values_and_a_crash_costs_the_windows_they_are_in(
    detector: Pipeline, stopping: bool
) -> None:
    given, middle = recorded(4.0, 5), 510
    straight, before, after = Rig(detector), Rig(detector), Rig(detector)
    straight.take([0] * len(given.times), given)
    before.take([0] * middle, part(given, 0, middle))
    parts = saved(before, stopping)
    assert (len(parts.get("features", b"")) > 4 * 64) == stopping
    assert after.fleet.streams[0].restore(parts, [], 0, after.batch)
    after.take([0] * (len(given.times) - middle), part(given, middle, len(given.times)))
    (times, values), (times_after, values_after) = before.samples(), after.samples()
    first = len(times)
    times, values = np.append(times, times_after), np.concatenate([values, values_after])
    expected_times, expected = straight.samples()
    np.testing.assert_array_equal(times, expected_times)
    lost = [] if stopping else [first]  # too many of its raw values are gone
    rest = np.setdiff1d(np.arange(len(values)), lost)
    np.testing.assert_array_equal(values[rest], expected[rest])
    np.testing.assert_array_equal(values[lost, :2], values[[first - 1] * len(lost), :2])  # held


def test_what_was_saved_at_a_stop_does_not_come_back_after_a_later_crash(
    detector: Pipeline,
) -> None:
    before, after = Rig(detector), Rig(detector)
    before.take([0] * 500, recorded(2.0, 5))
    after.fleet.streams[0].restore(saved(before, stopping=True), [], 0, after.batch)
    assert saved(after, stopping=False)["features"] == b""


def test_what_is_wrong_with_the_signal_is_counted(detector: Pipeline) -> None:
    rig, given = Rig(detector), recorded(3.0, 6)
    rig.take([0] * 750, given)
    rig.take([0], Readings(np.array([START_S + 0.5]), given.values[:1]))
    rig.samples()
    counters = json.loads(json.dumps(rig.fleet.streams[0].document()["counters"]))
    assert counters["readings"] == 7 * 751
    assert counters["windows_short"] == 1
    assert counters["raw_late"] == 1
    assert counters["late"] == 1  # the slow channels of the same row
