"""IMS, bearings run to failure (University of Cincinnati, published by NASA): tests 1 and 2.

A file is one test: a CSV file of the mean absolute vibration of every record, with a column of row
numbers without a name, ``Datetime`` and a column per accelerometer: ``Bearing 1-A`` and
``Bearing 1-B`` in test 1, ``Bearing 1`` in test 2. A record was made every 10 minutes, some of test
1 every 5 minutes. Test 1 was interrupted several times, up to six days.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Float32, Float64
from trainer.datasets import check_rows, csv_rows, number_in, read_bytes

FAILED: Final = {"1st_test": ("3", "4"), "2nd_test": ("1",)}  # bearings that failed at the end
_TIME, _FORMAT, _EXAMPLE = "Datetime", "%Y.%m.%d.%H.%M.%S", "2003.10.22.12.06.24"
_BEARING = re.compile(r"Bearing (\d+)(?:-([A-Z]))?")


class ImsTest(NamedTuple):
    """One test: every bearing with its accelerometers."""

    name: str  # "1st_test"
    times: Float64  # (n,) Unix seconds, rising
    bearings: dict[str, Float32]  # by its number: (n, accelerometers) NaN where a cell is empty
    sha256: str  # of the file's bytes


def files(directory: Path) -> list[Path]:
    """List the tests that are there.

    Raises:
        DataError: no such folder, or none is there; the text has the names searched.

    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    found = [path for name in FAILED if (path := directory / f"{name}.csv").is_file()]
    if not found:
        names = " or ".join(f"{name}.csv" for name in FAILED)
        raise DataError(f"{directory}: no {names}")
    return found


def read(path: Path) -> ImsTest:
    """Read one test.

    Raises:
        DataError: unreadable, not of this layout, or its times do not rise; names file, line and
            column.

    """
    data = read_bytes(path)
    header, body = csv_rows(path, data)
    columns = _columns(path, header)
    check_rows(path, header, body)
    bearings = {
        bearing: np.array(
            [[number_in(where, header[at], row[at]) for at in positions] for where, row in body],
            np.float32,
        )
        for bearing, positions in columns.items()
    }
    times = _times(body, header.index(_TIME))
    return ImsTest(path.stem, times, bearings, hashlib.sha256(data).hexdigest())


def _columns(path: Path, header: list[str]) -> dict[str, list[int]]:
    """Return the positions of each bearing's columns."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(header):
        if match := _BEARING.fullmatch(name):
            found.setdefault(match[1], []).append(at)
    if header.count(_TIME) != 1 or not found or len(set(header)) != len(header):
        raise DataError(
            f"{path}: the header must have {_TIME!r} and a column for each accelerometer, as"
            f" 'Bearing 1' or 'Bearing 1-A', each once; it is {', '.join(header) or 'empty'}"
        )
    return found


def _times(body: list[tuple[str, list[str]]], column: int) -> Float64:
    found: list[float] = []
    for where, row in body:
        try:
            moment = datetime.strptime(row[column].strip(), _FORMAT).replace(tzinfo=UTC)
        except ValueError:
            raise DataError(
                f"{where}: {_TIME}: {row[column]!r} is not a time; write it like {_EXAMPLE}"
            ) from None
        if found and moment.timestamp() <= found[-1]:
            raise DataError(f"{where}: {_TIME}: not later than the row before")
        found.append(moment.timestamp())
    return np.array(found, np.float64)
