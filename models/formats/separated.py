"""Parses rows of cells with a separator between them, as blocks of lines or line by line."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from models.formats.cells import ABSENT, CLOCK, IGNORED, NOT_FINITE, TIME, Cells, Fault
from models.formats.times import NO_TIME, Times
from models.messages import Float64

SEPARATORS: Final = (",", ";", "\t", "|", " ")

Table = tuple[Float64, Float64]  # times (n,), empty if there are none, and values (n, C)

_BLANKS: Final = re.compile(r'"([^"]*)"|(\S+)')


class ReadRow(NamedTuple):
    """One line as numbers, not validated yet."""

    time: float  # as ``Times.seconds`` reads it; NaN if there is none
    values: list[float]  # one per channel; ``ABSENT`` and ``NOT_FINITE`` as such
    faults: list[Fault]  # why values are missing
    cut: bool  # the line is truncated; its last cell is not used


Refusal = Literal["truncated", "malformed", "header"]


class Columns:
    """Fields of text in a fixed order: one is the time, others are channels, the rest are ignored.

    The time may be in two fields, date and time of day, which are joined with a blank.
    """

    def __init__(self, columns: Sequence[str], names: Sequence[str], times: Times) -> None:
        self.width = len(columns)
        self._seconds = times.seconds
        self._numeric = times.numbers_are_times
        self.has_comma = times.has_comma and TIME in columns  # which is not a decimal sign
        self._time = columns.index(TIME) if TIME in columns else None
        self._clock = columns.index(CLOCK) if CLOCK in columns else None
        self.has_time = self._time is not None
        channels = [names.index(name) if name in names else None for name in columns]
        self._used = [at for at, channel in enumerate(channels) if channel is not None]
        self._order = [channel for channel in channels if channel is not None]
        self._channels = len(names)
        first = self._used[0] if self._used else 0
        side_by_side = self._used == list(range(first, first + len(self._used)))
        self._read_from = slice(first, first + len(self._used)) if side_by_side else self._used
        self._in_order = self._order == list(range(len(names)))

    def with_points(self, fields: list[str]) -> list[str]:
        """Replace each decimal comma by a point in the fields of n lines."""
        if not self.has_comma:
            return [field.replace(",", ".") for field in fields]
        return [
            field if at % self.width in (self._time, self._clock) else field.replace(",", ".")
            for at, field in enumerate(fields)
        ]

    def block(self, fields: list[str], has_nan: bool = True) -> Table | None:
        """Parse the concatenated fields of n lines; None if a used field is not a number.

        ``has_nan``: whether a field may be NaN.
        """
        if not self._numeric or self._clock is not None:
            return self._by_column(fields)
        try:
            table = np.array(list(map(float, fields))).reshape(-1, self.width)
        except ValueError:
            return self._by_column(fields)
        return self._judged(table, has_nan)

    def _by_column(self, fields: list[str]) -> Table | None:
        """Parse a block with times that are not numbers, or with unused columns."""
        table = np.zeros((len(fields) // self.width, self.width))
        try:
            for at in self._used:
                table[:, at] = list(map(float, fields[at :: self.width]))
        except ValueError:
            return None
        if self._time is not None:
            times = fields[self._time :: self.width]
            if self._clock is not None:
                clocks = fields[self._clock :: self.width]
                times = [_joint(date, clock) for date, clock in zip(times, clocks, strict=True)]
            if '"' in "".join(times):
                return None
            table[:, self._time] = list(map(self._seconds, times))
        return self._judged(table, True)

    def _judged(self, table: Float64, has_nan: bool) -> Table:
        """Return times and values of a table of all columns."""
        times = np.empty(0) if self._time is None else table[:, self._time]
        values = table[:, self._read_from]
        if has_nan:
            values[np.isnan(values)] = NOT_FINITE
        if self._in_order:
            return times, values
        ordered = np.full((len(table), self._channels), ABSENT)
        ordered[:, self._order] = values
        return times, ordered

    def used(self, fields: Sequence[str]) -> list[tuple[int, str]]:
        """Return the fields of one line that are channels, each with the channel's index."""
        return [(channel, fields[at]) for at, channel in zip(self._used, self._order, strict=True)]

    def time(self, fields: Sequence[str]) -> float:
        """Return the time of one line as ``Times`` reads it; NaN if it has none."""
        return NO_TIME if self._time is None else self._seconds(self.time_text(fields))

    def time_text(self, fields: Sequence[str]) -> str:
        """Return the text of a line's time; "" if the line is too short."""
        date, clock = (
            fields[at] if at is not None and at < len(fields) else ""
            for at in (self._time, self._clock)
        )
        return date if self._clock is None else _joint(date, clock)


