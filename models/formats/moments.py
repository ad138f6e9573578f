"""Recognizes times in columns of text, their formats, and separate date and clock columns. Pure."""

from __future__ import annotations

import functools
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from models.formats.cells import IGNORED, TIME
from models.formats.times import EXCEL, Times, zone_named

MOST: Final = 0.8  # this share of the texts must have the same form

_WITH_OFFSET: Final = Times()
_TIMES: Final = Times(zone="UTC")  # reads local times, too
_DATE: Final = r"\d{1,4}(?P<mark>[./-])\d{1,2}[./-]\d{2,4}"
_CLOCK: Final = r"\d{1,2}:\d\d(?P<seconds>:\d\d)?(?P<fraction>[.,]\d{1,6})?(?P<half>\s?[AaPp][Mm])?"
_ONE_DATE, _ONE_CLOCK = re.compile(_DATE, re.ASCII), re.compile(_CLOCK, re.ASCII)
_JOINT: Final = r"(?P<joint>\D{1,5})"
_DATE_FIRST = re.compile(_DATE + _JOINT + _CLOCK, re.ASCII)
_CLOCK_FIRST = re.compile(_CLOCK + _JOINT + _DATE, re.ASCII)
_DAYS: Final = {  # if several formats match equally many texts, the first one is chosen
    ".": ("%d.%m.%Y", "%d.%m.%y", "%Y.%m.%d"),
    "/": ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d"),
    "-": ("%d-%m-%Y", "%Y-%m-%d"),
}
NAMES_A_TIME: Final = re.compile(
    r"time|date|stamp|day|zeit|datum|tag|uhr|heure|jour|fecha|hora", re.I
)
_EXCEL_DAYS: Final = (36_526.0, 73_050.0)  # 2000 to 2099
_SPAN_DAYS_MAX: Final = 3660.0


_USUAL: Final = (1.0, 2.0, 2.5, 4.0, 5.0, 6.0, 8.0, 10.0)  # periods, but for the power of ten
_NEAR: Final = 0.07  # the largest relative difference from a usual period


class Moment(NamedTuple):
    """How times are written."""

    form: str | None  # the setting ``time_format``; None: the default
    also: tuple[str, ...]  # other formats that match as many texts
    local: bool  # the times have no offset from UTC


class Apart(NamedTuple):
    """Two adjacent columns, one with the date, the other with the time of day."""

    first: int
    second: int


def is_time(text: str) -> bool:
    """Whether a text is a time, in any known format."""
    return not math.isnan(_TIMES.unix_s(text)) or bool(_forms_of(text))


def moment_of(texts: Sequence[str]) -> Moment | None:
    """Return how the texts are written as times; None if most are not times."""
    timely = sum(not math.isnan(_TIMES.unix_s(text)) for text in texts)
    if texts and timely >= MOST * len(texts):
        return Moment(None, (), sum(map(_has_offset, texts)) < timely)
    fits = Counter(form for text in texts for form in _forms_of(text))
    (form, timely), *others = fits.most_common() or [("", 0)]
    if not timely or timely < MOST * len(texts):
        return None
    return Moment(form, tuple(other for other, count in others if count == timely), True)


def _has_offset(text: str) -> bool:
    return not math.isnan(_WITH_OFFSET.unix_s(text))


def _forms_of(text: str) -> list[str]:
    """Return the ``strptime`` formats that match a date with a time of day."""
    text = text.strip()
    match = _DATE_FIRST.fullmatch(text) or _CLOCK_FIRST.fullmatch(text)
    if match is None:
        return []
    clock = f"{'%I' if match['half'] else '%H'}:%M" + (":%S" if match["seconds"] else "")
    clock += f"{match['fraction'][0]}%f" if match["fraction"] else ""
    clock += " %p" if match["half"] else ""
    joint = " " if match["joint"].isspace() else match["joint"]
    days = _DAYS[match["mark"]]
    ordered = [(clock, day) if match.re is _CLOCK_FIRST else (day, clock) for day in days]
    forms = [joint.join(both) for both in ordered]
    return [form for form in forms if not math.isnan(_times_of(form).unix_s(text))]


