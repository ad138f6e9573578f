"""The hours that a clock shows twice, or never: the order of the rows tells, or nothing does."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from models.formats.local_times import Unsettled, changes, clock_of, first_reading, settled
from models.messages import Float64

BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN_S = datetime(2025, 10, 26, 1, tzinfo=UTC).timestamp()  # 03:00 becomes 02:00
SPRING_S = datetime(2025, 3, 30, 1, tzinfo=UTC).timestamp()  # 02:00 becomes 03:00


def shown(unix_s: Float64, zone: ZoneInfo = BERLIN) -> Float64:
    """Return what the clock shows, as seconds."""
    clocks = [datetime.fromtimestamp(one, zone).replace(tzinfo=UTC) for one in unix_s.tolist()]
    return np.array([clock.timestamp() for clock in clocks])


def read(local_s: Float64, zone: ZoneInfo = BERLIN) -> Float64:
    return settled(first_reading(local_s, zone), zone, lambda row: clock_of(float(local_s[row])))


def test_the_changes_of_a_clock() -> None:
    found = changes(BERLIN, SPRING_S - 1e6, AUTUMN_S + 1e6)
    assert [(one.at_s, one.step_s) for one in found] == [(SPRING_S, 3600.0), (AUTUMN_S, -3600.0)]
    assert changes(ZoneInfo("Etc/GMT-1"), SPRING_S, AUTUMN_S) == []


@pytest.mark.parametrize("period_s", [1.0, 60.0, 600.0, 1800.0, 3600.0])
@pytest.mark.parametrize("around", [SPRING_S, AUTUMN_S])
def test_a_whole_recording_comes_back(around: float, period_s: float) -> None:
    times = around + np.arange(-4 * 3600, 4 * 3600, period_s)
    assert read(shown(times)).tolist() == times.tolist()


def test_a_year_with_both_changes() -> None:
    times = SPRING_S - 86_400 + np.arange(0, 365 * 86_400, 900.0)
    assert read(shown(times)).tolist() == times.tolist()


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "America/New_York", "Asia/Kolkata"])
def test_other_zones(zone: str) -> None:
    times = SPRING_S - 30 * 86_400 + np.arange(0, 260 * 86_400, 600.0)
    assert read(shown(times, ZoneInfo(zone)), ZoneInfo(zone)).tolist() == times.tolist()


def test_the_newest_row_may_come_first() -> None:
    times = (AUTUMN_S + np.arange(-7200, 7200, 60.0))[::-1].copy()
    assert read(shown(times)).tolist() == times.tolist()


def test_a_recording_that_begins_or_ends_in_the_hour() -> None:
    begins = AUTUMN_S + 1200 + np.arange(0, 7200, 60.0)
    assert read(shown(begins)).tolist() == begins.tolist()
    ends = AUTUMN_S - 1200 - np.arange(0, 7200, 60.0)[::-1]
    assert read(shown(ends)).tolist() == ends.tolist()


def test_a_pause_before_or_after_tells_which_hour_it_is() -> None:
    before = np.arange(-7200, -1800, 60.0)
    times = AUTUMN_S + np.concatenate([before, np.arange(7200, 9000, 60.0)])
    assert read(shown(times)).tolist() == times.tolist()
    times = AUTUMN_S + np.concatenate([np.arange(-9000, -7200, 60.0), np.arange(600, 9000, 60.0)])
    assert read(shown(times)).tolist() == times.tolist()


def test_one_hour_in_place_of_two_is_refused() -> None:
    rising = shown(np.array([AUTUMN_S - 5400])) + np.arange(0, 10_800, 60.0)  # 01:30 to 04:29
    with pytest.raises(Unsettled, match=r"twice.*Etc/GMT-1'") as refused:
        read(rising)
    assert refused.value.rows.tolist() == list(range(30, 90))


def test_a_clock_that_goes_back_more_than_once_is_refused() -> None:
    times = AUTUMN_S + np.array([-1800.0, -60.0, 60.0, -1200.0, 120.0, 7200.0])
    with pytest.raises(Unsettled, match="does not tell"):
        read(shown(times))


def test_a_time_that_does_not_exist_is_refused() -> None:
    skipped = shown(np.array([SPRING_S - 60])) + np.array([0.0, 60.0, 600.0, 3660.0])
    with pytest.raises(Unsettled, match=r"does not exist in Europe/Berlin.*Etc/GMT-1'") as refused:
        read(skipped)
    assert refused.value.rows.tolist() == [1, 2]


def test_rows_with_an_offset_are_left_alone() -> None:
    times = AUTUMN_S + np.array([-1800.0, -60.0, 60.0, -1200.0])
    assert settled(times, BERLIN, lambda row: None).tolist() == times.tolist()


def test_nothing_is_nothing() -> None:
    assert read(np.empty(0)).tolist() == []
    assert np.isnan(first_reading(np.array([np.nan]), BERLIN)).all()
    assert clock_of(0.25).isoformat() == "1970-01-01T00:00:00.250000"