def _joint(date: str, clock: str) -> str:
    return f"{date.strip()} {clock.strip()}"


class Separated:
    """Lines whose columns are known.

    Args:
        columns: The meaning of each column: ``time``, a channel, or ``-`` to ignore it.
        names: The names of the C channels.
        separator: A blank stands for any number of blanks.
        decimal_comma: Numbers have a decimal comma.
        may_be_damaged: A line with too few columns cannot be used at all.

    """

    def __init__(
        self,
        columns: Sequence[str],
        names: Sequence[str],
        separator: str,
        decimal_comma: bool,
        cells: Cells,
        times: Times,
        may_be_damaged: bool,
    ) -> None:
        self._names = columns
        self._columns = Columns(columns, names, times)
        self._cells, self._channels = cells, len(names)
        self._may_be_damaged = may_be_damaged
        self.has_time = self._columns.has_time
        self.time_text = self._columns.time_text
        self._separator = separator
        self._decimal_comma = decimal_comma

    def block(self, lines: Sequence[bytes]) -> Table | None:
        """Read all lines at once, if each is whole and has a number in every column used."""
        joined = b"\n" + (self._separator.encode() + b"\n").join(lines)
        if b"_" in joined or not joined.isascii():  # float reads these differently
            return None
        if self._separator == " ":
            if any(len(line.split()) != self._columns.width for line in lines):
                return None
            fields = self._plain(joined.decode())
        else:
            fields, width, count = self._plain(joined.decode()), self._columns.width, len(lines)
            # each line has all columns if every line end, which float ignores, comes directly
            # before a first field
            if not (
                len(fields) == count * width
                and "".join(fields[::width]).count("\n") == count == joined.count(b"\n")
            ):
                return None
        return self._columns.block(fields, b"n" in joined or b"N" in joined)

    def _plain(self, text: str) -> list[str]:
        """Return the fields of lines without quotes."""
        comma_in_time = self._columns.has_comma
        if self._decimal_comma and not comma_in_time:
            text = text.replace(",", ".")
        fields = text.split() if self._separator == " " else text.split(self._separator)
        return (
            self._columns.with_points(fields) if self._decimal_comma and comma_in_time else fields
        )

    def line(self, text: str) -> ReadRow | Refusal:
        """Read one line; return why it cannot be used."""
        fields = split(text, self._separator)
        if not self._may_be_damaged:  # some loggers write a separator at the end of each row
            while len(fields) > self._columns.width and not fields[-1].strip():
                fields.pop()
        lacking = self._columns.width - len(fields)
        if lacking < 0 or (lacking and (self._may_be_damaged or len(fields) == 1)):
            return "truncated" if lacking > 0 else "malformed"
        if lacking:
            fields = [*fields[:-1], *[""] * (lacking + 1)]
        used, time = self._columns.used(fields), self._columns.time(fields)
        if lacking and self.has_time and math.isnan(time):
            return "truncated"
        values, faults = self._cells.row(used, self._channels)
        no_numbers = sum(fault.cause == "not_a_number" for fault in faults)
        if no_numbers and no_numbers == len(used) and math.isnan(time):
            return "header" if self._is_header(fields) else "malformed"
        return ReadRow(time, values, faults, bool(lacking))

    def _is_header(self, fields: Sequence[str]) -> bool:
        return all(
            column in (IGNORED, field.strip())
            for column, field in zip(self._names, fields, strict=True)
        )


def split(text: str, separator: str) -> list[str]:
    """Return the cells of a line. In quotes, a separator is text, and "" is a quote."""
    if '"' not in text:
        return text.split() if separator == " " else text.split(separator)
    if separator == " ":
        return [quoted or plain for quoted, plain in _BLANKS.findall(text)]
    try:
        return next(csv.reader([text], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a cell of more than 128 KiB
        return text.split(separator)
