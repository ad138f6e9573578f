"""Orders the outbox for sending: each lane keeps its order, but lanes can overtake each other.

Messages that waited when the link came up are the backlog; later ones are live. Alarms go first,
then their transitions; each of the two keeps its order. Live summaries and health messages go
before their backlog, whose rate is at most ``replay_rate_max``. So a gateway that was offline for a
week reports its current state immediately, and does not flood the broker with old messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.dialects.dialect import Topic
    from agent.store.reader import Reader
    from agent.store.record import Kind, Record

_ALARM_LANES = 2  # alarms, and their transitions
_ROWS_READ = 100  # rows of a lane in memory at a time


class Allowance:
    """Limits the rate of the backlog: a token bucket that holds a tenth of a second."""

    def __init__(self, rate_max: float) -> None:
        self._rate_max = rate_max  # per second
        self._held_max = max(1.0, rate_max / 10)
        self._held, self._at = 1.0, time.monotonic()

    def wait_s(self) -> float:
        """Return how long until the next message may be sent."""
        now = time.monotonic()
        self._held = min(self._held_max, self._held + (now - self._at) * self._rate_max)
        self._at = now
        return max(0.0, (1.0 - self._held) / self._rate_max)

    def spend(self) -> None:
        """Count a sent message."""
        self._held -= 1.0


class Lanes:
    """Chooses the next message to send."""

    def __init__(self, outbox: Reader, replay_rate_max: float) -> None:
        self._outbox = outbox
        self._allowance = Allowance(replay_rate_max)
        self._free: list[_Lane] = []
        self._throttled: list[_Lane] = []
        self._backlog_waits = False

    def begin(self, backlog_through: int, with_backlog: bool, passed_over: Sequence[Topic]) -> None:
        """Begin with the oldest message of each lane; skip the topics ``passed_over``."""

        first = 0 if with_backlog else backlog_through

        def lane(kind: Kind, after: int, through: int | None = None) -> _Lane:
            held = [topic.stream for topic in passed_over if topic.kind == kind]
            return _Lane(self._outbox, kind, after, through, held)

        self._free = [
            lane("alarm", first),
            lane("transition", first),
            lane("summary", backlog_through),
            lane("health", backlog_through),
        ]
        kinds: tuple[Kind, ...] = ("summary", "health") if with_backlog else ()
        self._throttled = [lane(kind, 0, backlog_through) for kind in kinds]

    def next(self, skip: Callable[[Record], bool], only_alarms: bool = False) -> Record | None:
        """Return the next message to send, or the next alarm; None if there is none now.

        Raises:
            StoreError: the outbox cannot be read.

        """
        self._backlog_waits = False
        for lane in self._free[:_ALARM_LANES] if only_alarms else self._free:
            if not lane.empty and (record := lane.next(skip)) is not None:
                return record
        if only_alarms:
            return None
        if self._allowance.wait_s() > 0:
            self._backlog_waits = bool(self._throttled)
            return None
        for lane in self._throttled:
            if (record := lane.next(skip)) is not None:
                self._allowance.spend()
                return record
        self._throttled = []  # a backlog only shrinks
        return None

    def wait_s(self) -> float | None:
        """Return how long until more of the backlog may be sent; None if no backlog waits."""
        return self._allowance.wait_s() if self._backlog_waits else None

    def look_again(self) -> None:
        """Look for new messages."""
        for lane in self._free:
            lane.look_again()


class _Lane:
    """The messages of one kind within a range of numbers, in their order."""

    def __init__(
        self,
        outbox: Reader,
        kind: Kind,
        after: int,
        through: int | None,
        held: Sequence[str | None],
    ) -> None:
        self._outbox = outbox
        self._kind = kind
        self._after, self._through = after, through
        self._held = held  # streams, or None for the gateway
        self._records: deque[Record] = deque()
        self._at_end = False
        self.empty = False  # whether it had no more messages at the last look

    def next(self, skip: Callable[[Record], bool]) -> Record | None:
        while self._records or self._read():
            record = self._records.popleft()
            if self._through is not None and record.seq > self._through:
                self._records.clear()
                self._at_end = True
            elif not skip(record):
                return record
        self.empty = True
        return None

    def _read(self) -> bool:
        if self._at_end:
            return False
        records = self._outbox.outbox([self._kind], self._after, _ROWS_READ, self._held)
        self._at_end = len(records) < _ROWS_READ
        self._after = records[-1].seq if records else self._after
        self._records.extend(records)
        return bool(records)

    def look_again(self) -> None:
        self._at_end = self.empty = False
