"""The forecaster, streaming, on a network whose quantiles are known in closed form.

It forecasts a random walk, see make_forecast_network.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import pytest
from pydantic import ValidationError

from models.bundle import Bundle
from models.errors import BundleCorrupt
from models.forecaster import Forecaster, ForecastState
from models.interpreter import ForecastNetwork
from models.intervals import Intervals
from models.manifest import FORECASTER, LEARNT_BYTES_MAX, ForecastPart, TelemanomManifest
from models.messages import Forecast, NoForecast, Samples
from models.pipeline import Pipeline
from models.state import StateMismatch, forecast_offsets
from tests.models.conftest import sealed

Bundles = Callable[..., Bundle]
START_S = 1_700_000_000.0
STEP = 5  # samples of 0.2 s
CHANNELS = 8


def forecaster_of(bundle: Bundle) -> Forecaster:
    return Forecaster(bundle.manifest, ForecastNetwork(bundle.parts[FORECASTER]))


def walk(samples: int, seed: int = 1, deviation: float = 0.05) -> Samples:
    """Channels that go their own ways, about where the reference bundle's are."""
    steps = np.random.default_rng(seed).normal(0, deviation, (samples, CHANNELS))
    values = (10 + np.cumsum(steps, axis=0)).astype(np.float32)
    return Samples(START_S + 0.2 * np.arange(1, samples + 1), values)


def broken(samples: Samples, seed: int) -> Samples:
    """Some values missing, and some samples."""
    random = np.random.default_rng(seed)
    values = samples.values.copy()
    values[random.uniform(size=values.shape) < 0.1] = np.nan
    values[400:408, 3] = np.nan
    kept = np.ones(len(values), np.bool_)
    kept[300:311] = False
    return Samples(samples.times[kept], values[kept])


def cut(samples: Samples, seed: int) -> Iterator[Samples]:
    random, begin = np.random.default_rng(seed), 0
    while begin < len(samples.times):
        end = begin + int(random.integers(1, 60))
        yield Samples(samples.times[begin:end], samples.values[begin:end])
        begin = end


def same(ours: list[Forecast], theirs: list[Forecast]) -> bool:
    return len(ours) == len(theirs) and all(
        a.time == b.time and np.array_equal(a.quantiles, b.quantiles)
        for a, b in zip(ours, theirs, strict=True)
    )


def test_a_forecast_begins_one_step_after_the_last_sample(forecasting_bundle: Bundles) -> None:
    forecaster, samples = forecaster_of(forecasting_bundle()), walk(STEP * 40)
    made = forecaster.step(forecaster.start(), samples)
    assert made
    for one in made:
        assert one.time % 2 == 0  # every second step of a second
        assert one.times.tolist() == [one.time + step for step in range(1, 13)]
        # made of the sample that ends the step, and of none after it
        at = int(np.flatnonzero(np.abs(samples.times - one.time) < 0.01)[0])
        last = samples.values[at - STEP + 1 : at + 1].mean(axis=0)
        np.testing.assert_allclose(one.last, last, rtol=1e-5)


