"""What the uplink sends and the broker acknowledges, on one connection.

Where the broker answers that nobody is subscribed to a topic, the messages of that topic are
held: they stay in the outbox, and one of them asks again every ``unsubscribed_retry_s``. Other
topics go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal, NamedTuple

from agent.mqtt import Acknowledged, Connected, Connection, LinkError, Lost, Woken

if TYPE_CHECKING:
    from agent.config import MqttTable
    from agent.store import Reader

_LOG = logging.getLogger(__name__)

# a lane each: alarms overtake what only informs; within a lane the order is that of the numbers
_LANES = ("alarm", "summary", "health")
_ROWS_READ = 100  # rows of a lane in memory at a time
_LOOK_S = 1.0  # the outbox is looked at this often even if nobody says that something is in it
_DRAIN_SHARE = 0.6  # of the time for a stop; the rest is for the goodbye

NO_SUBSCRIBER = 0x10
_NEVER = {0x87, 0x90, 0x95, 0x99}  # not authorised, bad topic, too large, bad format
_PUBLISH_OVERHEAD_BYTES = 12  # header, lengths, packet number and properties, at most

LinkState = Literal["offline", "online", "held", "stopped", "failed"]


@dataclass(slots=True)
class Link:
    """How the link is doing: the sender writes it, the loop reads it."""

    state: LinkState = "offline"
    since_s: float = field(default_factory=time.time)
    last_error: str | None = None
    connections: int = 0
    published: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    parked: int = 0  # messages that the broker of this connection will not take
    held: tuple[str, ...] = ()  # topics that nobody is subscribed to

    def change(self, state: LinkState) -> None:
        """Take note of a new state, and since when."""
        if state != self.state:
            self.state, self.since_s = state, time.time()


class Ledger:
    """What the broker has acknowledged, until the loop has deleted it."""

    def __init__(self) -> None:
        self.acknowledged: SimpleQueue[int] = SimpleQueue()  # sender -> loop
        self.deleted: SimpleQueue[int] = SimpleQueue()  # loop -> sender
        self._done: set[int] = set()

    def __contains__(self, seq: int) -> bool:
        return seq in self._done

    def add(self, seq: int) -> None:
        """Take note of an acknowledgement."""
        self._done.add(seq)
        self.acknowledged.put(seq)

    def forget_deleted(self) -> None:
        """Drop what is gone from the outbox."""
        self._done.difference_update(drain(self.deleted))


class _Sent(NamedTuple):
    """A message that the broker has not answered yet."""

    topic: str
    seq: int | None  # None: a status


class Session:
    """What is sent and acknowledged on one connection; the sender's thread uses it."""

    def __init__(
        self,
        connection: Connection,
        broker: Connected,
        outbox: Reader,
        settings: MqttTable,
        link: Link,
        ledger: Ledger,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._link = link
        self._ledger = ledger
        self._lanes = [_Lane(outbox, kind) for kind in _LANES]
        self._window = min(settings.inflight_max, broker.receive_maximum)
        self._packet_bytes_max = broker.packet_bytes_max
        self._in_flight: dict[int, _Sent] = {}  # by packet number
        self._parked: set[int] = set()
        self._held: dict[str, float] = {}  # topic -> when one message may ask again, monotonic
        self._asking: set[str] = set()  # held topics whose next message asks
        self._progress = time.monotonic()  # of the last answer, or the first unanswered message

    def publish_status(self, topic: str, status: bytes) -> None:
        """Publish a retained status."""
        self._publish(_Sent(topic, None), status, retain=True)

    def send_until(self, stopping: threading.Event) -> None:
        """Send what is in the outbox and what comes into it.

        Once ``stopping`` is set, until all is answered or a share of ``stop_timeout_s`` is over.

        Raises:
            LinkError: the connection is gone, or the broker does not answer any more.
            StoreError: the outbox cannot be read.

        """
        give_up: float | None = None
        while True:
            self._ledger.forget_deleted()
            self._fill()
            wait_s = self._wait_s()
            if stopping.is_set():
                now = time.monotonic()
                give_up = give_up or now + _DRAIN_SHARE * self._settings.stop_timeout_s
                if not self._in_flight or now >= give_up:
                    return
                wait_s = min(wait_s, give_up - now)
            self._take_in(wait_s)
            self._check_progress()

    def part(self, topic: str, status: bytes, deadline: float) -> bool:
        """Publish the last status; say whether the broker has it by ``deadline`` (monotonic).

        If not, an end without a goodbye makes the broker publish the will instead.

        Raises:
            LinkError: the connection is gone.

        """
        while len(self._in_flight) >= self._window and time.monotonic() < deadline:
            self._take_in(deadline - time.monotonic())
        if len(self._in_flight) >= self._window:
            return False
        self.publish_status(topic, status)
        while self._status_unanswered() and time.monotonic() < deadline:
            self._take_in(deadline - time.monotonic())
        return not self._status_unanswered()

    def _status_unanswered(self) -> bool:
        return any(sent.seq is None for sent in self._in_flight.values())

    def _fill(self) -> None:
        """Fill the window."""
        self._let_ask()
        while len(self._in_flight) < self._window:
            row = next(filter(None, (lane.next(self._skip) for lane in self._lanes)), None)
            if row is None:
                break
            self._send(*row)
        self._link.in_flight = len(self._in_flight)

    def _skip(self, seq: int) -> bool:
        return (
            seq in self._ledger
            or seq in self._parked
            or any(sent.seq == seq for sent in self._in_flight.values())
        )

    def _send(self, seq: int, topic: str, body: bytes) -> None:
        if len(topic) + len(body) + _PUBLISH_OVERHEAD_BYTES > self._packet_bytes_max:
            self._park(seq, "longer than the broker takes")
            return
        self._publish(_Sent(topic, seq), body)
        self._link.published += 1
        if topic in self._asking:  # one asks for all
            self._asking.remove(topic)
            self._rewind()

    def _publish(self, sent: _Sent, body: bytes, retain: bool = False) -> None:
        if not self._in_flight:
            self._progress = time.monotonic()
        packet = self._connection.publish(sent.topic, body, retain)
        if packet is None:
            raise LinkError("the connection is gone")
        self._in_flight[packet] = sent

    def _wait_s(self) -> float:
        if not self._held:
            return _LOOK_S
        return min(_LOOK_S, min(self._held.values()) - time.monotonic())

    def _take_in(self, wait_s: float) -> None:
        """Take in what happened; wait for it at most so long."""
        try:
            happening = self._connection.happenings.get(timeout=max(0.0, wait_s))
            while True:
                match happening:
                    case Lost(reason):
                        raise LinkError(reason)
                    case Acknowledged():
                        self._answered(happening)
                    case Woken():
                        self._look_again()
                happening = self._connection.happenings.get_nowait()
        except Empty:
            if not self._in_flight:
                self._look_again()

    def _look_again(self) -> None:
        for lane in self._lanes:
            lane.look_again()

    def _answered(self, answer: Acknowledged) -> None:
        self._progress = time.monotonic()
        sent = self._in_flight.pop(answer.packet, None)
        if sent is None or sent.seq is None:  # a status has done its work once it is retained
            return
        if answer.code in _NEVER:
            self._park(sent.seq, answer.reason)
        elif answer.failed or answer.code == NO_SUBSCRIBER:
            self._hold(sent.topic, answer.reason)
        else:
            self._link.acknowledged += 1
            self._ledger.add(sent.seq)
            self._release(sent.topic)

    def _park(self, seq: int, reason: str) -> None:
        """Leave it in the outbox; the next connection tries again."""
        if not self._parked:
            _LOG.error("the broker will not take message %d, perhaps others: %s", seq, reason)
        self._parked.add(seq)
        self._link.parked, self._link.last_error = len(self._parked), reason

    def _hold(self, topic: str, reason: str) -> None:
        """Nobody would get it, or the broker is full: keep it, and ask again slowly."""
        if not self._held:
            _LOG.warning("messages on %s, perhaps others, are held: %s", topic, reason)
        self._held[topic] = time.monotonic() + self._settings.unsubscribed_retry_s
        self._link.last_error = reason
        self._link.change("held")
        self._rewind()

    def _release(self, topic: str) -> None:
        if self._held.pop(topic, None) is None:
            return
        self._asking.discard(topic)
        self._rewind()
        if not self._held:
            _LOG.info("messages are no longer held")
            self._link.change("online")

    def _let_ask(self) -> None:
        """Let one message of each topic ask whose time has come, now or when it has one."""
        now = time.monotonic()
        due = [topic for topic, time_s in self._held.items() if time_s <= now]
        if due:
            self._held |= dict.fromkeys(due, now + self._settings.unsubscribed_retry_s)
            self._asking.update(due)
            self._rewind()

    def _rewind(self) -> None:
        """Begin with the oldest again, for what was passed over or answered in vain."""
        passed_over = [topic for topic in self._held if topic not in self._asking]
        for lane in self._lanes:
            lane.rewind(passed_over)
        self._link.held = tuple(self._held)

    def _check_progress(self) -> None:
        waited = time.monotonic() - self._progress
        if self._in_flight and waited > self._settings.ack_timeout_s:
            raise LinkError(f"no acknowledgement for {waited:.0f} s")


class _Lane:
    """The messages of one kind, in the order of their numbers."""

    def __init__(self, outbox: Reader, kind: str) -> None:
        self._outbox = outbox
        self._kind = kind
        self._passed_over: list[str] = []  # topics
        self._rows: deque[tuple[int, str, bytes]] = deque()
        self._after = 0
        self._at_end = False

    def next(self, skip: Callable[[int], bool]) -> tuple[int, str, bytes] | None:
        """Return seq, topic and body of the next one to send; None if there is none now."""
        while self._rows or self._read():
            row = self._rows.popleft()
            if not skip(row[0]):
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
        """There may be new ones."""
        self._at_end = False

    def rewind(self, passed_over: list[str]) -> None:
        """Begin with the oldest again, leaving out these topics."""
        self._passed_over = passed_over
        self._rows.clear()
        self._after, self._at_end = 0, False


def drain(queue: SimpleQueue[int]) -> list[int]:
    """Return all that is in a queue now."""
    found = []
    try:
        while True:
            found.append(queue.get_nowait())
    except Empty:
        return found
