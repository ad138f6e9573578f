"""What is usual at each hour of the day or of the week, in the machine's own time zone.

The calendar is known for the past and for the future. So the forecaster takes what is usual then
out of the context, forecasts what is left, and adds what is usual in the steps ahead. This is
residual cycle forecasting (CycleNet, Lin et al., NeurIPS 2024), with a cycle of local time: when
clocks change, the plant's shifts move with them, and so does the cycle.

What is usual is given for the middle of each hour of the cycle, and is linear between them. A step
is at the time of its middle.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import BundleError
from models.formats.times import TIME_MAX, zone_named
from models.manifest import CYCLES, CalendarPart, Channel
from models.messages import Float32, Float64

Int64 = npt.NDArray[np.int64]

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400
_MONDAY: Final = 3  # 1970-01-01 was a Thursday, three days after a Monday
_DAYS_KEPT: Final = 4096


class Calendar:
    """What is usual in steps; without memory but for the UTC offsets of recent days.

    Raises:
        BundleError: this machine does not know the time zone.

    """

    def __init__(self, part: CalendarPart, channels: Sequence[Channel], step_s: float) -> None:
        try:
            self._hours = Hours(zone_named(part.zone), CYCLES[part.cycle], step_s)
        except ValueError as error:
            raise BundleError(f"forecaster.calendar.zone: {error}") from error
        scale = np.array([channel.scale for channel in channels])
        self._usual = np.array(part.usual).T * scale  # (hours, C) in units

    def usual(self, numbers: Int64) -> Float32:
        """Return what is usual in the steps of rising ``numbers`` (n,), (n, C), in units."""
        at = self._hours.of(numbers)
        share = at.share[:, None]
        found = (1 - share) * self._usual[at.before] + share * self._usual[at.after]
        return np.asarray(found, np.float32)


class Places(NamedTuple):
    """Where steps lie in a cycle: between the middles of two hours."""

    before: Int64  # (n,) number of the hour
    after: Int64  # (n,) number of the next hour, 0 after the last
    share: Float64  # (n,) 0: in the middle of ``before``; below 1


class Hours:
    """Finds the hours of steps in a cycle of so many hours; a week begins on Monday."""

    def __init__(self, zone: tzinfo, cycle_hours: int, step_s: float) -> None:
        self._cycle, self._step_s = cycle_hours, step_s
        self._offsets = _Offsets(zone)

    def of(self, numbers: Int64) -> Places:
        """Return where the steps of rising ``numbers`` (n,) lie."""
        middle = np.clip((numbers - 0.5) * self._step_s, 0.0, TIME_MAX)
        local = middle + self._offsets.at(middle) + _MONDAY * _DAY_S
        hours = local / _HOUR_S - 0.5
        whole = np.floor(hours)
        before = whole.astype(np.int64) % self._cycle
        return Places(before, (before + 1) % self._cycle, hours - whole)


class _Offsets:
    """The UTC offsets of a zone; each day of UTC is looked up once."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._day = functools.lru_cache(_DAYS_KEPT)(self._looked_up)

    def at(self, times: Float64) -> Float64:
        """Return the offsets (n,) in seconds at rising Unix times (n,)."""
        days = (times // _DAY_S).astype(np.int64)
        first, last = int(days[0]), int(days[-1])
        known = np.array([self._day(day) for day in range(first, last + 1)])
        changes, before, after = known[days - first].T
        return np.where(times < changes, before, after)

    def _looked_up(self, day: int) -> tuple[float, float, float]:
        """Return the Unix time at which the offset changes, and the offsets before and after."""
        begin, end = day * _DAY_S, (day + 1) * _DAY_S
        before, after = self._offset(begin), self._offset(end)
        if before == after:
            return float(end), before, after
        while end - begin > 1:
            middle = (begin + end) // 2
            begin, end = (middle, end) if self._offset(middle) == before else (begin, middle)
        return float(end), before, after

    def _offset(self, time_s: int) -> float:
        offset = datetime.fromtimestamp(time_s, self._zone).utcoffset()
        assert offset is not None
        return offset.total_seconds()
