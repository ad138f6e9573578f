"""Keeps the batch in memory, within limits, while the store cannot be written.

The log and systemd's status line report this, because the status itself cannot be stored. The
link's retained status reports it to central ops and names the waiting alarms. A message or an alarm
gets its number only once it is on the disk. If the agent published a number earlier and then ended,
it would use that number again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.store.batch import EVICTION, LISTED
from models.times import iso_time

if TYPE_CHECKING:
    from agent.store.batch import Batch
    from models.errors import StoreError

_LOG = logging.getLogger(__name__)

_ALARMS_TOLD_MAX = 20


class Trouble:
    """Tracks whether the store fails, and what was dropped since the start; the loop uses it."""

    def __init__(self) -> None:
        self.error: str | None = None  # why nothing can be stored
        self._since_s = 0.0
        self._shed: Counter[str] = Counter()  # what was dropped: samples, or a kind of message
        self._shed_before: Counter[str] = Counter()

    def failed(self, error: StoreError, batch: Batch, wall_s: float) -> None:
        """Keep what could not be written; log it once."""
        if self.error is None:
            self._since_s = wall_s
            _LOG.error("cannot write to the store, retrying: %s", error)
        self.error = str(error)
        self._shed.update(batch.shed())

    def over(self) -> bool:
        """Log once that everything is stored again; return whether the store had failed."""
        if self.error is None:
            return False
        lost = self._shed - self._shed_before
        _LOG.warning("storing works again; %s", _counts(lost) if lost else "nothing was lost")
        self.error, self._shed_before = None, self._shed.copy()
        return True

    def news(self, batch: Batch) -> dict[str, Any] | None:
        """Return the report to central ops; None if everything is stored."""
        if self.error is None:
            return None
        alarms = [m.data | {"number": None} for m in batch.messages if m.kind == "alarm"]
        return {
            "since": iso_time(self._since_s),
            "error": self.error,
            "alarms_waiting": len(alarms),
            "alarms": alarms[-_ALARMS_TOLD_MAX:],
        }

    def brief(self) -> str:
        """Return a line for ``systemctl status``."""
        return f"CANNOT STORE since {iso_time(self._since_s)}: {self.error}"

    def counters(self) -> dict[str, int]:
        """Return how much was dropped because it could not be stored."""
        return {
            "samples_not_stored": self._shed["samples"],
            "messages_not_stored": sum(self._shed[kind] for kind in EVICTION),
            "alarms_not_stored": self._shed["alarm"] + self._shed[LISTED],  # sent, or in the list
            "logbook_not_stored": self._shed["logbook"],
            "notices_not_stored": self._shed["notices"],
            "windows_not_stored": self._shed["windows"],
        }


def _counts(lost: Counter[str]) -> str:
    return "dropped meanwhile: " + ", ".join(f"{kind} {count}" for kind, count in lost.items())
