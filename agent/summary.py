"""What central ops gets of a stream's normal life: one summary per interval of sample time.

Intervals lie on multiples of ``interval_s`` of the samples' own time, so that the summaries of a
fleet line up, and a restart goes on with the interval it was in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.messages import Float64, Samples, Scores
from models.times import iso_time


class Summary:
    """Accumulates the current interval of one stream; of constant size."""

    def __init__(self, channels: Sequence[str], interval_s: float) -> None:
        self._channels = tuple(channels)
        self._interval_s = interval_s
        self._clear(None)

    def _clear(self, interval: int | None) -> None:
        channels = len(self._channels)
        self._interval = interval  # its number since 1970; None before the first sample
        self._last_time = 0.0
        self._samples = self._scored = self._anomalous = 0
        self._score_max: float | None = None
        self._known = np.zeros(channels)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)  # squared distances from the mean, summed

    def add(self, samples: Samples, scores: Scores) -> list[dict[str, Any]]:
        """Take in samples with their scores; return the summaries of the intervals they ended."""
        ended = []
        intervals = np.floor(samples.times / self._interval_s).astype(np.int64)
        edges = (np.flatnonzero(np.diff(intervals)) + 1).tolist()
        for begin, end in zip([0, *edges], [*edges, len(intervals)], strict=True):
            if begin == end:
                continue
            if intervals[begin] != self._interval:
                ended += self.close()
                self._interval = int(intervals[begin])
            self._last_time = float(samples.times[end - 1])
            self._add_values(samples.values[begin:end].astype(np.float64))
            self._add_scores(scores.score[begin:end].astype(np.float64))
        return ended

    def _add_values(self, values: Float64) -> None:
        """Merge counts, means and squares (Chan, Golub & LeVeque 1979).

        Stays exact where a large mean would swamp a plain sum of squares.
        """
        self._samples += len(values)
        missing = np.isnan(values)
        known = (~missing).sum(axis=0)
        some = np.maximum(known, 1)
        mean = np.where(missing, 0, values).sum(axis=0) / some
        squares = np.where(missing, 0, (values - mean) ** 2).sum(axis=0)
        total = np.maximum(self._known + known, 1)
        apart = mean - self._mean
        self._squares += squares + apart**2 * self._known * known / total
        self._mean += np.where(known > 0, apart * known / total, 0)
        self._known += known
        self._low = np.minimum(self._low, np.where(missing, np.inf, values).min(axis=0))
        self._high = np.maximum(self._high, np.where(missing, -np.inf, values).max(axis=0))

    def _add_scores(self, scores: Float64) -> None:
        scored = scores[~np.isnan(scores)]
        if len(scored):
            self._scored += len(scored)
            self._anomalous += int((scored > 1).sum())
            self._score_max = max(float(scored.max()), self._score_max or 0.0)

    def close(self) -> list[dict[str, Any]]:
        """End the current interval; return its summary, or nothing if it had no sample."""
        if self._interval is None:
            return []
        begin = self._interval * self._interval_s
        summary = {
            "from": iso_time(begin),
            "to": iso_time(begin + self._interval_s),
            "last_sample": iso_time(self._last_time),
            "n": self._samples,
            "scored": self._scored,
            "score_max": self._score_max,
            "share_anomalous": self._anomalous / self._scored if self._scored else None,
            "channels": {name: self._channel(index) for index, name in enumerate(self._channels)},
        }
        self._clear(None)
        return [summary]

    def _channel(self, index: int) -> dict[str, float | int | None]:
        known = int(self._known[index])
        statistics = {
            "min": self._low[index],
            "mean": self._mean[index],
            "max": self._high[index],
            "std": np.sqrt(self._squares[index] / max(known, 1)),
        }
        return {
            "missing": self._samples - known,
            **{
                name: float(f"{value:.6g}") if known else None for name, value in statistics.items()
            },
        }

    def to_bytes(self) -> bytes:
        """Return the interval so far, for the store."""
        document = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
            if name not in ("_channels", "_interval_s")
        }
        return json.dumps(document).encode()

    def restore(self, data: bytes) -> None:
        """Go on with the interval that ``to_bytes`` saved."""
        for name, value in json.loads(data).items():
            setattr(self, name, np.array(value) if isinstance(value, list) else value)
