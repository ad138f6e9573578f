"""Readers of recordings for training and evaluation: columns of numbers from files."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import numpy as np

from models.errors import DataError
from models.messages import Readings

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class Recording(NamedTuple):
    """The readings of one file, as recorded; they are not on the grid."""

    name: str
    readings: Readings
    out_of_range: int  # values outside their channel's low and high, set to missing
    sha256: str  # of the file's bytes
    rejected: Mapping[str, int] = {}  # counts of cells and rows that were not used, by cause


Finding = Literal["confirmed", "false", "nothing-found", "maintenance"]
FINDINGS: Final[tuple[Finding, ...]] = get_args(Finding)
_FAULTS: Final[tuple[Finding, ...]] = ("confirmed", "maintenance")  # an alarm is right there
FALSE: Final[Finding] = "false"  # normal operation that caused an alarm


class Label(NamedTuple):
    """A stretch of a recording on which a person has made a finding."""

    start: float  # Unix seconds
    end: float
    kind: str
    finding: Finding = "confirmed"

    @property
    def is_fault(self) -> bool:
        """Whether a detector should find it."""
        return self.finding in _FAULTS


def natural_order(name: str) -> list[tuple[str, int]]:
    """Return a sort key that orders names by their numbers: A-1, A-2, A-10."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def time_in(where: str, column: str, cell: str, example: str) -> float:
    """Return the time in a cell, in Unix seconds; a time without an offset is UTC.

    Raises:
        DataError: the cell is not a time; the text has the place and the column.

    """
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise DataError(
            f"{where}: {column}: {cell!r} is not a time; write it like {example}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def number_in(where: str, column: str, cell: str) -> float:
    """Return the number in a cell; NaN if it is empty, or not a finite float32.

    Raises:
        DataError: the cell has other text; the error has the place and the column.

    """
    try:
        value = float(cell) if cell.strip() else math.nan
    except ValueError:
        raise DataError(f"{where}: {column}: {cell!r} is not a number") from None
    return value if abs(value) <= _FLOAT32_MAX else math.nan


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataError: it cannot be read; the text has the file and the system's reason.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, as hexadecimal digits.

    Raises:
        DataError: it cannot be read; the text has the file and the system's reason.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def csv_rows(path: Path, data: bytes) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the names in a CSV file's header, and the cells of each row below it with its place.

    Raises:
        DataError: the data is not CSV.

    """
    try:
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
    header = [name.strip() for name in rows[0]] if rows else []
    return header, [(f"{path}:{number}", row) for number, row in enumerate(rows[1:], 2) if row]


def check_rows(
    path: Path, header: Sequence[str], rows: Sequence[tuple[str, list[str]]], least: int = 1
) -> None:
    """Check that there are rows, each with a cell for each name of the header.

    Raises:
        DataError: there are too few, or one has another number of cells; the text has its place.

    """
    if len(rows) < least:
        raise DataError(f"{path}: no rows below the header")
    for where, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{where}: the row has {len(row)} cells, but the header has {len(header)}"
            )
