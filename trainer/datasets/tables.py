"""Tables with typed columns: what their numbers, texts and times mean, as the reader of CSV says.

    Parquet, arrays, queries ─> Table ─> Raw

A library or a driver delivers the columns. Here ``models.formats`` decides what is in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import numpy as np

from models.columns import Sought
from models.errors import DataError
from models.formats.cells import Cells, NotANumber, NoValue, has_decimal_comma
from models.formats.local_times import Unsettled, clock_of, first_reading, settled
from models.formats.recording import Layout, Long
from models.formats.times import TIME_MAX, Times
from models.messages import Bool, Float32, Float64, Int64
from trainer.datasets.long_form import LongRows, chosen, widened
from trainer.datasets.raw import Raw

_NAMED_MAX: Final = 40  # columns in an error
_LOOKED_AT: Final = 1000  # texts, for the decimal sign

Texts = list[str | None]


class Numbers(NamedTuple):
    """Numbers (n,); NaN where there is none."""

    values: Float64


class Moments(NamedTuple):
    """Times (n,) in seconds; NaN where there is none."""

    seconds: Float64  # Unix seconds; of local times, as if the clock were UTC
    local: bool


Column = Numbers | Moments | Texts


class Table(Protocol):
    """The rows of one source."""

    @property
    def where(self) -> str:
        """Names the source in errors."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns."""

    @property
    def rows(self) -> int:
        """The number of its rows."""

    def column(self, name: str) -> Column:
        """Return a column; raises DataError if its type is none of those."""


def raw_of(table: Table, digest: str, sought: Sought, layout: Layout) -> Raw:
    """Return the rows of a table, in its order.

    Raises:
        DataError: it has no row, a column is missing or has another type, too many cells or times
            cannot be used, or a local time is no one moment; the text has source, row and column.

    """
    if not table.rows:
        raise DataError(f"{table.where}: there are no rows")
    try:
        reading = _Reading(table, Times(layout.time_format, layout.time_zone), layout)
    except ValueError as error:
        raise DataError(f"{table.where}: {error}") from error
    if layout.long is None:
        names = [_present(table, some) for some in sought.channels]
        known, times = reading.times(sought)
        values = np.empty((int(known.sum()), len(names)), np.float32)
        for at, name in enumerate(names):
            with np.errstate(over="ignore"):  # values outside float32 become missing
                values[:, at] = reading.values(name)[known]
        return Raw(reading.settle(times, known), values, digest, +reading.rejected)
    times, values = reading.long(sought, layout.long)
    return Raw(times, values, digest, +reading.rejected)


def _present(table: Table, some: Sequence[str]) -> str:
    for name in some:
        if name in table.names:
            return name
    there = ", ".join(list(table.names)[:_NAMED_MAX])
    raise DataError(f"{table.where}: no column {some[0]!r}; there are: {there}")


