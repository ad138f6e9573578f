"""Corrects stored times of a wrong clock, once a time server has set the clock."""

from __future__ import annotations

import logging
from collections import deque

from agent.clock import Clock, Step
from agent.store.batch import Batch
from agent.store.correction import Correction
from agent.store.writer import Store
from models.errors import StoreError

_LOG = logging.getLogger(__name__)


class Corrections:
    """The corrections in progress; each tick does some of the work, in the loop's thread."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._waiting: deque[Correction] = deque()

    def begin(self, step: Step, streams: frozenset[str], batch: Batch) -> Correction | None:
        """Begin to correct times from a clock that was not synchronised.

        Args:
            step: The step that the clock has just made.
            streams: Streams whose samples have the gateway's times.
            batch: The batch that is not stored yet.

        Returns:
            The correction, for what is kept in memory; None if nothing is to be corrected.

        """
        if step.unsure_since_s is None:
            return None
        before_s = self._clock.correction_s - step.by_s
        by = self._store.correction(
            step.by_s,
            step.unsure_since_s + before_s,
            self._clock.steady_s() + before_s,
            streams,
            batch,
        )
        self._waiting.append(by)
        batch.alarms = [by.corrected_alarm(one) for one in batch.alarms]
        batch.windows = {key: by.corrected_window(one) for key, one in batch.windows.items()}
        return by

    @property
    def busy(self) -> bool:
        """Whether some stored times are still wrong."""
        return bool(self._waiting)

    def go_on(self) -> None:
        """Do part of the remaining work; call it only while the store can be written."""
        if not self._waiting:
            return
        try:
            self._store.correct(self._waiting[0])
        except StoreError as error:
            _LOG.error("cannot correct stored times, retrying: %s", error)
            return
        if self._waiting[0].done:
            by_s = self._waiting.popleft().by_s
            _LOG.info("stored times corrected by %+.1f s", by_s)
