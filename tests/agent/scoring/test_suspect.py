"""Machine or sensor: the rule on the simulated pump, through the reference bundle's alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.alarms.suspect import LEARNED_MIN, Relations
from agent.bundles.load import load
from agent.clock import Clock
from agent.config.fault_kinds import FaultKind
from agent.config.load import StreamTable
from agent.demo.run import ZOO_BUNDLE
from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from models.messages import Float32, Float64, Readings

NAMES = [channel.name for channel in CHANNELS]
AT_S, END_S = 2400.0, 2700.0  # of the fault, and of the recording
INTERVAL_S = 10.0
SEED = 21  # the rule was made with others


def recording(kind: FaultKind | None) -> Float32:
    faults = [] if kind is None else [Fault(kind, AT_S)]
    return Pump(SEED, faults).run(round(END_S / PERIOD_S)).copy()


def drifted(channel: str, by: float) -> Float32:
    """A sensor that goes wrong over twenty seconds, to (1 + by) times the true value."""
    values = recording(None)
    since_s = np.arange(len(values)) * PERIOD_S - AT_S
    values[:, NAMES.index(channel)] *= 1 + by * np.clip(since_s / 20.0, 0, 1).astype(np.float32)
    return values


def suspected(values: Float32) -> tuple[dict[str, Any] | None, Float32]:
    """Return what the first alarm is said to be in the end, and the last values."""
    table = StreamTable.model_validate({"name": "pump-1", "bundle": str(ZOO_BUNDLE)})
    fleet = Fleet(load(ZOO_BUNDLE)[1], [table], INTERVAL_S, Clock())
    sent: list[dict[str, Any]] = []
    for begin in range(0, len(values), 50):
        batch, rows = Batch(), values[begin : begin + 50]
        times = 1.7e9 + (begin + np.arange(len(rows))) * PERIOD_S
        fleet.take(np.zeros(len(rows), np.int64), Readings(times, rows), batch)
        fleet.flush(batch)
        fleet.streams[0].save(batch, begin)
        sent += [message.data for message in batch.messages if message.kind == "alarm"]
    assert sent, "no alarm opened"
    assert sent[0]["suspect"] is None  # at the opening the evidence is thin
    return sent[-1]["suspect"], values[-1]


@pytest.mark.parametrize(
    ("channel", "by"), [("flow", -0.3), ("discharge_pressure", 0.2), ("motor_current", -0.2)]
)
def test_a_sensor_that_drifts_alone_is_named_with_the_value_that_a_gauge_shows(
    channel: str, by: float
) -> None:
    found, _ = suspected(drifted(channel, by))
    assert found is not None
    assert (found["what"], found["channel"]) == ("sensor", channel)
    assert len(found["neighbours"]) >= 2
    true = recording(None)[round((AT_S + 60) / PERIOD_S) :, NAMES.index(channel)]
    least, most = true.min() - 3 * found["spread"], true.max() + 3 * found["spread"]
    assert least <= found["expected"] <= most


@pytest.mark.parametrize("kind", ["blocked_valve", "bearing_wear", "cavitation"])
def test_a_fault_of_the_machine_is_not_taken_for_one_of_a_sensor(kind: FaultKind) -> None:
    found, _ = suspected(recording(kind))
    assert found is not None
    assert found["what"] == "machine"
    assert len(found["neighbours"]) >= 2
    assert (found["expected"], found["spread"]) == (None, None)


@pytest.mark.parametrize("channel", ["voltage", "fluid_temperature"])
def test_of_a_channel_without_neighbours_nothing_is_claimed(channel: str) -> None:
    found, _ = suspected(drifted(channel, 0.3))
    assert found is None


def related(intervals: int, channels: int = 4) -> tuple[Relations, Float64]:
    """Channels that follow one load, with their own noise; return also a normal interval."""
    random = np.random.default_rng(1)
    relations = Relations.of(channels)
    for load_ in random.uniform(1, 2, intervals):
        relations.learn(load_ * np.arange(1.0, channels + 1) + random.normal(0, 0.01, channels))
    return relations, 1.5 * np.arange(1.0, channels + 1)


def test_without_enough_intervals_or_neighbours_nothing_is_claimed() -> None:
    for intervals, channels, claimed in (
        (LEARNED_MIN, 4, True),
        (LEARNED_MIN - 1, 4, False),
        (LEARNED_MIN, 2, False),
    ):
        relations, means = related(intervals, channels)
        means[0] += 0.5
        assert (relations.find(means, [0]) is not None) == claimed, (intervals, channels)


def test_only_one_that_is_clearly_alone_is_suspected() -> None:
    relations, normal = related(200)
    assert relations.find(normal, [0]) is None
    one, two, beyond, absent = (normal.copy() for _ in range(4))
    one[1] += 1.0
    found = relations.find(one, [0, 1])  # the alarm names another one first
    assert found is not None
    assert (found.what, found.channel, sorted(found.neighbours)) == ("sensor", 1, [0, 2, 3])
    assert found.expected == pytest.approx(3.0, abs=0.05)
    two[0], two[1] = two[0] + 0.5, two[1] - 1.0
    found = relations.find(two, [0, 1])
    assert found is None or found.what == "machine"
    beyond *= 10
    beyond[1] += 5.0
    assert relations.find(beyond, [1]) is None
    absent[1], absent[2:] = absent[1] + 1.0, np.nan
    assert relations.find(absent, [1]) is None


def test_what_was_learned_is_the_same_after_a_restart() -> None:
    relations, means = related(100)
    again = Relations.from_document(relations.to_document())
    assert again.intervals == 100
    np.testing.assert_allclose(again.mean, relations.mean)
    np.testing.assert_allclose(again.covariance, relations.covariance, rtol=1e-6)
    means[0] += 0.5
    assert again.find(means, [0]) is not None


def test_a_channel_that_never_moves_is_nobodys_neighbour() -> None:
    relations = Relations.of(3)
    for step in range(100):
        relations.learn(np.array([step % 7, 2.0 * (step % 7), 5.0]))
    assert relations.find(np.array([3.0, 9.0, 5.0]), [0]) is None
