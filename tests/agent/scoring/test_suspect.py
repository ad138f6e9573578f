"""Machine or sensor: the rule on the simulated pump, through the reference bundle's alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agent.alarms.suspect import CHANNELS_MAX, LEARNED_MIN, Relations
from agent.bundles.load import load
from agent.clock import Clock
from agent.config.fault_kinds import FaultKind
from agent.config.load import StreamTable
from agent.demo.run import ZOO_BUNDLE
from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump
from agent.scoring.companions import Companions
from agent.scoring.fleet import Fleet
from agent.scoring.part import Moment
from agent.store.batch import Batch
from models.messages import Float32, Float64, Readings
from models.times import iso_time

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


def related(intervals: int, channels: int = 4, noise: float = 0.01) -> tuple[Relations, Float64]:
    """Channels that follow one load, with their own noise; return also a normal interval."""
    random = np.random.default_rng(1)
    relations = Relations.of(channels)
    for load_ in random.uniform(1, 2, intervals):
        relations.learn(load_ * np.arange(1.0, channels + 1) + random.normal(0, noise, channels))
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


def test_values_beyond_what_was_learned_are_not_judged() -> None:
    relations, normal = related(200, noise=0.1)
    for load_, claimed in ((1.0, True), (2.0, False)):  # times the usual one, 1.5
        means = normal * load_
        means[1] += 3.0
        assert (relations.find(means, [1, 0]) is not None) == claimed, load_


def test_of_two_that_only_differ_from_each_other_none_is_named() -> None:
    random = np.random.default_rng(2)
    relations, normal = Relations.of(4), np.full(4, 1.5)
    for load_ in random.uniform(1, 2, 200):
        relations.learn(load_ + random.normal(0, 1, 4) * [0.001, 0.001, 0.1, 0.1])
    normal[0] += 0.1
    assert relations.find(normal, [0]) is None


def test_one_channel_that_nothing_explains_is_no_fault_of_the_machine() -> None:
    relations, means = related(200)
    means += [0.5, -1.0, 0.0, 0.0]
    assert relations.find(means, [0]) is None


# ---- learned from summaries

BEGIN_S = 1.7e9


def summary(number: int, means: Sequence[float], **more: Any) -> dict[str, Any]:
    begin_s = BEGIN_S + 60.0 * number
    channels = {f"c{at}": {"missing": 0, "mean": mean} for at, mean in enumerate(means)}
    interval = {"from": iso_time(begin_s), "to": iso_time(begin_s + 60.0), "share_anomalous": 0.0}
    return interval | {"channels": channels} | more


class Learning:
    """The companions of four channels that follow one load."""

    def __init__(self) -> None:
        self.alarmed = False
        self.companions = Companions([f"c{at}" for at in range(4)], lambda: self.alarmed)
        self.number = 0

    def see(self, count: int, more: float = 0.0, **told: Any) -> None:
        """See intervals in which the first channel is ``more`` than it was."""
        random = np.random.default_rng(self.number)
        for load_ in random.uniform(1, 2, count):
            means = load_ + random.normal(0, 0.01, 4)
            means[0] += more
            self.companions.see(summary(self.number, means.tolist(), **told))
            self.number += 1

    def finds(self, onset: int) -> bool:
        """Whether it claims something of an alarm with this onset, in minutes."""
        alarm = {"number": onset, "onset": iso_time(BEGIN_S + 60.0 * onset)}
        return self.companions.find(alarm | {"channels": [{"channel": "c0"}]}) is not None


def test_only_an_interval_after_the_onset_is_judged() -> None:
    learning = Learning()
    learning.see(100)
    learning.alarmed = True
    learning.see(1, more=2.0)
    assert learning.finds(100)
    assert not learning.finds(101)


@pytest.mark.parametrize("told", [{}, {"share_anomalous": 0.1}, {"share_anomalous": None}])
def test_nothing_is_learned_while_something_is_wrong(told: dict[str, Any]) -> None:
    learning = Learning()
    learning.see(100)
    learning.alarmed = not told
    learning.see(300, more=2.0, **told)
    assert learning.finds(100)


def test_a_channel_that_was_not_measured_all_the_time_is_neither_learned_nor_judged() -> None:
    learning = Learning()
    learning.see(100)
    gap = {"missing": 1, "mean": 1.5}
    held = {"missing": 0, "mean": 1.5, "held": 3}
    for row in (gap, held, {"missing": 0, "mean": None}):
        channels = {f"c{at}": row for at in range(4)}
        learning.companions.see(summary(200, [9.0] * 4, channels=channels))
        assert not learning.finds(0)


def test_the_companions_are_saved_after_a_change_and_only_for_the_same_channels() -> None:
    learning, again = Learning(), Learning()
    assert learning.companions.to_bytes(Moment.MEMORY) is None
    learning.see(100)
    saved = learning.companions.to_bytes(Moment.MEMORY)
    assert saved is not None
    assert len(saved) < 400
    assert learning.companions.to_bytes(Moment.MEMORY) is None
    again.companions.restore(saved, Batch())
    again.number, again.alarmed = 100, True
    again.see(1, more=2.0)
    assert again.finds(100)
    other = Companions(["c0", "c1"], lambda: False)
    other.restore(saved, Batch())
    other.see(summary(1, [1.0, 1.0]))
    assert other.find({"number": 1, "onset": iso_time(0), "channels": [{"channel": "c0"}]}) is None


def test_with_very_many_channels_nothing_is_learned() -> None:
    many = Companions([f"c{at}" for at in range(CHANNELS_MAX + 1)], lambda: False)
    many.see(summary(1, [1.0] * (CHANNELS_MAX + 1)))
    assert many.to_bytes(Moment.MEMORY) is None
