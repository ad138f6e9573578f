"""In which order the outbox is sent: lanes that overtake each other, each in order in itself.

What was there when the link came up is the backlog, what comes after it is live. An alarm goes
before anything else, and alarms never overtake each other. Live summaries and health go before
the backlog of them, which flows at ``replay_rate_max`` at most: a gateway that was cut off for a
week says at once how things are now, and does not flood the broker with how they were.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.store.reader import Reader

_ROWS_READ = 100  # rows of a lane in memory at a time


class Row(NamedTuple):
    """A message as it lies in the outbox."""

    seq: int
    kind: str
    topic: str
    body: bytes


class Allowance:
    """What may be sent of the backlog now: fills up at a rate, and holds a tenth of a second."""

    def __init__(self, rate_max: float) -> None:
        self._rate_max = rate_max  # per second
        self._held_max = max(1.0, rate_max / 10)
        self._held, self._at = 1.0, time.monotonic()

    def wait_s(self) -> float:
        """Return how long until the next one may go."""
        now = time.monotonic()
        self._held = min(self._held_max, self._held + (now - self._at) * self._rate_max)
        self._at = now
        return max(0.0, (1.0 - self._held) / self._rate_max)

    def spend(self) -> None:
        """Take note that one goes."""
        self._held -= 1.0


class Lanes:
    """What is next to be sent, from one look at the outbox to the next."""

    def __init__(self, outbox: Reader, replay_rate_max: float) -> None:
        self._outbox = outbox
        self._allowance = Allowance(replay_rate_max)
        self._free: list[_Lane] = []
        self._throttled: list[_Lane] = []
        self._backlog_waits = False

    def begin(self, backlog_through: int, with_backlog: bool, passed_over: Sequence[str]) -> None:
        """Begin with the oldest of each lane, leaving out the topics ``passed_over``."""

        def lane(kind: str, after: int, through: int | None = None) -> _Lane:
            return _Lane(self._outbox, kind, after, through, passed_over)

        self._free = [
            lane("alarm", 0 if with_backlog else backlog_through),
            lane("summary", backlog_through),
            lane("health", backlog_through),
        ]
        kinds = ("summary", "health") if with_backlog else ()
        self._throttled = [lane(kind, 0, backlog_through) for kind in kinds]

    def next(self, skip: Callable[[Row], bool], only_alarms: bool = False) -> Row | None:
        """Return the next one to send, or the next alarm; None if there is none now.

        Raises:
            StoreError: the outbox cannot be read.

        """
        self._backlog_waits = False
        for lane in self._free[:1] if only_alarms else self._free:
            if (row := lane.next(skip)) is not None:
                return row
        if only_alarms:
            return None
        if self._allowance.wait_s() > 0:
            self._backlog_waits = bool(self._throttled)
            return None
        for lane in self._throttled:
            if (row := lane.next(skip)) is not None:
                self._allowance.spend()
                return row
        self._throttled = []  # a backlog only shrinks
        return None

    def wait_s(self) -> float | None:
        """Return how long until more of the backlog may go; None if nothing waits for that."""
        return self._allowance.wait_s() if self._backlog_waits else None

    def look_again(self) -> None:
        """There may be new ones."""
        for lane in self._free:
            lane.look_again()


class _Lane:
    """The messages of one kind with numbers above one and up to another, in their order."""

    def __init__(
        self, outbox: Reader, kind: str, after: int, through: int | None, passed_over: Sequence[str]
    ) -> None:
        self._outbox = outbox
        self._kind = kind
        self._after, self._through = after, through
        self._passed_over = passed_over  # topics
        self._rows: deque[tuple[int, str, bytes]] = deque()
        self._at_end = False

    def next(self, skip: Callable[[Row], bool]) -> Row | None:
        while self._rows or self._read():
            seq, topic, body = self._rows.popleft()
            if self._through is not None and seq > self._through:
                self._rows.clear()
                self._at_end = True
            elif not skip(row := Row(seq, self._kind, topic, body)):
                return row
        return None

    def _read(self) -> bool:
        if self._at_end:
            return False
        rows = self._outbox.outbox([self._kind], self._after, _ROWS_READ, self._passed_over)
        self._at_end = len(rows) < _ROWS_READ
        self._after = rows[-1][0] if rows else self._after
        self._rows.extend(rows)
        return bool(rows)

    def look_again(self) -> None:
        self._at_end = False
