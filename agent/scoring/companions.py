"""Which channels of a stream move together, learned from its summaries: one part per stream."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agent.alarms.suspect import CHANNELS_MAX, Finding, Relations
from agent.scoring.part import Changes, Moment, Part
from agent.store.batch import Batch
from models.times import unix_s

_LOG = logging.getLogger(__name__)


class Companions(Part):
    """Learns from each interval without an alarm; judges the intervals of an alarm.

    It costs nothing per sample, as it takes the summaries of finished intervals.

    Args:
        channels: Names of the stream's channels, in order.
        troubled: Returns whether the stream has an open alarm.

    """

    name = "companions"

    def __init__(self, channels: Sequence[str], troubled: Callable[[], bool]) -> None:
        self._channels = tuple(channels)
        self._troubled = troubled
        self._relations = Relations.of(len(self._channels))
        self._newest: Mapping[str, Any] | None = None  # the summary of the last interval
        self._found: dict[int, Finding | None] = {}  # what it says, by the number of the alarm
        self._changes = Changes()

    def see(self, summary: Mapping[str, Any]) -> None:
        """Take the summary of a finished interval."""
        self._newest, self._found = summary, {}
        if len(self._channels) > CHANNELS_MAX or summary["share_anomalous"] != 0.0:
            return
        means = self._means(summary)
        if math.isfinite(sum(means)) and not self._troubled():
            self._relations.learn(np.array(means))

    def _means(self, summary: Mapping[str, Any]) -> list[float]:
        """Return the mean of each channel that was measured all the time; NaN for the others."""
        rows = summary["channels"]
        return [_mean(rows[name]) for name in self._channels]

    def find(self, alarm: Mapping[str, Any]) -> Finding | None:
        """Return what the last interval says of an alarm; None: nothing, or it began before it."""
        newest, number = self._newest, alarm["number"]
        if newest is None or unix_s(newest["from"]) < unix_s(alarm["onset"]):
            return None
        if number not in self._found:
            self._found[number] = self._judged(newest, alarm)
        return self._found[number]

    def _judged(self, newest: Mapping[str, Any], alarm: Mapping[str, Any]) -> Finding | None:
        known = self._channels
        off = [known.index(name) for name in _off(alarm) if name in known]
        return self._relations.find(np.array(self._means(newest)), off) if off else None

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the relations with the memory, after a change."""
        if not self._relations.intervals:
            return None
        document = {"channels": self._channels} | self._relations.to_document()
        return self._changes.of(json.dumps(document).encode())

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue to learn, if the channels are the same."""
        self._changes.restore(data)
        try:
            saved = json.loads(data)
            if tuple(saved["channels"]) == self._channels:
                self._relations = Relations.from_document(saved)
        except (ValueError, TypeError, KeyError) as error:
            _LOG.warning("the relations of the channels are learnt anew: %s", error)


def _off(alarm: Mapping[str, Any]) -> list[str]:
    return [channel["channel"] for channel in alarm["channels"]]


def _mean(row: Mapping[str, Any]) -> float:
    made_up = row["missing"] or row.get("held") or row.get("interpolated")
    return math.nan if made_up or row["mean"] is None else float(row["mean"])
