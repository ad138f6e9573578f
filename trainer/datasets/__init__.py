"""Recordings to learn from and to evaluate on: columns of numbers, read from files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from models.errors import DataError
from models.messages import Readings


class Recording(NamedTuple):
    """The readings of one file, as they are in it, off the grid."""

    name: str
    readings: Readings
    out_of_range: int  # values outside their channel's low and high, set to missing
    sha256: str  # of the file's bytes


class Label(NamedTuple):
    """A stretch of a recording that is known to be faulty."""

    start: float  # Unix seconds
    end: float
    kind: str


def natural_order(name: str) -> list[tuple[str, int]]:
    """Return what sorts names as a person counts: A-1, A-2, A-10."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataError: it cannot be read; names the file and the system's reason.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
