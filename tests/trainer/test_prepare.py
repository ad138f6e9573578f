"""The parts, the scaling and the stretches that are learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import DataError
from models.manifest import Feature, Sampling, Source
from models.messages import Float32, Float64, Readings, Samples
from trainer import prepare
from trainer.config import Config
from trainer.datasets import Recording
from trainer.prepare import Parts, Preprocessing

SAMPLING = Sampling(
    period_s=1.0, hold_samples_max=2, missing_samples=5, reset_gap_samples=10, warm_up_samples=20
)
GRID = prepare.Grid(SAMPLING, [None], [])


def config(**tables: object) -> Config:
    document = {
        "bundle": {"name": "x"},
        "data": {"files": ["x"], "channels": [{"name": "a"}]},
        "sampling": {"period_s": 1.0, "warm_up_samples": 20},
    }
    return Config.model_validate(document | tables)


def samples(values: Float32, start: float = 1000.0) -> Samples:
    return Samples(start + np.arange(len(values), dtype=np.float64), values)


def column(values: object) -> Float32:
    return np.asarray(values, np.float32).reshape(-1, 1)


def recording(name: str, times: npt.NDArray[Any]) -> Recording:
    values = np.arange(len(times), dtype=np.float32).reshape(-1, 1)
    return Recording(name, Readings(times, values), 0, "")


def test_recordings_come_in_order_of_time() -> None:
    late, early = (
        recording("late", 2000.0 + np.arange(3)),
        recording("early", 1000.0 + np.arange(4)),
    )
    aligned, _ = prepare.align([late, early], GRID)
    assert aligned.times.tolist() == [1000, 1001, 1002, 1003, 2000, 2001, 2002]
    assert aligned.values[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_recordings_that_overlap_are_refused() -> None:
    one, other = recording("one", 1000.0 + np.arange(4)), recording("other", 1003.0 + np.arange(4))
    with pytest.raises(DataError, match="one and other overlap in time"):
        prepare.align([other, one], GRID)


def test_a_grid_much_finer_than_the_recording_is_refused() -> None:
    with pytest.raises(DataError, match=r"slow has a row every 60 s, but sampling\.period_s is 1"):
        prepare.align([recording("slow", 1000.0 + 60.0 * np.arange(4))], GRID)


@pytest.mark.parametrize("apart", [0.0, 1 / 86400])
def test_times_in_another_unit_than_seconds_are_refused(apart: float) -> None:
    with pytest.raises(DataError, match=r"nearly all rows would be left out; .*excel"):
        prepare.align([recording("days", 45000.0 + apart * np.arange(4))], GRID)


@pytest.mark.parametrize("value", [2e30, 3e-37])
def test_values_that_no_bundle_can_have_are_refused(value: float) -> None:
    varied = value * np.arange(1, 10)
    parts = Parts(*(samples(column(varied)) for _ in Parts._fields))
    with pytest.raises(
        DataError, match=r"channel a .* has values that a bundle cannot store: .* low"
    ):
        prepare.channels(parts, config().data.channels)


def raw(rate_hz: float) -> Recording:
    """Ten seconds of a sine of 2 Hz and amplitude 3, after half a second without it."""
    times = 1000.5 + np.arange(0, 10, 1 / rate_hz)
    values = 3 * np.sin(2 * np.pi * 2 * times)
    return Recording("raw", Readings(times, column(values)), 0, "")


SOURCE = Source(name="x", unit="g", rate_hz=20.0, window_samples=20, missing_share_max=0.1)
BAND = Feature(source="x", kind="band_energy", low_hz=1.0, high_hz=4.0)
FEATURES = prepare.Grid(SAMPLING, [Feature(source="x", kind="mean"), BAND], [SOURCE])


def test_features_are_computed_from_raw_recordings() -> None:
    aligned, counters = prepare.align([raw(20.0)], FEATURES)
    assert aligned.times.tolist() == list(range(1001, 1011))
    np.testing.assert_allclose(aligned.values[1:], [[0.0, 4.5]] * 9, atol=1e-5)
    assert np.isnan(aligned.values[0]).all()
    assert counters == {"windows_short": 1}


@pytest.mark.parametrize(("rate_hz", "refused"), [(19.6, False), (30.0, True), (15.0, True)])
def test_another_rate_than_is_said_is_refused(rate_hz: float, refused: bool) -> None:
    if not refused:
        prepare.align([raw(rate_hz)], FEATURES)
        return
    with pytest.raises(DataError, match=rf"has {rate_hz:g} values per second for source x, but"):
        prepare.align([raw(rate_hz)], FEATURES)


def test_a_source_without_any_value_is_refused() -> None:
    silent = raw(20.0)
    silent.readings.values[:] = np.nan
    with pytest.raises(DataError, match="raw has no value for source x"):
        prepare.align([silent], FEATURES)


def test_no_sample_is_in_two_parts_and_a_warm_up_lies_between() -> None:
    whole = samples(column(np.arange(10_000)))
    parts = prepare.split(whole, config())
    assert parts.train.times[0] == 1000
    assert parts.test.times[-1] == 10_999
    for before, after in ((parts.train, parts.calibrate), (parts.calibrate, parts.test)):
        assert after.times[0] - before.times[-1] == 21
    assert [len(part.times) for part in parts] == [6000, 1980, 1980]


@pytest.mark.parametrize(
    ("count", "split", "said"),
    [
        (500, {}, "the train part has 300 samples and needs 801"),
        (4000, {}, "the calibrate part has 780 samples and needs 1020"),
        (
            4000,
            {"train": 0.5, "calibrate": 0.45, "test": 0.05},
            "the test part has 180 samples and needs 220",
        ),
        (0, {}, "the train part has 0 samples"),
    ],
)
def test_too_little_data(count: int, split: dict[str, float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepare.split(samples(column(np.zeros(count))), config(split=split))


def scale_of(values: object) -> tuple[float, float]:
    known = column(values)
    tables = config().data.channels
    nothing = samples(column([0.0, 1.0]))
    [channel] = prepare.channels(Parts(samples(known), nothing, nothing), tables)
    return channel.center, channel.scale


def test_the_scale_is_about_one_standard_deviation() -> None:
    center, scale = scale_of(np.random.default_rng(1).normal(50.0, 2.0, 20_000))
    assert center == pytest.approx(50.0, abs=0.1)
    assert scale == pytest.approx(2.0, rel=0.05)


def test_rare_outliers_do_not_count() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 20_000)
    values[::1000] = 1e6
    assert scale_of(values)[1] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.full(100, 24.0), 0.24),  # never moved: a share of its magnitude
        (np.zeros(100), 1.0),
        (np.where(np.arange(1000) == 7, 10.0, 0.0), 10.0),  # one step: its resolution
        (np.where(np.arange(100) % 2, 20.5, 20.0), 0.5),  # flickers by one step of its converter
    ],
)
def test_the_scale_is_never_zero(values: Float64, scale: float) -> None:
    assert scale_of(values)[1] == pytest.approx(scale)


def test_a_scale_is_no_rounding_noise() -> None:
    values = 1e6 + np.where(np.arange(1000) % 2, 0.0625, 0.0)
    assert scale_of(values)[1] >= 1.0


def test_a_channel_without_a_value_is_named() -> None:
    with pytest.raises(DataError, match=r"channel a \(column 'a'\) has no value"):
        scale_of(np.full(100, np.nan))


def test_nothing_but_the_training_part_sets_the_scale() -> None:
    values = column(np.random.default_rng(1).normal(0, 1, 1000))
    tables, quiet = config().data.channels, samples(values)
    wild = samples(values * 1000)
    [alone] = prepare.channels(Parts(quiet, quiet, quiet), tables)
    [beside] = prepare.channels(Parts(quiet, wild, wild), tables)
    assert (alone.center, alone.scale) == (beside.center, beside.scale)


def stuck_of(train: object, calibrate: object) -> int | None:
    parts = Parts(samples(column(train)), samples(column(calibrate)), samples(column([0.0])))
    return prepare.channels(parts, config().data.channels)[0].stuck_samples


def test_stuck_is_twice_the_longest_run_of_normal_operation() -> None:
    moving = np.random.default_rng(1).normal(0, 1, 5000)
    held = moving.copy()
    held[100:120] = 3.0
    assert stuck_of(moving, moving) == 25  # the least
    assert stuck_of(held, moving) == 40
    assert stuck_of(moving, held) == 40


def test_what_repeats_by_nature_is_never_stuck() -> None:
    assert stuck_of(np.full(1000, 24.0), np.full(1000, 24.0)) is None
    assert stuck_of(np.repeat(np.arange(5.0), 200), np.arange(1000.0)) is None


def test_missing_values_are_no_run() -> None:
    values = np.random.default_rng(1).normal(0, 1, 5000)
    values[100:2000] = np.nan
    assert stuck_of(values, values) == 25


def test_series_pair_each_sample_with_the_next() -> None:
    how = Preprocessing(
        np.array([10.0], np.float32), np.array([2.0], np.float32), [0], 1.5, ("value", "change")
    )
    [stretch] = prepare.series(samples(column([10, 12, np.nan, 20])), how, 1.0)
    # scaled 0, 1, missing, 5: the last known value stands in, and inputs are clipped
    assert stretch.inputs[:, 0].tolist() == [0.0, 1.0, 1.0]
    np.testing.assert_array_equal(
        stretch.targets, np.array([[1, 1], [np.nan, np.nan], [5, 4]], np.float32)
    )


def test_series_end_where_time_jumps() -> None:
    how = Preprocessing(np.zeros(1, np.float32), np.ones(1, np.float32), [0], 5.0, ("value",))
    times = np.array([0.0, 1.0, 2.0, 20.0, 21.0])
    stretches = prepare.series(Samples(times, column([0, 1, 2, 3, 4])), how, 1.0)
    assert [stretch.inputs[:, 0].tolist() for stretch in stretches] == [[0, 1], [3]]
    assert [stretch.targets[:, 0].tolist() for stretch in stretches] == [[1, 2], [4]]


def test_a_command_is_an_input_and_no_target() -> None:
    values = np.stack([np.arange(4.0), np.array([0.0, 1.0, 1.0, 0.0])], axis=1)
    both = Samples(np.arange(4.0), values.astype(np.float32))
    how = Preprocessing(np.zeros(2, np.float32), np.ones(2, np.float32), [0], 5.0, ("value",))
    [stretch] = prepare.series(both, how, 1.0)
    assert stretch.inputs.shape == (3, 2)
    assert stretch.targets.tolist() == [[1.0], [2.0], [3.0]]


def test_without_a_test_part_nothing_is_left_out() -> None:
    every = samples(column(np.arange(1000.0)))
    parts = prepare.split_all(every, config())
    assert len(parts.test.times) == 0
    times = np.concatenate([parts.train.times, parts.calibrate.times])
    assert np.array_equal(times, every.times)


def test_too_little_for_one_sequence_says_how_much_is_needed() -> None:
    settings, count = config(), 1
    with pytest.raises(
        DataError, match="too little data for one sequence: of 50 samples"
    ) as refused:
        prepare.split_all(samples(column(np.arange(50.0))), settings)
    count = int(str(refused.value).split("at least ")[1].split()[0])
    prepare.split_all(samples(column(np.arange(float(count)))), settings)


def test_validation_is_warm_when_it_begins() -> None:
    part = samples(column(np.arange(1000.0)))
    settings = config()
    learnt, validated = prepare.training_and_validation(part, settings)
    warm_up = settings.sampling.warm_up_samples
    assert validated.times[warm_up] == learnt.times[-1] + 1


def test_targets_lie_as_far_ahead_as_the_horizon() -> None:
    how = Preprocessing(
        np.zeros(1, np.float32), np.ones(1, np.float32), [0], 50.0, ("value", "change"), horizon=3
    )
    [stretch] = prepare.series(samples(column([0, 1, 4, 9, 16])), how, 1.0)
    assert stretch.inputs[:, 0].tolist() == [0, 1]
    assert stretch.targets.tolist() == [[9, 9], [16, 15]]