@functools.lru_cache(maxsize=256)
def _times_of(form: str) -> Times:
    return Times(form, "UTC")


def days_of_a_spreadsheet(
    labels: Sequence[str], columns: Sequence[Sequence[str]]
) -> tuple[int, Moment] | None:
    """Return the column that counts days since 1899-12-30, as spreadsheets do; None if none does.

    Other numbers may have the same size. So the column's label must name a time. Otherwise the
    column must be the first one, contain fractions of days, and never decrease.
    """
    for at, texts in enumerate(columns):
        try:
            days = [float(text) for text in texts]
        except ValueError:
            continue
        low, high = _EXCEL_DAYS
        if not (low <= min(days) and max(days) <= min(high, min(days) + _SPAN_DAYS_MAX)):
            continue
        goes_on = days[0] < days[-1] and days == sorted(days) and any(day % 1 for day in days)
        if NAMES_A_TIME.search(labels[at]) or (at == 0 and goes_on):
            return at, Moment(EXCEL, (), True)
    return None


def date_and_clock(columns: Sequence[Sequence[str]]) -> Apart | None:
    """Return two adjacent columns with the date and the time of day; None if there are none."""
    dates, clocks = (
        {at for at, texts in enumerate(columns) if _most(kind, texts)}
        for kind in (_ONE_DATE, _ONE_CLOCK)
    )
    for at in range(len(columns) - 1):
        if (at in dates and at + 1 in clocks) or (at in clocks and at + 1 in dates):
            return Apart(at, at + 1)
    return None


def _most(kind: re.Pattern[str], texts: Sequence[str]) -> bool:
    fitting = sum(kind.fullmatch(text.strip()) is not None for text in texts)
    return bool(texts) and fitting >= MOST * len(texts)


def pattern_of(apart: Apart, columns: Sequence[str], separator: str) -> tuple[str, dict[str, str]]:
    """Return a regular expression for whole lines, and the setting ``keys`` (channel -> group).

    ``columns`` has a channel's name, or ``-``, for each column. A group has its channel's name if
    that is a valid group name; ``keys`` has the other channels.
    """
    mark = re.escape(separator)
    cell, glue, around = (r"\S+", r"\s+", r"\s*") if separator == " " else (f"[^{mark}]*", mark, "")
    some = cell.replace("*", "+")
    parts, keys = [], {}
    for at, name in enumerate(columns):
        if at == apart.first:
            parts.append(f"(?P<{TIME}>{some}{glue}{some})")
        elif name == IGNORED and at != apart.second:
            parts.append(cell)
        elif name != IGNORED:
            group = name if name.isidentifier() else f"column_{at + 1}"
            if group != name:
                keys[name] = group
            parts.append(f"(?P<{group}>{cell})")
    return around + glue.join(parts) + around, keys


def rounded(period_s: float) -> float:
    """Return the usual period nearest the measured one, or the measured one if none is near.

    >>> [rounded(period_s) for period_s in (0.106, 0.99, 0.26, 60.2, 0.33)]
    [0.1, 1.0, 0.25, 60.0, 0.33]
    """
    decade = 10.0 ** math.floor(math.log10(period_s))
    usual = min(_USUAL, key=lambda factor: abs(period_s / decade - factor)) * decade
    return float(f"{usual:.3g}") if abs(period_s / usual - 1) <= _NEAR else period_s


def machine_zone() -> str:
    """Return the name of this machine's own time zone; UTC if it has none."""
    named = os.environ.get("TZ", "").lstrip(":")
    if not named:
        _, _, named = os.path.realpath("/etc/localtime").partition("zoneinfo/")
    try:
        zone_named(named)
    except ValueError:
        return "UTC"
    return named
