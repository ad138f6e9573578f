"""Signal features: closed forms, windows, and that chunks and restarts change nothing."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.align import FAR_LATE_ROWS
from models.features import Features, features_of, figure
from models.manifest import Feature, Manifest, Sampling, Source
from models.messages import Float64, Readings

NAN = math.nan
START_S = 1_700_000_000.0
RATE_HZ = 1000.0
GRID = Sampling(
    period_s=1.0, hold_samples_max=2, missing_samples=3, reset_gap_samples=5, warm_up_samples=0
)


def of(kind: str, window: Float64, low_hz: float | None = None, high_hz: float | None = None):
    feature = Feature.model_validate(
        {"source": "a", "kind": kind, "low_hz": low_hz, "high_hz": high_hz}
    )
    return figure(feature, window, RATE_HZ)


def band(window: Float64, low_hz: float, high_hz: float) -> float:
    return of("band_energy", window, low_hz, high_hz)


def sine(amplitude: float, frequency_hz: float, count: int = 4000, mean: float = 0.0) -> Float64:
    return mean + amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(count) / RATE_HZ + 0.3)


# ---- figures


@pytest.mark.parametrize("mean", [0.0, -9.81, 1e6])
def test_of_a_sine(mean: float) -> None:
    window = sine(3.0, 50.0, mean=mean)
    exact = pytest.approx
    assert of("mean", window) == exact(mean, abs=1e-9)
    assert of("rms", window) == exact(3 / math.sqrt(2), rel=1e-6)
    assert of("peak", window) == exact(3.0, rel=1e-2)
    assert of("peak_to_peak", window) == exact(6.0, rel=1e-2)
    assert of("crest_factor", window) == exact(math.sqrt(2), rel=1e-2)
    assert of("kurtosis", window) == exact(1.5, rel=1e-6)


def test_of_a_square_wave() -> None:
    window = np.where(np.arange(4000) // 10 % 2, 2.0, -2.0) + 5.0
    assert of("rms", window) == of("peak", window) == 2.0
    assert of("peak_to_peak", window) == 4.0
    assert of("crest_factor", window) == of("kurtosis", window) == 1.0


def test_of_gaussian_noise() -> None:
    window = np.random.default_rng(1).normal(7.0, 0.5, 60_000)
    assert of("rms", window) == pytest.approx(0.5, rel=0.01)
    assert of("kurtosis", window) == pytest.approx(3.0, abs=0.05)
    # white: a band has its share
    assert band(window, 100.0, 200.0) == pytest.approx(0.25 / 5, rel=0.05)


def test_of_a_train_of_impulses() -> None:
    """One value in ``d`` is 1: the moments are those of a coin with chance 1 / d."""
    window, d = np.where(np.arange(5000) % 50, 0.0, 1.0), 50
    variance = (1 / d) * (1 - 1 / d)
    assert of("mean", window) == pytest.approx(1 / d)
    assert of("rms", window) == pytest.approx(math.sqrt(variance))
    assert of("peak", window) == pytest.approx(1 - 1 / d)
    assert of("crest_factor", window) == pytest.approx(math.sqrt(d - 1))
    assert of("kurtosis", window) == pytest.approx((1 - 3 * variance) / variance)


@pytest.mark.parametrize("value", [0.0, np.float32(0.1), -3.3e38])
def test_a_signal_that_does_not_move_has_defined_figures(value: float) -> None:
    window = np.full(1000, np.float32(value), np.float64)
    assert of("mean", window) == np.float32(value)
    for kind in ("rms", "peak", "peak_to_peak"):
        assert of(kind, window) == 0.0
    assert of("crest_factor", window) == of("kurtosis", window) == 1.0
    assert band(window, 0.0, RATE_HZ / 2) == 0.0


@pytest.mark.parametrize("count", [4000, 4001])
def test_a_sine_gives_half_its_squared_amplitude_to_its_band_and_nothing_to_others(
    count: int,
) -> None:
    window = sine(3.0, 123.4, count, mean=10.0) + sine(0.5, 300.0, count)
    assert band(window, 100.0, 150.0) == pytest.approx(4.5, rel=1e-4)
    assert band(window, 250.0, 350.0) == pytest.approx(0.125, rel=1e-4)
    assert band(window, 150.0, 250.0) < 1e-6


@pytest.mark.parametrize("count", [1000, 1001])
def test_bands_side_by_side_add_up_to_the_mean_square_under_the_window(count: int) -> None:
    window = np.random.default_rng(2).normal(0, 1, count)
    edges = [0.0, 3.0, 77.7, 250.0, 499.9, 500.0]
    parts = sum(band(window, low, high) for low, high in pairwise(edges))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)
    moving = (window - window.mean()) * hann
    whole = float((moving**2).sum() / (hann**2).sum())
    assert parts == pytest.approx(whole, rel=1e-12)
    assert band(window, 0.0, RATE_HZ / 2) == pytest.approx(whole, rel=1e-12)


def test_a_sine_at_half_of_the_rate_is_in_the_last_band() -> None:
    window = np.where(np.arange(1000) % 2, 2.0, -2.0)
    assert band(window, 400.0, 500.0) == pytest.approx(4.0)
    assert band(window, 400.0, 490.0) < 1e-12


# ---- windows


def source(**changes: Any) -> Source:
    settings = {"name": "a", "unit": "g", "rate_hz": 10.0, "window_samples": 16}
    return Source.model_validate(settings | {"missing_share_max": 0.25} | changes)


def features(channels: str = "-ma", **changes: Any) -> Features:
    """A channel that passes (-), the mean (m) and the peak to peak (a) of one source, say.

    The source has ten values a second, and its windows of 16 reach back two periods.
    """
    kinds = {"m": "mean", "a": "peak_to_peak", "-": None}
    made = [
        None
        if (kind := kinds[one]) is None
        else Feature.model_validate({"source": "a", "kind": kind})
        for one in channels
    ]
    return Features(made, [source(**changes)], GRID)


def rows(*given: tuple[float, ...]) -> Readings:
    """Rows of (seconds since START_S, values ...)."""
    table = np.array(given, np.float64)
    return Readings(START_S + table[:, 0], table[:, 1:].astype(np.float32))


def ramp(begin_s: float, end_s: float, beside: float = NAN) -> list[tuple[float, ...]]:
    """Ten rows a second, whose value is their time in tenths; on the periods' ends, too."""
    return [(tenth / 10, beside, tenth) for tenth in range(round(begin_s * 10), round(end_s * 10))]


