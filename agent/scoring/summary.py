"""Summaries for central ops in normal operation: one per stream and interval of sample time.

Intervals begin at multiples of ``interval_s`` of the samples' own time. So the summaries of a fleet
line up, and a restart continues the interval in progress.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np

from models.grid import begun_by, interval_of
from models.messages import GOOD, HELD, INTERPOLATED, Bool, Float32, Float64, Samples, Uint8
from models.shown import short
from models.times import iso_time


@dataclass(slots=True)
class _Doubts:
    """Counts of unmeasured values in an interval; saved separately, as they are mostly empty."""

    number: int  # number of the interval
    held: list[int]  # samples, per channel
    interpolated: list[int]
    uncertain: int = 0  # scored samples with an unmeasured value


@dataclass(eq=False, slots=True)
class _Interval:
    """The current interval so far; ``known`` to ``squares`` have one value per channel."""

    number: int  # counted from 1970
    last_time: float
    known: Float64  # number of samples with a value
    low: Float64
    high: Float64
    mean: Float64
    squares: Float64  # squared distances from the mean, summed
    samples: int = 0
    scored: int = 0
    anomalous: int = 0
    score_max: float | None = None


_SAVED: Final = tuple(field.name for field in fields(_Interval))


class Summary:
    """Accumulates the current interval of one stream, in constant memory."""

    def __init__(self, channels: Sequence[str], interval_s: float) -> None:
        self._channels = tuple(channels)
        self.interval_s = interval_s
        self._now: _Interval | None = None  # None before the first sample
        self._doubts: _Doubts | None = None  # None: no unmeasured values yet

    def add(self, samples: Samples, score: Float32) -> list[dict[str, Any]]:
        """Add samples with their scores, (n,); return summaries of the finished intervals.

        Add many samples at a time: one by one they cost ten times as much.
        """
        ended: list[dict[str, Any]] = []
        if len(samples.times) == 0:
            return ended
        for number, begin, end in self._pieces(samples.times):
            if self._now is None or number != self._now.number:
                ended += self.close()
                self._now = self._begin(number)
            _add(
                self._now,
                samples.times[begin:end],
                samples.values[begin:end],
                score[begin:end],
            )
            if samples.quality is not None:
                self._doubt(samples.quality[begin:end], score[begin:end])
        return ended

    def _doubt(self, quality: Uint8, score: Float32) -> None:
        assert self._now is not None
        doubts = self._doubts
        if doubts is None or doubts.number != self._now.number:
            none = [0] * len(self._channels)
            self._doubts = doubts = _Doubts(self._now.number, none, none)
        doubts.held = _counted_on(doubts.held, quality == HELD)
        doubts.interpolated = _counted_on(doubts.interpolated, quality == INTERPOLATED)
        doubts.uncertain += uncertain(quality, score)

    def _pieces(self, times: Float64) -> list[tuple[int, int, int]]:
        """Return the number, begin and end of each run of samples in one interval."""
        first = interval_of(float(np.minimum.reduce(times)), self.interval_s)
        if first == interval_of(float(np.maximum.reduce(times)), self.interval_s):
            return [(first, 0, len(times))]
        numbers = begun_by(times, self.interval_s)
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(times)]
        return [(int(numbers[begin]), begin, end) for begin, end in itertools.pairwise(edges)]

    def _begin(self, number: int) -> _Interval:
        zeros = np.zeros(len(self._channels))
        return _Interval(
            number=number,
            last_time=0.0,
            known=zeros.copy(),
            low=zeros + np.inf,
            high=zeros - np.inf,
            mean=zeros.copy(),
            squares=zeros.copy(),
        )

    def close(self) -> list[dict[str, Any]]:
        """End the current interval; return its summary, or nothing if it had no sample."""
        now, self._now = self._now, None
        if now is None:
            return []
        begin = now.number * self.interval_s
        doubts = self._doubts
        if doubts is not None and doubts.number != now.number:
            doubts = None
        return [
            {
                "from": iso_time(begin),
                "to": iso_time(begin + self.interval_s),
                "last_sample": iso_time(now.last_time),
                "n": now.samples,
                "scored": now.scored,
                "score_max": now.score_max,
                "share_anomalous": now.anomalous / now.scored if now.scored else None,
                "uncertain": doubts.uncertain if doubts else 0,
                "channels": {
                    name: _channel(now, doubts, index) for index, name in enumerate(self._channels)
                },
            }
        ]

    def doubts_to_bytes(self) -> bytes:
        """Return the doubts of the interval, for the store; empty if all values were measured."""
        return b"" if self._doubts is None else json.dumps(asdict(self._doubts)).encode()

    def restore_doubts(self, data: bytes) -> None:
        """Continue with the doubts that ``doubts_to_bytes`` saved."""
        self._doubts = _Doubts(**json.loads(data)) if data else None

    def to_bytes(self) -> bytes:
        """Return the interval so far, for the store, without the doubts."""
        if self._now is None:
            return b"null"
        saved = {name: getattr(self._now, name) for name in _SAVED}  # ``asdict`` copies the arrays
        return json.dumps(saved, default=np.ndarray.tolist).encode()

    def restore(self, data: bytes) -> None:
        """Continue the interval that ``to_bytes`` saved."""
        saved = json.loads(data)
        if saved is not None:
            arrays = {
                name: np.array(value) for name, value in saved.items() if isinstance(value, list)
            }
            self._now = _Interval(**(saved | arrays))


def _counted_on(counts: list[int], samples: Bool) -> list[int]:
    """Return the counts per channel plus those of more samples, (n, C)."""
    return [a + b for a, b in zip(counts, samples.sum(axis=0).tolist(), strict=True)]


def uncertain(quality: Uint8, score: Float32) -> int:
    """Return the number of samples, (n, C), with a score, (n,), and an unmeasured value."""
    return int(((quality != GOOD).any(axis=1) & ~np.isnan(score)).sum())


def _add(now: _Interval, times: Float64, values: Float32, scores: Float32) -> None:
    now.last_time = float(times[-1])
    # by channel: numpy is several times as fast along rows as along columns
    _add_values(now, np.ascontiguousarray(values.T, np.float64))
    _add_scores(now, scores.astype(np.float64))


def _add_values(now: _Interval, values: Float64) -> None:
    """Merge counts, means and squares of values, (C, n) (Chan, Golub & LeVeque 1979).

    This stays exact for a large mean, with which a plain sum of squares loses precision.
    """
    if np.isnan(np.add.reduce(values, axis=None)):
        missing = np.isnan(values)
        known = np.add.reduce(~missing, axis=1)
        mean = np.add.reduce(np.where(missing, 0, values), axis=1) / np.maximum(known, 1)
        apart = np.where(missing, 0, values - mean[:, None])
        low, high = np.where(missing, np.inf, values), np.where(missing, -np.inf, values)
    else:
        known = np.full(len(values), values.shape[1])
        mean = np.add.reduce(values, axis=1) / known
        apart, low, high = values - mean[:, None], values, values
    total = np.maximum(now.known + known, 1)
    moved = (mean - now.mean) * known / total  # shift of the mean; 0 for channels without a value
    now.squares += np.einsum("ij,ij->i", apart, apart) + moved * (mean - now.mean) * now.known
    now.mean += moved
    now.known += known
    np.minimum(now.low, np.minimum.reduce(low, axis=1), out=now.low)
    np.maximum(now.high, np.maximum.reduce(high, axis=1), out=now.high)
    now.samples += values.shape[1]


def _add_scores(now: _Interval, scores: Float64) -> None:
    scored = scores[~np.isnan(scores)]
    if len(scored):
        highest = float(np.maximum.reduce(scored))
        now.scored += len(scored)
        now.anomalous += int(np.count_nonzero(scored > 1)) if highest > 1 else 0
        now.score_max = max(highest, now.score_max or 0.0)


def _channel(now: _Interval, doubts: _Doubts | None, index: int) -> dict[str, float | int | None]:
    known = int(now.known[index])
    made_up = {
        "held": doubts.held[index] if doubts else 0,
        "interpolated": doubts.interpolated[index] if doubts else 0,
    }
    statistics = {
        "min": now.low[index],
        "mean": now.mean[index],
        "max": now.high[index],
        "std": np.sqrt(now.squares[index] / max(known, 1)),
    }
    return {
        "missing": now.samples - known,
        **{name: count for name, count in made_up.items() if count},
        **{name: short(value) if known else None for name, value in statistics.items()},
    }
