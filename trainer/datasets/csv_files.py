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
from typing import Final, NamedTuple

import numpy as np

from models.columns import Found, Sought
from models.errors import DataError
from models.formats.cells import Cells, Decimal
from models.formats.header import is_value, plain
from models.formats.local_times import Unsettled, settled
from models.formats.recording import Layout, Long, encoding_hint
from models.formats.separated import ReadRow, Separated, split
from models.formats.times import TIME_MAX, Times
from models.messages import Bool, Float32, Float64, Int64
from trainer.datasets import read_bytes
from trainer.datasets.csv_text import Block, CsvText
from trainer.datasets.long_form import LongRows, chosen, widened
from trainer.datasets.plain_blocks import Wanted, plain_block
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
        read = rows.read()
        times, values, rejected = rows.settle(read.times, read.numbers), read.values, rows.rejected
    return Raw(times, values, digest, +rejected)


def _read_long(
    path: Path, data: bytes, sought: Sought, layout: Layout, long: Long
) -> tuple[Float64, Float32, Counter[str]]:
    rows = _Rows(path, data, sought._replace(channels=[(long.value,)]), layout)
    times, values, numbers, tags = rows.read()
    there = rows.tags()
    names, channels = chosen(sought.channels, there, tags)
    for channel in range(len(names)):
        own = np.flatnonzero(channels == channel)
        times[own] = rows.settle(times[own], numbers[own])  # rows may be sorted by channel
    made, wide, doubled = widened(str(path), LongRows(times, channels, values[:, 0]), names, there)
    rows.rejected["duplicate"] += doubled
    return made, wide, rows.rejected


class _Read(NamedTuple):
    """The rows of a file or of a part of it."""

    times: Float64  # (n,) Unix seconds, not settled
    values: Float32  # (n, C)
    numbers: Int64  # (n,) lines in the file
    tags: Int64  # (n,) positions among the names of the long form; (0,) in another form


