"""One connection of the uplink: it sends messages and handles the broker's answers.

``agent.uplink.scheduler`` selects the next message. ``agent.uplink.window`` tracks those that the
broker has not answered. ``agent.uplink.waiting`` tracks those that must wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty
from typing import TYPE_CHECKING

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
from agent.uplink.scheduler import Scheduler
from agent.uplink.waiting import Waiting
from agent.uplink.window import Sent, Window

if TYPE_CHECKING:
    from agent.dialects.dialect import Message, Topic
    from agent.mqtt.payload import Payload
    from agent.store.reader import Reader
    from agent.store.record import Record
    from agent.uplink.acknowledgements import Central
    from agent.uplink.lasting import Lasting
    from agent.uplink.samples import SampleLane

_LOG = logging.getLogger(__name__)

RENEWAL_LOOK_S = 5.0  # interval between checks of password and certificates for changes
_DRAIN_SHARE = 0.6  # share of the stop time-out; the rest is for disconnecting

_REASON_S = 0.2  # time for the reason of a lost connection to arrive

NO_SUBSCRIBER = 0x10
_DENIED = {0x87, 0x90}  # not authorised, bad topic
_NEVER = _DENIED | {0x95, 0x99}  # too large, bad format
_PUBLISH_OVERHEAD_BYTES = 60  # header, lengths, packet number and properties, at most


# arguments: number last published, maximum bytes; returns a newer status with its number, or None
Status = Callable[[int | None, int], "tuple[int, Message] | None"]


class Session:
    """Sends and handles acknowledgements on one connection; the sender's thread uses it."""

    def __init__(
        self, connection: Connection, broker: Connected, outbox: Reader, lasting: Lasting
    ) -> None:
        self._connection, self._outbox = connection, outbox
        self._settings, self._link, self._ledger = lasting.settings, lasting.link, lasting.ledger
        self._central = lasting.central
        self._dialect, self._payload = lasting.dialect, lasting.payload
        self._denials, self._twin, self._guard = lasting.denials, lasting.twin, lasting.guard
        self._waiting = Waiting(
            lasting.denials, lasting.link, lasting.settings.unsubscribed_retry_s
        )
        self._window = Window(
            lasting.denials,
            min(lasting.settings.inflight_max, broker.receive_maximum),
            lasting.settings.ack_timeout_s,
        )
        self._scheduler = Scheduler(outbox, lasting, self._window, self._waiting)
        self._samples = lasting.samples
        self._packet_bytes_max = broker.packet_bytes_max
        self._next_look = time.monotonic() + RENEWAL_LOOK_S
        self._renewed = False  # password, certificates or keys; then this connection finishes
        self._told: int | None = None  # number of the status that was sent last

    def open(self, status: Status) -> None:
        """Publish the retained status, and subscribe to central ops' messages.

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

    def suspect(self) -> None:
        """Record that the broker ended the connection: a topic in flight may be the reason."""
        self._denials.dropped(self._window.topics)
        self._link.denied = self._denials.topics
        if self._samples is not None:
            self._samples.lost()

    def _tell_status(self) -> None:
        """Publish the status if it has changed, before all waiting messages."""
        if self._window.full:
            return
        news = self._status(self._told, self._packet_bytes_max - _PUBLISH_OVERHEAD_BYTES)
        if news is None or self._must_wait(news[1].topic):
            return
        self._told, (topic, body) = news
        self._publish(Sent(topic, None, status=True), body, retain=True)

    def send_until(self, stopping: threading.Event) -> None:
        """Send the outbox and everything added to it.

        Once ``stopping`` is set, or password, certificates or keys were renewed, it ends as soon
        as the broker has answered everything, or after a share of ``stop_timeout_s``.

        Raises:
            LinkError: the connection is gone, or the broker no longer answers.
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
                if not stopping.is_set():
                    self._send_samples()
            wait_s = self._scheduler.wait_s()
            if stopping.is_set() or self._renewed:
                now = time.monotonic()
                give_up = give_up or now + _DRAIN_SHARE * self._settings.stop_timeout_s
                if not self._window or now >= give_up:
                    return
                wait_s = min(wait_s, give_up - now)
            self._take_in(wait_s)
            self._window.check()

    def _look_for_renewal(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + RENEWAL_LOOK_S
            keys_renewed = self._central is not None and self._central.words.renewed()
            self._renewed = self._renewed or keys_renewed or self._connection.renewed()

    def part(self, status: Message, deadline: float) -> bool:
        """Publish the last status; return whether the broker has it by ``deadline`` (monotonic).

        If not, the connection must end without a DISCONNECT, so that the broker publishes the will.

        Raises:
            LinkError: the connection is gone.

        """
        while self._window.full and time.monotonic() < deadline:
            self._take_in(deadline - time.monotonic())
        if self._window.full or self._must_wait(status.topic):
            return False
        self._publish(Sent(status.topic, None, status=True), status.body, retain=True)
        while self._window.has_status and time.monotonic() < deadline:
            self._take_in(deadline - time.monotonic())
        return not self._window.has_status

    def _follow_central(self) -> None:
        """Resend overdue messages, and report to the collector which ones are gone."""
        if self._central is None:
            return
        overdue = self._central.unconfirmed.overdue()
        if overdue is not None:
            self._scheduler.send_again(overdue)
        room = not self._window.full
        if room and (gone := self._central.gone(self._outbox)) and not self._must_wait(gone.topic):
            self._publish(Sent(gone.topic, None), gone.body)

    def _fill(self) -> None:
        """Fill the window."""
        before = self._link.published
        self._scheduler.let_ask()
        while not self._window.full and (record := self._scheduler.next()) is not None:
            self._send(record)
        if not self._window:
            self._denials.nothing_waits()
        self._link.in_flight = len(self._window)
        if self._link.published > before:
            _LOG.debug(
                "sent %d messages; %d are in flight, %d of %d were acknowledged",
                *(self._link.published - before, len(self._window)),
                *(self._link.acknowledged, self._link.published),
            )

    def _send_samples(self) -> None:
        """Send a chunk of samples if nothing else is to be sent, and nothing is in flight."""
        if self._samples is None or self._window or not self._scheduler.idle:
            return
        room = self._packet_bytes_max - _PUBLISH_OVERHEAD_BYTES
        chunk = self._samples.next(self._outbox, room)
        if chunk is None or self._must_wait(chunk.topic):
            return
        self._scheduler.look_again()  # a message may have come while the chunk was made
        self._fill()
        if self._window or not self._scheduler.idle:
            return
        self._samples.sent()
        self._publish(Sent(chunk.topic, None, samples=True), chunk.body)

    def _send(self, record: Record) -> None:
        if self._guard.refuses(record.data):
            self._waiting.park(record.seq, "the agent ended while it handled this message")
            return
        with self._guard.over(record.data):
            self._send_whole(record)

    def _send_whole(self, record: Record) -> None:
        topic, body = self._dialect.record(record)
        body = self._payload.encode(body)
        if len(topic) + len(body) + _PUBLISH_OVERHEAD_BYTES > self._packet_bytes_max:
            self._waiting.park(record.seq, "longer than the broker accepts")
            return
        expiry_s = self._settings.health_expiry_s if record.kind == "health" else None
        if self._central is not None:
            self._central.unconfirmed.sent(record.seq)
        self._publish(Sent(topic, record.seq), body, expiry_s=expiry_s, form=self._payload)
        self._link.published += 1
        if topic in self._waiting.asking:  # one message tests the topic for all
            self._waiting.asking.remove(topic)
            self._scheduler.begin_again()

    def _must_wait(self, topic: Topic) -> bool:
        """Whether a status or gone message has to wait; if its topic is due, it is the retry."""
        self._scheduler.let_ask()
        return self._waiting.is_denied(topic)

    def _publish(
        self,
        sent: Sent,
        body: bytes,
        retain: bool = False,
        expiry_s: float | None = None,
        form: Payload | None = None,
    ) -> None:
        """Publish a message unchanged; all messages except the last will pass through here."""
        packet = self._connection.publish(sent.topic, body, retain, expiry_s, form)
        self._window.add(packet, sent)
        if packet is None:
            self._take_in(_REASON_S)  # raises with the broker's reason, if there is one
            raise LinkError("the connection is gone")

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
                        self._scheduler.look_again()
                event = self._connection.events.get_nowait()
        except Empty:
            if not self._window:
                self._scheduler.look_again()

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
            if central.online:  # it subscribes before it reports online
                self._waiting.ask_soon()
                self._told = None  # publish again, with the current highest number
            self._scheduler.catch_up()

    def _answered(self, answer: Acknowledged) -> None:
        sent = self._window.answered(answer.packet)
        if sent is None:
            return
        if answer.code in _DENIED:
            self._waiting.deny(sent.topic, sent.seq, answer.reason)
            self._scheduler.begin_again()
        elif self._waiting.taken(sent.topic):
            self._scheduler.catch_up()
        if sent.samples and self._samples is not None:
            self._answered_samples(self._samples, answer)
        if sent.seq is None:  # a status is finished once the broker retains it
            return
        if self._central is not None and (answer.failed or answer.code == NO_SUBSCRIBER):
            self._central.unconfirmed.not_taken(sent.seq)
        if answer.code in _NEVER:
            self._waiting.park(sent.seq, answer.reason)
        elif answer.failed or answer.code == NO_SUBSCRIBER:
            self._waiting.hold(sent.topic, answer.reason)
            self._scheduler.begin_again()
        else:
            self._taken(sent.seq)
            if self._waiting.release(sent.topic):
                self._scheduler.catch_up()

    def _answered_samples(self, samples: SampleLane, answer: Acknowledged) -> None:
        if answer.code in _NEVER - _DENIED:
            samples.never(answer.reason)
        elif answer.failed or answer.code == NO_SUBSCRIBER:
            samples.hold()
        else:
            samples.taken()

    def _taken(self, seq: int) -> None:
        """Handle a message that the broker has: it is done, or the collector must confirm it."""
        if self._central is None or self._central.taken(seq):
            self._confirm(seq)

    def _confirm(self, seq: int) -> None:
        """Let the loop delete a message."""
        if seq not in self._ledger:
            self._link.acknowledged += 1
            self._ledger.add(seq)
