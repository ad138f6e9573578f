"""CSV recordings: a header, a column of times, and a column of numbers for each channel.

This module reads them as the agent does; see ``models.formats``. It counts cells and rows that it
cannot read, and does not use them. If they are more than a small share, it raises an error with the
line number, because here a person can correct the file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from models.columns import Sought, cut
from models.errors import DataError
from models.formats.cells import Cells, Decimal
from models.formats.header import Wanted, plain
from models.formats.recording import Layout, Recorded, encoding_hint, recorded
from models.formats.separated import ReadRow, Separated, split
from models.formats.times import TIME_MAX, Times
from models.messages import Float32, Float64, Readings
from trainer.config import LABELS_SUFFIX
from trainer.datasets import FINDINGS, Finding, Label, Recording, read_bytes

_BLOCK_LINES: Final = 2000
LAYOUT: Final = Layout()


class Ranged(Protocol):
    """A channel, or a source; values outside its range, in its unit, are missing."""

    @property
    def low(self) -> float | None:
        """The lowest value; None: any."""

    @property
    def high(self) -> float | None:
        """The highest value; None: any."""


def read_recording(
    path: Path,
    sought: Sought,
    channels: Sequence[Ranged],
    layout: Layout = LAYOUT,
) -> Recording:
    """Read one recording, in the order of its times.

    Args:
        path: of the file.
        sought: the columns of the times and of each channel.
        channels: the channels to read, each with its range.
        layout: the format of the file.

    Raises:
        DataError: the file cannot be read, a column is missing, or too many cells or rows cannot be
            used; the text has file, line and column.

    """
    data = read_bytes(path)
    rows = _Rows(path, data, sought, layout)
    times, values = rows.read()
    backwards = int((np.diff(times) < 0).sum())
    if backwards:
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        rows.rejected["backwards"] = backwards
    values[~np.isfinite(values)] = np.nan
    out_of_range = _drop_out_of_range(values, channels)
    digest = hashlib.sha256(data).hexdigest()
    return Recording(path.name, Readings(times, values), out_of_range, digest, +rows.rejected)


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
        of_time = [found.time, *([] if found.clock is None else [found.clock])]
        header = self._recorded.header
        for column in (*of_time, *columns):
            if header.count(column) != 1:
                count = "more than one column" if column in header else "no column"
                have = ", ".join(header)
                raise DataError(
                    f"{path}: {count} {column!r}; the header has: {have}{encoding_hint(have)}"
                )
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

    def read(self) -> tuple[Float64, Float32]:
        """Return times (n,) and values (n, C)."""
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
        times = np.concatenate([times for times, _ in parts])
        return times, np.concatenate([values for _, values in parts])

    def _block(self, start: int) -> tuple[Float64, Float32]:
        rows = self._recorded.rows[start : start + _BLOCK_LINES]
        table = self._separated.block(rows)
        if table is None or not self._are_times(table[0]).all():
            table = self._one_by_one(start, rows)
        with np.errstate(over="ignore"):  # values outside float32 become missing
            return self._times.scaled(table[0]), table[1].astype(np.float32)

    def _one_by_one(self, start: int, rows: Sequence[bytes]) -> tuple[Float64, Float64]:
        times, values = [], []
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
        return np.array(times), np.array(values).reshape(-1, len(self._columns))

    def _are_times(self, times: Float64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
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


def labels_path(recording: Path) -> Path:
    """Return the path of a recording's labels: ``X.labels.csv`` beside ``X.csv``."""
    return recording.with_name(recording.stem + LABELS_SUFFIX)


def read_labels(path: Path, layout: Layout = LAYOUT) -> list[Label]:
    """Read the labelled intervals of a recording: columns ``start``, ``end``, ``kind``.

    A column ``label`` has the findings; without it, all rows are confirmed faults. Other columns
    are not used.

    Raises:
        DataError: the file cannot be read, or a row is not an interval; the text has file and line.

    """
    try:
        times = Times(layout.time_format, layout.time_zone)
        read = recorded(read_bytes(path), Wanted("start", frozenset(("end",))), layout)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    labels = []
    columns = ["start", "end", "kind", *(["label"] if "label" in read.header else [])]
    for line, (start, end, kind, *more) in _cells(path, read, columns):
        finding = _finding(line, *more)
        label = Label(_time(line, start, times), _time(line, end, times), kind, finding)
        if label.start > label.end:
            raise DataError(f"{line}: the label ends before it starts")
        labels.append(label)
    return labels


def _finding(line: str, cell: str = "confirmed") -> Finding:
    for finding in FINDINGS:
        if cell == finding:
            return finding
    raise DataError(f"{line}: the label is {cell!r}; it must be one of {', '.join(FINDINGS)}")


def _cells(path: Path, read: Recorded, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the cells of ``columns``, row by row."""
    for column in columns:
        if column not in read.header:
            have = ", ".join(read.header)
            raise DataError(f"{path}: no column {column!r}; the header has: {have}")
    for number, row in zip(read.numbers, read.rows, strict=True):
        cells = split(row.decode(errors="replace"), read.separator)
        if len(cells) != len(read.header):
            raise DataError(
                f"{path}:{number}: the row has {len(cells)} cells, but the header has"
                f" {len(read.header)}"
            )
        yield f"{path}:{number}", [plain(cells[read.header.index(column)]) for column in columns]


def _time(where: str, cell: str, times: Times) -> float:
    time_s = times.unix_s(cell)
    if np.isnan(time_s):
        raise DataError(f"{where}: {times.explain(cell)}")
    return time_s


def _drop_out_of_range(values: Float32, channels: Sequence[Ranged]) -> int:
    """Set the values that a gateway would reject to missing; return their number."""
    low = np.array([-np.inf if c.low is None else c.low for c in channels], np.float32)
    high = np.array([np.inf if c.high is None else c.high for c in channels], np.float32)
    outside = (values < low) | (values > high)
    values[outside] = np.nan
    return int(outside.sum())
