"""The simulated pump: seeded, the same for any chunking, stationary, and its faults bite."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.fault_kinds import FAULT_KINDS, FaultKind
from agent.inputs.plant import (
    BLOCK_SAMPLES,
    CHANNELS,
    PERIOD_S,
    Fault,
    PlantChannel,
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
    # every six hours has its share of each mode; temperatures follow the hour of day
    steady = [index for index, name in enumerate(NAMES) if "temperature" not in name]
    quarters = day.reshape(4, -1, len(NAMES)).mean(axis=1)[:, steady]
    spread = np.abs(quarters - quarters.mean(axis=0)) / day[:, steady].std(axis=0)
    assert spread.max() < 0.5


def test_a_second_day_is_like_the_first_hour_for_hour() -> None:
    first, second = np.split(Pump(5).run(864_000), 2)
    assert (np.abs(second.mean(axis=0) - first.mean(axis=0)) / first.std(axis=0)).max() < 0.2
    assert (second.std(axis=0) / first.std(axis=0)).max() < 1.25


def test_a_healthy_channel_never_stays_the_same_for_long() -> None:
    values = Pump(6).run(100_000)
    same = np.ones(len(CHANNELS), int)
    longest = same.copy()
    for goes_on in np.diff(values, axis=0) == 0:
        same = np.where(goes_on, same + 1, 1)
        longest = np.maximum(longest, same)
    assert longest.max() <= 10


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_changes_nothing_before_its_time(kind: FaultKind) -> None:
    healthy, faulty = Pump(7).run(AT + 600), Pump(7, [Fault(kind, AT_S)]).run(AT + 600)
    assert np.array_equal(healthy[:AT], faulty[:AT])
    assert not np.array_equal(healthy[AT:], faulty[AT:], equal_nan=True)


@pytest.mark.parametrize("severity", [1.0, 10.0])
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_keeps_the_sensors_limits_and_only_a_lost_signal_is_empty(
    kind: FaultKind, severity: float
) -> None:
    rows = Pump(7, [Fault(kind, AT_S, severity=severity)]).run(AT + 1200)
    assert np.isnan(rows).any() == (kind == "loss_of_signal")
    for channel, values in zip(CHANNELS, rows.T, strict=True):
        seen = values[~np.isnan(values)]
        assert channel.low <= seen.min() <= seen.max() <= channel.high


def _changes(fault: Fault) -> dict[str, float]:
    """Relative change of each channel's mean over the two minutes after the fault has grown."""
    begin, end = AT + 600, AT + 1200
    healthy, faulty = Pump(8).run(end)[begin:], Pump(8, [fault]).run(end)[begin:]
    return dict(zip(NAMES, faulty.mean(axis=0) / healthy.mean(axis=0) - 1, strict=True))


def test_bearing_wear_shows_in_vibration_and_temperature() -> None:
    change = _changes(Fault("bearing_wear", AT_S))
    assert change["vibration_x"] > 0.3
    assert change["bearing_temperature"] > 0.08
    assert abs(change["flow"]) < 0.01


def test_bearing_wear_grows() -> None:
    healthy, worn = Pump(8).run(AT + 600), Pump(8, [Fault("bearing_wear", AT_S)]).run(AT + 600)
    halves = (worn - healthy)[AT:, NAMES.index("vibration_x")].reshape(4, -1).mean(axis=1)
    assert (np.diff(halves) > 0.1).all()


def test_cavitation_shows_in_vibration_flow_and_pressure() -> None:
    change = _changes(Fault("cavitation", AT_S))
    assert change["vibration_x"] > 0.3
    assert change["flow"] < -0.03
    assert change["discharge_pressure"] < -0.02


@pytest.mark.parametrize(
    ("name", "times"),
    [("flow", 2.0), ("discharge_pressure", 4.0), ("vibration_x", 2.5), ("vibration_y", 2.5)],
)
def test_cavitation_is_rough(name: str, times: float) -> None:
    rough = []
    for pump in (Pump(8), Pump(8, [Fault("cavitation", AT_S)])):
        values = pump.run(AT + 600)[AT + 60 :, NAMES.index(name)]
        rough.append(np.diff(values).std() / values.mean())
    assert rough[1] > times * rough[0]


