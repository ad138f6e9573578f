"""The window of an alarm: the samples around its onset, as the detector saw and scored them.

A stored window has two columns of bytes: the times, and everything else. The first byte of all
numbers comes first, then the second of all, so that zlib finds the bytes that repeat. This module
needs no numpy.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypeVar

from models.quality import QUALITIES
from models.times import iso_time

THRESHOLD: Final = 1.0  # of every score; see ``models.detector``
_LEVEL: Final = 3  # of zlib: 9 takes twice as long for 1 % less
_TIME, _NUMBER = 8, 4  # bytes

_V = TypeVar("_V")


class Window(NamedTuple):
    """A window of ``n`` samples of ``C`` channels, as the agent writes it."""

    stream: str
    number: int  # of the first alarm that it belongs to
    last: int  # of the last one: alarms that open shortly after one another share a window
    to_come: int  # samples until it is complete
    channels: tuple[str, ...]  # C
    times: bytes  # n float64, Unix seconds
    observed: bytes  # C rows of n float32, in the channels' units; NaN: missing
    expected: bytes  # the same; NaN: nothing was expected
    score: bytes  # n float32, dimensionless; NaN: not scored
    quality: bytes  # C rows of n codes; see ``models.quality``

    @property
    def rows(self) -> int:
        """The number of samples."""
        return len(self.times) // _TIME

    @property
    def size(self) -> int:
        """Its bytes in memory."""
        return sum(map(len, self[5:]))

    def packed(self) -> tuple[bytes, bytes]:
        """Return the columns of the store: times and everything else."""
        numbers = (_planes(one, _NUMBER) for one in (self.observed, self.expected, self.score))
        return packed_times(self.times), zlib.compress(b"".join((*numbers, self.quality)), _LEVEL)


class Seen(NamedTuple):
    """A window for its readers: ``n`` samples in plain lists; None where there is no value."""

    stream: str
    number: int  # see ``Window``, also for the next two
    last: int
    to_come: int
    times: list[float]  # Unix seconds
    observed: dict[str, list[float | None]]  # by channel, in its unit
    expected: dict[str, list[float | None]]
    score: list[float | None]  # dimensionless
    quality: dict[str, list[str]]  # by channel, "good" to "missing"
    threshold: float = THRESHOLD  # of the score

    @classmethod
    def of(cls, window: Window) -> Seen:
        """Return the numbers of a window, each as the shortest one of the same float32."""
        names, rows = window.channels, window.rows
        qualities = [QUALITIES[code] for code in window.quality]
        return cls(
            window.stream,
            window.number,
            window.last,
            window.to_come,
            array("d", window.times).tolist(),
            _by_channel(names, _shortest(window.observed), rows),
            _by_channel(names, _shortest(window.expected), rows),
            _shortest(window.score),
            _by_channel(names, qualities, rows),
        )

    def about(self) -> dict[str, Any]:
        """Return what the window covers, for JSON."""
        return {
            "first_alarm": self.number,
            "last_alarm": self.last,
            "samples": len(self.times),
            "samples_to_come": self.to_come,
            "from": iso_time(self.times[0]),
            "to": iso_time(self.times[-1]),
            "threshold": self.threshold,
        }

    def document(self) -> dict[str, Any]:
        """Return the whole window for JSON; the times are Unix seconds."""
        return self.about() | {
            "times": self.times,
            "score": self.score,
            "channels": [
                {
                    "channel": name,
                    "observed": self.observed[name],
                    "expected": self.expected[name],
                    "quality": self.quality[name],
                }
                for name in self.observed
            ],
        }


def unpacked(channels: Sequence[str], times: bytes, data: bytes) -> Window:
    """Return a window without stream and number from the two columns of ``Window.packed``.

    Raises:
        ValueError: they are damaged, or are of another number of channels.

    """
    moments = unpacked_times(times)
    rows, content = len(moments) // _TIME, _decompressed(data)
    values = rows * len(channels)
    sizes = [values * _NUMBER, values * _NUMBER, rows * _NUMBER, values]
    if not rows or len(content) != sum(sizes):
        raise ValueError("a window of another size")
    observed, expected, score, quality = _cut(content, sizes)
    if max(quality) >= len(QUALITIES):
        raise ValueError("a window with an unknown quality")
    return Window(
        "",
        0,
        0,
        0,
        tuple(channels),
        moments,
        _numbers(observed, _NUMBER),
        _numbers(expected, _NUMBER),
        _numbers(score, _NUMBER),
        quality,
    )


def _cut(content: bytes, sizes: Sequence[int]) -> list[bytes]:
    ends = list(accumulate(sizes))
    return [content[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def packed_times(times: bytes) -> bytes:
    """Return times, float64, as the store has them."""
    return zlib.compress(_planes(times, _TIME), _LEVEL)


def unpacked_times(data: bytes) -> bytes:
    """Return times from the store.

    Raises:
        ValueError: they are damaged.

    """
    return _numbers(_decompressed(data), _TIME)


def _decompressed(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise ValueError(f"a damaged window: {error}") from error


def _planes(numbers: bytes, size: int) -> bytes:
    """Return the first byte of all numbers, then the second of all, …"""
    return b"".join(numbers[at::size] for at in range(size))


def _numbers(planes: bytes, size: int) -> bytes:
    """Return the reverse of ``_planes``."""
    count, rest = divmod(len(planes), size)
    if rest:
        raise ValueError("a window with part of a number")
    numbers = bytearray(len(planes))
    for at in range(size):
        numbers[at::size] = planes[at * count : (at + 1) * count]
    return bytes(numbers)


def _shortest(data: bytes) -> list[float | None]:
    """Return float32 numbers with as few digits as tell them from their neighbours.

    None is for what JSON lacks: NaN and infinity.
    """
    found: list[float | None] = []
    single = array("f", [0.0])
    for value in array("f", data).tolist():
        if value - value != 0.0:
            found.append(None)
            continue
        for digits in (6, 7, 8, 9):
            short = float(f"{value:.{digits}g}")
            single[0] = short
            if single[0] == value:
                break
        found.append(short + 0.0)  # no zero with a sign
    return found


def _by_channel(names: tuple[str, ...], values: list[_V], rows: int) -> dict[str, list[_V]]:
    return {name: values[at * rows : (at + 1) * rows] for at, name in enumerate(names)}
