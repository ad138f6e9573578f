"""The time to a limit, on forecasts whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.limits import TimeToLimit, time_to_limit
from models.messages import Float32, Forecast

LEVELS = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])
WIDTHS = np.array([-2, -1, -0.5, 0, 0.5, 1, 2])
STEP_S = 10.0


def forecast(median: Float32, width: float, last: float = 0.0) -> Forecast:
    quantiles = (median[:, None] + width * WIDTHS).astype(np.float32)
    return Forecast(
        time=1000.0,
        times=1000.0 + STEP_S * np.arange(1, len(median) + 1),
        last=np.array([last], np.float32),
        scale=np.ones(1, np.float32),
        quantiles=quantiles[None],
        trained_steps=len(median),
        imputed=0,
    )


RAMP = np.arange(1, 41, dtype=np.float32)


def high(found: Forecast, limit: float) -> TimeToLimit:
    return time_to_limit(found, LEVELS, 0, "high", limit)


def test_a_sure_ramp_passes_when_it_does() -> None:
    found = high(forecast(RAMP, 1e-4), 20.5)
    assert found.median_s == pytest.approx(205.0, abs=STEP_S / 2)
    assert found.earliest_s == pytest.approx(205.0, abs=STEP_S)
    assert found.latest_s == pytest.approx(205.0, abs=STEP_S)
    assert found.probability == pytest.approx(1.0)
    assert found.horizon_s == 400.0


def test_quantile_paths_give_the_interval() -> None:
    found = high(forecast(RAMP, 5.0), 20.0)
    # the 90 % path is five higher and passes at step 15, the 10 % path at step 25
    assert found.earliest_s == pytest.approx(150, abs=1)
    assert found.median_s == pytest.approx(200, abs=1)
    assert found.latest_s == pytest.approx(250, abs=1)


def test_low_is_the_mirror_of_high() -> None:
    up, down = forecast(RAMP, 3.0), forecast(-RAMP, 3.0)
    mirrored = time_to_limit(down, LEVELS, 0, "low", -20.0)
    assert mirrored == pytest.approx(high(up, 20.0))


def test_a_higher_limit_is_never_passed_earlier() -> None:
    random = np.random.default_rng(4)
    found = forecast(np.cumsum(random.normal(0.3, 1, 40)).astype(np.float32), 2.0)
    chances = [high(found, limit).probability for limit in np.linspace(-30, 60, 200)]
    assert all(0 <= chance <= 1 for chance in chances)
    assert all(a >= b for a, b in itertools.pairwise(chances))
    assert chances[0] > 0.999
    assert chances[-1] < 0.001


def test_the_tails_go_on_from_the_outermost_quantiles() -> None:
    found = forecast(np.full(5, 0, np.float32), 1.0)
    assert high(found, 2.0).probability == pytest.approx(0.025, rel=1e-5)
    # from 10 % to 2.5 % in one unit: another unit, another factor of four
    assert high(found, 3.0).probability == pytest.approx(0.025 / 4, rel=1e-5)
    below = forecast(np.full(5, 0, np.float32), 1.0, last=-9.0)
    assert high(below, -3.0).probability == pytest.approx(1 - 0.025 / 4, rel=1e-5)


def test_what_does_not_come_within_the_horizon_has_no_time() -> None:
    found = high(forecast(RAMP, 5.0), 42.0)
    assert found.earliest_s == pytest.approx(370, abs=1)
    assert (found.median_s, found.latest_s) == (None, None)
    assert 0.25 < found.probability < 0.5


def test_what_has_passed_has_passed() -> None:
    found = high(forecast(-RAMP, 1.0, last=7.0), 5.0)
    assert (found.probability, found.median_s, found.latest_s) == (1.0, 0.0, 0.0)


def test_equal_quantiles_divide_by_nothing() -> None:
    found = high(forecast(np.ones(3, np.float32), 0.0), 1.5)
    assert found.probability == pytest.approx(0.0, abs=1e-9)
    assert high(forecast(np.ones(3, np.float32), 0.0), 0.5).probability == pytest.approx(1.0)
