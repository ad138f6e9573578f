"""Channels that are held: those whose best forecast is their last value."""

from __future__ import annotations

import numpy as np
import pytest

from models.messages import Float32
from tests.trainer.forecast.conftest import channels
from trainer.config import ForecastTable
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.choose import predict
from trainer.forecast.corrections import StepParts
from trainer.forecast.held import Held
from trainer.forecast.windows import Cutter

SETTINGS = {
    "context_steps": 24,
    "horizon_steps": 8,
    "choice": {"network": False},
    "parity": {"quantizations": ["dynamic-range-int8"]},
    "network": {"patch_steps": 4},
    "fit": {"trend_share": 0.0},
}


def set_and_swinging(rows: int) -> Float32:
    """Return a set point that people change now and then, and two channels that swing."""
    random = np.random.default_rng(4)
    changes = np.where(random.uniform(size=rows) < 0.02, random.normal(size=rows), 0.0)
    at = np.arange(rows)[:, None]
    swings = np.sin(at / 3 + [0.0, 1.0]) + random.normal(0, 0.1, (rows, 2))
    return np.concatenate([changes.cumsum()[:, None], swings], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def settings() -> ForecastTable:
    return ForecastTable.model_validate(SETTINGS)


@pytest.fixture(scope="module")
def built(settings: ForecastTable) -> BuiltForecaster:
    values = set_and_swinging(2600)
    parts = StepParts(values[:1800], 1500, values[1800:])
    return build(settings, channels(1.0, 1.0, 1.0), parts, None, lambda line: None)


def test_a_set_point_is_held_and_the_others_are_not(built: BuiltForecaster) -> None:
    assert built.shipped.part.held == [0]
    told = built.metrics()["held"]
    assert told["variable_0"]["held"] and not told["variable_1"]["held"]
    assert np.mean(told["variable_1"]["forecast"]) < 0.5 * np.mean(told["variable_1"]["last"])


def test_no_channel_is_worse_than_its_last_value_where_it_was_judged(
    built: BuiltForecaster,
) -> None:
    for at, name in enumerate(built.channels):
        told = built.metrics()["held"][name]
        if at not in built.shipped.part.held:
            assert np.mean(told["forecast"]) < np.mean(told["last"])


def test_the_intervals_of_a_channel_that_is_held_are_about_its_last_value(
    built: BuiltForecaster, settings: ForecastTable
) -> None:
    part = built.shipped.part
    fresh = Cutter(set_and_swinging(4000)[2600:], np.ones(3, np.float32), settings)
    windows = fresh.shortened(part.context_steps).cut(fresh.places[fresh.places[:, 1] == 0])
    quantiles = predict(built.shipped.network, windows.context)
    last = windows.context[:, -1:]
    lead = len(part.intervals.leads_steps) - 1
    low, high = (part.quantiles.index(level) for level in (0.1, 0.9))
    offsets = np.array(part.intervals.offsets)[:, 0, lead]
    around = quantiles[:, -1] - quantiles[:, -1, 3, None] + last
    exact = 1e-4  # most of the time nobody changes it, and the interval has no width
    inside = (around[:, low] + offsets[low] <= windows.future[:, -1] + exact) & (
        windows.future[:, -1] - exact <= around[:, high] + offsets[high]
    )
    assert 0.7 < inside.mean() < 0.97


def test_a_channel_that_must_follow_a_drift_is_not_held() -> None:
    """The forecast is judged with the trends that it is trained to follow."""
    random = np.random.default_rng(6)
    noise = random.normal(0, 1, (2600, 2)).cumsum(axis=0).astype(np.float32)
    found = {}
    for share in (0.0, 1.0):
        given = ForecastTable.model_validate(SETTINGS | {"fit": {"trend_share": share}})
        parts = StepParts(noise[:1800], 1500, noise[1800:])
        found[share] = build(given, channels(1.0, 1.0), parts, None, lambda line: None)
    assert found[1.0].shipped.part.held == []
    told = found[1.0].metrics()["held"]["variable_0"]
    assert np.mean(told["forecast"]) < 0.8 * np.mean(told["last"])
    plain = found[0.0].metrics()["held"]["variable_0"]
    assert np.mean(plain["forecast"]) > 0.9 * np.mean(plain["last"])


def test_equal_errors_hold_the_channel() -> None:
    same = np.ones((2, 3))
    assert Held(same, same).channels == [0, 1]
    assert Held(0.9 * same, same).channels == []
