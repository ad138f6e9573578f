"""Writes samples as Parquet, a folder per gateway, stream and day (UTC); the only door to polars.

    samples/gateway=gw-1/stream=pump-1/day=2026-11-30/081500-5e…-000000007001.parquet

The columns are those of ``fieldwatch-agent export``: ``time``, the channels, ``fieldwatch:score``,
and ``CHANNEL:quality`` for each channel. A channel called ``time`` is in the column
``channel:time``. A value that was not measured is null. A file's name has the time and the number
of its first sample, so what a power cut lets the collector write again replaces the same file.

Samples of answered requests are in files of their own. They have no number of the ring that would
tell which of them are known, so their times do: a sample that a file of the day has is left out,
whichever way it came first. So no such file is replaced, and what a power cut lets the collector
write again counts as repeated.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.collector.reading import Source
from agent.dialects.answered import micros
from agent.dialects.samples import Samples
from models.errors import StoreError
from models.files import replacing
from models.formats.cells import TIME
from models.formats.recording import QUALITY, SCORE, column_of
from models.messages import GOOD, QUALITIES, Int64
from models.times import iso_time

FOLDER: Final = "samples"
ANSWERED: Final = "answered"  # in place of an epoch
_DAY_S: Final = 86_400
_LOG = logging.getLogger(__name__)


def missing() -> str | None:
    """Return what must be installed to write Parquet; None if nothing is missing."""
    if find_spec("polars") is None:
        return "Parquet needs polars: pip install 'fieldwatch[ingest]'"
    return None


def write(directory: Path, source: Source, stream: str, samples: Sequence[Samples]) -> int:
    """Write a stream's samples, a file for each day; return how many of them were in a file.

    Args:
        directory: of the collector.
        source: whose samples they are; ``ANSWERED`` in place of an epoch: from answered requests.
        stream: likewise.
        samples: in the order of their numbers, or of their arrival if from answered requests.

    Raises:
        StoreError: a file cannot be written or read; none is half there.

    """
    below = directory / FOLDER / f"gateway={source.gateway}" / f"stream={stream}"
    known = 0
    for day, parts in _by_day(samples).items():
        folder = below / f"day={iso_time(day * _DAY_S)[:10]}"
        try:
            new = _new(folder, parts, source.epoch)
            known += sum(len(part.times) for part in parts) - sum(len(part.times) for part in new)
            if not new:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            # of answers, no file begins with a new sample; of the lane, ours may be there already
            named = new[0] if source.epoch == ANSWERED else parts[0]
            with replacing(folder / _name(named, source.epoch)) as file:
                file.write(_encoded(new))
        except OSError as error:
            raise StoreError(f"{error.filename or folder}: {error.strerror}") from error
    return known


def _name(first: Samples, epoch: str) -> str:
    begin = iso_time(float(first.times[0]))[11:19].replace(":", "")
    return f"{begin}-{epoch}-{int(first.numbers[0]):012d}.parquet"


def _new(folder: Path, parts: Sequence[Samples], epoch: str) -> list[Samples]:
    """Return the samples that no file of the day has.

    Numbers tell which samples of the lane are known. So only files of answers can have them, too.
    """
    answered = epoch == ANSWERED
    files = [*folder.glob("*.parquet" if answered else f"*-{ANSWERED}-*.parquet")]
    if not files and not answered:
        return list(parts)
    known = np.concatenate([np.empty(0, np.int64), *map(_micros_in, files)])
    at = [micros(part.times) for part in parts]
    every = np.concatenate(at)
    fresh = ~np.isin(every, known)
    if answered:  # of two in these parts, the first counts
        fresh &= np.isin(np.arange(len(every)), np.unique(every, return_index=True)[1])
    masks = np.split(fresh, np.cumsum([len(one) for one in at])[:-1])
    return [part.at(mask) for part, mask in zip(parts, masks, strict=True) if mask.any()]


def _micros_in(file: Path) -> Int64:
    """Return the times in a file, in µs; none if it is damaged."""
    import polars

    try:
        found = polars.read_parquet(file, columns=[TIME], glob=False, hive_partitioning=False)
    except polars.exceptions.PolarsError as error:
        _LOG.warning("%s is no whole file of samples: %s", file, str(error).split("\n", 1)[0])
        return np.empty(0, np.int64)
    return np.asarray(found[TIME].to_physical().to_numpy(), np.int64)


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
    columns: dict[str, Any] = {
        TIME: polars.Series(micros(times)).cast(polars.Datetime("us", "UTC")),
    }
    codes = {name: np.concatenate([_codes(part, name) for part in parts]) for name in names}
    for name in names:
        values = polars.Series(np.concatenate([_values(part, name) for part in parts]))
        columns[column_of(name)] = values.set(polars.Series(codes[name] != GOOD), None)
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
