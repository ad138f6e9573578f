"""Selects the next message of the outbox on one connection, and when to send it.

The lanes define the order. The scheduler skips messages that are done, in flight, parked or held,
and those that the collector may still confirm. When that changes, the lanes begin again with the
oldest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.uplink.priorities import Lanes
from models.times import unix_s

if TYPE_CHECKING:
    from agent.store.reader import Reader
    from agent.store.record import Record
    from agent.uplink.lasting import Lasting
    from agent.uplink.waiting import Waiting
    from agent.uplink.window import Window

LOOK_S = 1.0  # poll interval of the outbox if nobody reports a new message


class Scheduler:
    """Chooses what to send next; the sender's thread uses it."""

    def __init__(self, outbox: Reader, lasting: Lasting, window: Window, waiting: Waiting) -> None:
        settings = lasting.settings
        self._expiry_s = settings.health_expiry_s
        self._last_seq, self._central = lasting.last_seq, lasting.central
        self._ledger, self._link = lasting.ledger, lasting.link
        self._window, self._waiting = window, waiting
        self._lanes = Lanes(outbox, settings.replay_rate_max)
        self.catch_up()

    def next(self) -> Record | None:
        """Return the next message; None if there is none now.

        Raises:
            StoreError: the outbox cannot be read.

        """
        full = self._central is not None and self._central.unconfirmed.full
        return self._lanes.next(self._skip, only_alarms=full)

    def _skip(self, record: Record) -> bool:
        seq = record.seq
        return (
            seq in self._ledger
            or seq in self._waiting.parked
            or seq in self._window
            or (self._central is not None and seq in self._central.unconfirmed)
            or (record.kind == "health" and self._expired(record))
        )

    def _expired(self, record: Record) -> bool:
        """Whether a message is too old to be useful; then it may be deleted."""
        if time.time() - unix_s(record.time) <= self._expiry_s:
            return False
        self._ledger.add(record.seq)
        self._link.expired += 1
        return True

    @property
    def idle(self) -> bool:
        """Whether nothing waits for its turn, or for the collector, after ``next`` found nothing.

        Messages of a topic that the broker denies do not count: they may wait for ever.
        """
        full = self._central is not None and self._central.unconfirmed.full
        return not (full or self._link.held or self._lanes.wait_s() is not None)

    def wait_s(self) -> float:
        """Return how long to wait for something to send, unless an event comes earlier."""
        waits = [LOOK_S, self._waiting.wait_s()]
        if self._central is not None:
            waits.append(self._central.unconfirmed.wait_s())
        if not self._window.full:
            waits.append(self._lanes.wait_s())
        return min(wait_s for wait_s in waits if wait_s is not None)

    def look_again(self) -> None:
        """Look for new messages."""
        self._lanes.look_again()

    def let_ask(self) -> None:
        """Retry each waiting topic that is due with one message."""
        if self._waiting.let_ask():
            self.begin_again()

    def catch_up(self) -> None:
        """Begin again with the oldest; skipped messages become backlog."""
        self._backlog_through = self._last_seq()
        self.begin_again()

    def send_again(self, through: int) -> None:
        """Begin again with the oldest; resent messages, up to this number, are backlog."""
        self._backlog_through = max(self._backlog_through, through)
        self.begin_again()

    def begin_again(self) -> None:
        """Begin again with the oldest, to send skipped or refused messages."""
        with_backlog = self._central is None or self._central.online
        self._lanes.begin(self._backlog_through, with_backlog, self._waiting.passed_over())