def test_quantiles_are_the_networks_own(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(forecasting_bundle())
    made = forecaster.step(forecaster.start(), walk(STEP * 40))[-1]
    spread = 0.1 * np.sqrt(np.arange(1, 13)) * NormalDist().inv_cdf(0.9)
    expected = made.last[:, None] + made.scale[:, None] * spread
    np.testing.assert_allclose(made.quantiles[:, :, 5], expected, rtol=1e-4)
    np.testing.assert_allclose(made.quantiles[:, :, 3], made.last[:, None] + 0 * spread, rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_cuts_change_nothing(forecasting_bundle: Bundles, seed: int) -> None:
    settings = {"imputation": {"method": "linear", "gap_steps_max": 12, "missing_share_max": 0.6}}
    forecaster = forecaster_of(forecasting_bundle(**settings))
    samples = broken(walk(1500, seed), seed)
    whole, pieces = forecaster.start(), forecaster.start()
    expected = forecaster.step(whole, samples)
    got = [one for piece in cut(samples, seed) for one in forecaster.step(pieces, piece)]
    assert len(expected) > 50
    assert same(got, expected)
    assert pieces.counters == whole.counters
    np.testing.assert_array_equal(pieces.judged.inside, whole.judged.inside)


AGGREGATION = {
    "delay_share": 0.5,
    "pooled_rate": 0.02,
    "pooled_delay_share": 2.0,
    "integral_rate": 0.02,
    "sharpness": 1.0,
    "memory": 0.995,
}


def with_leads(bundle: Bundle, count: int, rates: int) -> TelemanomManifest:
    """Return the manifest with intervals that adapt at so many leads."""
    assert isinstance(bundle.manifest, TelemanomManifest)
    document = bundle.manifest.model_dump()
    zeros = np.zeros((len(document["forecaster"]["quantiles"]), CHANNELS, count)).tolist()
    document["forecaster"]["horizon_steps"] = count
    document["forecaster"]["intervals"] |= {
        "leads_steps": list(range(1, count + 1)),
        "offsets": zeros,
        "aggregated": AGGREGATION | {"widths": zeros, "rates": [0.01] * rates},
    }
    return TelemanomManifest.model_validate(document)


def test_what_adaptive_intervals_learn_is_bounded(forecasting_bundle: Bundles) -> None:
    part = with_leads(forecasting_bundle(), 100, 8).forecaster
    assert part is not None
    learnt = Intervals(part).start_learning()
    assert learnt is not None
    size = sum(
        array.nbytes for array in (learnt.pooled, learnt.own, learnt.integral, learnt.losses)
    )
    assert 0.7 * LEARNT_BYTES_MAX < size <= LEARNT_BYTES_MAX
    with pytest.raises(ValidationError, match=f"150 leads learn .* bytes, over {LEARNT_BYTES_MAX}"):
        with_leads(forecasting_bundle(), 150, 8)
    with_leads(forecasting_bundle(), 150, 1)


def adapting(bundle: Bundle, rate: float) -> Bundle:
    part = bundle.manifest.forecaster
    assert part is not None
    intervals = part.intervals.model_copy(update={"rate": rate})
    part = part.model_copy(update={"intervals": intervals})
    manifest = bundle.manifest.model_copy(update={"forecaster": part})
    return sealed(manifest, dict(bundle.parts))


def test_a_restart_changes_nothing(forecasting_bundle: Bundles) -> None:
    pipeline = Pipeline(adapting(forecasting_bundle(), 0.05))
    samples = broken(walk(1500), 1)
    uninterrupted = pipeline.step(pipeline.start(), samples).forecasts
    state, stored, got = pipeline.start(), dict[str, bytes](), list[Forecast]()
    for piece in cut(samples, seed=3):
        got += pipeline.step(state, piece).forecasts
        stored |= pipeline.changed_parts(state)
        state = pipeline.restore(stored)
    assert same(got, list(uninterrupted))
    (forecast,) = state.forecast
    np.testing.assert_array_equal(forecast_offsets(stored), forecast.offsets)
    assert (forecast.offsets != 0).any()


def test_what_refused_is_remembered_over_a_restart(forecasting_bundle: Bundles) -> None:
    pipeline = Pipeline(forecasting_bundle())
    state = pipeline.start()
    pipeline.step(state, walk(STEP * 10))
    restored = pipeline.restore(pipeline.changed_parts(state)).forecast[0]
    assert restored.refused == state.forecast[0].refused is not None
    assert restored.counters == state.forecast[0].counters


@pytest.mark.parametrize("part", ["forecast", "forecast.pending", "forecast.history.0"])
def test_a_damaged_or_missing_part_is_refused(forecasting_bundle: Bundles, part: str) -> None:
    pipeline = Pipeline(forecasting_bundle())
    state = pipeline.start()
    pipeline.step(state, walk(STEP * 40))
    parts = pipeline.changed_parts(state)
    damaged = bytearray(parts[part])
    damaged[len(damaged) // 2] ^= 1
    for changed in ({part: bytes(damaged)}, {}):
        rest = {name: data for name, data in parts.items() if name != part}
        with pytest.raises(StateMismatch):
            pipeline.restore(rest | changed)


def test_without_enough_history_there_is_none_and_why(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(forecasting_bundle())
    state = forecaster.start()
    assert forecaster.step(state, walk(STEP * 22)) == []
    assert state.refused is not None
    assert state.refused.reason == "short_history"
    assert "of 24 steps of 1 s are there" in state.refused.detail
    assert state.counters["short_history"] == 11


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (slice(STEP * 30, STEP * 36), "6 steps in a row are missing, 4 may be"),
        (slice(STEP * 25, STEP * 39, 2), None),  # half of the samples of each step is enough
    ],
)
def test_what_lacks_too_much_is_not_forecast(
    forecasting_bundle: Bundles, missing: slice, said: str | None
) -> None:
    forecaster, samples = forecaster_of(forecasting_bundle()), walk(STEP * 40)
    samples.values[missing, 2] = np.nan
    state = forecaster.start()
    made = forecaster.step(state, samples)
    if said is None:
        assert made[-1].time == samples.times[-1].round()
        return
    assert isinstance(state.refused, NoForecast)
    assert (state.refused.reason, state.refused.detail) == ("missing_values", said)


def test_gaps_within_the_limit_are_filled_and_counted(forecasting_bundle: Bundles) -> None:
    forecaster, samples = forecaster_of(forecasting_bundle()), walk(STEP * 40)
    samples.values[STEP * 30 : STEP * 33, 2] = np.nan
    made = forecaster.step(forecaster.start(), samples)[-1]
    assert made.imputed == 3
    assert np.isfinite(made.quantiles).all()


def test_a_constant_has_a_narrow_forecast(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(forecasting_bundle())
    values = np.full((STEP * 30, CHANNELS), 7.25, np.float32)
    made = forecaster.step(forecaster.start(), Samples(walk(STEP * 30).times, values))[-1]
    np.testing.assert_allclose(made.quantiles[:, :, 3], 7.25)
    widest = (made.quantiles[:, -1, -1] - made.quantiles[:, -1, 0]).tolist()
    for width, channel in zip(widest, forecaster.channels, strict=True):
        assert 0 < width < 0.02 * channel.scale


def test_beyond_the_horizon_is_marked_and_wider(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(forecasting_bundle())
    state = forecaster.start()
    forecaster.step(state, walk(STEP * 40))
    context, offsets = forecaster.context(state), state.offsets
    direct = forecaster.forecast(context, state.newest, offsets)
    longer = forecaster.forecast(context, state.newest, offsets, horizon=30)
    assert isinstance(direct, Forecast)
    assert isinstance(longer, Forecast)
    assert (longer.trained_steps, longer.quantiles.shape[1], len(longer.times)) == (12, 30, 30)
    np.testing.assert_array_equal(longer.quantiles[:, :12], direct.quantiles)
    width = longer.quantiles[:, :, -1] - longer.quantiles[:, :, 0]
    assert (width[:, 12:] > width[:, 11:12]).all()


def test_time_going_back_forgets_the_past_and_keeps_the_offsets(
    forecasting_bundle: Bundles,
) -> None:
    forecaster = forecaster_of(adapting(forecasting_bundle(), 0.05))
    state, samples = forecaster.start(), walk(STEP * 100)
    forecaster.step(state, samples)
    learnt = state.offsets.copy()
    assert (learnt != 0).any()
    back = Samples(samples.times[: STEP * 20] - 7200, samples.values[: STEP * 20])
    assert forecaster.step(state, back) == []
    np.testing.assert_array_equal(state.offsets, learnt)
    assert len(forecaster.context(state)) == 20


def test_rolling_figures_are_those_of_a_recount(forecasting_bundle: Bundles) -> None:
    forecaster, samples = forecaster_of(forecasting_bundle()), walk(STEP * 120)
    state = forecaster.start()
    made = forecaster.step(state, samples)
    steps = samples.values.reshape(-1, STEP, CHANNELS).mean(axis=1)
    first = round(samples.times[0] - 0.2) + 1
    for position, lead in enumerate([1, 3, 6, 12]):
        error, weight = np.zeros(CHANNELS), 0.0
        for one in made:
            at = round(one.time) + lead - first
            if at < len(steps):
                error = error * (1 - 1 / 500) + one.quantiles[:, lead - 1, 3] - steps[at]
                weight = weight * (1 - 1 / 500) + 1
        np.testing.assert_allclose(state.judged.error[position], error, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(state.judged.weight[position], weight)


@pytest.mark.parametrize(("rate", "near"), [(0.05, True), (0.0, False)])
def test_intervals_cover_again_after_a_change(
    forecasting_bundle: Bundles, rate: float, near: bool
) -> None:
    forecaster = forecaster_of(adapting(forecasting_bundle(stride_steps=1), rate))
    calm, wild = walk(STEP * 500, 1), walk(STEP * 3000, 2, deviation=0.3)
    # noise on every step, which no last value foretells: far wider than the network claims
    random = np.random.default_rng(5)
    noise = np.repeat(random.normal(0, 6, (3000, CHANNELS)), STEP, axis=0).astype(np.float32)
    state = forecaster.start()
    forecaster.step(state, calm)
    forecaster.step(state, Samples(wild.times + 500, wild.values + noise))
    covered = state.judged.inside / state.judged.weight  # (P, G, C)
    by_level = dict(zip(forecaster.pairs, covered.mean(axis=2), strict=True))
    for level in (80, 95):
        assert (np.abs(100 * by_level[level] - level) < 4).all() == near


def test_quantiles_stay_in_order_whatever_the_offsets(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(forecasting_bundle())
    random = np.random.default_rng(1)
    for _ in range(50):
        offsets = random.normal(0, 1, (7, CHANNELS, 4)).astype(np.float32)
        claimed = np.sort(random.normal(0, 1, (CHANNELS, 12, 7)).astype(np.float32), axis=2)
        widened = forecaster.intervals.widen(claimed, offsets)
        assert (np.diff(widened, axis=2) >= 0).all()
        np.testing.assert_array_equal(widened[..., 3], claimed[..., 3])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantiles": [0.1, 0.5, 0.8]}, "not symmetric"),
        ({"quantiles": [0.1, 0.5, 0.5, 0.9]}, "do not rise"),
        ({"quantiles": [0.1, 0.2, 0.8, 0.9]}, "lack 0.5"),
        ({"horizon_steps": 13}, "do not end at horizon_steps"),
        ({"imputation": {"method": "seasonal", "gap_steps_max": 1, "missing_share_max": 0}}, "sea"),
    ],
)
def test_an_inconsistent_part_is_refused(
    forecasting_bundle: Bundles, changes: dict[str, object], said: str
) -> None:
    part = forecasting_bundle().manifest.forecaster
    assert part is not None
    with pytest.raises(ValidationError, match=said):
        ForecastPart.model_validate(part.model_dump() | changes)


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        ({"offsets": [[[0.0] * 4] * CHANNELS] * 6}, r"offsets are not \(7, 8, 4\)"),
        ({"offsets": [[[0.0] * 3] * CHANNELS] * 7}, r"offsets are not \(7, 8, 4\)"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(
    forecasting_bundle: Bundles, intervals: dict[str, object], said: str
) -> None:
    document = forecasting_bundle().manifest.model_dump()
    document["forecaster"]["intervals"] |= intervals
    with pytest.raises(ValidationError, match=said):
        TelemanomManifest.model_validate(document)


def test_a_network_that_does_not_fit_is_refused(forecasting_bundle: Bundles) -> None:
    bundle = forecasting_bundle()
    odd = bundle.parts["network.tflite"]
    with pytest.raises(BundleCorrupt, match="signature has the tensors"):
        ForecastNetwork(odd)
    part = bundle.manifest.forecaster
    assert part is not None
    shorter = bundle.manifest.model_copy(
        update={"forecaster": part.model_copy(update={"context_steps": 20})}
    )
    with pytest.raises(BundleCorrupt, match=r"\(24, 12, 7\), but the manifest has \(20, 12, 7\)"):
        Forecaster(shorter, ForecastNetwork(bundle.parts[FORECASTER]))


def test_states_know_their_size(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(forecasting_bundle())
    state: ForecastState = forecaster.start()
    size = state.pending.shown.nbytes
    forecaster.step(state, walk(STEP * 300))
    assert state.pending.shown.nbytes == size
    assert len(forecaster.context(state)) == 24
