"""What the uplink sends and the broker acknowledges, on one connection.

``agent.uplink.waiting`` says which topics and messages are not sent for now.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, NamedTuple

from agent.mqtt.connection import (
    Acknowledged,
    Connected,
    Connection,
    LinkError,
    Lost,
    NoTopic,
    Received,
    Subscribed,
    TooLarge,
    Woken,
)
from agent.uplink.denials import Denials
from agent.uplink.link import Ledger, Link
from agent.uplink.priorities import Lanes
from agent.uplink.twin import Twin
from agent.uplink.waiting import Waiting
from models.times import unix_s

if TYPE_CHECKING:
    from agent.config.broker import MqttTable
    from agent.dialects.dialect import Dialect, Message, Topic
    from agent.guard import Guard
    from agent.mqtt.payload import Payload
    from agent.store.reader import Reader
    from agent.store.record import Record
    from agent.uplink.acknowledgements import Central

_LOG = logging.getLogger(__name__)

RENEWAL_LOOK_S = 5.0  # password and certificates are looked at this often
_LOOK_S = 1.0  # the outbox is looked at this often even if nobody says that something is in it
_DRAIN_SHARE = 0.6  # of the time for a stop; the rest is for the goodbye

_REASON_S = 0.2  # for the news of a lost connection to come

NO_SUBSCRIBER = 0x10
_DENIED = {0x87, 0x90}  # not authorised, bad topic
_NEVER = _DENIED | {0x95, 0x99}  # too large, bad format
_NO_PACKET = -1  # in place of a packet number
_PUBLISH_OVERHEAD_BYTES = 60  # header, lengths, packet number and properties, at most


# returns number and message of the status, where it is not the one with this number; within bytes
Status = Callable[[int | None, int], "tuple[int, Message] | None"]


class _Sent(NamedTuple):
    """A message that the broker has not answered yet."""

    topic: Topic
    seq: int | None  # None: no message of the outbox but a status, or what is gone
    status: bool = False


@dataclass(frozen=True, slots=True)
class Lasting:
    """What an uplink has over all its connections."""

    settings: MqttTable
    link: Link
    ledger: Ledger
    last_seq: Callable[[], int]
    central: Central | None
    dialect: Dialect
    payload: Payload
    denials: Denials
    twin: Twin
    guard: Guard


class Session:
    """What is sent and acknowledged on one connection; the sender's thread uses it."""

    def __init__(
        self, connection: Connection, broker: Connected, outbox: Reader, lasting: Lasting
    ) -> None:
        self._connection, self._outbox = connection, outbox
        self._settings, self._link, self._ledger = lasting.settings, lasting.link, lasting.ledger
        self._last_seq, self._central = lasting.last_seq, lasting.central
        self._dialect, self._payload = lasting.dialect, lasting.payload
        self._denials, self._twin, self._guard = lasting.denials, lasting.twin, lasting.guard
        self._waiting = Waiting(
            lasting.denials, lasting.link, lasting.settings.unsubscribed_retry_s
        )
        self._lanes = Lanes(outbox, lasting.settings.replay_rate_max)
        self._backlog_through = self._last_seq()
        self._window_max = min(lasting.settings.inflight_max, broker.receive_maximum)
        self._packet_bytes_max = broker.packet_bytes_max
        self._in_flight: dict[int, _Sent] = {}  # by packet number
        self._sent: set[int] = set()  # the numbers of those
        self._progress = time.monotonic()  # of the last answer, or the first unanswered message
        self._next_look = self._progress + RENEWAL_LOOK_S
        self._renewed = False  # password, certificates or keys; then this connection is let run out
        self._told: int | None = None  # number of the status
        self._begin_again()

    def open(self, status: Status) -> None:
        """Publish the retained status, and ask for what central ops says.

        Raises:
            LinkError: the connection is gone.
            StoreError: the outbox cannot be read.

        """
        self._status = status
        self._twin.listen(self._connection)
        if self._central is not None:
            self._central.connected(self._outbox)
            self._connection.subscribe(self._central.topics)
        self._tell_status()

    @property
    def _window(self) -> int:
        return 1 if self._denials.suspicious else self._window_max

    def suspect(self) -> None:
        """The broker has ended the connection: a topic in flight may be the reason."""
        self._denials.dropped([sent.topic for sent in self._in_flight.values()])
        self._link.denied = self._denials.topics

    def _tell_status(self) -> None:
        """Publish the status if it has changed, before everything that waits."""
        if len(self._in_flight) >= self._window:
            return
        news = self._status(self._told, self._packet_bytes_max - _PUBLISH_OVERHEAD_BYTES)
        if news is None or self._must_wait(news[1].topic):
            return
        self._told, (topic, body) = news
        self._publish(_Sent(topic, None, status=True), body, retain=True)

    def send_until(self, stopping: threading.Event) -> None:
        """Send what is in the outbox and what comes into it.

        Ends once ``stopping`` is set, or password, certificates or keys were renewed: when all is
        answered, or a share of ``stop_timeout_s`` is over.

        Raises:
            LinkError: the connection is gone, or the broker does not answer any more.
            StoreError: the outbox cannot be read.

        """
        give_up: float | None = None
        while True:
            self._ledger.forget_deleted()
            self._twin.look()
            self._look_for_renewal()
            if not self._renewed:
                self._tell_status()
                self._follow_central()
                self._fill()
            wait_s = self._wait_s()
            if stopping.is_set() or self._renewed:
                now = time.monotonic()
                give_up = give_up or now + _DRAIN_SHARE * self._settings.stop_timeout_s
                if not self._in_flight or now >= give_up:
                    return
                wait_s = min(wait_s, give_up - now)
            self._take_in(wait_s)
            self._check_progress()

    def _look_for_renewal(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + RENEWAL_LOOK_S
            keys_renewed = self._central is not None and self._central.words.renewed()
            self._renewed = self._renewed or keys_renewed or self._connection.renewed()

    def part(self, status: Message, deadline: float) -> bool:
        """Publish the last status; return whether the broker has it by ``deadline`` (monotonic).

        If not, an end without a goodbye makes the broker publish the will instead.

        Raises:
            LinkError: the connection is gone.

        """
        while len(self._in_flight) >= self._window and time.monotonic() < deadline:
            self._take_in(deadline - time.monotonic())
        if len(self._in_flight) >= self._window or self._must_wait(status.topic):
            return False
        self._publish(_Sent(status.topic, None, status=True), status.body, retain=True)
        while self._status_unanswered() and time.monotonic() < deadline:
            self._take_in(deadline - time.monotonic())
        return not self._status_unanswered()

    def _status_unanswered(self) -> bool:
        return any(sent.status for sent in self._in_flight.values())

    def _follow_central(self) -> None:
        """Send again what is overdue, and tell the collector what is gone."""
        if self._central is None:
            return
        overdue = self._central.overdue()
        if overdue is not None:
            self._backlog_through = max(self._backlog_through, overdue)
            self._begin_again()
        room = len(self._in_flight) < self._window
        if room and (gone := self._central.gone(self._outbox)) and not self._must_wait(gone.topic):
            self._publish(_Sent(gone.topic, None), gone.body)

    def _fill(self) -> None:
        """Fill the window."""
        self._let_ask()
        window = self._window
        while len(self._in_flight) < window:
            full = self._central is not None and self._central.full
            record = self._lanes.next(self._skip, only_alarms=full)
            if record is None:
                break
            self._send(record)
        if not self._in_flight:
            self._denials.nothing_waits()
        self._link.in_flight = len(self._in_flight)

    def _skip(self, record: Record) -> bool:
        seq = record.seq
        return (
            seq in self._ledger
            or seq in self._waiting.parked
            or seq in self._sent
            or (self._central is not None and seq in self._central)
            or (record.kind == "health" and self._expired(record))
        )

    def _expired(self, record: Record) -> bool:
        """Whether it is too old to tell anything; then it may be deleted."""
        if time.time() - unix_s(record.time) <= self._settings.health_expiry_s:
            return False
        self._ledger.add(record.seq)
        self._link.expired += 1
        return True

    def _send(self, record: Record) -> None:
        if self._guard.refuses(record.data):
            self._waiting.park(record.seq, "the agent ended with it in hand")
            return
        with self._guard.over(record.data):
            self._send_whole(record)

    def _send_whole(self, record: Record) -> None:
        topic, body = self._dialect.record(record)
        body = self._payload.encode(body)
        if len(topic) + len(body) + _PUBLISH_OVERHEAD_BYTES > self._packet_bytes_max:
            self._waiting.park(record.seq, "longer than the broker takes")
            return
        expiry_s = self._settings.health_expiry_s if record.kind == "health" else None
        if self._central is not None:
            self._central.sent(record.seq)
        self._publish(_Sent(topic, record.seq), body, expiry_s=expiry_s, form=self._payload)
        self._link.published += 1
        if topic in self._waiting.asking:  # one asks for all
            self._waiting.asking.remove(topic)
            self._begin_again()

    def _must_wait(self, topic: Topic) -> bool:
        """Whether a status or gone message has to wait; if its time has come, it asks."""
        self._let_ask()
        return self._waiting.is_denied(topic)

    def _publish(
        self,
        sent: _Sent,
        body: bytes,
        retain: bool = False,
        expiry_s: float | None = None,
        form: Payload | None = None,
    ) -> None:
        """Publish topic and bytes as they are: everything but the last will goes through here."""
        if not self._in_flight:
            self._progress = time.monotonic()
        packet = self._connection.publish(sent.topic, body, retain, expiry_s, form)
        if packet is None:
            self._in_flight[_NO_PACKET] = sent  # it may have gone out, and be the reason
            self._take_in(_REASON_S)  # which raises with the broker's reason, if it gave one
            raise LinkError("the connection is gone")
        self._in_flight[packet] = sent
        if sent.seq is not None:
            self._sent.add(sent.seq)

    def _wait_s(self) -> float:
        waits = [_LOOK_S]
        if (asks_s := self._waiting.wait_s()) is not None:
            waits.append(asks_s)
        if self._central is not None and (central_s := self._central.wait_s()) is not None:
            waits.append(central_s)
        room = len(self._in_flight) < self._window
        if room and (backlog_s := self._lanes.wait_s()) is not None:
            waits.append(backlog_s)
        return min(waits)

    def _take_in(self, wait_s: float) -> None:
        """Handle the events of the connection; wait at most ``wait_s`` for the first."""
        try:
            event = self._connection.events.get(timeout=max(0.0, wait_s))
            while True:
                match event:
                    case Acknowledged():
                        self._answered(event)
                    case Lost(reason):
                        self._twin.lost(event)
                        raise LinkError(reason)
                    case Received():
                        self._heard(event)
                    case TooLarge(topic=topic, size_bytes=size_bytes):
                        if self._central is not None and topic != self._twin.topic:
                            self._central.too_large(topic, size_bytes)
                    case NoTopic():
                        if self._central is not None:
                            self._central.without_topic()
                    case Subscribed(refusal):
                        if not self._twin.answered(event) and refusal is not None:
                            raise LinkError(f"the broker refuses the subscription: {refusal}")
                    case Woken():
                        self._lanes.look_again()
                event = self._connection.events.get_nowait()
        except Empty:
            if not self._in_flight:
                self._lanes.look_again()

    def _heard(self, received: Received) -> None:
        body = received.body
        if self._guard.refuses(body):
            self._link.refused += 1
            return
        with self._guard.over(body):
            if received.topic == self._twin.topic:
                self._twin.heard(body, received.retained)
            elif self._central is not None:
                self._follow(self._central, received)

    def _follow(self, central: Central, received: Received) -> None:
        was_online = central.online
        central.heard(received.topic, received.body, self._outbox)
        for seq in central.confirmed(self._outbox):
            self._confirm(seq)
        if central.online != was_online:
            if central.online:  # it has subscribed before it says so
                self._waiting.ask_soon()
                self._told = None  # our highest number was of when the connection opened
            self._catch_up()

    def _answered(self, answer: Acknowledged) -> None:
        self._progress = time.monotonic()
        sent = self._in_flight.pop(answer.packet, None)
        if sent is None:
            return
        if answer.code in _DENIED:
            self._waiting.deny(sent.topic, sent.seq, answer.reason)
            self._begin_again()
        elif self._waiting.taken(sent.topic):
            self._catch_up()
        if sent.seq is None:  # a status has done its work once it is retained
            return
        self._sent.discard(sent.seq)
        if self._central is not None and (answer.failed or answer.code == NO_SUBSCRIBER):
            self._central.not_taken(sent.seq)
        if answer.code in _NEVER:
            self._waiting.park(sent.seq, answer.reason)
        elif answer.failed or answer.code == NO_SUBSCRIBER:
            self._waiting.hold(sent.topic, answer.reason)
            self._begin_again()
        else:
            self._taken(sent.seq)
            if self._waiting.release(sent.topic):
                self._catch_up()

    def _taken(self, seq: int) -> None:
        """The broker has a message: it is done, or the collector has to confirm it."""
        if self._central is None or self._central.taken(seq):
            self._confirm(seq)

    def _confirm(self, seq: int) -> None:
        """Let it be deleted."""
        if seq not in self._ledger:
            self._link.acknowledged += 1
            self._ledger.add(seq)

    def _let_ask(self) -> None:
        if self._waiting.let_ask():
            self._begin_again()

    def _catch_up(self) -> None:
        """Begin again; what was skipped is a backlog."""
        self._backlog_through = self._last_seq()
        self._begin_again()

    def _begin_again(self) -> None:
        """Begin with the oldest again, for what was skipped or refused."""
        with_backlog = self._central is None or self._central.online
        self._lanes.begin(self._backlog_through, with_backlog, self._waiting.passed_over())

    def _check_progress(self) -> None:
        waited = time.monotonic() - self._progress
        if self._in_flight and waited > self._settings.ack_timeout_s:
            raise LinkError(f"no acknowledgement for {waited:.0f} s")
