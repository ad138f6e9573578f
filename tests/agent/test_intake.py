"""Chunks of many inputs, read and scored together: with the same result as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from agent.bundles import load
from agent.clock import Clock
from agent.config import InputTable, StreamTable
from agent.fleet import Fleet
from agent.inputs import Chunk
from agent.inputs.lines import LineParser
from agent.intake import Intake
from agent.plant import CHANNELS, PERIOD_S
from agent.store import Batch
from models.pipeline import Detector
from tests.conftest import ZOO_BUNDLE

NAMES = [channel.name for channel in CHANNELS]
START_S = 1_700_000_000.0
STREAMS = 3


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load(ZOO_BUNDLE)[1]


class Rig:
    """Three streams of one bundle, the last with two inputs of half of the channels each."""

    def __init__(self, detector: Detector) -> None:
        tables = [StreamTable(name=f"s{n}", bundle=ZOO_BUNDLE) for n in range(STREAMS)]
        self.fleet = Fleet(detector, tables, 60.0, Clock())
        columns = {name: ["time", *NAMES] for name in ("a", "b")}
        columns |= {"c1": ["time", *NAMES[:4]], "c2": ["time", *NAMES[4:]]}
        streams = {"a": "s0", "b": "s1", "c1": "s2", "c2": "s2"}
        channels = detector.manifest.channels
        self.parsers = {
            name: LineParser(InputTable(name=name, stream=streams[name], columns=own), channels)
            for name, own in columns.items()
        }
        self.intake = Intake([self.fleet], streams, self.parsers)
        self.batch = Batch()

    def take(self, chunks: list[Chunk]) -> list[str]:
        return [stream for _, stream in self.intake.take(chunks, self.batch)]

    def stored(self) -> dict[str, list[tuple[float, list[float]]]]:
        self.fleet.flush(self.batch)
        found: dict[str, list[tuple[float, list[float]]]] = {}
        for name, samples, _ in self.batch.samples:
            rows = zip(samples.times.tolist(), samples.values.tolist(), strict=True)
            found.setdefault(name, []).extend(rows)
        return found


def chunk(name: str, *lines: str) -> Chunk:
    return Chunk(name, START_S, 0.0, [line.encode() for line in lines])


def line(sample: int, values: list[float]) -> str:
    return f"{START_S + sample * PERIOD_S:.3f}," + ",".join(f"{value:.3f}" for value in values)


def value(sample: int, stream: int) -> list[float]:
    random = np.random.default_rng([sample, stream])
    return np.round(random.uniform(1, 2, len(NAMES)), 3).tolist()


def round_of(sample: int) -> list[Chunk]:
    half = value(sample, 2)
    return [
        chunk("a", line(sample, value(sample, 0))),
        chunk("b", line(sample, value(sample, 1))),
        chunk("c1", line(sample, half[:4])),
        chunk("c2", line(sample, half[4:])),
    ]


@pytest.mark.parametrize("rounds_together", [1, 4])
def test_every_input_reaches_its_stream(detector: Detector, rounds_together: int) -> None:
    rig, count = Rig(detector), 40
    for begin in range(0, count, rounds_together):
        rounds = [round_of(begin + number) for number in range(rounds_together)]
        assert set(rig.take([one for chunks in rounds for one in chunks])) == {"s0", "s1", "s2"}
    stored = rig.stored()
    for stream in range(STREAMS):
        times, values = zip(*stored[f"s{stream}"], strict=True)
        assert len(times) == count
        expected = [value(sample, stream) for sample in range(count)]
        np.testing.assert_allclose(values, np.array(expected, np.float32))
        assert rig.fleet.streams[stream].counters["readings"] == count * len(NAMES)
        assert rig.fleet.streams[stream].counters["samples"] == count


def test_a_bad_line_is_counted_at_its_input_and_costs_no_other(detector: Detector) -> None:
    rig = Rig(detector)
    rig.take([chunk("a", line(0, value(0, 0))), chunk("b", "nonsense", line(0, value(0, 1)))])
    heard = rig.take([chunk("a", line(1, value(1, 0))), chunk("b", "1,2")])
    assert heard == ["s0"]
    assert rig.parsers["a"].counters == {}
    assert rig.parsers["b"].counters == {"truncated": 2}
    assert {name: len(rows) for name, rows in rig.stored().items()} == {"s0": 2, "s1": 1}


def test_a_value_out_of_range_is_counted_as_line_by_line(detector: Detector) -> None:
    """A block with such a value is clean text, and yet not taken as a whole."""
    rig = Rig(detector)
    rows = [value(0, 0), value(0, 1)]
    rows[1][0] = 1e30
    rig.take([chunk(name, line(0, row)) for name, row in zip("ab", rows, strict=True)])
    assert rig.parsers["a"].counters == {}
    assert rig.parsers["b"].counters.total() == 1
