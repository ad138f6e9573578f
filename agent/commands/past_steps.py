"""Reads the stored history of a stream as steps of a forecaster: means on a coarser grid.

It reads the newest samples only, in pieces, so that time and memory are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from agent.store.reader import Reader
from models.forecaster import Forecaster, step_numbers
from models.messages import Float32, Float64, Int64

SAMPLES_MAX: Final = 1_000_000  # the newest of all streams; the default size of the ring
CELLS_MAX: Final = 1_000_000  # steps times channels that are kept, but for the oldest piece
_PIECE_CELLS: Final = 400_000  # samples times channels that are read at once


class Steps(NamedTuple):
    """The whole steps with a sample, in order: ``S`` steps, ``C`` channels of the stream."""

    numbers: Int64  # (S,) rising; see ``models.forecaster``
    values: Float32  # (S, C) in the channels' units, NaN where missing

    def rows(self, first: int, count: int) -> Float32:
        """Return the steps (count, C) from a number on; NaN where there is none."""
        begin, end = np.searchsorted(self.numbers, (first, first + count)).tolist()
        rows = np.full((count, self.values.shape[1]), np.nan, np.float32)
        rows[self.numbers[begin:end] - first] = self.values[begin:end]
        return rows


class _Sums(NamedTuple):
    """Sums of samples by step, not yet divided."""

    numbers: Int64  # (S,)
    totals: Float64  # (S, C)
    counts: Int64  # (S, C)


def past_steps(reader: Reader, stream: str, forecaster: Forecaster, channels: int) -> Steps:
    """Return the stored steps of a stream since its channels or its clock last changed back.

    The first step may have lost samples, and the last may lack some, so they are left out.

    Raises:
        StoreError: the agent's database cannot be read.

    """
    layout, end = reader.layout(stream), reader.next_sample()
    since = max(0 if layout is None else layout[1], end - SAMPLES_MAX)
    period_s = forecaster.step_s / forecaster.part.step_samples
    parts: list[_Sums] = []  # the newest first
    steps_left, following = CELLS_MAX // channels, 0
    for times, values in _pieces(reader, stream, (since, end), channels):
        if not parts:  # the step of the next sample that will come
            ahead = step_numbers(times[-1:] + period_s, forecaster.step_s, period_s)
            following = int(ahead[0])
        parts.append(_summed(step_numbers(times, forecaster.step_s, period_s), values))
        steps_left -= len(parts[-1].numbers)
        if steps_left < 0:
            break
    if not parts:
        return Steps(np.empty(0, np.int64), np.empty((0, channels), np.float32))
    return _whole(_Sums(*map(np.concatenate, zip(*parts[::-1], strict=True))), following)


def _pieces(
    reader: Reader, stream: str, numbers: tuple[int, int], channels: int
) -> Iterator[tuple[Float64, Float32]]:
    """Yield times and values of a range of samples in pieces, the newest first."""
    size = max(1, _PIECE_CELLS // channels)
    for end in range(numbers[1], numbers[0], -size):
        times, values = _decoded(
            reader.samples_of(stream, max(end - size, numbers[0]), end), channels
        )
        if len(times):
            yield times, values


def _decoded(stored: Sequence[tuple[bytes, bytes]], channels: int) -> tuple[Float64, Float32]:
    """Return times (n,) and values (n, C); a chunk of another bundle's channels is left out."""
    own = [one for one in stored if len(one[1]) * 2 == len(one[0]) * channels]
    times, values = (b"".join(column) for column in zip(*own, strict=True)) if own else (b"", b"")
    return np.frombuffer(times), np.frombuffer(values, np.float32).reshape(-1, channels)


def _summed(numbers: Int64, values: Float32) -> _Sums:
    known = ~np.isnan(values)
    totals = np.where(known, values, 0).astype(np.float64)
    return _together(_Sums(numbers, totals, known.astype(np.int64)))


def _together(sums: _Sums) -> _Sums:
    """Add neighbors of the same step."""
    begins = np.flatnonzero(np.diff(sums.numbers, prepend=sums.numbers[0] - 1))
    return _Sums(
        sums.numbers[begins],
        np.add.reduceat(sums.totals, begins, axis=0),
        np.add.reduceat(sums.counts, begins, axis=0),
    )


def _whole(sums: _Sums, following: int) -> Steps:
    """Return the means of the steps before ``following`` that rise to the newest."""
    numbers, totals, counts = _together(sums)
    back = np.flatnonzero(np.diff(numbers) < 0)  # the clock was set back
    begin = 1 + (int(back[-1]) + 1 if len(back) else 0)
    whole = slice(begin, len(numbers) - (int(numbers[-1]) == following))
    means = np.full(totals.shape, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return Steps(numbers[whole], means[whole].astype(np.float32))
