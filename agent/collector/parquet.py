"""Writes samples as Parquet, a folder per gateway, stream and day (UTC); the only door to polars.

    samples/gateway=gw-1/stream=pump-1/day=2026-11-30/081500-5e…-000000007001.parquet

The columns are those of ``fieldwatch-agent export``: ``time``, the channels, ``fieldwatch:score``,
and ``CHANNEL:quality`` for each channel. A value that was not measured is null. A file's name has
the time and the number of its first sample, so what a power cut lets the collector write again
replaces the same file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.collector.reading import Source
from agent.dialects.samples import Samples
from models.errors import StoreError
from models.files import replacing
from models.formats.cells import TIME
from models.formats.recording import QUALITY, SCORE
from models.messages import GOOD, QUALITIES
from models.times import iso_time

FOLDER: Final = "samples"
_DAY_S: Final = 86_400


def missing() -> str | None:
    """Return what must be installed to write Parquet; None if nothing is missing."""
    if find_spec("polars") is None:
        return "Parquet needs polars: pip install 'fieldwatch[ingest]'"
    return None


def write(directory: Path, source: Source, stream: str, samples: Sequence[Samples]) -> list[Path]:
    """Write a stream's samples, a file for each day; return the files.

    Args:
        directory: of the collector.
        source: whose samples they are.
        stream: likewise.
        samples: in the order of their numbers.

    Raises:
        StoreError: a file cannot be written; none is half there.

    """
    below = directory / FOLDER / f"gateway={source.gateway}" / f"stream={stream}"
    written = []
    for day, parts in _by_day(samples).items():
        first = parts[0]
        begin = iso_time(float(first.times[0]))[11:19].replace(":", "")
        name = f"{begin}-{source.epoch}-{int(first.numbers[0]):012d}.parquet"
        path = below / f"day={iso_time(day * _DAY_S)[:10]}" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(_encoded(parts))
        except OSError as error:
            raise StoreError(f"{error.filename or path}: {error.strerror}") from error
        written.append(path)
    return written


def _by_day(samples: Sequence[Samples]) -> dict[int, list[Samples]]:
    found: dict[int, list[Samples]] = {}
    for part in samples:
        for day, some in _days(part):
            found.setdefault(day, []).append(some)
    return found


def _days(samples: Samples) -> Iterator[tuple[int, Samples]]:
    """Yield the samples of each day; the clock may have been set back meanwhile."""
    days = np.floor_divide(samples.times, _DAY_S).astype(np.int64)
    ends = [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    begin = 0
    for end in ends:
        yield int(days[begin]), samples.part(begin, end)
        begin = end


def _encoded(parts: Sequence[Samples]) -> bytes:
    import polars

    names = list(dict.fromkeys(name for part in parts for name in part.channels))
    times = np.concatenate([part.times for part in parts])
    micros = np.round(times * 1e6).astype(np.int64)
    columns: dict[str, Any] = {
        TIME: polars.Series(micros).cast(polars.Datetime("us", "UTC")),
    }
    codes = {name: np.concatenate([_codes(part, name) for part in parts]) for name in names}
    for name in names:
        values = polars.Series(np.concatenate([_values(part, name) for part in parts]))
        columns[name] = values.set(polars.Series(codes[name] != GOOD), None)
    scores = polars.Series(np.concatenate([part.scores for part in parts]))
    columns[SCORE] = scores.fill_nan(None)
    words = polars.Series(QUALITIES, dtype=polars.Enum(QUALITIES))
    for name in names:
        columns[f"{name}{QUALITY}"] = words.gather(codes[name])
    packed = io.BytesIO()
    polars.DataFrame(columns).write_parquet(packed, compression="zstd")
    return packed.getvalue()


def _values(part: Samples, name: str) -> Any:
    if name not in part.channels:
        return np.full(len(part.times), np.nan, np.float32)
    return part.values[:, part.channels.index(name)]


def _codes(part: Samples, name: str) -> Any:
    if name not in part.channels:
        return np.full(len(part.times), len(QUALITIES) - 1, np.uint8)
    if part.quality is None:
        return np.full(len(part.times), GOOD, np.uint8)
    return part.quality[:, part.channels.index(name)]
