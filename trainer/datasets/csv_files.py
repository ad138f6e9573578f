"""CSV recordings: a header, a column of times, a column of numbers for each channel.

A time is Unix seconds, or RFC 3339 with an offset. A cell that is empty, or says in words that
there is nothing, is a missing value; any other cell that is no number is an error that names
its line, because a person is there to mend it.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from models.errors import DataError
from models.messages import Float32, Readings
from trainer.config import LABELS_SUFFIX, ColumnTable
from trainer.datasets import Label, Recording, read_bytes

_MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "-"))
_UNIX_S_MAX = 1e11  # the year 5138; a larger number is in milliseconds


def read_recording(path: Path, time_column: str, channels: Sequence[ColumnTable]) -> Recording:
    """Read one recording.

    Raises:
        DataError: unreadable, a column is missing, or a cell is neither a number nor missing;
            names file, line and column.

    """
    data = read_bytes(path)
    columns = [time_column, *(channel.source for channel in channels)]
    rows = [_numbers(path, line, columns, cells) for line, cells in _cells(path, data, columns)]
    if not rows:
        raise DataError(f"{path}: there are no rows below the header")
    table = np.array(rows, np.float64)
    values = table[:, 1:].astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    out_of_range = _drop_out_of_range(values, channels)
    digest = hashlib.sha256(data).hexdigest()
    return Recording(path.name, Readings(table[:, 0].copy(), values), out_of_range, digest)


def labels_path(recording: Path) -> Path:
    """Return where the labels of a recording lie: ``X.labels.csv`` beside ``X.csv``."""
    return recording.with_name(recording.stem + LABELS_SUFFIX)


def read_labels(path: Path) -> list[Label]:
    """Read the labelled stretches of a recording: columns ``start``, ``end``, ``kind``.

    Raises:
        DataError: unreadable, or a row is no stretch; names file and line.

    """
    labels = []
    for line, (start, end, kind) in _cells(path, read_bytes(path), ["start", "end", "kind"]):
        label = Label(_time(path, line, start), _time(path, line, end), kind)
        if label.start > label.end:
            raise DataError(f"{path}:{line}: the label ends before it starts")
        labels.append(label)
    return labels


def _cells(path: Path, data: bytes, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and the cells of ``columns``, row by row; empty lines are skipped."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        chosen = [_position(path, header, column) for column in columns]
        for row in reader:
            if len(row) == len(header):
                yield reader.line_num, [row[position] for position in chosen]
            elif row:
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} cells, the header has {len(header)}"
                )
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _position(path: Path, header: list[str], column: str) -> int:
    if header.count(column) != 1:
        found = "more than one column" if column in header else "no column"
        raise DataError(f"{path}: {found} {column!r}; the header has: {', '.join(header)}")
    return header.index(column)


def _numbers(path: Path, line: int, columns: Sequence[str], cells: list[str]) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]  # nearly every row; the rest goes cell by cell
    except ValueError:
        values = zip(columns[1:], cells[1:], strict=True)
        return [
            _time(path, line, cells[0]),
            *(_value(path, line, column, cell) for column, cell in values),
        ]
    _check_time(path, line, numbers[0])
    return numbers


def _value(path: Path, line: int, column: str, cell: str) -> float:
    if cell.strip().lower() in _MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"{path}:{line}: {column}: {cell!r} is no number") from None


def _time(path: Path, line: int, cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = _calendar_time(path, line, cell)
    _check_time(path, line, seconds)
    return seconds


def _calendar_time(path: Path, line: int, cell: str) -> float:
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise DataError(
            f"{path}:{line}: {cell!r} is no time; it must be Unix seconds or RFC 3339"
        ) from None
    if moment.tzinfo is None:
        raise DataError(f"{path}:{line}: {cell!r} has no offset from UTC; add Z or e.g. +02:00")
    return moment.timestamp()


def _check_time(path: Path, line: int, seconds: float) -> None:
    if not abs(seconds) < _UNIX_S_MAX:  # also false for NaN
        raise DataError(f"{path}:{line}: time {seconds} is not in Unix seconds")


def _drop_out_of_range(values: Float32, channels: Sequence[ColumnTable]) -> int:
    """Set to missing what a gateway would reject; return how many values that were."""
    low = np.array([-np.inf if c.low is None else c.low for c in channels], np.float32)
    high = np.array([np.inf if c.high is None else c.high for c in channels], np.float32)
    outside = (values < low) | (values > high)
    values[outside] = np.nan
    return int(outside.sum())
