"""CSV recordings: a header, a column of times, and a column of numbers for each channel.

This module reads them as the agent does; see ``models.formats``. It counts cells and rows that it
cannot read, and does not use them. If they are more than a small share, it raises an error with the
line number, because here a person can correct the file.

In the long form a row has one value: its columns are the time, the channel's name, and the value.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from models.columns import Found, Sought, cut
from models.errors import DataError
from models.formats.cells import Cells, Decimal
from models.formats.header import plain
from models.formats.local_times import Unsettled, settled
from models.formats.recording import Layout, Long, encoding_hint
from models.formats.separated import ReadRow, Separated, split
from models.formats.times import TIME_MAX, Times
from models.messages import Bool, Float32, Float64, Int64
from trainer.datasets import read_bytes
from trainer.datasets.long_form import LongRows, chosen, widened
from trainer.datasets.raw import Raw
from trainer.datasets.unpacked import unpacked

_BLOCK_LINES: Final = 2000


def read(path: Path, sought: Sought, layout: Layout) -> Raw:
    """Read one file, in its order.

    Raises:
        DataError: the file cannot be read, a column is missing, too many cells or rows cannot be
            used, or a local time is no one moment; the text has file, line and column.

    """
    if layout.row_period_s is not None:
        raise DataError(
            f"{path}: row_period_s is for arrays and Parquet files without times; a CSV file needs"
            " a column of times"
        )
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    data = unpacked(path, data)
    if layout.long is not None:
        times, values, rejected = _read_long(path, data, sought, layout, layout.long)
    else:
        rows = _Rows(path, data, sought, layout)
        times, wide, numbers = rows.read()
        times = rows.settle(times, numbers)
        with np.errstate(over="ignore"):  # values outside float32 become missing
            values, rejected = wide.astype(np.float32), rows.rejected
    return Raw(times, values, digest, +rejected)


def _read_long(
    path: Path, data: bytes, sought: Sought, layout: Layout, long: Long
) -> tuple[Float64, Float32, Counter[str]]:
    rows = _Rows(path, data, sought._replace(channels=[(long.value,)]), layout)
    times, values, numbers = rows.read()
    there, of_rows = rows.texts(long.channel, numbers)
    names, channels = chosen(sought.channels, there, of_rows)
    for channel in range(len(names)):
        own = np.flatnonzero(channels == channel)
        times[own] = rows.settle(times[own], numbers[own])  # rows may be sorted by channel
    made, wide, doubled = widened(str(path), LongRows(times, channels, values[:, 0]), names, there)
    rows.rejected["duplicate"] += doubled
    return made, wide, rows.rejected


class _Rows:
    """The rows of one file, with counts of rows and cells that could not be used."""

    def __init__(self, path: Path, data: bytes, sought: Sought, layout: Layout) -> None:
        self._path, self._bad_share_max = path, layout.bad_share_max
        try:
            self._times = Times(layout.time_format, layout.time_zone)
            self._recorded, found = cut(data, sought, layout)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        columns = self._columns = found.channels
        self._check_header(found, layout.long)
        decimal: Decimal = "," if self._recorded.decimal_comma else "."
        self._separated = Separated(
            self._recorded.columns(found.meaning(columns)),
            columns,
            self._recorded.separator,
            self._recorded.decimal_comma,
            Cells(decimal, layout.missing_words),
            self._times,
            may_be_damaged=False,
        )
        self.rejected: Counter[str] = Counter()
        self._first: dict[str, str] = {}  # column or "row" -> place and cause of its first fault
        self._bad: Counter[str] = Counter()

    def _check_header(self, found: Found, long: Long | None) -> None:
        header = self._recorded.header
        of_time = [found.time, *([] if found.clock is None else [found.clock])]
        of_channel = [] if long is None else [long.channel]
        for column in (*of_time, *found.channels, *of_channel):
            if header.count(column) != 1:
                count = "more than one column" if column in header else "no column"
                have = ", ".join(header)
                raise DataError(
                    f"{self._path}: {count} {column!r}; the header has: {have}{encoding_hint(have)}"
                )

    def read(self) -> tuple[Float64, Float64, Int64]:
        """Return times (n,), values (n, C), and which rows they are (n,)."""
        read = self._recorded
        if not read.rows:
            raise DataError(f"{self._path}: there are no rows below the header")
        parts = [self._block(start) for start in range(0, len(read.rows), _BLOCK_LINES)]
        for what, count in self._bad.items():
            if count > self._bad_share_max * len(read.rows):
                more = f" (and {count - 1} more)" if count > 1 else ""
                raise DataError(
                    f"{self._first[what]}{more}; {count} of {len(read.rows)} rows is more than"
                    f" bad_share_max = {self._bad_share_max:g} allows"
                )
        times, values, numbers = map(np.concatenate, zip(*parts, strict=True))
        return times, values, numbers

    def settle(self, times: Float64, numbers: Int64) -> Float64:
        """Return the times (n,) of rows ``numbers`` (n,), with those of a repeated hour settled."""
        if self._times.zone is None:
            return times

        def local(row: int) -> datetime | None:
            return self._times.shown(self._time_text(int(numbers[row])))

        try:
            return settled(times, self._times.zone, local)
        except Unsettled as error:
            first, last = (int(numbers[error.rows[at]]) for at in (0, -1))
            lines = self._recorded.numbers[first], self._recorded.numbers[last]
            more = f" (rows up to line {lines[1]}, {len(error.rows)} in all)"
            raise DataError(
                f"{self._path}:{lines[0]}: {self._time_text(first)!r}"
                f"{more if first != last else ''}: {error}"
            ) from error

    def texts(self, column: str, numbers: Int64) -> tuple[list[str], Int64]:
        """Return the different texts of a column, and the position of each row's text there."""
        at, rows = self._recorded.header.index(column), self._recorded.rows
        known: dict[str, int] = {}
        separator = self._recorded.separator
        plainly = separator.encode()
        found = np.empty(len(numbers), np.int64)
        for place, number in enumerate(numbers.tolist()):
            row = rows[number]
            cell = (
                row.split(plainly)[at].decode(errors="replace").strip()
                if b'"' not in row and separator != " "
                else plain(split(row.decode(errors="replace"), separator)[at])
            )
            found[place] = known.setdefault(cell, len(known))
        return list(known), found

    def _time_text(self, row: int) -> str:
        text = self._recorded.rows[row].decode(errors="replace")
        return self._separated.time_text(split(text, self._recorded.separator)).strip()

    def _block(self, start: int) -> tuple[Float64, Float64, Int64]:
        rows = self._recorded.rows[start : start + _BLOCK_LINES]
        table = self._separated.block(rows)
        if table is None or not self._are_times(table[0]).all():
            times, values, numbers = self._one_by_one(start, rows)
            return self._times.scaled(times), values, numbers
        return self._times.scaled(table[0]), table[1], np.arange(start, start + len(rows))

    def _one_by_one(self, start: int, rows: Sequence[bytes]) -> tuple[Float64, Float64, Int64]:
        times, values, numbers = [], [], []
        for number, row in enumerate(rows, start):
            text = row.decode(errors="replace")
            read = self._separated.line(text)
            if not isinstance(read, ReadRow):
                self._refuse(number, "malformed" if read == "header" else read, text)
            elif not self._are_times(np.array([read.time])).all():
                self._refuse(number, "bad_time", text)
            else:
                if read.cut:
                    self._refuse(number, "truncated", text)
                self._count(number, read, text)
                times.append(read.time)
                values.append(read.values)
                numbers.append(number)
        wide = np.array(values).reshape(-1, len(self._columns))
        return np.array(times), wide, np.array(numbers, np.int64)

    def _are_times(self, times: Float64) -> Bool:
        times = self._times.scaled(times)
        return np.asarray((times >= self._times.earliest_s) & (times <= TIME_MAX))

    def _refuse(self, row: int, cause: str, text: str) -> None:
        """Count a row that cannot be used, or that can be used only in part."""
        cells = split(text, self._recorded.separator)
        width = len(self._recorded.header)
        if cause == "bad_time" or (cause == "malformed" and len(cells) == width):
            said = self._times.explain(self._separated.time_text(cells).strip())
        else:
            said = f"the row has {len(cells)} cells, but the header has {width}"
        self._note("row", row, cause, said)

    def _count(self, row: int, read: ReadRow, text: str) -> None:
        for channel, cause in read.faults:
            column = self._columns[channel]
            if cause == "no_value":
                self.rejected[cause] += 1
                continue
            cell = split(text, self._recorded.separator)[self._recorded.header.index(column)]
            said = f"{column}: {cell.strip()!r} is not a number{encoding_hint(cell)}"
            self._note(column, row, cause, said)

    def _note(self, what: str, row: int, cause: str, said: str) -> None:
        self.rejected[cause] += 1
        self._bad[what] += 1
        self._first.setdefault(what, f"{self._path}:{self._recorded.numbers[row]}: {said}")
