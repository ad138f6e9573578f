"""Intervals that follow what the forecaster sees: coverage after changes, memory, old bundles."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from pydantic import ValidationError

from models.bundle import Bundle
from models.forecaster import Forecaster, ForecastState
from models.interpreter import ForecastNetwork
from models.manifest import FORECASTER, Aggregation, TelemanomManifest
from models.messages import Float32, Forecast, Samples
from models.pipeline import Pipeline
from tests.models.conftest import sealed
from tests.models.make_forecasts import FORECASTS, forecasts
from tests.models.test_forecaster import CHANNELS, STEP, broken, cut, same, walk

Bundles = Callable[..., Bundle]
LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
LEADS = (1, 3, 6, 12)


def aggregation(lead_rate: float) -> Aggregation:
    """The settings of a trained bundle, with the widths of the network of the tests.

    Bundles of earlier versions have no ``lead_rate``, which is 0.
    """
    z = [NormalDist().inv_cdf(level) for level in LEVELS]
    widths = [[[0.1 * lead**0.5 * one for lead in LEADS]] * CHANNELS for one in z]
    return Aggregation(
        widths=widths,
        rates=[0.01],
        delay_share=0.5,
        pooled_rate=0.02,
        pooled_delay_share=2.0,
        integral_rate=0.02,
        sharpness=1.0,
        memory=0.995,
        lead_rate=lead_rate,
    )


def learning(bundle: Bundle, rate: float = 0.01, lead_rate: float = 0.0) -> Bundle:
    part = bundle.manifest.forecaster
    assert part is not None
    update = {"rate": rate, "aggregated": aggregation(lead_rate)}
    part = part.model_copy(update={"intervals": part.intervals.model_copy(update=update)})
    manifest = bundle.manifest.model_copy(update={"forecaster": part})
    return sealed(manifest, dict(bundle.parts))


def forecaster_of(bundle: Bundle) -> Forecaster:
    return Forecaster(bundle.manifest, ForecastNetwork(bundle.parts[FORECASTER]))


def noisy(samples: Samples, channels: slice, deviation: float, seed: int = 5) -> Samples:
    """Add noise to every step, which no last value foretells."""
    steps = len(samples.times) // STEP
    noise = np.random.default_rng(seed).normal(0, deviation, (steps, CHANNELS))
    values: Float32 = samples.values.copy()
    values[:, channels] += np.repeat(noise, STEP, axis=0)[:, channels].astype(np.float32)
    return Samples(samples.times, values)


def covered(forecaster: Forecaster, state: ForecastState, channels: slice) -> dict[int, float]:
    """Return the coverage of each interval by its level, both in %."""
    inside = state.judged.inside[:, :, channels].sum(axis=(1, 2))
    weight = state.judged.weight[:, channels].sum()
    found = 100 * inside / weight
    return dict(zip(forecaster.pairs, found.tolist(), strict=True))


@pytest.mark.parametrize("changed", [slice(None), slice(0, 1)], ids=["all", "one"])
@pytest.mark.parametrize("lead_rate", [0.0, 0.01])
def test_intervals_cover_after_a_change(
    forecasting_bundle: Bundles, changed: slice, lead_rate: float
) -> None:
    bundle = learning(forecasting_bundle(stride_steps=1), lead_rate=lead_rate)
    forecaster = forecaster_of(bundle)
    state = forecaster.start()
    forecaster.step(state, walk(STEP * 600, 1))
    after = noisy(walk(STEP * 3500, 2), changed, 3.0)
    forecaster.step(state, Samples(after.times + 600, after.values))
    for channels in (changed, slice(1, None)):
        found = covered(forecaster, state, channels)
        assert found[80] == pytest.approx(80, abs=1.5)
        assert found[95] == pytest.approx(95, abs=1.5)


def test_without_a_rate_nothing_is_learnt(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(learning(forecasting_bundle(), rate=0.0))
    state = forecaster.start()
    forecaster.step(state, walk(STEP * 200))
    np.testing.assert_array_equal(state.offsets, forecaster.intervals.start())


@pytest.mark.parametrize(("seed", "lead_rate"), [(0, 0.0), (1, 0.01), (2, 0.01)])
def test_cuts_and_restarts_change_nothing(
    forecasting_bundle: Bundles, seed: int, lead_rate: float
) -> None:
    pipeline = Pipeline(learning(forecasting_bundle(), lead_rate=lead_rate))
    samples = broken(walk(1500, seed), seed)
    whole = pipeline.start()
    expected = pipeline.step(whole, samples).forecasts
    state, stored, got = pipeline.start(), dict[str, bytes](), list[Forecast]()
    for piece in cut(samples, seed):
        got += pipeline.step(state, piece).forecasts
        stored |= pipeline.changed_parts(state)
        state = pipeline.restore(stored)
    assert len(got) > 50
    assert same(got, list(expected))
    ours, theirs = whole.forecast[0].learnt, state.forecast[0].learnt
    assert ours is not None
    assert theirs is not None
    assert ours.own.any()
    assert ours.pooled.any()
    np.testing.assert_array_equal(ours.own, theirs.own)
    np.testing.assert_array_equal(ours.losses, theirs.losses)
    np.testing.assert_array_equal(ours.integral, theirs.integral)


def test_a_lead_without_any_value_follows_a_shorter_one(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(learning(forecasting_bundle(), lead_rate=0.01))
    learns = forecaster.intervals.aggregated
    assert learns is not None
    learnt = learns.start()
    high, scale = np.full(CHANNELS, 50.0, np.float32), np.ones((2, CHANNELS), np.float32)
    shown = np.tile(np.linspace(-1, 1, 7, dtype=np.float32), (2, CHANNELS, 1))
    for _ in range(40):
        learns.learn(learnt, [0, 1], high, shown, scale)
    for part in (learnt.pooled, learnt.integral):
        assert part[-1, 1] > 0.1
        np.testing.assert_array_equal(part[:, 2:], part[:, 1:2].repeat(2, axis=1))
    before = learnt.integral[-1, 3]
    low = -high  # at the longest lead the value falls below all quantiles
    learns.learn(learnt, [3], low, shown[:1], scale[:1])
    assert learnt.integral[-1, 3] < before
    assert learnt.integral[-1, 1] != learnt.integral[-1, 3]


def test_without_a_lead_rate_leads_do_not_follow(forecasting_bundle: Bundles) -> None:
    """As in bundles of earlier versions."""
    forecaster = forecaster_of(learning(forecasting_bundle()))
    learns = forecaster.intervals.aggregated
    assert learns is not None
    learnt = learns.start()
    shown = np.tile(np.linspace(-1, 1, 7, dtype=np.float32), (1, CHANNELS, 1))
    high, scale = np.full(CHANNELS, 50.0, np.float32), np.ones((1, CHANNELS), np.float32)
    learns.learn(learnt, [0], high, shown, scale)
    assert learnt.integral.shape == (7,)
    assert learnt.pooled[-1, 0] > 0
    assert not learnt.pooled[:, 1:].any()


def test_missing_values_teach_nothing(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(learning(forecasting_bundle()))
    learns = forecaster.intervals.aggregated
    assert learns is not None
    learnt = learns.start()
    shown = np.tile(np.linspace(-1, 1, 7, dtype=np.float32), (CHANNELS, 1))
    observed = np.full(CHANNELS, np.nan, np.float32)
    learns.learn(learnt, [0], observed, shown[None], np.ones((1, CHANNELS), np.float32))
    assert not learnt.pooled.any()
    observed[2] = 5.0  # above all quantiles
    learns.learn(learnt, [0], observed, shown[None], np.ones((1, CHANNELS), np.float32))
    assert (learnt.own[1, -1, :, 0] != 0).tolist() == [column == 2 for column in range(CHANNELS)]
    assert learnt.pooled[-1, 0] > 0  # the upper quantile rises
    assert learnt.pooled[0, 0] < 0  # the lower one comes nearer
    assert learnt.pooled[3, 0] == 0  # the median stays


def test_the_memory_is_bounded(forecasting_bundle: Bundles) -> None:
    forecaster = forecaster_of(learning(forecasting_bundle()))
    state = forecaster.start()
    forecaster.step(state, noisy(walk(STEP * 500), slice(None), 1e6))
    assert state.learnt is not None
    assert np.abs(state.learnt.pooled).max() <= 5
    assert np.isfinite(state.offsets).all()


def test_widths_that_do_not_fit_are_refused(forecasting_bundle: Bundles) -> None:
    document = learning(forecasting_bundle()).manifest.model_dump()
    document["forecaster"]["intervals"]["aggregated"]["widths"] = [[[0.0] * 4] * CHANNELS] * 6
    with pytest.raises(ValidationError, match=r"aggregated.widths are not \(7, 8, 4\)"):
        TelemanomManifest.model_validate(document)


def test_a_bundle_without_them_has_no_new_key(forecasting_bundle: Bundles) -> None:
    document = forecasting_bundle().manifest.model_dump(mode="json")
    assert "aggregated" not in document["forecaster"]["intervals"]


def test_an_old_bundle_forecasts_and_adapts_as_ever() -> None:
    # written by the software of before intervals were aggregated
    expected = np.load(FORECASTS)["forecasts"]
    np.testing.assert_allclose(forecasts(), expected, rtol=1e-5, atol=1e-4)
