"""The hours of day and week as inputs: they ship where they help, in the machine's own time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydantic import ValidationError

from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import Channel, ForecastPart, Sampling
from models.messages import Float32, Forecast
from tests.trainer.forecast.conftest import channels
from trainer.config import ForecastTable
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.calendar import Moments, choose, fit, less
from trainer.forecast.corrections import StepParts

STEP_S = 3600.0
BERLIN = "Europe/Berlin"
FIRST = round(datetime(2026, 1, 5, tzinfo=UTC).timestamp() / STEP_S)  # a Monday
WEEKS = 20  # clocks change on 2026-03-29, in the twelfth
CONTEXT, HORIZON = 12, 12
GIVEN: dict[str, Any] = {
    "context_steps": CONTEXT,
    "horizon_steps": HORIZON,
    "choice": {"network": False},
    "calendar": {"zone": BERLIN},
    "parity": {"quantizations": ["dynamic-range-int8"]},
    "network": {"patch_steps": 4},
    "fit": {"trend_share": 0.0},
}


class Machine(NamedTuple):
    """What a forecaster needs to know of a bundle."""

    forecaster: ForecastPart | None
    channels: list[Channel]
    scored: list[int]
    sampling: Sampling


def working(count: int, noise: float, seed: int) -> Float32:
    """Return the load of a plant that works from 6 to 14 in Berlin on weekdays, and another."""
    random = np.random.default_rng(seed)
    middles = (FIRST + np.arange(count) - 0.5) * STEP_S
    local = [datetime.fromtimestamp(middle, ZoneInfo(BERLIN)) for middle in middles]
    works = np.array([each.weekday() < 5 and 6 <= each.hour < 14 for each in local], float)
    drift = random.normal(0, 0.02, count).cumsum()
    load = 10 * works + 10 * drift + random.normal(0, noise, count)
    other = random.normal(0, 1, count).cumsum()
    return np.stack([load, other], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def settings() -> ForecastTable:
    return ForecastTable.model_validate(GIVEN)


@pytest.fixture(scope="module")
def values() -> Float32:
    return working(WEEKS * 168, noise=0.3, seed=1)


@pytest.fixture(scope="module")
def scaled() -> list[Channel]:
    return channels(5.0, 20.0)


@pytest.fixture(scope="module")
def built(values: Float32, scaled: list[Channel], settings: ForecastTable) -> BuiltForecaster:
    learnt = 15 * 168
    moments = Moments(STEP_S, FIRST, FIRST + learnt)
    parts = StepParts(values[:learnt], 13 * 168, values[learnt:], moments)
    return build(settings, scaled, parts, None, lambda line: None)


def test_the_week_ships_where_a_plant_keeps_to_it(built: BuiltForecaster) -> None:
    assert built.calendar is not None and built.shipped.part.calendar is not None
    assert built.shipped.part.calendar.cycle == "week"
    week, day = built.calendar.trials["week"], built.calendar.trials["day"]
    assert week.ships and week.gain > day.gain
    assert np.mean(week.network) < 0.5 * np.mean(week.closed)
    assert built.metrics()["calendar"]["chosen"] == "week"


def test_the_gateway_forecasts_what_the_trainer_judged(
    built: BuiltForecaster, values: Float32, scaled: list[Channel]
) -> None:
    """From a Sunday evening on, when nothing in the context tells that the plant begins at 6."""
    sampling = Sampling(
        period_s=STEP_S,
        hold_samples_max=1,
        missing_samples=5,
        reset_gap_samples=5,
        warm_up_samples=1,
    )

    machine = Machine(built.shipped.part, scaled, [0, 1], sampling)
    one = Forecaster(machine, ForecastNetwork(built.shipped.network))
    monday = 18 * 168 - 2  # in summer, midnight in Berlin is at 22:00 in UTC
    given = values[monday - CONTEXT + 1 : monday + 1]
    made = one.forecast(given, FIRST + monday, one.intervals.start())
    assert isinstance(made, Forecast)
    came = values[monday + 1 : monday + 1 + HORIZON, 0]
    median = made.quantiles[0, :, one.intervals.middle]
    assert came[:6].max() < came[6:].min() - 5, "the plant begins at 6"
    np.testing.assert_allclose(median - median[0], came - came[0], atol=2.5)


def test_clocks_that_change_do_not_move_the_hours(
    values: Float32, scaled: list[Channel], settings: ForecastTable
) -> None:
    """Fitted in winter, the load of summer has no step of work left at its edges."""
    moments = Moments(STEP_S, FIRST, 0)
    winter, summer = slice(0, 11 * 168), slice(13 * 168, 20 * 168)
    left = {}
    for zone in (BERLIN, "Etc/GMT-1"):
        part = fit(values[winter], scaled, zone, "week", moments)
        assert part is not None
        found = less(values[summer], part, scaled, FIRST + 13 * 168, STEP_S)
        left[zone] = np.abs(np.diff(found[:, 0])).max()
    assert left[BERLIN] < 3 < 8 < left["Etc/GMT-1"]


def test_a_walk_has_no_calendar(settings: ForecastTable) -> None:
    walk = np.random.default_rng(3).normal(size=(12 * 168, 2)).cumsum(axis=0).astype(np.float32)
    found = choose(walk, len(walk), channels(1.0, 1.0), Moments(STEP_S, FIRST, 0), settings)
    assert set(found.trials) == {"day", "week"}
    assert found.part is None
    assert not any(trial.ships for trial in found.trials.values())


def test_a_cycle_that_was_not_seen_twice_is_not_tried(
    values: Float32, scaled: list[Channel], settings: ForecastTable
) -> None:
    few = values[: 7 * 24]  # half of them come before the first origin
    found = choose(few, len(few), scaled, Moments(STEP_S, FIRST, 0), settings)
    assert set(found.trials) == {"day"}
    assert fit(values[:300], scaled, BERLIN, "week", Moments(STEP_S, FIRST, 0)) is None


def test_hours_without_a_value_leave_the_others(values: Float32, scaled: list[Channel]) -> None:
    moments = Moments(STEP_S, FIRST, 0)
    holes = values.copy()
    holes[np.random.default_rng(5).choice(len(holes), len(holes) // 20)] = np.nan
    whole, found = (fit(each, scaled, BERLIN, "day", moments) for each in (values, holes))
    assert whole is not None and found is not None
    np.testing.assert_allclose(found.usual[0], whole.usual[0], atol=0.05)
    night = holes.copy()
    night[:, 0] = np.where(np.arange(len(night)) % 24 < 2, np.nan, night[:, 0])
    assert fit(night, scaled, BERLIN, "day", moments) is None


def test_without_a_zone_no_calendar_is_tried(values: Float32, scaled: list[Channel]) -> None:
    plain = ForecastTable.model_validate({k: v for k, v in GIVEN.items() if k != "calendar"})
    parts = StepParts(values[:1500], 1200, values[1500:2000], Moments(STEP_S, FIRST, FIRST + 1500))
    found = build(plain, scaled, parts, None, lambda line: None)
    assert found.calendar is None and found.shipped.part.calendar is None
    assert found.metrics()["calendar"] is None


def test_a_zone_that_nobody_knows_is_refused_before_any_training() -> None:
    with pytest.raises(ValidationError, match="'Mars/Olympus' is not a time zone"):
        ForecastTable.model_validate({"calendar": {"zone": "Mars/Olympus"}})
