"""Samples on the wire: a JSON message that describes them, a line end, and their bytes.

    {"specversion":"1.0",…,"data":{"first":7001,…,"sha256":"…"}}
    <zlib>

The message is one of the dialect, so that it can be signed; the digest in it extends the signature
to the bytes. The bytes are the same in every dialect. Decompressed, they are columns: numbers,
times, a column of values per channel, scores and, unless all is good, qualities. Numbers and times
are differences from the row before (times: of their bit patterns). Of numbers, times and scores,
the first byte of all rows comes first, then the second of all (``planes``); of values, if that is
shorter: measured values with few digits repeat as a whole, noisy ones only in their first bytes.
All is lossless.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from agent.dialects.dialect import SAMPLES_FOLLOW
from agent.store.ranges import is_number
from models.messages import QUALITIES, Bool, Float32, Float64, Int64, Uint8
from models.names import CHANNEL
from models.times import iso_time

ENCODING: Final = "zlib"
CONTENT_BYTES_MAX: Final = 2**21  # of the decompressed columns
CHANNELS_MAX: Final = 1000
TIME_MAX: Final = 1e11  # Unix seconds, of the year 5138
_LEVEL: Final = 6  # of zlib
_ROW_BYTES: Final = 20  # number, time and score; each channel adds 5: value and quality


class Samples(NamedTuple):
    """Consecutive samples of one stream: ``n`` of ``C`` channels."""

    channels: Sequence[str]  # C
    # (n,) in the order of all samples of the gateway, from 1, or times in µs; increasing
    numbers: Int64
    times: Float64  # (n,) Unix seconds
    values: Float32  # (n, C) in the channels' units; NaN: none
    scores: Float32  # (n,) dimensionless; NaN: not scored
    quality: Uint8 | None  # (n, C) codes of ``models.quality``; None: all good

    def part(self, begin: int, end: int | None = None) -> Samples:
        """Return the rows from ``begin`` to before ``end``."""
        return self.at(slice(begin, end))

    def at(self, rows: slice | Bool) -> Samples:
        """Return the rows that a slice or a mask (n,) selects."""
        quality = None if self.quality is None else self.quality[rows]
        return Samples(
            self.channels,
            self.numbers[rows],
            self.times[rows],
            self.values[rows],
            self.scores[rows],
            quality,
        )

    def after(self, number: int) -> Samples:
        """Return the samples with a higher number."""
        return self.part(int(np.searchsorted(self.numbers, number, "right")))


class Refused(ValueError):
    """What came is no message with samples; the text says why."""


def content_bytes(samples: int, channels: int) -> int:
    """Return the most bytes that samples take before compression."""
    return samples * (_ROW_BYTES + 5 * channels)


def packed(samples: Samples) -> tuple[dict[str, Any], bytes]:
    """Return what the message says about the samples, and their bytes."""
    values = [samples.values[:, at].astype("<f4") for at in range(len(samples.channels))]
    before = [_planes(_steps(samples.numbers.astype("<i8")))]
    before.append(_planes(_steps(samples.times.astype("<f8").view("<i8"))))
    after = [_planes(samples.scores.astype("<f4"))]
    if samples.quality is not None:
        after.append(samples.quality.T.tobytes())
    whole, planes = (
        zlib.compress(b"".join([*before, *map(form, values), *after]), _LEVEL)
        for form in (np.ndarray.tobytes, _planes)
    )
    data = min(whole, planes, key=len)
    about = {
        "first": int(samples.numbers[0]),
        "last": int(samples.numbers[-1]),
        "n": len(samples.times),
        "from": iso_time(float(samples.times[0])),
        "to": iso_time(float(samples.times[-1])),
        "channels": list(samples.channels),
        "quality": samples.quality is not None,
        "planes": data is planes,
        "encoding": ENCODING,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return about, data


def unpacked(about: Mapping[str, Any], data: bytes) -> Samples:
    """Return the samples of a message.

    Raises:
        Refused: they are damaged, too many, or not what the message says.

    """
    count, channels, has_quality, planes = _shape(about)
    if hashlib.sha256(data).hexdigest() != about.get("sha256"):
        raise Refused("the bytes have another digest")
    sizes = [8 * count, 8 * count, *[4 * count] * (len(channels) + 1)]
    sizes += [count * len(channels)] if has_quality else []
    parts = _cut(_decompressed(data, sum(sizes)), sizes)
    with np.errstate(over="ignore"):  # of steps that nobody would write
        numbers = np.cumsum(_column(parts[0], "<i8"))
        times = np.cumsum(_column(parts[1], "<i8")).view(np.float64)
    values = np.empty((count, len(channels)), np.float32)
    for at, part in enumerate(parts[2 : 2 + len(channels)]):
        values[:, at] = _column(part, "<f4") if planes else np.frombuffer(part, "<f4")
    scores = _column(parts[2 + len(channels)], "<f4").astype(np.float32)
    quality = None
    if has_quality:
        quality = np.frombuffer(parts[-1], np.uint8).reshape(len(channels), count).T.copy()
    found = Samples(channels, numbers, times, values, scores, quality)
    _check(found, about)
    return found


def _shape(about: Mapping[str, Any]) -> tuple[int, list[str], bool, bool]:
    count: Any = about.get("n")
    quality, planes = about.get("quality"), about.get("planes")
    if about.get("encoding") != ENCODING:
        raise Refused(f"its encoding is not {ENCODING}")
    if not is_number(count) or count < 1:
        raise Refused("n is missing or wrong")
    if not isinstance(quality, bool) or not isinstance(planes, bool):
        raise Refused("quality or planes is missing or wrong")
    channels = channel_names(about.get("channels"))
    if content_bytes(count, len(channels)) > CONTENT_BYTES_MAX:
        raise Refused(f"more than {CONTENT_BYTES_MAX} bytes when decompressed")
    return count, channels, quality, planes


def channel_names(channels: Any) -> list[str]:
    """Return the channels of a message.

    Raises:
        Refused: they are no list of different names.

    """
    if not isinstance(channels, list) or not 0 < len(channels) <= CHANNELS_MAX:
        raise Refused("channels is missing, empty or too long")
    if not all(isinstance(name, str) and re.fullmatch(CHANNEL, name) for name in channels):
        raise Refused("channels has something that is no name")
    if len(set(channels)) < len(channels):
        raise Refused("channels has a name twice")
    return channels


def _check(found: Samples, about: Mapping[str, Any]) -> None:
    numbers = found.numbers
    if (np.diff(numbers) <= 0).any() or numbers[0] < 0:
        raise Refused("its numbers do not increase, or are negative")
    if (int(numbers[0]), int(numbers[-1])) != (about.get("first"), about.get("last")):
        raise Refused("first or last is not that of the samples")
    if not ((found.times >= 0) & (found.times <= TIME_MAX)).all():
        raise Refused("it has times that are none")
    if found.quality is not None and int(found.quality.max()) >= len(QUALITIES):
        raise Refused("it has an unknown quality")


def parted(body: bytes) -> tuple[bytes, bytes]:
    """Return the message about samples, and their bytes.

    Raises:
        Refused: there are none.

    """
    head, end, data = body.partition(SAMPLES_FOLLOW)
    if not end or not data:
        raise Refused("there are no bytes after the message")
    return head, data


def _steps(column: Int64) -> Int64:
    with np.errstate(over="ignore"):
        return np.diff(column, prepend=column.dtype.type(0))


def _planes(column: Int64 | Float32) -> bytes:
    """Return the first byte of all numbers, then the second of all, …"""
    rows = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
    return rows.T.tobytes()


def _column(planes: bytes, kind: str) -> Any:
    """Return the reverse of ``_planes``."""
    rows = np.frombuffer(planes, np.uint8).reshape(np.dtype(kind).itemsize, -1)
    return np.ascontiguousarray(rows.T).view(kind).reshape(-1)


def _cut(content: bytes, sizes: Sequence[int]) -> list[bytes]:
    ends = np.cumsum(sizes).tolist()
    return [content[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _decompressed(data: bytes, size: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise Refused(f"the bytes are damaged: {error}") from error
    if len(content) != size or not unpacker.eof or unpacker.unused_data:
        raise Refused("the bytes are of another number of samples")
    return content
