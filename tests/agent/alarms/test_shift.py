"""When the next shift begins, over the days on which the clocks are changed."""

from __future__ import annotations

import time as clock
from datetime import time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.shift import next_start
from models.times import iso_time, unix_s

BERLIN = ZoneInfo("Europe/Berlin")
SIX = time(6)


def start(now: str, *starts: time, zone: ZoneInfo | None = BERLIN) -> str:
    return iso_time(next_start(unix_s(now), starts, zone))[:16]


@pytest.mark.parametrize(
    ("now", "starts", "begins"),
    [
        ("2026-01-10T03:00:00.000Z", [SIX], "2026-01-10T05:00"),  # in winter
        ("2026-07-10T03:00:00.000Z", [SIX], "2026-07-10T04:00"),  # in summer
        ("2026-01-10T05:00:00.000Z", [SIX], "2026-01-11T05:00"),  # it begins now
        ("2026-03-28T12:00:00.000Z", [SIX], "2026-03-29T04:00"),  # the night is an hour shorter
        ("2026-10-24T12:00:00.000Z", [SIX], "2026-10-25T05:00"),  # and longer
        ("2026-03-29T00:00:00.000Z", [time(2, 30)], "2026-03-29T01:30"),  # this hour is skipped
        ("2026-10-25T00:00:00.000Z", [time(2, 30)], "2026-10-25T00:30"),  # and comes twice
        ("2026-10-25T00:45:00.000Z", [time(2, 30)], "2026-10-26T01:30"),
        ("2026-01-10T12:00:00.000Z", [SIX, time(14), time(22)], "2026-01-10T13:00"),
        ("2026-01-10T22:00:00.000Z", [SIX, time(14), time(22)], "2026-01-11T05:00"),
        ("2026-12-31T23:30:00.000Z", [SIX], "2027-01-01T05:00"),
        ("2026-01-10T22:59:00.000Z", [time(0)], "2026-01-10T23:00"),
    ],
)
def test_a_shift_begins_at_its_local_time(now: str, starts: list[time], begins: str) -> None:
    assert start(now, *starts) == begins


def test_without_a_zone_it_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone, begins in (("Europe/Berlin", "04:00"), ("America/New_York", "10:00")):
            monkeypatch.setenv("TZ", zone)
            clock.tzset()
            assert start("2026-07-10T03:00:00.000Z", SIX, zone=None) == f"2026-07-10T{begins}"
    finally:
        monkeypatch.undo()
        clock.tzset()


@given(
    st.floats(1.6e9, 2e9),
    st.lists(st.times(), min_size=1, max_size=5),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
)
def test_it_is_ahead_and_within_a_day_and_the_change_of_the_clocks(
    now_s: float, starts: list[time], zone: str
) -> None:
    assert 0 < next_start(now_s, starts, ZoneInfo(zone)) - now_s <= 25 * 3600
