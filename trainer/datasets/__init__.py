"""Recordings to learn from and to evaluate on: columns of numbers, read from files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Readings

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class Recording(NamedTuple):
    """The readings of one file, as they are in it, off the grid."""

    name: str
    readings: Readings
    out_of_range: int  # values outside their channel's low and high, set to missing
    sha256: str  # of the file's bytes
    rejected: Mapping[str, int] = {}  # cells and rows that were not used, by cause


class Label(NamedTuple):
    """A stretch of a recording that is known to be faulty."""

    start: float  # Unix seconds
    end: float
    kind: str


def natural_order(name: str) -> list[tuple[str, int]]:
    """Return what sorts names as a person counts: A-1, A-2, A-10."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def time_in(where: str, column: str, cell: str, example: str) -> float:
    """Return the time that a cell holds, in Unix seconds; without an offset it is UTC.

    Raises:
        DataError: it holds none; names the place and the column.

    """
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise DataError(
            f"{where}: {column}: {cell!r} is no time; it must be as {example}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def number_in(where: str, column: str, cell: str) -> float:
    """Return the number that a cell holds; NaN where it is empty or no finite float32.

    Raises:
        DataError: it holds something else; names the place and the column.

    """
    try:
        value = float(cell) if cell.strip() else math.nan
    except ValueError:
        raise DataError(f"{where}: {column}: {cell!r} is no number") from None
    return value if abs(value) <= _FLOAT32_MAX else math.nan


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataError: it cannot be read; names the file and the system's reason.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