def test_a_seal_leak_takes_pressure_and_flow_and_loads_the_motor() -> None:
    change = _changes(Fault("seal_leak", AT_S))
    assert change["flow"] < -0.05
    assert change["discharge_pressure"] < -0.03
    assert change["motor_current"] > 0.015


def test_a_blocked_valve_takes_flow_and_raises_pressure() -> None:
    change = _changes(Fault("blocked_valve", AT_S))
    assert change["flow"] < -0.3
    assert change["discharge_pressure"] > 0.1
    assert change["motor_current"] < -0.1


def test_a_valve_opens_again_no_faster_than_it_closed_and_within_its_duration() -> None:
    flow, end = NAMES.index("flow"), AT + 300
    healthy = Pump(8).run(end + 100)
    blocked = Pump(8, [Fault("blocked_valve", AT_S, 60.0)]).run(end + 100)
    assert np.abs(np.diff(blocked[:, flow])).max() < 5
    assert np.array_equal(blocked[end:, flow], healthy[end:, flow])


def test_sensor_faults_touch_their_channel_only() -> None:
    samples = AT + 2 * BLOCK_SAMPLES
    flow = NAMES.index("flow")
    others = [index for index in range(len(NAMES)) if index != flow]
    healthy = Pump(9).run(samples)
    stuck = Pump(9, [Fault("stuck_sensor", AT_S, channel="flow")]).run(samples)
    lost = Pump(9, [Fault("loss_of_signal", AT_S, channel="flow")]).run(samples)
    spike = Pump(9, [Fault("spike", AT_S, 3 * PERIOD_S, channel="flow")]).run(samples)
    for rows in (stuck, lost, spike):
        assert np.array_equal(rows[:AT], healthy[:AT])
        assert np.array_equal(rows[:, others], healthy[:, others])
    assert (stuck[AT:, flow] == healthy[AT, flow]).all()
    assert np.isnan(lost[AT:, flow]).all()
    assert np.flatnonzero(spike[:, flow] != healthy[:, flow]).tolist() == [AT, AT + 1, AT + 2]


@pytest.mark.parametrize("channel", CHANNELS, ids=NAMES)
def test_a_spike_stands_out_on_every_channel(channel: PlantChannel) -> None:
    index = NAMES.index(channel.name)
    healthy = Pump(9).run(AT + 100)[:, index]
    spike = Pump(9, [Fault("spike", AT_S, PERIOD_S, channel=channel.name)]).run(AT + 100)[:, index]
    assert np.flatnonzero(spike != healthy).tolist() == [AT]
    assert spike[AT] - healthy[AT] > 5 * np.abs(np.diff(healthy)).max()


@given(at=st.integers(0, 400_000), samples=st.integers(1, 50))
def test_a_fault_on_the_grid_lasts_exactly_its_samples(at: int, samples: int) -> None:
    times = np.arange(at - 3, at + 60) * np.float64(PERIOD_S)
    on_grid = at * PERIOD_S
    # as computed here, as a person writes it, and as another computation may round it
    for at_s in (on_grid, round(on_grid, 1), math.nextafter(on_grid, math.inf)):
        active = Fault("spike", at_s, samples * PERIOD_S).active(times)
        assert np.flatnonzero(active).tolist() == list(range(3, 3 + samples))


def test_a_line_carries_the_row_and_leaves_a_lost_signal_empty() -> None:
    row = Pump(1, [Fault("loss_of_signal", 0.0, channel="flow")]).run(1)[0]
    fields = csv_line(1_700_000_000.2, row).split(",")
    assert fields[0] == "1700000000.200"
    assert fields[1 + NAMES.index("flow")] == ""
    back = np.array([float(field or "nan") for field in fields[1:]], np.float32)
    assert np.allclose(back, row, rtol=1e-6, atol=0, equal_nan=True)


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


def test_no_field_is_minus_zero() -> None:
    assert "-0.0" not in csv_line(0.0, np.full(len(CHANNELS), -1e-9, np.float32))
