"""The command ``export``: a stream's stored samples as a recording for ``fieldwatch-trainer``.

    time, a column per channel, score, a column of quality per channel

It only reads the store, while the agent runs or not, and holds a few chunks in memory. A number is
written with as many digits as it takes to read the same float32 again.
"""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from agent.commands.history import parse_time, unknown_stream
from agent.config.location import store_directory
from agent.store.layouts import Part
from agent.store.reader import Reader, Stored
from models.errors import ConfigError, DataError, StoreError
from models.files import replacing
from models.formats.cells import TIME
from models.formats.recording import QUALITY, SCORE, column_of
from models.messages import GOOD, MISSING, QUALITIES, Bool, Float32, stored_samples
from models.printable import printable
from models.times import iso_time

_GZIP_LEVEL: Final = 6


class Exported(NamedTuple):
    """What was written."""

    path: Path
    samples: int
    first_s: float  # Unix seconds
    last_s: float

    def told(self) -> str:
        """Return it in words."""
        period = f"{iso_time(self.first_s)} to {iso_time(self.last_s)}"
        return f"{self.path}: {self.samples} samples, {period}"


def export(
    config_file: Path, stream: str, from_text: str | None, to_text: str | None, path: Path
) -> Exported:
    """Write the samples of a stream between two times to a file, whole or not at all.

    Raises:
        ValueError: a time is none, or the end is not after the beginning.
        ConfigError: there is no such stream.
        DataError: no sample is stored between these times.
        StoreError: the database cannot be read, or the file cannot be written.

    """
    now_s = time.time()
    begin_s = -math.inf if from_text is None else parse_time(from_text, now_s)
    end_s = math.inf if to_text is None else parse_time(to_text, now_s)
    if not begin_s < end_s:
        raise ValueError("the end must be after the beginning")
    with Reader(store_directory(config_file)) as reader:
        parts = reader.layouts(stream)
        if not parts:
            raise ConfigError(unknown_stream(stream, reader.history_streams()))
        try:
            with replacing(path) as file:
                return _written(path, file, _Rows(parts), reader, stream, begin_s, end_s)
        except OSError as error:
            raise StoreError(
                f"{error.filename or path}: cannot be written: {error.strerror}"
            ) from error


def _written(
    path: Path,
    file: BinaryIO,
    rows: _Rows,
    reader: Reader,
    stream: str,
    begin_s: float,
    end_s: float,
) -> Exported:
    """Write header and rows; the file is compressed if its name says so."""
    count, first_s, last_s = 0, math.nan, math.nan
    with _packed(path, file) as packed:
        packed.write(rows.header())
        for number, chunk in reader.each_between(stream, begin_s, end_s):
            times = np.frombuffer(chunk.times)
            inside = (times >= begin_s) & (times <= end_s)
            lines = rows.lines(number, chunk, inside)
            if lines is None or not inside.any():
                continue
            packed.write(lines)
            count += int(inside.sum())
            here = times[inside]
            first_s = float(np.fmin(first_s, here.min()))
            last_s = float(np.fmax(last_s, here.max()))
    if not count:
        raise DataError(f"no sample of stream {stream} is stored between these times")
    return Exported(path, count, first_s, last_s)


def _packed(path: Path, file: BinaryIO) -> gzip.GzipFile | _Plain:
    if path.suffix == ".gz":  # the same samples make the same bytes
        return gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)
    return _Plain(file)


class _Plain:
    """A file that is not compressed; its owner closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        """Write some bytes."""
        self._file.write(data)


class _Rows:
    """The lines of a stream's samples, whose channels may have changed meanwhile."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._names = list(dict.fromkeys(name for part in parts for name in part.channels))

    def header(self) -> bytes:
        """Return the line of the columns' names."""
        shown = [printable(name) for name in self._names]
        columns = [TIME, *map(column_of, shown), SCORE, *(f"{name}{QUALITY}" for name in shown)]
        return f"{','.join(columns)}\n".encode()

    def lines(self, number: int, chunk: Stored, inside: Bool) -> bytes | None:
        """Return the lines of some samples of a chunk; None if its channels are not known."""
        part = next((one for one in self._parts if one.since <= number < one.until), None)
        width = 0 if part is None else len(part.channels)
        if part is None or len(chunk.values) * 2 != len(chunk.times) * width:
            return None
        samples = stored_samples([(chunk.times, chunk.values, chunk.quality)], width)
        values = samples.values[inside]
        codes = np.full(values.shape, GOOD) if samples.quality is None else samples.quality[inside]
        codes = np.where(np.isnan(values) & (codes == GOOD), MISSING, codes)
        scores = np.frombuffer(chunk.scores, np.float32)[inside]
        at = [self._names.index(name) for name in part.channels]
        cells = self._spread(_cells(values, codes == GOOD), at, "")
        words = self._spread(np.array(QUALITIES, object)[codes], at, QUALITIES[MISSING])
        scored = _cells(scores[:, None], np.isfinite(scores)[:, None])
        times = [_microseconds(time) for time in samples.times[inside].tolist()]
        rows = zip(times, cells, scored.tolist(), words, strict=True)
        return "".join(f"{','.join([t, *c, *s, *w])}\n" for t, c, s, w in rows).encode()

    def _spread(self, cells: np.ndarray, at: Sequence[int], absent: str) -> list[list[str]]:
        """Return cells (n, C) as rows with a cell for each channel of all parts."""
        wide = np.full((len(cells), len(self._names)), absent, object)
        wide[:, at] = cells
        return wide.tolist()


def _cells(values: Float32, known: Bool) -> np.ndarray:
    """Return numbers as text, with the fewest digits that give the same float32; "" if unknown."""
    return np.where(known, values.astype(str), "").astype(object)


def _microseconds(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