def seen(readings: Readings) -> list[tuple[float | None, ...]]:
    times = np.round(readings.times - START_S, 4).tolist()
    return [
        (time, *(None if math.isnan(value) else value for value in values))
        for time, values in zip(times, readings.values.tolist(), strict=True)
    ]


def test_a_window_has_the_newest_values_up_to_the_end_of_its_period() -> None:
    """And is told as soon as a later one begins, not before."""
    target = features()
    first = seen(target.push(rows(*ramp(0.1, 2.1))))
    assert first == [(1.0, None, None, None)]  # too short yet
    assert seen(target.push(rows((2.1, NAN, 21)))) == [(2.0, None, np.mean(range(5, 21)), 15)]
    assert target.counters == {"windows_short": 1}


def test_windows_shorter_than_a_period_leave_the_rest_out() -> None:
    target = features("m", rate_hz=20.0)  # 16 of 20 values
    table = [(tenth / 20, float(tenth)) for tenth in range(1, 42)]
    assert seen(target.push(rows(*table))) == [
        (1.0, np.mean(range(5, 21))),
        (2.0, np.mean(range(25, 41))),
    ]


def test_holes_close_up_as_far_as_is_allowed() -> None:
    values = ramp(0.1, 4.2)
    few = [row for row in values if row[0] not in (2.2, 2.3, 2.4, 2.5)]  # 16 of 20 left
    target = features()
    assert seen(target.push(rows(*few)))[2] == (
        3.0,
        None,
        np.mean([*range(11, 22), *range(26, 31)]),
        19,
    )
    lacking = [row for row in values if not 2.0 < row[0] < 2.9]  # 12 of 20, 12 are needed
    assert seen(features().push(rows(*lacking)))[2][2] is not None
    lacking = [row for row in values if not 2.0 < row[0] < 3.0]  # 11
    assert seen(features().push(rows(*lacking)))[2] == (3.0, None, None, None)


