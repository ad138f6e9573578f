"""Holds rows whose times leap ahead while the gateway's clock is not synchronised, then decides.

A time far ahead of a synchronised clock is wrong, and the parser rejects it. If the clock is not
synchronised, the device may be right, because it was away or its own clock was set. It may also be
wrong. If the stream followed a wrong time, all other readings would seem late. So the stream's own
past is the reference. Rows ahead of this reference and of the gateway's clock are held:

- If a later row of the same input is at the stream's pace again, the held rows are outliers. They
  are dropped.
- If most of the recently active inputs have leapt to the same time, the rows are used, in
  chronological order.
- If the input continues at this time for ten rows, or for two rows and ``agreed_after_s``, the rows
  are used, unless another input continued as before during this time.

So one wrong time costs only its own row. After a clock was set, readings wait a short time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from models.align import FAR_LATE_ROWS
from models.messages import Float64, Int64, Readings

_AGREED_ROWS: Final = FAR_LATE_ROWS  # consecutive rows, as for times that go back
_HELD_ROWS_MAX: Final = 1000  # of an input


class _Run:
    """Consecutive rows of one input that leapt ahead."""

    def __init__(self, since_mono_s: float) -> None:
        self.since_mono_s = since_mono_s
        self.rows: list[Readings] = []

    @property
    def count(self) -> int:
        return sum(len(rows.times) for rows in self.rows)

    @property
    def newest_s(self) -> float:
        return float(self.rows[-1].times[-1])


class Leaps:
    """The held rows of one stream's inputs; one thread uses it.

    Args:
        agreed_after_s: see the module.
        ahead_max_s: limit of each input, seconds; times that are not farther apart agree.
        drop: called with the input's name and the times of rows that are not used.

    """

    def __init__(
        self,
        agreed_after_s: float,
        ahead_max_s: dict[str, float],
        drop: Callable[[str, Float64], None],
    ) -> None:
        self._agreed_after_s = agreed_after_s
        self._ahead_max_s = ahead_max_s
        self._drop = drop
        self._runs: dict[str, _Run] = {}
        self._heard_mono_s: dict[str, float] = {}  # of each input's last row at the stream's pace

    @property
    def held(self) -> bool:
        """Whether any rows are held."""
        return bool(self._runs)

    def goes_on(self, name: str, mono_s: float) -> None:
        """Record a row of an input at the stream's pace, and drop the held rows of this input."""
        self._heard_mono_s[name] = mono_s
        if (run := self._runs.pop(name, None)) is not None:
            self._drop_rows(name, run.rows)

    def reorder(self, order: Int64) -> None:
        """Reorder the channels of the held rows: column ``order[c]`` becomes column ``c``."""
        for run in self._runs.values():
            run.rows = [Readings(rows.times, rows.values[:, order]) for rows in run.rows]

    def judge(self, name: str, readings: Readings, latest_s: float, mono_s: float) -> Readings:
        """Return the rows that can be used now; hold those after ``latest_s``."""
        leapt = readings.times > latest_s
        at_pace, end = np.flatnonzero(~leapt), 0
        if len(at_pace):
            end = int(at_pace[-1]) + 1
            self.goes_on(name, mono_s)
            self._drop_rows(name, [_part(readings, np.flatnonzero(leapt[:end]))])
        if end < len(leapt):
            self._hold(name, _part(readings, np.arange(end, len(leapt))), mono_s)
        return _together([_part(readings, at_pace), *self._agreed(name, mono_s)])

    def look(self, mono_s: float) -> Readings | None:
        """Return held rows that have become usable after a wait; None: there are none."""
        for name in list(self._runs):
            if agreed := self._agreed(name, mono_s):
                return _together(agreed)
        return None

    def settle(self, latest_s: float) -> Readings | None:
        """Return the held rows with correct times, now that the time is known; drop the others."""
        runs, self._runs = self._runs, {}
        good: list[Readings] = []
        for name, run in runs.items():
            rows = _joined(run.rows)
            right = rows.times <= latest_s
            good.append(_part(rows, np.flatnonzero(right)))
            self._drop_rows(name, [_part(rows, np.flatnonzero(~right))])
        return _together(good) if any(len(rows.times) for rows in good) else None

    def _hold(self, name: str, rows: Readings, mono_s: float) -> None:
        """Add rows to an input's run; begin a new run if their times do not agree."""
        run = self._runs.get(name)
        before = rows.times[:1] if run is None else np.array([run.newest_s])
        apart = np.abs(np.diff(np.concatenate([before, rows.times])))
        (breaks,) = np.nonzero(apart > self._ahead_max_s[name])
        if len(breaks):
            last = int(breaks[-1])
            self._drop_rows(name, [*(run.rows if run else ()), _part(rows, np.arange(last))])
            run, rows = None, _part(rows, np.arange(last, len(rows.times)))
        if run is None:
            run = self._runs[name] = _Run(mono_s)
        run.rows.append(rows)
        while run.count > _HELD_ROWS_MAX and len(run.rows) > 1:
            self._drop_rows(name, [run.rows.pop(0)])

    def _agreed(self, name: str, mono_s: float) -> list[Readings]:
        """Return the held rows at the times of an input's run, if the stream should follow it."""
        run = self._runs.get(name)
        if run is None:
            return []
        near_s = self._ahead_max_s[name]
        allies = [
            other
            for other, its in self._runs.items()
            if other == name or abs(its.newest_s - run.newest_s) <= near_s
        ]
        against = [
            other
            for other, heard in self._heard_mono_s.items()
            if other not in self._runs and mono_s - heard <= self._agreed_after_s
        ]
        waited = run.count >= 2 and mono_s - run.since_mono_s >= self._agreed_after_s
        alone = not against and (waited or run.count >= _AGREED_ROWS)
        if not alone and not (len(allies) > 1 and len(allies) > len(against)):
            return []
        for other in allies:
            self._heard_mono_s[other] = mono_s
        return [rows for other in allies for rows in self._runs.pop(other).rows]

    def _drop_rows(self, name: str, rows: list[Readings]) -> None:
        times = np.concatenate([part.times for part in rows])
        if len(times):
            self._drop(name, times)


def _part(readings: Readings, rows: Int64) -> Readings:
    return Readings(readings.times[rows], readings.values[rows])


def _joined(parts: list[Readings]) -> Readings:
    return Readings(
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _together(parts: list[Readings]) -> Readings:
    """Return rows of several inputs in chronological order; each input's rows keep their order."""
    if len(parts) == 1:
        return parts[0]
    joined = _joined(parts)
    return _part(joined, np.argsort(joined.times, kind="stable"))
