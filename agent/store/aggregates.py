"""Summarises samples for charts: count, minimum, maximum and mean of each channel.

The data are columns, not objects, as in ``models.messages``: ``E`` entries of ``C`` channels. An
entry summarises the samples of one interval; an interval without samples has no entry. A **block**
stores the entries of ten minutes or an hour in compressed form, in a few hundred bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from models.messages import Bool, Float32, Float64, Int64

_HEAD: Final = struct.Struct("<HH")  # entries, channels
_LEVEL: Final = 1  # zlib compression level; level 9 saves no more space here
_SECONDS_MAX: Final = 1e11  # the year 5138; a later time indicates damage


class Entries(NamedTuple):
    """Statistics of the samples, one entry per interval, in chronological order."""

    times: Float64  # (E,) start of each interval, Unix seconds
    rows: Int64  # (E,) number of samples
    score_max: Float32  # (E,) NaN where none was scored
    counts: Int64  # (E, C) number of values that are not missing
    low: Float32  # (E, C) NaN where all values are missing; likewise high and mean
    high: Float32  # (E, C)
    mean: Float64  # (E, C)

    def rows_at(self, index: Int64 | Bool) -> Entries:
        """Return the entries that an array of indices or a mask selects."""
        columns: Any = (column[index] for column in self)
        return Entries(*columns)


def of_samples(times: Float64, values: Float32, scores: Float32) -> Entries:
    """Convert samples of shapes (n,), (n, C) and (n,) to entries of one sample each."""
    rows = np.ones(len(times), np.int64)
    counts = (~np.isnan(values)).astype(np.int64)
    return Entries(times, rows, scores, counts, values, values, values.astype(np.float64))


def joined(parts: Sequence[Entries]) -> Entries:
    """Concatenate consecutive parts, of which there is at least one."""
    columns: Any = map(np.concatenate, zip(*parts, strict=True))
    return parts[0] if len(parts) == 1 else Entries(*columns)


def merged(
    entries: Entries, interval_s: float, origin_s: float = 0.0, count_max: float = np.inf
) -> Entries:
    """Merge entries, at least one, into longer intervals counted from ``origin_s``.

    If rounding would produce an interval beyond ``count_max``, its entries go to the last interval.
    """
    index = np.minimum(np.floor((entries.times - origin_s) / interval_s), count_max - 1)
    begins = np.flatnonzero(np.concatenate([[True], index[1:] != index[:-1]]))
    counts = np.add.reduceat(entries.counts, begins)
    sums = np.add.reduceat(np.where(entries.counts > 0, entries.mean, 0) * entries.counts, begins)
    mean = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=mean, where=counts > 0)
    return Entries(
        index[begins] * interval_s + origin_s,
        np.add.reduceat(entries.rows, begins),
        np.fmax.reduceat(entries.score_max, begins),
        counts,
        np.fmin.reduceat(entries.low, begins),
        np.fmax.reduceat(entries.high, begins),
        mean,
    )


def between(entries: Entries, from_s: float, to_s: float) -> Entries:
    """Return the entries that begin at or after the start and before the end."""
    return entries.rows_at((entries.times >= from_s) & (entries.times < to_s))


def to_bytes(entries: Entries, start_s: float, interval_s: float) -> bytes:
    """Encode entries as a block; their intervals are counted from ``start_s``."""
    count, channels = entries.low.shape
    at = np.rint((entries.times - start_s) / interval_s)
    columns = (
        at.astype("<u2"),
        entries.rows.astype("<u4"),
        entries.score_max.astype("<f4"),
        entries.counts.astype("<u4"),
        entries.low.astype("<f4"),
        entries.high.astype("<f4"),
        entries.mean.astype("<f4"),
    )
    body = b"".join(column.tobytes() for column in columns)
    return zlib.compress(_HEAD.pack(count, channels) + body, _LEVEL)


def from_bytes(data: bytes, start_s: float, interval_s: float) -> Entries:
    """Decode the entries of a block.

    Raises:
        ValueError: the bytes are not a block.

    """
    body = _unpacked(data)
    count, channels = _HEAD.unpack_from(body)
    offset = _HEAD.size

    def column(kind: str, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        nonlocal offset
        found = np.frombuffer(body, kind, int(np.prod(shape)), offset).reshape(shape)
        offset += found.nbytes
        return found

    at, rows = column("<u2", count), column("<u4", count).astype(np.int64)
    score_max = column("<f4", count).astype(np.float32)
    counts = column("<u4", count, channels).astype(np.int64)
    low, high, mean = (column("<f4", count, channels).astype(np.float32) for _ in range(3))
    times = start_s + at.astype(np.float64) * interval_s
    return Entries(times, rows, score_max, counts, low, high, mean.astype(np.float64))


def is_block(start_s: object, data: object) -> bool:
    """Whether the start time and the block of a stored row are valid."""
    if not (isinstance(start_s, float) and abs(start_s) < _SECONDS_MAX and isinstance(data, bytes)):
        return False
    try:
        _unpacked(data)
    except ValueError:
        return False
    return True


def _unpacked(data: bytes) -> bytes:
    try:
        body = zlib.decompress(data)
        count, channels = _HEAD.unpack_from(body)
    except (zlib.error, struct.error) as error:
        raise ValueError(f"not a history block: {error}") from error
    if len(body) != _HEAD.size + count * (10 + 16 * channels) or not count:
        raise ValueError("a history block has the wrong length")
    return body
