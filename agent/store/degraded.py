"""What becomes of the batch while the store cannot be written: kept in memory, within limits.

Staff learn it from the log and from systemd's status line, as the status itself cannot be stored;
central ops from the retained status of the link, which names the alarms that wait. A message gets
its number, and is a record, only once it is on the disk; so does an alarm: a number that was told
before would be given again if the agent ended meanwhile.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from models.times import iso_time

if TYPE_CHECKING:
    from agent.store.batch import Batch
    from models.errors import StoreError

_LOG = logging.getLogger(__name__)

_ALARMS_TOLD_MAX = 20


class Trouble:
    """Whether there is any, and what it has cost since the start; the loop's thread uses it."""

    def __init__(self) -> None:
        self.error: str | None = None  # why nothing can be stored
        self._since_s = 0.0
        self._shed: Counter[str] = Counter()  # what was dropped: samples, or a kind of message
        self._shed_before: Counter[str] = Counter()

    def failed(self, error: StoreError, batch: Batch, wall_s: float) -> None:
        """Keep what could not be written; say so once."""
        if self.error is None:
            self._since_s = wall_s
            _LOG.error("cannot store, trying again until it works: %s", error)
        self.error = str(error)
        self._shed.update(batch.shed())

    def over(self) -> bool:
        """Say once that everything is stored again; return whether there was trouble."""
        if self.error is None:
            return False
        lost = self._shed - self._shed_before
        _LOG.warning("storing again; %s", _counts(lost) if lost else "nothing was lost")
        self.error, self._shed_before = None, self._shed.copy()
        return True

    def news(self, batch: Batch) -> dict[str, Any] | None:
        """Return what central ops is to know; None where all is stored."""
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
        """Return it for ``systemctl status``."""
        return f"CANNOT STORE since {iso_time(self._since_s)}: {self.error}"

    def counters(self) -> dict[str, int]:
        """Return what could not be stored, and was dropped."""
        return {
            "samples_not_stored": self._shed["samples"],
            "messages_not_stored": self._shed.total() - self._shed["samples"],
            "alarms_not_stored": self._shed["alarm"],
        }


def _counts(lost: Counter[str]) -> str:
    return "dropped meanwhile: " + ", ".join(f"{kind} {count}" for kind, count in lost.items())
