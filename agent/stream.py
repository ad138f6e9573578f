"""One stream on its way through the agent: readings -> samples -> scores -> alarms, summaries.

Holds what belongs to the stream alone: its place on the sampling grid, the pipeline's state and
the summary in progress. Does no I/O: the daemon feeds it and commits what it put into the batch.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.alarms import alarm_document
from agent.envelope import Kind, Outgoing
from agent.store import Batch
from agent.summary import Summary
from models.align import Aligner
from models.bundle import Bundle
from models.messages import Event, Readings, Samples
from models.pipeline import Pipeline
from models.state import StateMismatch

_LOG = logging.getLogger(__name__)
_ALIGNER, _SUMMARY = "aligner", "summary"


class Stream:
    """Scores one stream by one bundle; one thread uses it."""

    def __init__(
        self, name: str, bundle: Bundle, pipeline: Pipeline, summary_interval_s: float
    ) -> None:
        manifest = bundle.manifest
        self.name = name
        self.bundle = bundle
        self._pipeline = pipeline
        self._units = {channel.name: channel.unit for channel in manifest.channels}
        self.aligner = Aligner(manifest.sampling, len(manifest.channels))
        self._summary = Summary(manifest.channel_names, summary_interval_s)
        self._state = pipeline.start()
        self.counters: Counter[str] = Counter()
        self.last_time: float | None = None  # of the last sample, Unix seconds
        self.last_score: float | None = None
        self.open_alarms: dict[int, Event] = {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Go on where ``changed_parts`` left off; start anew if that was another bundle."""
        if not parts:
            return
        try:
            self._state = self._pipeline.restore(parts)
        except StateMismatch as reason:
            # a new bundle is a new measure: old errors and thresholds mean nothing to it
            _LOG.warning("stream %s starts from nothing: %s", self.name, reason)
            self.counters["state_discarded"] += 1
            return
        self.aligner.restore(parts[_ALIGNER])
        self._summary.restore(parts[_SUMMARY])

    def take(self, readings: Readings, batch: Batch) -> None:
        """Score what ``readings`` complete and put all that came of it into ``batch``."""
        samples = self.aligner.push(readings)
        self.counters["readings"] += int(np.count_nonzero(~np.isnan(readings.values)))
        if len(samples.times):
            self._score(samples, batch)

    def _score(self, samples: Samples, batch: Batch) -> None:
        result = self._pipeline.step(self._state, samples)
        self.last_time = float(samples.times[-1])
        self.last_score = _or_none(result.scores.score[-1])
        self.counters["samples"] += len(samples.times)
        self.counters["scored"] += int(np.count_nonzero(~np.isnan(result.scores.score)))
        batch.samples.append((self.name, samples, result.scores))
        self._report(result.events, batch)
        for summary in self._summary.add(samples, result.scores):
            self._send("summary", self.last_time, self._pipeline.detector, summary, batch)

    def silent(self, time: float, since: float, batch: Batch) -> None:
        """Open the alarm that says nothing comes any more (once, until something does)."""
        self._report(self._pipeline.silent(self._state, time, since), batch)

    def _report(self, events: list[Event], batch: Batch) -> None:
        for event in events:
            document = alarm_document(self.name, event, self._units)
            batch.alarms.append(document)
            self._send("alarm", event.time, event.detector, document, batch)
            self.counters[f"alarms_{event.state}"] += 1
            _LOG.warning(
                "stream %s: alarm %d %s: %s", self.name, event.number, event.state, event.kind
            )

    def _send(
        self, kind: Kind, time: float, detector: str, data: dict[str, Any], batch: Batch
    ) -> None:
        batch.messages.append(Outgoing(kind, self.name, time, data, self.bundle.digest, detector))

    def save(self, batch: Batch) -> None:
        """Put what changed of this stream's memory into ``batch``."""
        # a batch that could not be committed keeps the parts that have not changed since
        parts = batch.state.setdefault(self.name, {})
        parts |= self._pipeline.changed_parts(self._state)
        parts[_ALIGNER] = self.aligner.to_bytes()
        parts[_SUMMARY] = self._summary.to_bytes()


def _or_none(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
