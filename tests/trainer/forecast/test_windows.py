"""Steps and windows: the gateway's own, whatever the recording is like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.bundle import Bundle
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import FORECASTER
from models.messages import Samples
from trainer.config import ForecastTable
from trainer.forecast.windows import TREND_LEAST, Cutter, steps

SETTINGS = ForecastTable(context_steps=30, horizon_steps=10)


def test_steps_are_those_of_the_gateway(forecasting_bundle: Callable[..., Bundle]) -> None:
    bundle = forecasting_bundle()
    forecaster = Forecaster(bundle.manifest, ForecastNetwork(bundle.parts[FORECASTER]))
    random = np.random.default_rng(3)
    values = random.normal(5, 1, (200, 8)).astype(np.float32)
    values[random.uniform(size=values.shape) < 0.2] = np.nan
    values[150:162, 2] = np.nan  # two whole steps of a channel
    times = 1_700_000_000.1 + np.delete(np.arange(217), np.arange(60, 77)) * 0.2  # and a gap
    state = forecaster.start()
    forecaster.step(state, Samples(times, values))
    found = steps(Samples(times, values), bundle.manifest.scored, 5, 0.2)
    streamed = forecaster.context(state)
    whole = state.newest - found.first + 1  # the last step may not be over
    np.testing.assert_allclose(found.values[:whole][-len(streamed) :], streamed, rtol=1e-6)
    assert np.isnan(streamed).any()


def test_a_window_is_normalised_by_its_context() -> None:
    values = np.arange(100, dtype=np.float32)[:, None] * [1.0, 10.0] + 7
    cutter = Cutter(values.astype(np.float32), np.array([2.0, 20.0], np.float32), SETTINGS)
    windows = cutter.cut(np.array([[0, 0], [5, 1]]))
    np.testing.assert_allclose(windows.context.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(windows.context.std(axis=1), 1, rtol=1e-6)
    step = windows.context[0, 1] - windows.context[0, 0]
    np.testing.assert_allclose(windows.future[0, 0] - windows.context[0, -1], step, rtol=1e-4)
    np.testing.assert_allclose(windows.scale, np.arange(30).std() / 2, rtol=1e-5)


def test_windows_with_a_hole_in_the_context_are_left_out() -> None:
    values = np.random.default_rng(1).normal(size=(60, 1)).astype(np.float32)
    values[35, 0] = np.nan
    cutter = Cutter(values, np.ones(1, np.float32), SETTINGS)
    # starts 6 to 20 have step 35 in their context; in the future it may be missing
    assert cutter.places[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.isnan(cutter.cut(cutter.places).future).any()


def test_some_windows_are_of_all_channels() -> None:
    values = np.random.default_rng(1).normal(size=(500, 8)).astype(np.float32)
    cutter = Cutter(values, np.ones(8, np.float32), SETTINGS)
    some = cutter.some(len(cutter.places) // 8)  # an even stride would find one channel only
    assert len(some) == len(cutter.places) // 8
    assert set(some[:, 1].tolist()) == set(range(8))
    assert (np.diff(some[:, 0]) >= 0).all()


def test_a_trend_goes_on_and_does_not_weigh_more() -> None:
    values = np.random.default_rng(1).normal(size=(200, 1)).astype(np.float32)
    cutter = Cutter(values, np.ones(1, np.float32), SETTINGS)
    plain = cutter.cut(cutter.places)
    with_none = cutter.cut_with_trends(cutter.places, 0.0, np.random.default_rng(2))
    np.testing.assert_allclose(with_none.context, plain.context, atol=1e-5)
    np.testing.assert_allclose(with_none.future, plain.future, atol=1e-4)
    with_all = cutter.cut_with_trends(cutter.places, 1.0, np.random.default_rng(2))
    np.testing.assert_array_equal(with_all.scale, plain.scale)
    # where a ramp dominates, what comes lies beyond the context, on the side it goes to
    rising = with_all.context[:, -1] - with_all.context[:, 0]
    steep = np.abs(rising) > 2.8
    assert steep.sum() > 20
    same_side = np.sign(with_all.future[steep].mean(axis=1)) == np.sign(rising[steep])
    assert same_side.mean() > 0.9
    assert TREND_LEAST > 0
