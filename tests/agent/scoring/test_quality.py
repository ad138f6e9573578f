"""Where values come from travels to scores, alarms, summaries and status."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.alarms.document import describe
from agent.bundles.load import load
from agent.clock import Clock
from agent.commands.replay import replay
from agent.config.load import StreamTable
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, sudden
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from models.detector import Detector
from models.messages import Float32, Float64, Readings
from tests.conftest import ZOO_BUNDLE

START_S = 1_700_000_000.0
NAMES = [channel.name for channel in CHANNELS]
FLOW = NAMES.index("flow")
FAULT_S = 120.0


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load(ZOO_BUNDLE)[1]


@pytest.fixture(scope="module")
def recording() -> tuple[Float64, Float32]:
    """A cavitating pump whose flow comes every other sample only."""
    values = Pump(5, [sudden("cavitation", FAULT_S, 20.0)]).run(900)
    values[1::2, FLOW] = np.nan
    return START_S + np.arange(len(values)) * PERIOD_S, values


class Gateway:
    """A stream of the reference bundle; flushed every ten rows, as a commit would."""

    def __init__(self, detector: Detector, saved: dict[str, bytes], alarms: list[Any]) -> None:
        table = StreamTable(name="pump", bundle=ZOO_BUNDLE)
        self.fleet = Fleet(detector, [table], 10.0, Clock())
        (self.stream,) = self.fleet.streams
        self.batch = Batch()
        self.stream.restore(saved, alarms, 0, self.batch)

    def feed(self, times: Float64, values: Float32) -> None:
        for begin in range(0, len(times), 10):
            piece = slice(begin, begin + 10)
            readings = Readings(times[piece], values[piece])
            self.fleet.take(np.zeros(len(readings.times), np.int64), readings, self.batch)
            self.fleet.flush(self.batch)
            self.stream.save(self.batch, 0)


def told(batch: Batch, kind: str) -> list[dict[str, Any]]:
    return [message.data for message in batch.messages if message.kind == kind]


def test_alarms_say_what_was_not_measured_until_they_close(detector: Detector) -> None:
    """Also over a restart, from the alarm as it was stored."""
    values = Pump(5, [sudden("cavitation", FAULT_S, 20.0)]).run(1500)
    times = START_S + np.arange(len(values)) * PERIOD_S
    measured = Gateway(detector, {}, [])
    measured.feed(times, values)
    opened, closed = told(measured.batch, "alarm")
    assert opened["quality"] == closed["quality"] == measured.stream.document()["quality"] == {}
    assert "uncertain" not in measured.stream.counters
    assert "not measured" not in describe(opened)

    at = round((datetime.fromisoformat(opened["opened"]).timestamp() - START_S) / PERIOD_S)
    values[np.arange(len(values)) % 3 != (at + 1) % 3, FLOW] = np.nan  # held at the opening, too
    before = Gateway(detector, {}, [])
    before.feed(times[: at + 10], values[: at + 10])
    (opened,) = told(before.batch, "alarm")
    assert opened["quality"] == {"flow": "held"}
    assert "(not measured then: flow held)" in describe(opened)
    stored = before.stream.document()["open_alarms"]
    assert stored[0]["quality"] == {"flow": "held"}
    before.stream.save(before.batch, 0)
    after = Gateway(detector, before.batch.state["pump"], stored)
    after.feed(times[at + 10 :], values[at + 10 :])
    (closed,) = told(after.batch, "alarm")
    assert (closed["number"], closed["state"]) == (opened["number"], "closed")
    assert closed["quality"] == {"flow": "held"}


def test_scores_of_values_that_were_not_measured_are_counted(
    detector: Detector, recording: tuple[Float64, Float32]
) -> None:
    times, values = recording
    gateway = Gateway(detector, {}, [])
    gateway.feed(times, values)
    counters = gateway.stream.counters
    assert counters["values_held"] == 449  # the last one waits for its sample to end
    assert counters["values_missing"] == 0
    assert counters["scored"] // 2 - 1 <= counters["uncertain"] <= counters["scored"] // 2 + 1
    assert gateway.stream.document()["quality"] == {"flow": "held"}
    minute = told(gateway.batch, "summary")[5]
    assert minute["uncertain"] == minute["scored"] // 2 == 25
    assert minute["channels"]["flow"]["held"] == 25
    assert minute["channels"]["flow"]["missing"] == 0
    assert "held" not in minute["channels"]["voltage"]


def test_replay_says_the_same(tmp_path: Path, recording: tuple[Float64, Float32]) -> None:
    times, values = recording
    lines = [",".join(["time", *NAMES])]
    for time, row in zip(times, values, strict=True):
        cells = ["" if np.isnan(value) else repr(float(value)) for value in row]
        lines.append(",".join([f"{time:.3f}", *cells]))
    (tmp_path / "pump.csv").write_text("\n".join(lines) + "\n")
    outcome = replay(tmp_path / "pump.csv", ZOO_BUNDLE)
    assert outcome["values"] == {"held": 449}
    assert outcome["uncertain"] > outcome["scored"] // 2 - 2
    assert {tuple(event["quality"]) for event in outcome["events"]} <= {(), ("flow",)}
