"""Tracks messages that the collector must confirm, and when to send them again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.store.ranges import Range, Ranges

if TYPE_CHECKING:
    from agent.store.reader import Reader

UNCONFIRMED_MAX = 2000  # messages


class Unconfirmed:
    """The messages that only the collector can confirm; the sender's thread uses it."""

    def __init__(self, timeout_s: float) -> None:
        """Set up; after ``timeout_s`` of the collector's time online a message is sent again."""
        self._timeout_s = timeout_s
        self.resent = 0
        self._online = False
        # total time online in s, because the collector can confirm only while it is online
        self._online_s = 0.0
        self._online_since = 0.0  # monotonic
        # seq -> total time online when the broker accepted it; the oldest first
        self._taken: dict[int, float] = {}
        self._sent = Ranges()  # sent to the broker, not confirmed

    def __len__(self) -> int:
        """Return how many messages the broker certainly has."""
        return len(self._taken)

    def __contains__(self, seq: int) -> bool:
        """Whether the broker has a message that the collector may still confirm."""
        return seq in self._taken

    @property
    def full(self) -> bool:
        """Whether the collector must confirm a message before the agent may send more."""
        return len(self._taken) >= UNCONFIRMED_MAX

    def be_online(self, online: bool) -> None:
        """Record whether the collector is online."""
        self._online_s, self._online_since = self._waited_s(), time.monotonic()
        self._online = online

    def _waited_s(self) -> float:
        """Return how long the collector has been online, over all connections."""
        since_s = time.monotonic() - self._online_since if self._online else 0.0
        return self._online_s + since_s

    def sent(self, seq: int) -> None:
        """Record that a message is being sent to the broker."""
        self._sent.add(seq, seq)

    def not_taken(self, seq: int) -> None:
        """Record that the broker has not forwarded a message."""
        self._sent.remove(seq, seq)

    def taken(self, seq: int) -> None:
        """Record that the broker has a message."""
        self._taken[seq] = self._waited_s()

    def confirm(self, seq: int) -> bool:
        """Record that the collector has a message; return whether that is new."""
        new = seq in self._sent
        self._sent.remove(seq, seq)
        return new

    def confirm_all(self, ranges: Sequence[Range], outbox: Reader) -> list[int]:
        """Record everything that the collector has; return which of these are in the outbox.

        Raises:
            StoreError: the outbox cannot be read.

        """
        found: list[int] = []
        for first, last in ranges:
            for sent_first, sent_last in self._sent.within(first, last):
                found += outbox.waiting(sent_first, sent_last)
            self._sent.remove(first, last)
        confirmed = Ranges(ranges)
        for seq in [seq for seq in self._taken if seq in confirmed]:
            del self._taken[seq]
        return found

    def wait_s(self) -> float | None:
        """Return how long until a message must be sent again; None if there is none."""
        first = next(iter(self._taken.values()), None)
        if first is None or not self._online:
            return None
        return max(0.0, first + self._timeout_s - self._waited_s())

    def overdue(self) -> int | None:
        """Return the highest overdue number, and forget all overdue messages."""
        if self.wait_s() != 0:
            return None
        due = self._waited_s() - self._timeout_s
        late = [seq for seq, taken in self._taken.items() if taken <= due]
        for seq in late:
            del self._taken[seq]
        self.resent += len(late)
        return max(late, default=None)
