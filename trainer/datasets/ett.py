"""ETT, electricity transformer temperature (Zhou et al., AAAI 2021), and files of its layout.

A file is CSV, with ``date`` as the first column and a column per variable. Its rows are evenly
spaced: hourly (ETTh) or every 15 minutes (ETTm). The dates have no offset, and are read as UTC.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Float32, Float64
from trainer.datasets import check_rows, csv_rows, number_in, read_bytes, time_in

_TIME, _EXAMPLE = "date", "2016-07-01 00:00:00"
_UNEVEN_SHARE = 0.01  # of the period; with more, rows are missing or repeated


class EttFile(NamedTuple):
    """The rows of one file, in order and without gaps in time."""

    name: str
    channels: tuple[str, ...]
    times: Float64  # (n,) Unix seconds
    values: Float32  # (n, C) NaN where a cell is empty
    period_s: float
    sha256: str  # of the file's bytes


def read(path: Path) -> EttFile:
    """Read a file.

    Raises:
        DataError: the file cannot be read, has another layout, or is unevenly spaced; the text has
            file, line and column.

    """
    data = read_bytes(path)
    header, body = csv_rows(path, data)
    if len(header) < 2 or header[0] != _TIME or len(set(header)) != len(header):
        raise DataError(
            f"{path}: the header must be {_TIME!r} and a different name for each variable, but it"
            f" is {', '.join(header) or 'empty'}"
        )
    check_rows(path, header, body, least=2)
    times = np.array([time_in(where, _TIME, row[0], _EXAMPLE) for where, row in body])
    values = [
        [number_in(where, name, cell) for name, cell in zip(header[1:], row[1:], strict=True)]
        for where, row in body
    ]
    return EttFile(
        path.stem,
        tuple(header[1:]),
        times,
        np.array(values, np.float32),
        _period(path, times, [where for where, _ in body]),
        hashlib.sha256(data).hexdigest(),
    )


def _period(path: Path, times: Float64, wheres: list[str]) -> float:
    apart = np.diff(times)
    period = float(np.median(apart))
    if period <= 0:
        raise DataError(f"{path}: the times do not increase")
    uneven = np.flatnonzero(np.abs(apart - period) > _UNEVEN_SHARE * period)
    if len(uneven):
        raise DataError(
            f"{wheres[int(uneven[0]) + 1]}: the row is {apart[uneven[0]]:g} s after the row before,"
            f" but the others are {period:g} s apart"
        )
    return period