def test_nothing_is_told_of_periods_that_nothing_came_in() -> None:
    target = features()
    target.push(rows(*ramp(0.1, 3.1)))
    after = seen(target.push(rows((60.05, NAN, 1.0))))
    assert after == [(3.0, None, np.mean(range(15, 31)), 15), (4.0, None, None, None)]


def test_other_channels_in_the_same_rows_stand_in_the_windows_reading() -> None:
    """The newest of each up to its end; so that one device gives one whole reading a period."""
    table = [(time, 100 + value, value) for time, _, value in ramp(0.1, 4.2)]
    table[15] = (table[15][0], NAN, table[15][2])
    found = seen(features().push(rows(*table)))
    assert [(time, beside) for time, beside, *_ in found] == [
        (1.0, 110.0), (2.0, 120.0), (3.0, 130.0), (4.0, 140.0),
    ]  # fmt: skip


def test_rows_of_other_channels_pass_as_they_are() -> None:
    table = [*ramp(0.1, 1.1), (1.03, 7.0, NAN), *ramp(1.1, 2.2), (0.5, 8.0, NAN)]
    found = seen(features().push(rows(*table)))
    assert [(time, beside) for time, beside, *_ in found] == [
        (1.03, 7.0), (1.0, None), (2.0, None), (0.5, 8.0),
    ]  # fmt: skip


def test_rows_without_any_value_move_time_on_once_a_period() -> None:
    table = [(tenth / 10, NAN, NAN) for tenth in range(1, 31)]
    assert [time for time, *_ in seen(features().push(rows(*table)))] == [0.1, 1.1, 2.1]


def test_late_values_are_counted_and_not_used() -> None:
    target, straight = features(), features()
    table = ramp(0.1, 4.2)
    crooked = [*table[:25], (1.95, 5.0, 999.0), *table[25:]]
    found = seen(target.push(rows(*crooked)))
    expected = seen(straight.push(rows(*table)))
    assert [row for row in found if row[0] != 1.95] == expected
    assert (1.95, 5.0, None, None) in found  # the aligner judges that
    assert target.counters == {**straight.counters, "raw_late": 1}


def test_values_of_one_time_are_all_used() -> None:
    """A device with a coarse clock, or a read of many lines without a time."""
    coarse = [
        (math.ceil(time * 2 - 1e-9) / 2, beside, value) for time, beside, value in ramp(0.1, 4.2)
    ]
    assert seen(features().push(rows(*coarse))) == seen(features().push(rows(*ramp(0.1, 4.2))))


def test_a_clock_set_back_begins_anew() -> None:
    target = features()
    target.push(rows(*ramp(100.1, 103.1)))
    found = seen(target.push(rows(*ramp(0.1, 5.2))))
    assert found[-1] == (5.0, None, np.mean(range(35, 51)), 15)
    assert target.counters["raw_late"] == FAR_LATE_ROWS - 1


def test_stragglers_do_not_set_the_clock_back() -> None:
    target = features()
    target.push(rows(*ramp(0.1, 6.1), *[(4.5, NAN, 999.0)] * 3 * FAR_LATE_ROWS))
    assert seen(target.push(rows(*ramp(6.1, 7.2))))[-1] == (7.0, None, np.mean(range(55, 71)), 15)
    assert target.counters["raw_late"] == 3 * FAR_LATE_ROWS


def test_a_value_at_the_very_end_of_a_period_belongs_to_it() -> None:
    """Though its time is a microsecond beyond, by rounding."""
    grid = GRID.model_copy(update={"period_s": 0.2})
    target = Features([Feature(source="a", kind="mean")], [source(rate_hz=80.0)], grid)
    at = np.arange(1, 4802)
    times = START_S + at / 80 + np.where(at % 2, 0, 1e-6)
    found = target.push(Readings(times, at[:, None].astype(np.float32)))
    np.testing.assert_array_equal(found.values[:, 0], np.arange(300) * 16 + 8.5)


