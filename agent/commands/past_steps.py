"""Reads the stored history of a stream as steps of a forecaster: means on a coarser grid.

It reads the newest samples only, in pieces, so that time and memory are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from agent.store.reader import Reader
from models.forecaster import Forecaster, step_numbers
from models.messages import Float32, Float64, Int64

SAMPLES_MAX: Final = 1_000_000  # the newest of all streams; the default size of the ring
_PIECE_SAMPLES: Final = 50_000  # read at once


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
    parts, last_s = [], 0.0
    for begin in range(since, end, _PIECE_SAMPLES):
        stored = reader.samples_of(stream, begin, min(begin + _PIECE_SAMPLES, end))
        times, values = _decoded(stored, channels)
        if len(times):
            parts.append(_summed(step_numbers(times, forecaster.step_s, period_s), values))
            last_s = float(times[-1])
    if not parts:
        return Steps(np.empty(0, np.int64), np.empty((0, channels), np.float32))
    following = step_numbers(np.array([last_s + period_s]), forecaster.step_s, period_s)
    return _whole(_Sums(*map(np.concatenate, zip(*parts, strict=True))), int(following[0]))


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
