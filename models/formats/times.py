"""Converts times in the formats of devices to Unix seconds.

a number       Unix time in s, ms, µs or ns, distinguished by its size; or seconds since a start;
               or the days of a spreadsheet
RFC 3339       with an offset: Z, UTC, +01:00, +0100, +01
local time     without an offset, if the zone is known
any other      by a pattern of ``strptime``
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Final

import numpy as np

from models.formats.cells import from_int, number
from models.messages import Float64
from models.printable import printable

TIME_MIN: Final = 946_684_800.0  # 2000-01-01; an earlier time means a clock that was never set
TIME_MAX: Final = 4_102_444_800.0  # 2100-01-01
NO_TIME = math.nan

AUTO: Final = "auto"  # a number is Unix time, text is RFC 3339 or local time
ELAPSED: Final = "elapsed"  # the same, and a small number is seconds since a start
EXCEL: Final = "excel"  # a number is days since 1899-12-30

_EPOCHS: Final = (1e3, 1e6, 1e9)  # units in a second: ms, µs, ns; the ranges do not overlap
_EXCEL_DAY_0: Final = -2_209_161_600.0  # 1899-12-30, Unix seconds
_DAY_S: Final = 86_400.0

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)"
    r"(?: ?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?))?",
    re.ASCII,
)


class Times:
    """Reads the times of one input or recording.

    Args:
        form: ``auto``, ``elapsed``, ``excel``, or a pattern of ``strptime`` such as
            ``%d.%m.%Y %H:%M:%S``.
        zone: Time zone of local times and of a spreadsheet's days, such as ``Europe/Berlin``.

    Raises:
        ValueError: the form is none of these, or the machine does not know the zone.

    """

    def __init__(self, form: str = AUTO, zone: str | None = None) -> None:
        if form not in (AUTO, ELAPSED, EXCEL) and "%" not in form:
            raise ValueError(
                f"{form!r} must be auto, elapsed, excel, or a pattern such as '%d.%m.%Y %H:%M'"
            )
        self.form = form
        self._zone = None if zone is None else zone_named(zone)
        self.numbers_are_times = "%" not in form  # with a pattern, 20251128 may be a date
        self.has_comma = "," in form
        self.earliest_s = -TIME_MAX if form == ELAPSED else TIME_MIN

    def seconds(self, text: str) -> float:
        """Return Unix seconds; NaN if the text is not a time of this form.

        A number is returned unchanged; ``scaled`` converts it to seconds.
        """
        text = text.strip()
        try:
            if not self.numbers_are_times:
                moment = datetime.strptime(text, self.form)  # noqa: DTZ007 - has the zone below
                return self._timestamp(moment)
            # most times are numbers; a date has its first dash here
            if text[4:5] != "-" or (match := _ISO.fullmatch(text)) is None:
                return number(text.replace(",", "."))
            day, clock, offset = match.groups()
            offset = "+00:00" if offset in ("UTC", "GMT") else (offset or "")
            return self._timestamp(datetime.fromisoformat(f"{day}T{clock}{offset.upper()}"))
        except (ValueError, OverflowError):
            return NO_TIME

    def unix_s(self, text: str) -> float:
        """Return Unix seconds of a time in any unit; NaN if it is not a valid time."""
        time_s = self.seconds(text)
        if not self.earliest_s <= time_s <= TIME_MAX:
            time_s = float(self.scaled(np.array([time_s]))[0])
        return time_s if self.earliest_s <= time_s <= TIME_MAX else NO_TIME

    def explain(self, text: str) -> str:
        """Return why a text is not a time of this format."""
        if self._zone is None and self._is_local(text.strip()):
            return f"{text!r} has no offset from UTC: add Z or +02:00 to it, or set time_zone"
        if not self.numbers_are_times:
            return f"{text!r} is not a time of the format {self.form!r}"
        try:
            number(text)
        except ValueError:
            return (
                f"{text!r} is not a time; it must be Unix time or RFC 3339, or set time_format to a"
                " pattern such as '%d.%m.%Y %H:%M:%S'"
            )
        return f"{text!r} is not a time between 2000 and 2100"

    def _is_local(self, text: str) -> bool:
        """Whether a text that is not a time would be one with a time zone."""
        if self.numbers_are_times:
            return _ISO.fullmatch(text) is not None
        try:
            datetime.strptime(text, self.form)  # noqa: DTZ007 - only whether it can be read
        except ValueError:
            return False
        return True

    @property
    def zone(self) -> tzinfo | None:
        """The time zone of local times; None: there are none."""
        return self._zone

    def shown(self, text: str) -> datetime | None:
        """Return what the clock shows in a local time; None if the text is no local time."""
        if self._zone is None:
            return None
        text = text.strip()
        try:
            if self.form == EXCEL:
                return _clock_of_day(number(text.replace(",", ".")))
            if not self.numbers_are_times:
                moment = datetime.strptime(text, self.form)  # noqa: DTZ007 - as ``seconds``
                return moment if moment.tzinfo is None else None
        except (ValueError, OverflowError):
            return None
        match = _ISO.fullmatch(text)
        if match is None or match[3]:
            return None
        return datetime.fromisoformat(f"{match[1]}T{match[2]}")

    def json_seconds(self, value: object) -> float:
        """Return Unix seconds of a JSON value, like ``seconds``."""
        if type(value) is str:
            return self.seconds(value)
        if type(value) is float:
            return value
        return from_int(value) if type(value) is int else NO_TIME

    def scaled(self, times: Float64) -> Float64:
        """Convert times (n,) in another unit to Unix seconds; return others unchanged."""
        if self.form == EXCEL:
            return np.array([self._of_day(day) for day in times.tolist()])
        for per_second in _EPOCHS:
            inside = (times >= TIME_MIN * per_second) & (times <= TIME_MAX * per_second)
            if inside.any():
                times = np.where(inside, times / per_second, times)
        return times

    def written(self, unix_s: float) -> str:
        """Format a time so that ``seconds`` and ``scaled`` can read it."""
        if self.form in (AUTO, ELAPSED):
            return f"{unix_s:.6f}"
        moment = datetime.fromtimestamp(unix_s, self._zone or UTC)
        if self.form != EXCEL:
            return moment.strftime(self.form)
        as_utc_s = moment.replace(tzinfo=UTC).timestamp()
        return f"{(as_utc_s - _EXCEL_DAY_0) / _DAY_S:.9f}"

    def _of_day(self, day: float) -> float:
        """Convert a spreadsheet's day to Unix seconds, to the millisecond; others are unchanged."""
        as_utc_s = _as_utc_s(day)
        if not TIME_MIN <= as_utc_s <= TIME_MAX:
            return day
        if self._zone is None:
            return as_utc_s
        return datetime.fromtimestamp(as_utc_s, UTC).replace(tzinfo=self._zone).timestamp()

    def _timestamp(self, moment: datetime) -> float:
        if moment.tzinfo is None:
            if self._zone is None:
                raise ValueError("local time in an unknown zone")
            moment = moment.replace(tzinfo=self._zone)
        return moment.timestamp()


def _as_utc_s(day: float) -> float:
    return round(_EXCEL_DAY_0 + day * _DAY_S, 3)


def _clock_of_day(day: float) -> datetime:
    return datetime.fromtimestamp(_as_utc_s(day), UTC).replace(tzinfo=None)


def zone_named(name: str) -> tzinfo:
    """Return a time zone by its name.

    Raises:
        ValueError: the machine does not know it.

    """
    from zoneinfo import ZoneInfo  # few need it

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a KeyError: not found
        raise ValueError(
            f"{printable(name)!r} is not a time zone of this machine; write it as Europe/Berlin or UTC"
            " (Debian has the zones in the package tzdata)"
        ) from None