def test_one_wild_time_does_not_lock_the_signal() -> None:
    target = features()
    target.push(rows(*ramp(0.1, 3.1), (1e6, NAN, 5.0)))
    assert seen(target.push(rows(*ramp(3.1, 8.2))))[-1] == (8.0, None, np.mean(range(65, 81)), 15)


def test_what_a_float32_cannot_hold_is_missing() -> None:
    huge = Feature(source="a", kind="band_energy", low_hz=1.0, high_hz=5.0)
    target = Features([huge], [source()], GRID)
    table = [(tenth / 10, 3e38 * (-1) ** tenth) for tenth in range(1, 32)]
    assert seen(target.push(rows(*table)))[-1] == (3.0, None)


# ---- rolling figures and lags


def rolling(kinds: str, missing_share_max: float = 0.5) -> Features:
    """Features of the last four samples of a channel that has one value a period."""
    made = [Feature.model_validate({"source": "a", "kind": kind}) for kind in kinds.split()]
    one = source(rate_hz=1.0, window_samples=4, missing_share_max=missing_share_max)
    return Features(made, [one], GRID)


def test_a_slow_channel_has_rolling_figures_and_lags() -> None:
    values = np.random.default_rng(3).normal(20, 3, 40).astype(np.float32)
    target = rolling("last lag mean std min max", missing_share_max=0.0)
    found = target.push(rows(*enumerate(values.tolist())))
    assert len(found.times) == 39  # the last one is complete when the next begins
    windows = np.lib.stride_tricks.sliding_window_view(values[:-1].astype(np.float64), 4)
    expected = np.stack(
        [
            windows[:, -1],
            windows[:, 0],  # three samples ago
            windows.mean(axis=1),
            windows.std(axis=1),
            windows.min(axis=1),
            windows.max(axis=1),
        ],
        axis=1,
    )
    assert np.isnan(found.values[:3]).all()
    np.testing.assert_array_equal(found.values[3:], expected.astype(np.float32))
    assert target.counters == {"windows_short": 3}


def test_features_of_one_source_have_windows_of_their_own() -> None:
    values = np.arange(20.0) ** 2
    made = [
        Feature(source="a", kind="mean"),
        Feature(source="a", kind="mean", samples=2),
        Feature(source="a", kind="lag", samples=2),
        Feature(source="a", kind="last", samples=1),
    ]
    one = source(rate_hz=1.0, window_samples=4, missing_share_max=0.0)
    found = seen(Features(made, [one], GRID).push(rows(*enumerate(values.tolist()))))
    assert found[0] == (0.0, None, None, None, 0.0)
    assert found[1] == (1.0, None, 0.5, 0.0, 1.0)
    assert found[9] == (9.0, values[6:10].mean(), values[8:10].mean(), values[8], values[9])


def test_a_lag_and_the_last_value_do_not_take_another_samples_place() -> None:
    table = [(float(at), float(at) if at not in (10, 13) else NAN) for at in range(20)]
    found = {time: figures for time, *figures in seen(rolling("last lag min").push(rows(*table)))}
    assert found[9.0] == [9, 6, 6]
    assert found[10.0] == [None, 7, 7]  # no value at 10
    assert found[12.0] == [12, 9, 9]
    assert found[13.0] == [None, None, 11]  # none at 13, and none at 10
    assert found[16.0] == [16, None, 14]
    assert found[17.0] == [17, 14, 14]


# ---- properties


reproducible = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def recordings(draw: st.DrawFn) -> Readings:
    """Two sources and a channel: mostly in order, with holes, gaps, stragglers and clock steps."""
    steps = st.sampled_from([0.1] * 20 + [0.0, 0.2, 0.7, 3.0, 20.0, -0.3, -1.5, -40.0])
    times = np.cumsum(draw(st.lists(steps, min_size=1, max_size=120)))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    values = random.normal(0, 1, (len(times), 3)).astype(np.float32)
    values[random.random(values.shape) < draw(st.sampled_from([0.0, 0.2, 0.6]))] = NAN
    return Readings(START_S + np.repeat(times, 1), values)


