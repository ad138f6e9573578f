"""SKAB, the Skoltech Anomaly Benchmark (Katser & Kozitsin, 2020): a water-circulation test bed.

A file is one experiment at about 1 Hz, separated by ``;``. It has eight sensors and ``datetime``,
and, except in the anomaly-free run, the labels ``anomaly`` and ``changepoint``. The times have no
offset, and are read as UTC. Only their differences matter.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import DataError
from models.messages import Float32, Float64
from trainer.datasets import natural_order, number_in, read_bytes, time_in

LABELLED_FOLDERS = ("valve1", "valve2", "other")
CHANNELS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)
_TIME, _EXAMPLE = "datetime", "2020-03-09 10:14:33"
_ANOMALY = "anomaly"


class SkabFile(NamedTuple):
    """One experiment, with its rows as in the file; times may repeat or go back."""

    name: str  # "valve1/0"
    times: Float64  # (n,) Unix seconds
    values: Float32  # (n, 8) NaN where a cell is empty or not finite
    channels: tuple[str, ...]  # of the columns of values
    anomaly: npt.NDArray[np.bool_] | None  # (n,); None if the file has no labels
    sha256: str  # of the file's bytes


def files(directory: Path) -> list[Path]:
    """List the labelled files: other/1, …, valve1/0, valve1/1, …, valve1/10, valve2/0, ….

    Raises:
        DataError: there is no such folder, or it has no labelled files; the text has the folders
            searched.

    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    places = [directory, directory / "data"]
    for place in places:
        found = [path for part in LABELLED_FOLDERS for path in (place / part).glob("[!.]*.csv")]
        if found:
            return sorted(found, key=lambda path: natural_order(_name(path)))
    raise DataError(
        f"{directory}: there are no CSV files in {', '.join(LABELLED_FOLDERS)} "
        f"of {' or '.join(map(str, places))}"
    )


def read(path: Path) -> SkabFile:
    """Read one experiment, with its labels if it has any.

    Raises:
        DataError: the file cannot be read, a column is missing, or a cell is invalid; the text has
            file, line and column.

    """
    data = read_bytes(path)
    rows = _rows(path, data)
    header = next(rows).cells
    columns = [_column(path, header, name) for name in (_TIME, *CHANNELS)]
    label = _column(path, header, _ANOMALY) if _ANOMALY in header else None
    times, values, anomaly = [], [], []
    for row in rows:
        time, *cells = (row.cells[column] for column in columns)
        times.append(time_in(row.where, _TIME, time, _EXAMPLE))
        values.append([number_in(row.where, *named) for named in zip(CHANNELS, cells, strict=True)])
        if label is not None:
            anomaly.append(_flag(row, row.cells[label]))
    if np.isnan(values).all():  # true without values, too
        raise DataError(f"{path}: it has no values below the header")
    return SkabFile(
        _name(path),
        np.array(times, np.float64),
        np.array(values, np.float32),
        CHANNELS,
        None if label is None else np.array(anomaly, np.bool_),
        hashlib.sha256(data).hexdigest(),
    )


class _Row(NamedTuple):
    where: str  # file:line
    cells: list[str]


def _name(path: Path) -> str:
    return f"{path.absolute().parent.name}/{path.stem}"


def _rows(path: Path, data: bytes) -> Iterator[_Row]:
    """Yield the header, then every row that is not empty; all have the header's length."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    reader = csv.reader(text.splitlines(), delimiter=";", strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        yield _Row(str(path), header)
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if len(cells) == len(header):
                yield _Row(where, cells)
            elif cells:
                raise DataError(
                    f"{where}: the row has {len(cells)} cells, but the header has {len(header)}"
                )
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _column(path: Path, header: list[str], name: str) -> int:
    if header.count(name) != 1:
        found = "more than one column" if name in header else "no column"
        raise DataError(f"{path}: {found} {name!r}; the header has: {'; '.join(header)}")
    return header.index(name)


def _flag(row: _Row, cell: str) -> bool:
    try:
        return {0.0: False, 1.0: True}[float(cell)]
    except (ValueError, KeyError):
        raise DataError(f"{row.where}: {_ANOMALY}: {cell!r} is neither 0 nor 1") from None
