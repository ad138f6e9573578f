"""The calendar: the hour of a step in local time, when clocks change, and in a forecast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.bundle import Bundle
from models.calendar import Calendar, Hours
from models.errors import BundleError
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.known_answers import foretell
from models.manifest import CYCLES, FORECASTER, CalendarPart, Channel, ForecastPart
from models.messages import Float32, Forecast

MakeBundle = Callable[..., Bundle]
HOUR = 3600.0


def number(*moment: int) -> int:
    """Return the number of the hour that ends at a time of UTC."""
    return round(datetime(*moment, tzinfo=UTC).timestamp() / HOUR)  # type: ignore[misc, arg-type]  # year, month, day, hour


def hours(zone: str, cycle: int, *numbers: int) -> list[float]:
    """Return the local hours in which the middles of hourly steps lie."""
    found = Hours(ZoneInfo(zone), cycle, HOUR).of(np.array(numbers))
    return list(found.before + found.share)


def test_a_step_lies_at_its_middle_in_local_time() -> None:
    monday_8 = number(2026, 1, 5, 8)  # the step from 7 to 8 in UTC, from 8 to 9 in Berlin
    assert hours("UTC", 24, monday_8) == [7]
    assert hours("Europe/Berlin", 24, monday_8) == [8]
    assert hours("Europe/Berlin", 168, monday_8, monday_8 + 24, monday_8 + 6 * 24) == [8, 32, 152]
    assert hours("Asia/Kolkata", 24, monday_8) == [12.5]  # between the middles of two hours


def test_the_hours_change_with_the_clocks() -> None:
    """In Berlin 2:00 is followed by 3:00 on 2026-03-29, and 2:59 by 2:00 on 2026-10-25."""
    spring, autumn = number(2026, 3, 29, 1), number(2026, 10, 25, 1)
    assert hours("Europe/Berlin", 24, spring - 1, spring, spring + 1) == [0, 1, 3]
    assert hours("Europe/Berlin", 24, autumn - 1, autumn, autumn + 1) == [1, 2, 2]


@given(
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
    first=st.integers(100_000, 4_000_000_000),
    step_s=st.sampled_from([10.0, 900.0, HOUR, 86400.0]),
)
def test_every_step_is_where_the_calendar_of_the_system_has_it(
    zone: str, first: int, step_s: float
) -> None:
    known = ZoneInfo(zone)
    numbers = int(first // step_s) + np.arange(60)
    found = Hours(known, 168, step_s).of(numbers)
    for step, hour in zip(numbers.tolist(), found.before + found.share, strict=True):
        local = datetime.fromtimestamp((step - 0.5) * step_s, known)
        clock = local.hour + local.minute / 60 + (local.second + local.microsecond / 1e6) / HOUR
        expected = (local.weekday() * 24 + clock - 0.5) % 168
        assert hour % 168 == pytest.approx(expected, abs=1e-6)


def part(channels: int, cycle: str = "day", zone: str = "Europe/Berlin") -> dict[str, Any]:
    """Return a part in which the usual is the hour, for the first channel, in scales."""
    usual = np.zeros((channels, CYCLES[cycle]))
    usual[0] = np.arange(CYCLES[cycle])
    return {"zone": zone, "cycle": cycle, "usual": usual.tolist()}


def test_what_is_usual_is_in_units_and_linear_between_hours() -> None:
    channels = [Channel(name="flow", unit="", center=7.0, scale=2.0)]
    one = Calendar(CalendarPart(**part(1, zone="UTC")), channels, HOUR / 2)
    midnight = 2 * number(2026, 1, 5, 0)
    found = one.usual(midnight + np.arange(1, 5))[:, 0]  # the middles are at 0:15, 0:45, 1:15, 1:45
    np.testing.assert_allclose(found, [2 * (0.25 * 23 + 0), 0.5, 1.5, 2.5], rtol=1e-6)


def test_a_time_that_no_clock_shows_is_no_error() -> None:
    channels = [Channel(name="flow", unit="", center=0.0, scale=1.0)]
    one = Calendar(CalendarPart(**part(1)), channels, HOUR)
    assert np.isfinite(one.usual(np.array([-(2**40), 0, 2**50]))).all()


def test_a_zone_that_the_machine_does_not_know_refuses_the_bundle() -> None:
    with pytest.raises(BundleError, match=r"forecaster\.calendar\.zone: 'Mars/Olympus' is not"):
        Calendar(CalendarPart(**part(1, zone="Mars/Olympus")), [], HOUR)


@pytest.fixture
def small(forecasting_bundle: MakeBundle) -> Bundle:
    return forecasting_bundle()


def forecaster(bundle: Bundle, **changes: Any) -> Forecaster:
    manifest = bundle.telemanom
    assert manifest.forecaster is not None
    changed = ForecastPart.model_validate(manifest.forecaster.model_dump() | changes)
    return Forecaster(
        manifest.model_copy(update={"forecaster": changed}),
        ForecastNetwork(bundle.parts[FORECASTER]),
    )


def context(bundle: Bundle) -> Float32:
    manifest = bundle.telemanom
    assert manifest.forecaster is not None
    centers = np.array([manifest.channels[at].center for at in manifest.scored])
    scales = np.array([manifest.channels[at].scale for at in manifest.scored])
    random = np.random.default_rng(1)
    walk = random.normal(size=(manifest.forecaster.context_steps, len(centers))).cumsum(axis=0)
    return (centers + scales * walk).astype(np.float32)


def made(one: Forecaster, given: Float32, step: int) -> Forecast:
    found = one.forecast(given, step, one.intervals.start())
    assert isinstance(found, Forecast)
    return found


def test_a_forecast_is_that_of_what_is_left_and_the_usual_then(small: Bundle) -> None:
    count = len(small.manifest.scored)
    plain, usual = forecaster(small), forecaster(small, calendar=part(count))
    given = context(small)
    step = round(1_790_000_000 / plain.step_s)  # at 16:13 in Berlin
    numbers = step + np.arange(1 - len(given), 1)
    calendar = Calendar(CalendarPart(**part(count)), plain.channels, plain.step_s)
    expected = made(plain, given, step)
    found = made(usual, (given + calendar.usual(numbers)).astype(np.float32), step)
    ahead = calendar.usual(step + np.arange(1, expected.quantiles.shape[1] + 1))
    scale = np.array([each.scale for each in plain.channels])[:, None, None]
    apart = (found.quantiles - expected.quantiles - ahead.T[:, :, None]) / scale
    np.testing.assert_allclose(apart, 0, atol=1e-3)
    assert (ahead[:, 0] > 10 * plain.channels[0].scale).all()


def test_a_forecast_beyond_the_horizon_knows_the_calendar(small: Bundle) -> None:
    usual = forecaster(small, calendar=part(len(small.manifest.scored)))
    given, step = context(small), 1_000_000
    horizon = usual.part.horizon_steps
    longer = usual.forecast(given, step, usual.intervals.start(), 2 * horizon)
    assert isinstance(longer, Forecast) and longer.quantiles.shape[1] == 2 * horizon
    np.testing.assert_array_equal(longer.quantiles[:, :horizon], made(usual, given, step).quantiles)


def test_a_channel_that_is_held_stays_at_its_last_value(small: Bundle) -> None:
    plain, holding = forecaster(small), forecaster(small, held=[2])
    given = context(small)
    before, after = made(plain, given, 0).quantiles, made(holding, given, 0).quantiles
    middle = holding.intervals.middle
    np.testing.assert_allclose(after[2, :, middle], given[-1, 2], rtol=1e-6)
    widths = [one[2] - one[2, :, middle, None] for one in (before, after)]
    np.testing.assert_allclose(widths[1], widths[0], atol=1e-4 * plain.channels[2].scale)
    np.testing.assert_array_equal(np.delete(after, 2, axis=0), np.delete(before, 2, axis=0))


def test_known_answers_have_the_time_that_the_calendar_needs(small: Bundle) -> None:
    one = forecaster(small, calendar=part(len(small.manifest.scored)))
    given = context(small)
    midnight = round(1_790_028_000 / one.step_s)  # in Berlin; what is usual falls there
    morning = midnight + round(6 * HOUR / one.step_s)
    early, late = (foretell(one, given, step) for step in (midnight, morning))
    assert early.step == midnight
    apart = np.abs(early.quantiles[0] - late.quantiles[0]).max()
    assert apart > 0.01 * one.channels[0].scale
    np.testing.assert_array_equal(early.quantiles[1], late.quantiles[1])


def test_a_part_that_fits_no_channel_is_refused(small: Bundle) -> None:
    manifest = small.telemanom
    count = len(manifest.scored)
    for changes, text in (
        ({"calendar": part(count + 1)}, "calendar.usual are not"),
        ({"held": [count]}, "held has an index that no scored channel has"),
        ({"held": [0, 0]}, "held has an index twice"),
    ):
        document = manifest.model_dump()
        document["forecaster"] |= changes
        with pytest.raises(ValidationError, match=text):
            type(manifest).model_validate(document)


def test_an_older_bundle_keeps_its_digest(small: Bundle) -> None:
    document = small.manifest.to_bytes()
    assert b'"calendar"' not in document and b'"held"' not in document