FIELDS = ("source", "kind", "samples")


def two() -> Features:
    kinds = [("a", "rms"), None, ("b", "kurtosis"), ("a", "mean"), ("a", "std"), ("b", "min")]
    kinds += [("b", "max"), ("a", "last"), ("b", "last"), ("a", "lag"), ("b", "lag")]
    kinds += [("a", "lag", 3), ("b", "mean", 12)]
    made = [
        None if one is None else Feature.model_validate(dict(zip(FIELDS, one, strict=False)))
        for one in kinds
    ]
    slow = source(name="b", rate_hz=5.0, window_samples=20, missing_share_max=0.5)
    return Features(made, [source(missing_share_max=0.6), slow], GRID)


@reproducible
@given(recordings(), st.lists(st.integers(0, 120), max_size=6), st.booleans())
def test_chunks_and_restarts_change_nothing(
    given: Readings, cuts: list[int], restart: bool
) -> None:
    whole, pieces, found = two(), two(), []
    expected = seen(whole.push(given))
    for begin, end in pairwise([0, *sorted(cuts), len(given.times)]):
        found += seen(pieces.push(Readings(given.times[begin:end], given.values[begin:end])))
        if restart:
            saved, counters = pieces.to_bytes(), pieces.counters
            pieces = two()
            pieces.restore(saved)
            pieces.counters.update(counters)
    assert found == expected
    assert pieces.to_bytes() == whole.to_bytes()
    assert pieces.counters == whole.counters


@reproducible
@given(recordings())
def test_memory_is_bounded(given: Readings) -> None:
    target = two()
    for _ in range(5):
        target.push(given)
    head, _, values = target.to_bytes().partition(b"\n")
    assert len(values) <= 4 * (16 + 20)
    assert len(head) < 500


# ---- in the bundle


MANIFEST = {"a": Feature(source="x", kind="rms"), "b": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "b"}, "b is a channel and a source"),
        ({"rate_hz": 0.9}, "slower than the grid"),
        ({"window_samples": 16, "rate_hz": 1e-2}, "slower than the grid"),
        ({"window_samples": 65536, "rate_hz": 10.0}, "6554 periods of the grid long, over 1000"),
        ({"low": 2.0, "high": 1.0}, "low 2.0 is not below high 1.0"),
    ],
)
def test_sources_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    from models.manifest import check_features

    with pytest.raises(ValueError, match=message):
        check_features(MANIFEST, [source(**{"name": "x"} | change)], GRID)


def test_sources_are_each_there_once_and_used() -> None:
    from models.manifest import check_features

    one, other = source(name="x"), source(name="y")
    check_features(MANIFEST, [one], GRID)
    with pytest.raises(ValueError, match="no feature is computed from source y"):
        check_features(MANIFEST, [one, other], GRID)
    with pytest.raises(ValueError, match="names of sources are not unique"):
        check_features(MANIFEST, [one, one], GRID)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"source": "z", "kind": "rms"}, "there is no source z"),
        ({"kind": "band_energy", "low_hz": 1, "high_hz": 5.1}, "over half of the rate of source x"),
        ({"kind": "band_energy", "low_hz": 1, "high_hz": 1.5}, "narrower than"),
        ({"kind": "band_energy", "low_hz": 2, "high_hz": 1}, "low_hz 2 is not below high_hz 1"),
        ({"kind": "band_energy"}, "needs both"),
        ({"kind": "mean", "samples": 17}, "samples 17 is over window_samples 16 of source x"),
        ({"kind": "rms", "low_hz": 1, "high_hz": 2}, "are for kind band_energy"),
    ],
)
def test_features_that_make_no_sense_are_refused(feature: dict[str, Any], message: str) -> None:
    from models.manifest import check_features

    with pytest.raises(ValueError, match=message):
        made = Feature.model_validate({"source": "x"} | feature)
        check_features(MANIFEST | {"c": made}, [source(name="x")], GRID)


def test_a_bundle_without_sources_has_none(zoo_bundle: Any) -> None:
    manifest: Manifest = zoo_bundle.manifest
    assert features_of(manifest) is None
    assert manifest.source_channels == manifest.channels