class _Reading:
    """Reads the columns of one table, and counts what cannot be used."""

    def __init__(self, table: Table, times: Times, layout: Layout) -> None:
        self._table, self._times, self._layout = table, times, layout
        self.rejected: Counter[str] = Counter()
        self._shown: Callable[[int], datetime | None] = lambda _: None

    def times(self, sought: Sought) -> tuple[Bool, Float64]:
        """Return which rows have a valid time (n,), and their times (k,), not settled."""
        if self._layout.row_period_s is not None:
            every = np.arange(self._table.rows, dtype=np.float64) * self._layout.row_period_s
            return np.ones(len(every), np.bool_), every
        name = _present(self._table, sought.time)
        seconds = self._seconds(name, sought.clock if name == sought.time[0] else None)
        with np.errstate(invalid="ignore"):
            known = (seconds >= self._times.earliest_s) & (seconds <= TIME_MAX)
        self._note(name, ~known, "bad_time", "is not a time between 2000 and 2100")
        return known, seconds[known]

    def _seconds(self, name: str, clock: str | None) -> Float64:
        column = self._table.column(name)
        if clock is not None:
            clocks = self._texts(_present(self._table, (clock,)))
            dates = self._texts(name)
            column = [f"{date or ''} {at or ''}" for date, at in zip(dates, clocks, strict=True)]
        if isinstance(column, Moments):
            return self._of_moments(name, column)
        if isinstance(column, Numbers):
            if self._times.numbers_are_times:
                numbers = column.values
                self._shown = lambda row: self._times.shown(repr(float(numbers[row])))
                return self._times.scaled(numbers)
            column = _whole(column)
        texts = column
        self._shown = lambda row: self._times.shown(texts[row] or "")
        return self._times.scaled(np.array([self._times.seconds(text or "") for text in texts]))

    def _of_moments(self, name: str, column: Moments) -> Float64:
        if not column.local:
            return column.seconds
        if self._times.zone is None:
            raise DataError(
                f"{self._table.where}: {name!r} has local times without an offset from UTC: set"
                " data.time_zone"
            )
        self._shown = lambda row: clock_of(float(column.seconds[row]))
        return first_reading(column.seconds, self._times.zone)

    def _texts(self, name: str) -> Texts:
        column = self._table.column(name)
        if isinstance(column, Numbers):
            return _whole(column)
        if isinstance(column, Moments):
            return [
                None if moment != moment else f"{clock_of(moment).date()}"
                for moment in column.seconds
            ]
        return column

    def settle(self, times: Float64, known: Bool) -> Float64:
        """Return the times (k,) of the rows ``known`` (n,), with repeated hours in order."""
        if self._times.zone is None or self._layout.row_period_s is not None:
            return times
        return self._settled(times, np.flatnonzero(known))

    def _settled(self, times: Float64, rows: Int64) -> Float64:
        assert self._times.zone is not None
        try:
            return settled(times, self._times.zone, lambda at: self._shown(int(rows[at])))
        except Unsettled as error:
            first, last = (int(rows[error.rows[at]]) for at in (0, -1))
            more = f" (rows up to {last + 1}, {len(error.rows)} in all)" if first != last else ""
            raise DataError(
                f"{self._table.where}: row {first + 1}: {self._shown(first)}{more}: {error}"
            ) from error

    def values(self, name: str) -> Float64:
        """Return the values (n,) of a column; NaN: missing."""
        column = self._table.column(name)
        if isinstance(column, Numbers):
            return column.values
        if isinstance(column, Moments):
            raise DataError(f"{self._table.where}: {name!r} has times, not numbers")
        comma = self._layout.decimal == ","
        if self._layout.decimal is None:
            comma = has_decimal_comma(text for text in column[:_LOOKED_AT] if text)
        cells = Cells("," if comma else ".", self._layout.missing_words)
        values, bad = np.full(len(column), np.nan), np.zeros(len(column), np.bool_)
        for row, text in enumerate(column):
            try:
                values[row] = cells.value(text or "")
            except NoValue:
                self.rejected["no_value"] += 1
            except NotANumber:
                bad[row] = True
        self._note(name, bad, "not_a_number", "is not a number")
        return values

    def _note(self, name: str, bad: Bool, cause: str, why: str) -> None:
        """Count rows with a bad cell; refuse too many."""
        count = int(bad.sum())
        self.rejected[cause] += count
        if count > self._layout.bad_share_max * len(bad):
            first = int(np.flatnonzero(bad)[0])
            column = self._table.column(name)
            cell = column[first] if isinstance(column, list) else column[0][first]
            raise DataError(
                f"{self._table.where}: row {first + 1}: {name}: {cell!r} {why}; {count} of"
                f" {len(bad)} rows is more than bad_share_max ="
                f" {self._layout.bad_share_max:g} allows"
            )

    def long(self, sought: Sought, long: Long) -> tuple[Float64, Float32]:
        """Return times (m,) and values (m, C) of a table in the long form."""
        known, times = self.times(sought)
        position: dict[str | None, int] = {}
        texts = self._texts(_present(self._table, (long.channel,)))
        of_rows = np.array([position.setdefault(text, len(position)) for text in texts], np.int64)
        there = [name or "" for name in position]
        names, channels = chosen(sought.channels, there, of_rows[known])
        if self._times.zone is not None:
            rows = np.flatnonzero(known)
            for channel in range(len(names)):
                own = np.flatnonzero(channels == channel)
                times[own] = self._settled(times[own], rows[own])
        values = self.values(_present(self._table, (long.value,)))[known]
        made, wide, doubled = widened(
            self._table.where, LongRows(times, channels, values), names, there
        )
        self.rejected["duplicate"] += doubled
        return made, wide


def _whole(column: Numbers) -> Texts:
    """Return whole numbers as text, such as 20251128."""
    return [None if number != number else f"{number:.0f}" for number in column.values]
