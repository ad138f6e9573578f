"""Streams without a bundle in a fleet of their own, for tests of the fleet and of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.bundles.load import baseline
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.scoring.fleet import Fleet
from agent.scoring.stream import Stream
from agent.store.batch import Batch
from models.messages import Readings

START_S = 1_700_000_000.0
WARM_UP = 20  # samples
CHANNELS = ("flow", "pressure")
NORMAL = (50.0, 2.0)  # about this, each channel varies a little
FAR = (90.0, 2.0)


class Fleeting:
    """A fleet with what the loop has beside it: a batch that is never committed.

    A row is a second: (n, 2) values of ``CHANNELS``.
    """

    def __init__(
        self,
        *names: str,
        clock: Clock | None = None,
        limits: Sequence[Mapping[str, Any]] = (),
        alarms: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        given = {
            "period_s": 1.0,
            "channels": [{"name": name, "unit": "m"} for name in CHANNELS],
            "history_samples": 40,
            "update_samples": 5,
            "warm_up_samples": WARM_UP,
            "off_samples": 5,
        }
        tables = [
            StreamTable.model_validate(
                {
                    "name": name,
                    "baseline": given | settings,
                    "limits": limits,
                    "alarms": alarms or {},
                }
            )
            for name in names
        ]
        assert tables[0].baseline is not None
        self.tables = tables
        self.fleet = Fleet(baseline(tables[0].baseline), tables, 10.0, clock or Clock())
        self.batch = Batch()

    @property
    def stream(self) -> Stream:
        """The first."""
        return self.fleet.streams[0]

    def take(self, rows: Sequence[Sequence[float]], first: int = 0, stream: int = 0) -> None:
        """Take rows of a stream, the first of which is so many seconds after ``START_S``."""
        times = START_S + first + np.arange(len(rows), dtype=np.float64)
        who = np.full(len(rows), stream)
        self.fleet.take(who, Readings(times, np.array(rows, np.float32)), self.batch)

    def flush(self) -> Batch:
        """Return what the batch has now, and begin another."""
        self.fleet.flush(self.batch)
        batch, self.batch = self.batch, Batch()
        return batch


def rows(count: int, about: Sequence[float] = NORMAL, seed: int = 1) -> list[list[float]]:
    """Return rows (count, 2) that vary by some hundredths."""
    noise = np.random.default_rng(seed).uniform(-0.02, 0.02, (count, len(about)))
    return (np.array(about) + noise).tolist()
