"""Remarks for ``status``: the reason for a missing score, and unchanging channels."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import numpy as np

from agent.scoring.part import Changes, Moment, Part, Teller
from agent.store.batch import Batch
from models.manifest import StreamRules
from models.messages import Float32, Samples
from models.names import UNTRAINED
from models.times import unix_s

UNCHANGED_INTERVALS: Final = 10  # number of summaries before an unchanging channel is reported


class WarmUp(Part):
    """Counts the samples that the detector needs before its first score."""

    name = "warm_up"

    def __init__(self, teller: Teller, rules: StreamRules) -> None:
        self._teller = teller
        self._needed, self._period_s = rules.sampling.warm_up_samples, rules.sampling.period_s
        # a network starts over after an interruption
        self._in_a_row = rules.detector not in UNTRAINED
        self._count = 0  # samples with a value since the last score
        self._last_s: float | None = None  # time of the last one, the detector's
        self._scored = False
        self._changes = Changes()

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Count the samples since the last one that has a score."""
        self._scored = bool(score[-1] == score[-1])  # not NaN
        if self._scored:
            self._count, self._last_s = 0, None
            return
        scored = np.flatnonzero(~np.isnan(score))
        if len(scored):
            self._count, self._last_s = 0, None
            samples = samples.part(int(scored[-1]) + 1, len(score))
        times = samples.times - self._teller.correction_s
        before = times[0] - self._period_s if self._last_s is None else self._last_s
        apart = np.diff(times, prepend=before)
        broken = np.flatnonzero(np.abs(apart - self._period_s) > self._period_s / 2)
        if self._in_a_row and len(broken):
            self._count = 0
            samples = samples.part(int(broken[-1]), len(times))
        self._count += int(np.count_nonzero(~np.isnan(samples.values).all(axis=1)))
        self._last_s = float(times[-1])

    def document(self) -> dict[str, Any]:
        """Return the numbers of required and present samples; None if there is a score."""
        if self._scored:
            return {"warm_up": None}
        has = min(self._count, self._needed)
        left_s = (self._needed - has) * self._period_s
        return {"warm_up": {"needs_samples": self._needed, "has_samples": has, "left_s": left_s}}

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the count with the memory, after a change."""
        return self._changes.of(json.dumps([self._count, self._last_s, self._scored]).encode())

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue to count."""
        self._changes.restore(data)
        self._count, self._last_s, self._scored = json.loads(data)


class _Still(NamedTuple):
    """A channel that has had the same value in all intervals so far."""

    value: float
    since: str  # begin of the first of these intervals


class Unchanged(Part):
    """Finds unchanging channels from the summaries, which costs nothing per sample."""

    name = "unchanged"

    def __init__(self) -> None:
        self._still: dict[str, _Still] = {}
        self._until = ""  # end of the last interval
        self._interval_s = 0.0
        self._changes = Changes()

    def see(self, summary: dict[str, Any]) -> None:
        """Take the summary of a finished interval."""
        self._until = summary["to"]
        self._interval_s = unix_s(summary["to"]) - unix_s(summary["from"])
        for name, seen in summary["channels"].items():
            low, high = seen["min"], seen["max"]
            if low is None:  # the interval had no value
                continue
            before = self._still.get(name)
            if low != high:
                self._still.pop(name, None)
            elif before is None or before.value != low:
                self._still[name] = _Still(low, summary["from"])

    def document(self) -> dict[str, Any]:
        """Return, for each unchanged channel, the time since which its value is constant."""
        if not self._still or not self._until:
            return {"unchanged": {}}
        latest = unix_s(self._until) - UNCHANGED_INTERVALS * self._interval_s
        return {
            "unchanged": {
                name: still.since
                for name, still in self._still.items()
                if unix_s(still.since) <= latest
            }
        }

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save them with the memory, after a change."""
        return self._changes.of(json.dumps(self._still).encode() if self._still else b"")

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with the unchanged channels."""
        self._changes.restore(data)
        self._still = {name: _Still(*still) for name, still in json.loads(data or b"{}").items()}
