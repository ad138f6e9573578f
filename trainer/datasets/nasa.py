"""NASA's telemetry of SMAP and MSL, as published with Telemanom (Hundman et al., KDD 2018).

A channel has two arrays, ``train/ID.npy`` and ``test/ID.npy``, with one row per step. Column 0 is
the telemetry value, the others are commands. There are no times. ``labeled_anomalies.csv`` lists
the anomalous sequences of the test arrays, and the spacecraft of each channel. In the download, the
arrays are in ``data/``, and the labels beside that folder or in it.
"""

from __future__ import annotations

import csv
import hashlib
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from models.errors import DataError
from models.messages import Float32
from trainer.datasets import natural_order, read_bytes

LABELS_FILE = "labeled_anomalies.csv"
_COLUMNS = ("chan_id", "spacecraft", "anomaly_sequences")

_MAGIC = b"\x93NUMPY"
# the errors of numpy's reader on damaged files, found by altering random bytes
_DAMAGED = (ValueError, TypeError, SyntaxError, TokenError, MemoryError, OverflowError)

_Index = Annotated[int, Field(strict=True, ge=0)]
_SEQUENCES = TypeAdapter(list[tuple[_Index, _Index]])


class NasaChannel(NamedTuple):
    """One telemetry channel; values that are not finite are NaN."""

    name: str
    spacecraft: str  # "SMAP" or "MSL"; "" if the label file does not name the channel
    train: Float32  # (n, C) the telemetry value, then the commands
    test: Float32  # (m, C)
    # of each row of the label file: steps of test, both ends included, in order
    label_rows: list[list[tuple[int, int]]]
    sha256: str  # of the bytes of both files, train first


class _Row(NamedTuple):
    """A row of the label file; a channel may have several."""

    line: int
    name: str
    spacecraft: str
    sequences: str


def names(directory: Path) -> list[str]:
    """List the channels that have both arrays: A-1, A-2, A-10.

    Raises:
        DataError: there is no such folder, or it has no channels; the text has the folders
            searched.

    """
    root = _root(directory)
    train, test = (
        {path.stem for path in (root / part).glob("[!.]*.npy")} for part in ("train", "test")
    )
    if not train & test:
        raise DataError(f"{root}: no channel has both train/ID.npy and test/ID.npy")
    return sorted(train & test, key=natural_order)


def read(directory: Path, name: str) -> NasaChannel:
    """Read one channel.

    Raises:
        DataError: a file is missing, is not an array of numbers, or does not match the other one,
            or the channel's labels are invalid; the text has the file and the fault.

    """
    known = names(directory)
    root = _root(directory)
    paths = [root / part / f"{name}.npy" for part in ("train", "test")]
    if name not in known:
        raise DataError(_why_unknown(name, known, paths))
    contents = [read_bytes(path) for path in paths]
    train, test = (_array(path, data) for path, data in zip(paths, contents, strict=True))
    if train.shape[1] != test.shape[1]:
        raise DataError(
            f"{paths[1]}: it has {test.shape[1]} inputs, but {paths[0]} has {train.shape[1]}; "
            "both must belong to the same channel"
        )
    path = _labels_file(directory)
    rows = [row for row in _label_rows(path) if row.name == name]
    return NasaChannel(
        name,
        _spacecraft(path, rows),
        train,
        test,
        [sorted(_sequences(path, row, len(test))) for row in rows],
        hashlib.sha256(b"".join(contents)).hexdigest(),
    )


def _root(directory: Path) -> Path:
    """Return the folder that contains ``train`` and ``test``."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    places = [directory, directory / "data"]
    for place in places:
        if (place / "train").is_dir() and (place / "test").is_dir():
            return place
    raise DataError(
        f"{directory}: there are no folders train and test in {' or '.join(map(str, places))}"
    )


def _labels_file(directory: Path) -> Path:
    places = [directory, directory / "data", directory.resolve().parent]
    for place in places:
        if (place / LABELS_FILE).is_file():
            return place / LABELS_FILE
    raise DataError(
        f"{directory}: there is no {LABELS_FILE} in {', '.join(map(str, places))}. It is published "
        "with the arrays, but not in their archive: put it beside them"
    )


def _why_unknown(name: str, known: list[str], paths: list[Path]) -> str:
    there = [path for path in paths if path.is_file()]
    if not there:
        return f"no channel {name!r}; there are: {', '.join(known)}"
    missing = next(path for path in paths if path not in there)
    return f"{missing}: this file is missing, but {there[0]} is there; a channel needs both"


def _array(path: Path, data: bytes) -> Float32:
    if not data.startswith(_MAGIC):
        raise DataError(f"{path}: not an .npy file")
    try:
        array: npt.NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
    except _DAMAGED as error:
        raise DataError(f"{path}: not a complete array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: the array's type is {array.dtype}; it must be numeric")
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{path}: the array's shape is {array.shape}; it must be (steps, inputs)")
    with np.errstate(over="ignore"):  # values that overflow become infinite, and then missing
        values: Float32 = array.astype(np.float32, order="C")
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values[:, 0]).all():
        raise DataError(f"{path}: the telemetry value (column 0) is never a finite number")
    return values


def _label_rows(path: Path) -> list[_Row]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path}: no column {missing[0]!r}; the columns must be {', '.join(_COLUMNS)}"
            )
        return [
            _Row(reader.reader.line_num, *((row[column] or "").strip() for column in _COLUMNS))
            for row in reader
        ]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.reader.line_num}: not CSV: {error}") from error


def _spacecraft(path: Path, rows: list[_Row]) -> str:
    found = {row.spacecraft: row for row in rows}
    if len(found) > 1:
        row = rows[-1]
        raise DataError(
            f"{path}:{row.line}: {row.name} has more than one spacecraft: {', '.join(found)}"
        )
    return next(iter(found), "")


def _sequences(path: Path, row: _Row, steps: int) -> list[tuple[int, int]]:
    where = f"{path}:{row.line}: {row.name}"
    try:
        sequences = _SEQUENCES.validate_json(row.sequences)
    except ValidationError:
        raise DataError(
            f"{where}: anomaly_sequences is {row.sequences!r}; it must be [[start, end], …], "
            "rows of the test array, counted from 0"
        ) from None
    for start, end in sequences:
        if start > end:
            raise DataError(f"{where}: the sequence [{start}, {end}] ends before it starts")
        if start >= steps:
            raise DataError(
                f"{where}: the sequence [{start}, {end}] lies outside the test array, "
                f"which has {steps} rows"
            )
    return [(start, min(end, steps - 1)) for start, end in sequences]