class _Rows:
    """The rows of one file, with counts of rows and cells that could not be used."""

    def __init__(self, path: Path, data: bytes, sought: Sought, layout: Layout) -> None:
        self._path, self._bad_share_max = path, layout.bad_share_max
        try:
            self._times = Times(layout.time_format, layout.time_zone)
            self._text = CsvText(data, sought, layout)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        head, found = self._text.head, self._text.found
        columns = self._columns = found.channels
        self._check_header(found, layout.long)
        self._tag = None if layout.long is None else head.header.index(layout.long.channel)
        self._tags: dict[str, int] = {}
        decimal: Decimal = "," if head.decimal_comma else "."
        self._separated = Separated(
            head.columns(found.meaning(columns)),
            columns,
            head.separator,
            head.decimal_comma,
            Cells(decimal, layout.missing_words),
            self._times,
            may_be_damaged=False,
        )
        self._wanted = None if found.clock is not None else self._plainly(found)
        self.rejected: Counter[str] = Counter()
        self._first: dict[str, str] = {}  # column or "row" -> place and cause of its first fault
        self._bad: Counter[str] = Counter()

    def _plainly(self, found: Found) -> Wanted:
        """Return what is read of a plain line."""
        head = self._text.head
        time = head.header.index(found.time)
        first = split(head.rows[0].decode(errors="replace"), head.separator) if head.rows else []
        cell = plain(first[time]) if time < len(first) else ""
        return Wanted(
            head.separator,
            len(head.header),
            time,
            [head.header.index(column) for column in found.channels],
            self._tag,
            self._times.numbers_are_times
            and is_value(cell)
            and "-" not in cell
            and ":" not in cell,
            head.decimal_comma,
        )

    def _check_header(self, found: Found, long: Long | None) -> None:
        header = self._text.head.header
        of_time = [found.time, *([] if found.clock is None else [found.clock])]
        of_channel = [] if long is None else [long.channel]
        for column in (*of_time, *found.channels, *of_channel):
            if header.count(column) != 1:
                count = "more than one column" if column in header else "no column"
                have = ", ".join(header)
                raise DataError(
                    f"{self._path}: {count} {column!r}; the header has: {have}{encoding_hint(have)}"
                )

    def read(self) -> _Read:
        """Read all rows.

        Raises:
            DataError: there are none, or too many cannot be used.

        """
        rows, parts = 0, []
        for block in self._text.blocks():
            count, some = self._block(block)
            rows += count
            parts += some
        if not rows:
            raise DataError(f"{self._path}: there are no rows below the header")
        for what, count in self._bad.items():
            if count > self._bad_share_max * rows:
                more = f" (and {count - 1} more)" if count > 1 else ""
                raise DataError(
                    f"{self._first[what]}{more}; {count} of {rows} rows is more than"
                    f" bad_share_max = {self._bad_share_max:g} allows"
                )
        return _Read(*map(np.concatenate, zip(*parts, strict=True)))

    def tags(self) -> list[str]:
        """Return the names of the long form."""
        return list(self._tags)

    def settle(self, times: Float64, numbers: Int64) -> Float64:
        """Return the times (n,) of lines ``numbers`` (n,), in the right one of a repeated hour."""
        if self._times.zone is None:
            return times

        def local(row: int) -> datetime | None:
            return self._times.shown(self._time_text(int(numbers[row])))

        try:
            return settled(times, self._times.zone, local)
        except Unsettled as error:
            first, last = (int(numbers[error.rows[at]]) for at in (0, -1))
            more = f" (rows up to line {last}, {len(error.rows)} in all)"
            raise DataError(
                f"{self._path}:{first}: {self._time_text(first)!r}"
                f"{more if first != last else ''}: {error}"
            ) from error

    def _time_text(self, number: int) -> str:
        text = self._text.line(number)
        return self._separated.time_text(split(text, self._text.head.separator)).strip()

    def _block(self, block: Block) -> tuple[int, list[_Read]]:
        """Return how many rows a block has, and the rows that can be used."""
        read = None if self._wanted is None else plain_block(block.data, self._wanted, self._times)
        if read is not None and self._are_times(read.times).all():
            count = len(read.times)
            numbers = np.arange(block.number, block.number + count)
            return count, [self._made(read.times, read.values, numbers, read.tags or [])]
        lines = [
            (number, line)
            for number, line in enumerate(block.data.split(b"\n"), block.number)
            if line and not line.isspace()
        ]
        starts = range(0, len(lines), _BLOCK_LINES)
        return len(lines), [self._lines(lines[start : start + _BLOCK_LINES]) for start in starts]

    def _made(self, times: Float64, values: Float64, numbers: Int64, tags: Sequence[str]) -> _Read:
        known = self._tags
        of_rows = np.array([known.setdefault(tag, len(known)) for tag in tags], np.int64)
        with np.errstate(over="ignore"):  # values outside float32 become missing
            return _Read(self._times.scaled(times), values.astype(np.float32), numbers, of_rows)

    def _lines(self, lines: Sequence[tuple[int, bytes]]) -> _Read:
        """Read lines with their numbers, all at once if they are clean, else one by one."""
        rows = [line.removesuffix(b"\r") for _, line in lines]
        table = self._separated.block(rows)
        numbers = [number for number, _ in lines]
        if table is None or not self._are_times(table[0]).all():
            return self._one_by_one(numbers, rows)
        tags = [self._tag_of(row.decode()) for row in rows] if self._tag is not None else []
        return self._made(*table, np.array(numbers), tags)

    def _tag_of(self, text: str) -> str:
        assert self._tag is not None
        return plain(split(text, self._text.head.separator)[self._tag])

    def _one_by_one(self, numbers: Sequence[int], rows: Sequence[bytes]) -> _Read:
        times, values, used, tags = [], [], [], []
        for number, row in zip(numbers, rows, strict=True):
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
                used.append(number)
                tags += [] if self._tag is None else [self._tag_of(text)]
        wide = np.array(values).reshape(-1, len(self._columns))
        return self._made(np.array(times), wide, np.array(used, np.int64), tags)

    def _are_times(self, times: Float64) -> Bool:
        times = self._times.scaled(times)
        return np.asarray((times >= self._times.earliest_s) & (times <= TIME_MAX))

    def _refuse(self, row: int, cause: str, text: str) -> None:
        """Count a row that cannot be used, or that can be used only in part."""
        cells = split(text, self._text.head.separator)
        width = len(self._text.head.header)
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
            cell = split(text, self._text.head.separator)[self._text.head.header.index(column)]
            said = f"{column}: {cell.strip()!r} is not a number{encoding_hint(cell)}"
            self._note(column, row, cause, said)

    def _note(self, what: str, row: int, cause: str, said: str) -> None:
        self.rejected[cause] += 1
        self._bad[what] += 1
        self._first.setdefault(what, f"{self._path}:{row}: {said}")
