"""The simulated pump: seeded, the same for any chunking, stationary, and its faults bite."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.plant import (
    CHANNELS,
    FAULT_KINDS,
    PERIOD_S,
    Fault,
    Pump,
    csv_line,
    one_of_each,
    simulate,
)

NAMES = [channel.name for channel in CHANNELS]
AT = 600  # sample at which a fault sets in
AT_S = AT * PERIOD_S


def test_a_seed_gives_the_same_pump_again_and_another_seed_another() -> None:
    assert np.array_equal(Pump(1).run(4000), Pump(1).run(4000))
    assert not np.array_equal(Pump(1).run(4000), Pump(2).run(4000))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=8))
def test_chunking_does_not_change_the_pump(cuts: list[int]) -> None:
    faults = [Fault("stuck_sensor", 100.0, 50.0), Fault("cavitation", 200.0)]
    pump = Pump(3, faults)
    edges = [0, *sorted(cuts), 4000]
    parts = [pump.run(end - begin) for begin, end in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), Pump(3, faults).run(4000))


def test_a_day_is_stationary_and_within_the_sensors_limits() -> None:
    day = Pump(5).run(432_000)
    assert not np.isnan(day).any()
    for channel, values in zip(CHANNELS, day.T, strict=True):
        assert values.min() >= channel.low
        assert values.max() <= channel.high
    # every six hours has its share of each mode: speed-driven channels keep their mean
    quarters = day[:, : NAMES.index("bearing_temperature")].reshape(4, -1, 5).mean(axis=1)
    spread = np.abs(quarters - quarters.mean(axis=0)) / day[:, :5].std(axis=0)
    assert spread.max() < 0.5


def test_a_healthy_channel_never_stays_the_same_for_long() -> None:
    values = Pump(6).run(100_000)
    same = np.ones(len(CHANNELS), int)
    longest = same.copy()
    for goes_on in np.diff(values, axis=0) == 0:
        same = np.where(goes_on, same + 1, 1)
        longest = np.maximum(longest, same)
    assert longest.max() <= 10


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_changes_nothing_before_its_time(kind: str) -> None:
    healthy, faulty = Pump(7).run(AT + 600), Pump(7, [Fault(kind, AT_S)]).run(AT + 600)
    assert np.array_equal(healthy[:AT], faulty[:AT])
    assert not np.array_equal(healthy[AT:], faulty[AT:], equal_nan=True)


def _changes(fault: Fault) -> dict[str, float]:
    """Relative change of each channel's mean over the two minutes after the fault has grown."""
    begin, end = AT + 600, AT + 1200
    healthy, faulty = Pump(8).run(end)[begin:], Pump(8, [fault]).run(end)[begin:]
    return dict(zip(NAMES, faulty.mean(axis=0) / healthy.mean(axis=0) - 1, strict=True))


def test_bearing_wear_shows_in_vibration_and_temperature() -> None:
    change = _changes(Fault("bearing_wear", AT_S))
    assert change["vibration_x"] > 0.3
    assert change["bearing_temperature"] > 0.03
    assert abs(change["flow"]) < 0.01


def test_cavitation_shows_in_vibration_flow_and_pressure() -> None:
    change = _changes(Fault("cavitation", AT_S))
    assert change["vibration_x"] > 0.3
    assert change["flow"] < -0.03
    assert change["discharge_pressure"] < -0.02


def test_a_seal_leak_takes_pressure_and_flow() -> None:
    change = _changes(Fault("seal_leak", AT_S))
    assert change["flow"] < -0.05
    assert change["discharge_pressure"] < -0.04


def test_a_blocked_valve_takes_flow_and_raises_pressure() -> None:
    change = _changes(Fault("blocked_valve", AT_S))
    assert change["flow"] < -0.3
    assert change["discharge_pressure"] > 0.1
    assert change["motor_current"] < -0.1


def test_sensor_faults_touch_their_channel_only() -> None:
    flow = NAMES.index("flow")
    others = [index for index in range(len(NAMES)) if index != flow]
    healthy = Pump(9).run(AT + 100)
    stuck = Pump(9, [Fault("stuck_sensor", AT_S, channel="flow")]).run(AT + 100)
    lost = Pump(9, [Fault("loss_of_signal", AT_S, channel="flow")]).run(AT + 100)
    spike = Pump(9, [Fault("spike", AT_S, 3 * PERIOD_S, channel="flow")]).run(AT + 100)
    for rows in (stuck, lost, spike):
        assert np.array_equal(rows[:, others], healthy[:, others])
    assert (stuck[AT:, flow] == healthy[AT, flow]).all()
    assert np.isnan(lost[AT:, flow]).all()
    assert np.flatnonzero(spike[:, flow] != healthy[:, flow]).tolist() == [AT, AT + 1, AT + 2]


def test_a_line_carries_the_row_and_leaves_a_lost_signal_empty() -> None:
    row = Pump(1, [Fault("loss_of_signal", 0.0, channel="flow")]).run(1)[0]
    fields = csv_line(1_700_000_000.2, row).split(",")
    assert fields[0] == "1700000000.200"
    assert fields[1 + NAMES.index("flow")] == ""
    back = np.array([float(field or "nan") for field in fields[1:]], np.float32)
    assert np.allclose(back, row, atol=0.006, equal_nan=True)


def test_unknown_faults_and_channels_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no fault 'gremlin'"):
        Fault("gremlin", 1.0)
    with pytest.raises(ValueError, match="no channel 'x'"):
        Fault("spike", 1.0, channel="x")


def test_a_recording_has_a_header_every_sample_and_labels(tmp_path: Path) -> None:
    faults = one_of_each(0.2, seed=4)
    rows = simulate(tmp_path / "pump.csv", 0.2, 4, faults)
    lines = (tmp_path / "pump.csv").read_text().splitlines()
    assert lines[0] == ",".join(["time", *NAMES])
    assert rows == len(lines) - 1 == 3600
    with (tmp_path / "pump.labels.csv").open() as file:
        labels = list(csv.DictReader(file))
    assert {label["kind"] for label in labels} == set(FAULT_KINDS)
    first, last = (float(lines[index].split(",")[0]) for index in (1, -1))
    for label in labels:
        assert first <= float(label["start"]) < float(label["end"]) <= last + PERIOD_S
