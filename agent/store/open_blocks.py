"""The open block and the open hour of one stream: aggregated, but not written yet. No I/O.

samples ─> open block (10 minutes) ─> row of ``minutes`` ─> open hour ─> row of ``hours``
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from agent.store.aggregates import Entries, joined, merged, of_samples, to_bytes
from agent.store.migrations import NUMBER_BITS, Level
from models.messages import Float32, Float64, Samples

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
_BLOCK_S: Final = 600.0
BLOCK_S: Final = {"minutes": _BLOCK_S, "hours": HOUR_S}  # of a row
ENTRY_S: Final = {"minutes": MINUTE_S, "hours": HOUR_S}
_PARTS_MAX = 60  # chunks aggregated together; also the maximum number of waiting results
_ROWS_MAX = 1024


def key_of(stream: int, number: int) -> int:
    """Return the key of a stream's row that begins with this sample."""
    return stream << NUMBER_BITS | number


class Row(NamedTuple):
    """A finished block or hour, of the samples before ``next``."""

    level: Level
    key: int
    next: int
    start_s: float
    data: bytes


@dataclass(eq=False, slots=True)
class _Open:
    """A block or an hour that is not written yet."""

    index: float  # its start / length of a block
    first: int  # number of its first sample
    next: int  # and of the first after it
    parts: list[Entries] = field(default_factory=list)
    samples: list[tuple[Float64, Float32, Float32]] = field(default_factory=list)  # to add up
    rows: int = 0  # of these
    touched_s: float = 0.0  # monotonic


class OpenBlocks:
    """The open block and the open hour of one stream; closed ones go into ``finished``."""

    def __init__(self, stream: int, finished: list[Row]) -> None:
        self._stream, self._finished = stream, finished
        self.cut = 0  # samples from this number on stay separate from earlier ones
        self._block: _Open | None = None
        self._hour: _Open | None = None

    @property
    def first(self) -> int | None:
        """The number of the open block's first sample; None without a block."""
        return None if self._block is None else self._block.first

    def idle_since(self, time_s: float) -> bool:
        """Return whether there is a block to which nothing was added since a monotonic time."""
        return self._block is not None and self._block.touched_s < time_s

    def has_before(self, number: int) -> bool:
        """Return whether samples before this number are in the open block or hour."""
        return any(
            opened is not None and opened.first < number for opened in (self._block, self._hour)
        )

    def add(self, number: int, samples: Samples, scores: Float32, now_s: float) -> None:
        """Add samples in order of time; the first has this number."""
        times = samples.times
        first = times.item(0) // _BLOCK_S
        if first == times.item(-1) // _BLOCK_S:
            self._extend(first, number, samples, scores, now_s)
            return
        index = times // _BLOCK_S
        cuts = np.flatnonzero(index[1:] != index[:-1]) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(times)]):
            part, score = samples.part(begin, end), scores[begin:end]
            self._extend(float(index[begin]), number + begin, part, score, now_s)

    def _extend(
        self, index: float, number: int, samples: Samples, scores: Float32, now_s: float
    ) -> None:
        if self._block is not None and self._apart(self._block, index, number):
            self.close_block()
        if (block := self._block) is None:
            block = self._block = _Open(index, number, number)
        block.samples.append((samples.times, samples.values, scores))
        block.rows += len(samples.times)
        block.next = number + len(samples.times)
        block.touched_s = now_s
        if len(block.samples) >= _PARTS_MAX or block.rows >= _ROWS_MAX:
            _add_up(block)

    def _apart(self, before: _Open, index: float, number: int) -> bool:
        return before.index != index or before.first < self.cut <= number

    def close_block(self) -> None:
        """Finish the open block, if there is one, and add it to its hour."""
        if (block := self._block) is None:
            return
        _add_up(block)
        start_s = block.index * _BLOCK_S
        self._finish("minutes", block, start_s)
        self._block = None
        self.add_block(block.first, block.next, block.parts, start_s)

    def add_block(self, first: int, next_number: int, parts: list[Entries], start_s: float) -> None:
        """Add a finished block to its hour."""
        index = start_s // HOUR_S
        if self._hour is not None and self._apart(self._hour, index, first):
            self._close_hour()
        if self._hour is None:
            self._hour = _Open(index, first, next_number)
        self._hour.parts += parts
        self._hour.next = next_number

    def close(self) -> None:
        """Finish the open block and the open hour."""
        self.close_block()
        self._close_hour()

    def _close_hour(self) -> None:
        if (hour := self._hour) is not None:
            self._finish("hours", hour, hour.index * HOUR_S)
            self._hour = None

    def _finish(self, level: Level, done: _Open, start_s: float) -> None:
        entries = merged(joined(done.parts), ENTRY_S[level], start_s)
        data = to_bytes(entries, start_s, ENTRY_S[level])
        key = key_of(self._stream, done.first)
        self._finished.append(Row(level, key, done.next, start_s, data))


def _add_up(block: _Open) -> None:
    """Aggregate the waiting samples into minutes: several chunks at once, which is cheaper."""
    if block.samples:
        times, values, scores = map(np.concatenate, zip(*block.samples, strict=True))
        block.parts.append(merged(of_samples(times, values, scores), MINUTE_S))
        block.samples, block.rows = [], 0
    if len(block.parts) >= _PARTS_MAX:
        block.parts = [merged(joined(block.parts), MINUTE_S)]
