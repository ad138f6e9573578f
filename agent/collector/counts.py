"""Counts what the collector does, and logs what happens often without flooding the log."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from typing import Final

from agent.collector.reading import Cause

_LOG = logging.getLogger(__name__)

_TELL_S: Final = 60.0  # between two log messages about the same thing
_TOLD: Final = {
    "twins": "%d times a gateway connected under a name that another gateway uses, too; the last"
    " one is %s. Is one gateway a copy of the other?",
    "gone": "%d messages are gone at their gateway; the last ones are %s",
    "dropped": "%d old messages dropped, %s",
    "forgotten": "%d books of numbers dropped or cut to save space; the last one is that of %s",
    "overwritten": "%d times another client published the collector's status; the last time on %s",
    "far": "%d numbers are far above all others of their gateway, and are not acknowledged until"
    " its other numbers are near; the last one is %s",
    "conflict": "%d messages differ from the stored message with their number; both are kept, see"
    " fieldwatch-agent collected; the last one is %s",
    "unfiled": "samples not written to files, trying again (%d times): %s",
    "chunks_damaged": "%d chunks of samples are damaged in the database, and now in the quarantine:"
    " look with fieldwatch-agent collected DIRECTORY --cause damaged, and check the disk; the last"
    " one is %s",
    "files_dropped": "%d files with samples dropped, %s",
}


class _Tally:
    """Counts frequent events, and logs their number: at once, then once a minute."""

    def __init__(self, told: str) -> None:
        self._told = told
        self._count, self._last = 0, ""
        self._next_s = -math.inf  # monotonic

    def add(self, count: int, which: str) -> None:
        self._count += count
        self._last = which

    def tell(self) -> None:
        now_s = time.monotonic()
        if self._count and now_s >= self._next_s:
            _LOG.warning(self._told, self._count, self._last)
            self._count, self._next_s = 0, now_s + _TELL_S


class Counts:
    """The counters of a collector since its start."""

    def __init__(self) -> None:
        # new, far, repeated, corrected, conflict, gone, rejected, dropped, forgotten, twins,
        # overwritten; of samples: samples, chunks_repeated, samples_answered, samples_filed,
        # samples_repeated, chunks_damaged, files_dropped
        self.counters: Counter[str] = Counter()
        self.rejected: Counter[Cause] = Counter()
        self._tallies = {name: _Tally(told) for name, told in _TOLD.items()}
        self._of_rejected: dict[Cause, _Tally] = {}

    def add(self, name: str, which: str, count: int = 1) -> None:
        """Count something that the log tells, too; ``which`` is the last of them."""
        self.counters[name] += count
        self.tell_of(name, which, count)

    def tell_of(self, name: str, which: str, count: int = 1) -> None:
        """Let the log tell something that has no counter of this name, or is counted already."""
        self._tallies[name].add(count, which)

    def reject(self, cause: Cause, which: str) -> None:
        """Count a message that cannot be used."""
        self.counters["rejected"] += 1
        self.rejected[cause] += 1
        told = f"%d messages rejected, {cause}; the last one is on %s"
        self._of_rejected.setdefault(cause, _Tally(told)).add(1, which)

    def tell(self) -> None:
        """Log the counts now and then."""
        for tally in [*self._tallies.values(), *self._of_rejected.values()]:
            tally.tell()
