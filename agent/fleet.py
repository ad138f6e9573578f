"""The streams of one detector, aligned and scored together; what they bring is kept for the commit.

One call of the network serves all streams that have a sample, and what belongs to a stream alone
(counters, summaries, rows to store) is made once a commit, not once a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agent.config import StreamTable
from agent.store import Batch
from agent.stream import Stream
from models.align import Aligned, Aligners
from models.messages import Float32, Float64, Int64, Readings, Samples
from models.pipeline import Detector


class _Scored(NamedTuple):
    """Rows that wait for the commit; of each stream in order."""

    streams: Int64  # (n,)
    times: Float64  # (n,)
    values: Float32  # (n, C)
    score: Float32  # (n,)


class Fleet:
    """Streams that share a detector; one thread uses it."""

    def __init__(
        self, detector: Detector, tables: Sequence[StreamTable], summary_interval_s: float
    ) -> None:
        manifest = detector.manifest
        self._detector = detector
        self._memory = detector.start(len(tables))
        self._aligners = Aligners(
            manifest.sampling,
            len(manifest.channels),
            [table.lateness_samples for table in tables],
        )
        self.streams = [
            Stream(table, detector, self._memory, number, self._aligners, summary_interval_s)
            for number, table in enumerate(tables)
        ]
        self._readings = np.zeros(len(tables), np.int64)  # since the last ``flush``
        self._scored: list[_Scored] = []

    def take(self, streams: Int64, readings: Readings, batch: Batch) -> None:
        """Score what the readings, (n, C), of these streams, (n,), complete.

        What came of it goes into ``batch``: events at once, the rest with ``flush``.
        """
        known = np.count_nonzero(~np.isnan(readings.values), axis=1)
        np.add.at(self._readings, streams, known)
        for aligned in self._aligners.push(streams, readings):
            self._score(aligned, batch)

    def _score(self, aligned: Aligned, batch: Batch) -> None:
        streams = np.arange(len(self.streams))[aligned.who]
        found = self._detector.step_together(self._memory, *aligned)
        self._scored.append(
            _Scored(
                np.tile(streams, len(aligned.times)),
                aligned.times.ravel(),
                aligned.values.reshape(-1, aligned.values.shape[-1]),
                found.score.ravel(),
            )
        )
        for column, event in found.events:
            self.streams[streams[column]].report([event], batch)
        for column, forecast in found.forecasts:
            self.streams[streams[column]].foretell(forecast, batch)

    def flush(self, batch: Batch) -> None:
        """Put the samples since the last call, with what they sum up to, into ``batch``."""
        for stream in np.flatnonzero(self._readings).tolist():
            self.streams[stream].counters["readings"] += int(self._readings[stream])
        self._readings[:] = 0
        if not self._scored:
            return
        streams, times, values, score = (
            np.concatenate(parts) for parts in zip(*self._scored, strict=True)
        )
        self._scored.clear()
        order = np.argsort(streams, kind="stable")
        times, values, score = times[order], values[order], score[order]
        edges = np.cumsum(np.bincount(streams, minlength=len(self.streams))).tolist()
        for own, begin, end in zip(self.streams, [0, *edges], edges, strict=False):
            if end > begin:
                rows = slice(begin, end)
                own.keep(Samples(times[rows], values[rows]), score[rows], batch)
