"""Local times of a recording in a named zone: the hours that its clock shows twice, or never.

In autumn the clock shows an hour twice. A single time there is ambiguous, but the order of the rows
tells: where the times go back, the second time begins. In spring the clock skips an hour. A time in
it is wrong: the logger does not change its clock, or the zone is another.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

import numpy as np

from models.messages import Float64, Int64

_DAY_S: Final = 86_400.0
_NEAR_PERIODS: Final = 2.0  # two rows that are not further apart have no pause between them
_HOUR_S: Final = 3600.0

Local = Callable[[int], datetime | None]  # what a row's clock shows; None: the row has an offset


class Change(NamedTuple):
    """A change of a zone's clock."""

    at_s: float  # Unix seconds
    before_s: float  # offset from UTC until then
    after_s: float

    @property
    def step_s(self) -> float:
        """How far the clock is set forward; negative in autumn."""
        return self.after_s - self.before_s


class Unsettled(ValueError):
    """Local times that are no one moment; ``rows`` are their indices, in the order of the file."""

    def __init__(self, rows: Int64, why: str) -> None:
        super().__init__(why)
        self.rows = rows


def changes(zone: tzinfo, first_s: float, last_s: float) -> list[Change]:
    """Return the changes of a zone's clock between two times (Unix seconds) and a day around."""
    found = []
    day_s = first_s // _DAY_S * _DAY_S - _DAY_S
    before_s = _offset_s(zone, day_s)
    while day_s <= last_s + _DAY_S:
        after_s = _offset_s(zone, day_s + _DAY_S)
        if after_s != before_s:
            found.append(Change(_when(zone, day_s, before_s), before_s, after_s))
        day_s, before_s = day_s + _DAY_S, after_s
    return found


def _offset_s(zone: tzinfo, unix_s: float) -> float:
    offset = datetime.fromtimestamp(unix_s, zone).utcoffset()
    assert offset is not None, "a zone has an offset"
    return offset.total_seconds()


def _when(zone: tzinfo, day_s: float, before_s: float) -> float:
    """Return the second of the change in the day after ``day_s``."""
    low, high = int(day_s), int(day_s + _DAY_S)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, middle) == before_s:
            low = middle
        else:
            high = middle
    return float(high)


def first_reading(local_s: Float64, zone: tzinfo) -> Float64:
    """Return Unix seconds (n,) of local times (n,), given as if they were UTC; NaN stays NaN.

    Of an hour that occurs twice it is the first; ``settled`` decides.
    """
    known = local_s[np.isfinite(local_s)]
    if not len(known):
        return local_s
    between = changes(zone, float(known.min()), float(known.max()))
    offset = np.full(len(local_s), _offset_s(zone, float(known.min()) - _DAY_S))
    for change in between:
        from_s = change.at_s + max(change.before_s, change.after_s)
        offset[local_s >= from_s] = change.after_s
    return np.asarray(local_s - offset)


def clock_of(local_s: float) -> datetime:
    """Return what a clock shows, from its seconds as if they were UTC."""
    return datetime(1970, 1, 1) + timedelta(seconds=round(local_s, 6))  # noqa: DTZ001


def settled(times: Float64, zone: tzinfo, local: Local) -> Float64:
    """Return the Unix seconds of rows, with those of a repeated hour in the right one.

    Args:
        times: (n,) Unix seconds in the order of the file, without NaN; in a repeated hour, the
            first of both.
        zone: The time zone of the local times.
        local: What the clock of a row shows; called only for rows near a change of the clock.

    Raises:
        Unsettled: the order does not tell which of both hours it is, or a time does not exist.

    """
    if not len(times):
        return times
    made = times.copy()
    newest_first = len(times) > 1 and float(np.median(np.diff(times))) < 0
    order = np.arange(len(times))[:: -1 if newest_first else 1]
    for change in changes(zone, float(times.min()), float(times.max())):
        low_s, high_s = sorted((change.at_s, change.at_s + change.step_s))
        near = np.flatnonzero((times >= low_s) & (times < high_s))
        rows = [(row, shown) for row in near.tolist() if (shown := local(row)) is not None]
        if change.step_s > 0:
            _refuse_skipped(times, zone, rows)
        elif rows:
            at = np.flatnonzero(np.isin(order, [row for row, _ in rows]))
            made[order] = _in_order(made[order], at, order, change, zone)
    return made


def _refuse_skipped(times: Float64, zone: tzinfo, rows: list[tuple[int, datetime]]) -> None:
    skipped = [
        row
        for row, shown in rows
        if datetime.fromtimestamp(float(times[row]), zone).replace(tzinfo=None) != shown
    ]
    if skipped:
        raise Unsettled(
            np.array(skipped),
            f"this time does not exist in {zone}, whose clock skips an hour there."
            f" {_advice(_offset_s(zone, float(times[skipped[0]]) - _DAY_S))}",
        )


def _in_order(times: Float64, at: Int64, order: Int64, change: Change, zone: tzinfo) -> Float64:
    """Return times in rising order, with the rows ``at`` in the first or second repeated hour."""
    inside = times[at]
    steps = np.diff(inside)
    back = np.flatnonzero(steps < 0)
    if not len(back):
        back = np.flatnonzero(steps == 0)
    made, hour_s = times.copy(), -change.step_s
    if len(back) == 1:
        made[at[back[0] + 1 :]] += hour_s
        return made
    begins = at[0] > 0 and _near(times, inside[0] - times[at[0] - 1])
    ends = at[-1] + 1 < len(times) and _near(times, times[at[-1] + 1] - inside[-1] - hour_s)
    if len(back) or begins == ends:
        raise Unsettled(
            np.sort(order[at]),
            f"the clock of {zone} shows this hour twice, and the order of the rows does not tell"
            f" which of both it is. {_advice(change.after_s)}",
        )
    if ends:
        made[at] += hour_s
    return made


def _near(times: Float64, step_s: float) -> bool:
    """Whether a step is no pause of the recording."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    return bool(len(steps)) and 0 <= step_s <= _NEAR_PERIODS * float(np.median(steps))


def _advice(standard_s: float) -> str:
    """Return what to do about a clock that does not change."""
    hours = standard_s / _HOUR_S
    fixed = f", such as time_zone = 'Etc/GMT{-hours:+.0f}'" if hours and hours % 1 == 0 else ""
    return (
        f"If the logger does not change its clock, name a zone without changes{fixed};"
        " else let it write times with their offset from UTC"
    )
