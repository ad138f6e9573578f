"""Whether an agent is watching: the store may hold the data of an agent that no longer runs.

Each command that reads the store says so, and ends with ``NOT_WATCHING``. It costs one row of the
database, and imports no numpy: these commands start at once on a small gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from agent.store.reader import Reader
from agent.wording.language import ENGLISH, Language
from agent.wording.message import Message
from models.errors import StoreError
from models.times import unix_s

STALE_S: Final = 30.0  # an agent that runs updates its status with every commit
NOT_WATCHING: Final = 3  # the exit code, as systemctl status and LSB init scripts have it
_WHY: Final = ("life.stopped", "life.killed", "life.hangs")


class Life(NamedTuple):
    """Whether an agent is watching, by its store; ready for JSON with ``_asdict``."""

    watching: bool
    last_sign: str | None  # of life, RFC 3339: when the agent last stored its status
    why: str | None  # why nothing watches; None: an agent does

    def told(self, told: Language = ENGLISH) -> str | None:
        """Return a line that says that nothing watches; None if an agent does."""
        if self.why is None:
            return None
        known = {"why": self.said(told)}
        if self.last_sign is None:
            return told.text(Message("life.not_watching", known))
        since = {"since": told.written("since_at", self.last_sign)}
        return told.text(Message("life.not_watching_since", known | since))

    def said(self, told: Language) -> str:
        """Return why nothing watches, or ""; the reason of an unreadable store stays English."""
        known = {ENGLISH.phrase(key, key): key for key in _WHY}
        why = self.why or ""
        return told.phrase(known[why], why) if why in known else why

    @property
    def exit_code(self) -> int:
        """The exit code of a command that showed what the store has."""
        return 0 if self.watching else NOT_WATCHING

    def covers(self, to_s: float) -> bool:
        """Whether it watched until a time (Unix seconds): then a later end does not matter."""
        sign = self.last_sign
        return self.watching or (sign is not None and to_s <= unix_s(sign))


def life(reader: Reader, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Life:
    """Return whether the agent of this store is watching; an unreadable store counts as no."""
    try:
        document = reader.status()
    except StoreError as error:
        return Life(False, None, str(error))
    return life_of(document, reader.held(), now())


def life_of(document: dict[str, Any], held: bool | None, now: datetime) -> Life:
    """Return whether the agent is watching, by its status.

    Args:
        document: the status.
        held: whether a process holds the store's lock; None if it is impossible to tell.
        now: the present time.

    """
    why = None
    if not document["running"]:
        why = ENGLISH.phrase("life.stopped", "stopped")
    elif held is False:
        why = ENGLISH.phrase("life.killed", "killed")
    elif (now - datetime.fromisoformat(document["updated"])).total_seconds() > STALE_S:
        why = ENGLISH.phrase("life.hangs", "hangs")
    return Life(why is None, document["updated"], why)
