"""NAB, the Numenta Anomaly Benchmark (Lavin & Ahmad, ICMLA 2015): single series with windows.

A file has a column ``timestamp`` and a column ``value``. ``combined_windows.json`` has, by the name
of each file, the windows in which something is wrong. Both layouts are read: the repository's own,
with folders in ``data`` and windows in ``labels``, and folders and windows side by side. The times
have no offset from UTC and are taken as UTC.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Float32, Float64
from trainer.datasets import check_rows, csv_rows, number_in, read_bytes, time_in

_HEADER, _EXAMPLE = ["timestamp", "value"], "2014-04-01 00:05:00"
_WINDOWS = "combined_windows.json"


class NabFile(NamedTuple):
    """One series, its rows as they are in the file: times may repeat or leave rows out."""

    name: str  # "realTraffic/speed_6005"
    times: Float64  # (n,) Unix seconds
    values: Float32  # (n,) NaN where a cell is empty or not finite
    windows: list[tuple[int, int]]  # first and last row of each, in order
    sha256: str  # of the file's bytes

    @property
    def folder(self) -> str:
        """The part of the data set that it is in."""
        return self.name.split("/")[0]


def names(directory: Path) -> list[str]:
    """List the files that have windows, or are known to have none: ``folder/file``.

    Raises:
        DataError: no such folder, no windows, or none of their files; names the places searched.

    """
    data, labels = _places(directory)
    found = [name for name in sorted(_windows(labels)) if (data / name).is_file()]
    if not found:
        raise DataError(f"{data}: none of the files that {labels} names are there")
    return [name.removesuffix(".csv") for name in found]


def read(directory: Path, name: str) -> NabFile:
    """Read one file of ``names``.

    Raises:
        DataError: unreadable, not of this layout, or a window begins or ends at no row; names
            file, line and column.

    """
    data, labels = _places(directory)
    path = data / f"{name}.csv"
    content = read_bytes(path)
    times, values = _rows(path, content)
    windows = [
        (_row(path, times, labels, window[0]), _row(path, times, labels, window[1]))
        for window in _windows(labels).get(f"{name}.csv", [])
    ]
    return NabFile(name, times, values, sorted(windows), hashlib.sha256(content).hexdigest())


def _places(directory: Path) -> tuple[Path, Path]:
    """Return the directory of the folders, and the file of the windows."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    flat, published = directory / _WINDOWS, directory / "labels" / _WINDOWS
    if flat.is_file():
        return directory, flat
    if published.is_file():
        return directory / "data", published
    raise DataError(f"{directory}: no {_WINDOWS}; looked for {flat} and {published}")


def _windows(path: Path) -> dict[str, list[list[str]]]:
    try:
        found: Any = json.loads(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict) or not all(map(_are_windows, found.values())):
        raise DataError(f"{path}: must have a list of windows, [start, end] each, for each file")
    return found


def _are_windows(windows: Any) -> bool:
    return isinstance(windows, list) and all(
        isinstance(window, list) and len(window) == 2 and all(isinstance(t, str) for t in window)
        for window in windows
    )


def _rows(path: Path, content: bytes) -> tuple[Float64, Float32]:
    header, body = csv_rows(path, content)
    if header != _HEADER:
        raise DataError(f"{path}: the header must be timestamp,value; it is {','.join(header)!r}")
    check_rows(path, _HEADER, body)
    times = [time_in(where, _HEADER[0], row[0], _EXAMPLE) for where, row in body]
    values = [number_in(where, _HEADER[1], row[1]) for where, row in body]
    return np.array(times, np.float64), np.array(values, np.float32)


def _row(path: Path, times: Float64, labels: Path, text: str) -> int:
    """Return the first row at the time of a window's edge."""
    at = np.flatnonzero(times == time_in(str(labels), "window", text, _EXAMPLE))
    if not len(at):
        raise DataError(f"{labels}: {text}: {path} has no row at this time")
    return int(at[0])
