"""Forecasts without a network: of a load that comes daily, of a walk, and of a trend."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import SAMPLES_MAX
from models.messages import Float32, Forecast
from models.novelty import Novelty
from models.season_forecast import QUANTILES, SeasonForecast, part_of
from tests.models.test_novelty import DAY, daily, made, run, samples_of

SEASON = 24
MIDDLE = QUANTILES.index(0.5)


def quantiles(values: Float32) -> Float32:
    return SeasonForecast(SEASON).run(np.asarray(values, np.float32)[None])[0]


def test_what_comes_daily_is_forecast_to_come_again() -> None:
    day = np.sin(np.arange(SEASON) / SEASON * 2 * np.pi)
    found = quantiles(np.tile(day, 2))
    assert found[:, MIDDLE] == pytest.approx(day, abs=1e-3)
    assert (found[:, -1] - found[:, 0] < 1e-3).all()  # it has always been right


def test_a_walk_stays_where_it_is_and_gets_less_sure() -> None:
    walk = np.cumsum(np.random.default_rng(2).normal(size=(400, 2 * SEASON)), axis=1)
    found = SeasonForecast(SEASON).run(walk.astype(np.float32))
    error = np.abs(found[:, 0, MIDDLE] - walk[:, -1]).mean()
    assert error < 0.5  # of a step, which is 1
    width = (found[..., -1] - found[..., 0]).mean(axis=0)
    assert width[-1] > 2 * width[0]


def test_a_trend_goes_on() -> None:
    found = quantiles(np.arange(2 * SEASON) / SEASON)
    assert found[-1, MIDDLE] > 2.2  # it ended at 2, and half of it goes on


def test_noise_is_as_wide_at_each_lead() -> None:
    values = np.random.default_rng(3).normal(size=(2000, 2 * SEASON)).astype(np.float32)
    found = SeasonForecast(SEASON).run(values)
    width = (found[..., -1] - found[..., 0]).mean(axis=0) / (2 * 1.645)
    assert width == pytest.approx(1.0, rel=0.04)  # the mean of two values, each with an error of √2


def test_quantiles_rise() -> None:
    found = quantiles(np.random.default_rng(1).normal(size=2 * SEASON))
    assert (np.diff(found, axis=1) > 0).all()


def test_a_season_of_few_steps_or_of_steps_too_long_is_not_forecast() -> None:
    assert part_of(1, 3, 1) is None
    assert part_of(SAMPLES_MAX + 1, SEASON, 1) is None
    assert made(season_s=1e12, foretells=True).forecaster is None
    assert made(season_s=900.0, foretells=True).forecaster is None


def foretold(novelty: Novelty, values: Float32) -> list[Forecast]:
    return list(novelty.step(novelty.start(), samples_of(values)).forecasts)


def test_there_is_a_forecast_after_two_days() -> None:
    novelty, state = made(foretells=True), made(foretells=True).start()
    run(novelty, daily(1), state)
    before = novelty.forecasts(state)
    assert before is not None
    assert before.refused is not None
    assert before.refused.reason == "short_history"
    first = foretold(novelty, daily(3))[0]
    assert first.time == 2 * DAY * 300.0
    assert first.times[-1] == 3 * DAY * 300.0


def test_the_load_of_the_next_day_is_within_the_intervals_as_often_as_they_say() -> None:
    values = daily(20)
    novelty, state = made(foretells=True), made(foretells=True).start()
    run(novelty, values, state)
    forecasts = novelty.forecasts(state)
    assert forecasts is not None
    judged, level = forecasts.judged, 2  # from 0.25 to 0.75
    inside = judged.inside[level].sum() / judged.weight.sum()
    assert 0.4 < inside < 0.65
    middle = foretold(novelty, values)[-1].quantiles[0, :, MIDDLE]  # 96 steps
    assert middle[12 * 4] == pytest.approx(52, abs=1.5)
    assert middle[4 * 4] == pytest.approx(12, abs=1.5)
