"""Collects on one connection: what is received, commits, acknowledgements."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.collector.books import Collected
from agent.collector.reading import Source
from agent.collector.voice import Voice
from agent.dialects.topics import acknowledged_topic, central_status_topic
from agent.mqtt.connection import (
    Acknowledged,
    Connected,
    Connection,
    ConnectionEvent,
    LinkError,
    Lost,
    NoTopic,
    Received,
    Subscribed,
    TooLarge,
)

if TYPE_CHECKING:
    from agent.collector.run import Collector

_LOG = logging.getLogger(__name__)

_COMMIT_S: Final = 0.2  # messages within this time are written and acknowledged together
_ROWS_MAX: Final = 500


class MayBeRefused(NamedTuple):
    """Packet identifiers of the subscriptions that the broker may refuse."""

    statuses: int
    answers: int | None  # to commands; None: without samples


class Collecting:
    """Collects on one connection."""

    def __init__(
        self,
        collector: Collector,
        connection: Connection,
        broker: Connected,
        collected: Collected,
        voice: Voice,
        optional: MayBeRefused,
        online: bytes,
    ) -> None:
        self._voice = voice
        self._status_topic, self._online = central_status_topic(collector.site), online
        self._overwritten = False  # whether another client replaced our retained status
        self._collector = collector
        self._connection = connection
        self._collected = collected
        self._site = collector.site
        self._window = max(1, broker.receive_maximum - 1)  # the status needs one too
        self._in_flight: set[int] = set()
        self._to_tell: dict[Source, None] = {}
        self._taken = 0
        self._optional = optional

    def until(self, stopping: threading.Event) -> None:
        """Collect until ``stopping`` is set.

        Raises:
            LinkError: the connection is gone.
            StoreError: the database cannot be written.

        """
        while not stopping.is_set():
            deadline = time.monotonic() + _COMMIT_S
            while time.monotonic() < deadline and not self._is_full():
                self._take_in(deadline - time.monotonic())
            self._commit()
        self._commit()

    def _is_full(self) -> bool:
        samples = self._collected.samples
        if samples is not None and samples.is_full:
            return True
        return self._taken >= _ROWS_MAX or self._collected.shelf.is_full()

    def _take_in(self, wait_s: float) -> None:
        try:
            self._take(self._connection.events.get(timeout=max(0.0, wait_s)))
        except Empty:
            return

    def _take(self, event: ConnectionEvent) -> None:
        match event:
            case Lost(reason):
                raise LinkError(reason)
            case Subscribed(str(refusal), packet) if packet == self._optional.answers:
                _LOG.warning("samples in answers to commands are not stored: %s", refusal)
            case Subscribed(str(refusal), packet) if packet != self._optional.statuses:
                raise LinkError(f"the broker refuses the subscription: {refusal}")
            case Acknowledged(packet=packet):
                self._in_flight.discard(packet)
            case Received(topic=topic, body=body, retained=old) if topic == self._status_topic:
                self._take_own_status(body, old)
            case Received() as received:
                self._taken += 1
                self._collector.take(received, self._collected)
            case NoTopic():
                self._taken += 1
                self._collector.reject("?", "unreadable", "its topic is not text", self._collected)
            case TooLarge(topic=topic, size_bytes=size_bytes):
                self._taken += 1
                why = f"{size_bytes} bytes are too large"
                self._collector.reject(topic, "too_large", why, self._collected)

    def _take_own_status(self, body: bytes, retained: bool) -> None:
        """Check who published our status; reconnect if gateways would refuse our counters."""
        if not retained:
            self._overwritten |= body != self._online
        elif self._voice.behind(self._status_topic, body, self._online):
            raise LinkError(
                "the broker has a status that this key signed with a higher counter, and gateways"
                " refuse lower ones; the counters now continue above it. Is the clock slow? Or does"
                " another collector of this site use the key?"
            )

    def _commit(self) -> None:
        """Write, pass on, acknowledge, in this order: only stored messages are acknowledged."""
        self._collector.tell()
        self._collector.renew()
        self._hold_status()
        if self._taken:
            self._collector.committed(self._collected.commit())
            self._to_tell |= dict.fromkeys(self._collected.touched())
            self._taken = 0
        self._collector.drop_old(self._collected)
        self._tell_gateways()
        self._collector.file_samples(self._collected)

    def _tell_gateways(self) -> None:
        while self._to_tell and len(self._in_flight) < self._window:
            source = next(iter(self._to_tell))
            del self._to_tell[source]
            topic = acknowledged_topic(self._site, source.gateway)
            body = self._voice.say(topic, self._collected.acknowledgement(source))
            packet = self._connection.publish(topic, body, retain=True)
            if packet is None:
                raise LinkError("the connection is gone")
            self._in_flight.add(packet)

    def _hold_status(self) -> None:
        """Publish our status again, unchanged, if another client replaced it.

        Otherwise a gateway that connects later would not see it, and would keep its backlog.
        """
        if self._overwritten:
            self._overwritten = False
            self._collector.overwritten()
            self._connection.publish(self._status_topic, self._online, retain=True)
