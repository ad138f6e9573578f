"""Recordings to learn from and to evaluate on: columns of numbers, read from files."""

from __future__ import annotations

from typing import NamedTuple

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
