"""NASA's telemetry of SMAP and MSL, as published with Telemanom (Hundman et al., KDD 2018).

A channel is two arrays, ``train/ID.npy`` and ``test/ID.npy``, of one row per step: column 0 is
the telemetry value, the others are commands. There are no times. ``labeled_anomalies.csv``
gives the anomalous sequences of the test arrays, and the spacecraft of each channel. As
downloaded, the arrays lie in ``data/`` and the labels beside that folder or in it.
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
# what numpy's reader raises on damaged files, as found by altering bytes at random
_DAMAGED = (ValueError, TypeError, SyntaxError, TokenError, MemoryError, OverflowError)

_Index = Annotated[int, Field(strict=True, ge=0)]
_SEQUENCES = TypeAdapter(list[tuple[_Index, _Index]])


class NasaChannel(NamedTuple):
    """One telemetry channel; a value that is not finite is NaN."""

    name: str
    spacecraft: str  # "SMAP" or "MSL"; "" if the label file does not name the channel
    train: Float32  # (n, C) the telemetry value, then the commands
    test: Float32  # (m, C)
    labels: list[tuple[int, int]]  # rows of test, both ends included; in order, none overlap
    sha256: str  # of the bytes of the two arrays' files, train first


class _Row(NamedTuple):
    """A row of the label file; a channel may have several."""

    line: int
    name: str
    spacecraft: str
    sequences: str


def names(directory: Path) -> list[str]:
    """List the channels that have both arrays: A-1, A-2, A-10.

    Raises:
        DataError: no such folder, or no channels in it; the text has the places searched.

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
        DataError: a file is missing, is no array of numbers, or does not fit the others, or the
            channel's labels make no sense; names the file and what is wrong in it.

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
            f"{paths[1]}: {test.shape[1]} inputs, but {train.shape[1]} in {paths[0]}; "
            "both must be of the same channel"
        )
    path = _labels_file(directory)
    rows = [row for row in _label_rows(path) if row.name == name]
    return NasaChannel(
        name,
        _spacecraft(path, rows),
        train,
        test,
        _labels(path, rows, len(test)),
        hashlib.sha256(b"".join(contents)).hexdigest(),
    )


def _root(directory: Path) -> Path:
    """Return the folder that holds ``train`` and ``test``."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    places = [directory, directory / "data"]
    for place in places:
        if (place / "train").is_dir() and (place / "test").is_dir():
            return place
    raise DataError(
        f"{directory}: no folders train and test; looked in {' and '.join(map(str, places))}"
    )


def _labels_file(directory: Path) -> Path:
    places = [directory, directory / "data", directory.resolve().parent]
    for place in places:
        if (place / LABELS_FILE).is_file():
            return place / LABELS_FILE
    raise DataError(
        f"{directory}: no {LABELS_FILE}; looked in {', '.join(map(str, places))}. It is published "
        "with the arrays, but not inside their archive: put it beside them"
    )


def _why_unknown(name: str, known: list[str], paths: list[Path]) -> str:
    there = [path for path in paths if path.is_file()]
    if not there:
        return f"no channel {name!r}; there are: {', '.join(known)}"
    missing = next(path for path in paths if path not in there)
    return f"{missing}: missing, though there is {there[0]}; a channel needs both"


def _array(path: Path, data: bytes) -> Float32:
    if not data.startswith(_MAGIC):
        raise DataError(f"{path}: not an .npy file")
    try:
        array: npt.NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
    except _DAMAGED as error:
        raise DataError(f"{path}: not a whole array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: an array of {array.dtype}; it must hold numbers")
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{path}: an array of shape {array.shape}; it must be (steps, inputs)")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and then missing
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
            raise DataError(f"{path}: no column {missing[0]!r}; it must have {', '.join(_COLUMNS)}")
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
            f"{path}:{row.line}: {row.name}: more than one spacecraft: {', '.join(found)}"
        )
    return next(iter(found), "")


def _labels(path: Path, rows: list[_Row], steps: int) -> list[tuple[int, int]]:
    """Return the union of a channel's sequences; what overlaps becomes one."""
    union: list[tuple[int, int]] = []
    for start, end in sorted(pair for row in rows for pair in _sequences(path, row, steps)):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


def _sequences(path: Path, row: _Row, steps: int) -> list[tuple[int, int]]:
    where = f"{path}:{row.line}: {row.name}"
    try:
        sequences = _SEQUENCES.validate_json(row.sequences)
    except ValidationError:
        raise DataError(
            f"{where}: anomaly_sequences {row.sequences!r} must be [[start, end], …] "
            "in rows of the test array, from 0"
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
