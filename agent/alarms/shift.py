"""The start of the next shift, by local time with its daylight saving."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo


def next_start(now_s: float, starts: Sequence[time], zone: tzinfo | None) -> float:
    """Return when the next shift begins after ``now_s``, both in Unix seconds.

    A start in the hour that is skipped in spring is an hour later by the clock. One in the hour
    that comes twice in autumn is the first of the two.

    Args:
        now_s: The time now.
        starts: Local times of day, at least one.
        zone: The zone of ``starts``; None: that of this machine.

    """
    today = datetime.fromtimestamp(now_s, UTC).astimezone(zone).date()
    found = (
        _unix_s(today + timedelta(days=days), start, zone)
        for days in (-1, 0, 1, 2)
        for start in starts
    )
    return min(start_s for start_s in found if start_s > now_s)


def _unix_s(day: date, start: time, zone: tzinfo | None) -> float:
    # without a zone, ``timestamp`` takes that of the machine
    return datetime.combine(day, start, zone).timestamp()
