"""The MQTT input: one thread that receives messages, and acknowledges them once committed.

The broker keeps messages until they are acknowledged. So if a gateway is killed with messages in
memory, it receives them again. The aligner drops repeated readings by their time. By default the
broker keeps no messages without a time, because their age would be unknown.

The bytes of messages that wait for their commit are also limited. Above the limit the input stops
reading from the connection, so that the broker has to wait.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from agent.backoff import Backoff
from agent.config.inputs import MqttInputTable
from agent.guard import Guard
from agent.inputs.source import Chunk
from agent.inputs.subscriptions import GIVEN_UP_S, Subscriptions
from agent.inputs.threaded import ThreadedInput
from agent.journal import INPUT
from agent.mqtt.connection import (
    RECEIVED_BYTES_MAX,
    Connection,
    LinkError,
    Lost,
    NoTopic,
    Received,
    Subscribed,
    TooLarge,
    Woken,
)
from agent.mqtt.version import Version
from agent.parsing.documents import documents
from models.formats.encodings import transcoded
from models.formats.lines import whole_lines
from models.printable import printable

_LOG = logging.getLogger(__name__)

# messages not acknowledged yet; MQTT 5 sends this limit to the broker, with 3.1.1 it has its own
WAITING_MAX: Final = 1000
WAITING_BYTES_MAX: Final = 16 * 2**20  # of those, in memory
_LINE_BYTES: Final = 48  # memory of a line in addition to its text
# few brokers report that another client has the same id, and none with MQTT 3.1.1; a sign of it:
_SHORT_S: Final = 10.0  # connections that end within this time,
_SHORT_LIVED_MIN: Final = 3  # at least this many in a row
_LOOK_S: Final = 60.0  # between checks whether a topic may be subscribed to again


class MqttInput(ThreadedInput):
    """Reads the lines in messages; see ``agent.inputs.Input``."""

    def __init__(self, settings: MqttInputTable, guard: Guard | None = None) -> None:
        super().__init__(settings)
        self._guard = guard or Guard()
        self._settings = settings
        # each input of a loaded configuration has one
        self._client_id = settings.client_id or f"fieldwatch:{self.name}"
        self._found_mono_s = 0.0
        self._short_lived = 0  # connections, in a row
        self._version = Version(settings.broker.protocol)
        self._backoff = Backoff(settings.broker.backoff_min_s, settings.broker.backoff_max_s)
        self._connection: Connection | None = None
        self._tokens = itertools.count(1)
        # token -> packet number, of this connection, and bytes
        self._packets: dict[int, tuple[int, int]] = {}
        self._waiting_bytes = 0
        self._subscriptions = Subscriptions(settings.topics)
        self._asked: list[str] = []  # topics, on this connection
        self._done: SimpleQueue[int] = SimpleQueue()  # tokens that are committed

    def ask_to_stop(self) -> None:
        """Request the end of receiving; the broker keeps messages that are not acknowledged."""
        super().ask_to_stop()
        self._done.put(0)  # wakes a thread that waits for a commit
        self._wake()

    def committed(self, tokens: Sequence[int]) -> None:
        """Let the thread acknowledge these messages."""
        for token in tokens:
            self._done.put(token)
        self._wake()

    def _wake(self) -> None:
        if (connection := self._connection) is not None:
            connection.events.put(Woken())

    def _run(self, put: Callable[[Chunk], None]) -> None:
        while not self._stopping.is_set():
            try:
                self._connect_and_receive(put)
            except LinkError as error:
                if self._connected:
                    self._backoff.lasted(time.monotonic() - self._found_mono_s)
                self._backoff.failed()
                self._lost(str(error))
            self._stopping.wait(self._backoff.wait_s())

    def _connect_and_receive(self, put: Callable[[Chunk], None]) -> None:
        settings = self._settings
        _LOG.debug(
            "input %s: connecting to %s:%d as %s, MQTT %s",
            *(self.name, settings.broker.host, settings.broker.port),
            *(self._client_id, self._version.now),
            extra={INPUT: self.name},
        )
        connection = Connection(
            settings.broker,
            self._client_id,
            self._version.now,
            received_waiting_max=WAITING_MAX,
            session_expiry_s=settings.kept_s,
            guard=self._guard,
        )
        # packet numbers of another connection are meaningless in this one
        self._packets.clear()
        self._waiting_bytes = 0
        try:
            connection.open()
            if self._version.answer(connection, self._stopping) is None:
                return
            self._connection = connection
            self._subscriptions.begin()
            self._asked = []
            self._subscribe(connection)
            self._found_mono_s = time.monotonic()
            if not self._asked:  # all are given up, so no subscription is granted
                self._receiving()
            self._receive(connection, put)
        finally:
            self._connection = None
            connection.close(politely=True)

    def _receiving(self) -> None:
        broker = self._settings.broker
        if not self._connected:
            self._found(f"receiving from {broker.host}:{broker.port}")

    def _subscribe(self, connection: Connection) -> None:
        """Subscribe to all topics except those given up; the broker may have those in its session.

        Raises:
            LinkError: the connection is gone.

        """
        wanted, given_up = self._subscriptions.wanted(), self._subscriptions.given_up()
        if given_up:
            connection.unsubscribe(given_up)
        if new := [topic for topic in wanted if topic not in self._asked]:
            connection.subscribe(new)
        self._asked, self._topics_given_up = wanted, tuple(given_up)

    def _receive(self, connection: Connection, put: Callable[[Chunk], None]) -> None:
        while not self._stopping.is_set():
            try:
                event = connection.events.get(_LOOK_S)
            except Empty:
                if self._subscriptions.wanted() != self._asked:
                    self._subscribe(connection)
                continue
            match event:
                case Received() as received:
                    self._guarded(received, put)
                case TooLarge() as message:
                    self._refuse(message, connection)
                case NoTopic():
                    self._messages_without_topic += 1
                case Lost() as lost:
                    raise LinkError(self._explained(lost))
                case Subscribed(str(refusal)):
                    raise LinkError(f"the broker refuses the subscription: {refusal}")
                case Subscribed(None):  # earlier messages may be missing
                    self._receiving()
            self._acknowledge(connection)

    def _explained(self, lost: Lost) -> str:
        """Return why a connection is gone: two clients with the same id disconnect each other."""
        soon = time.monotonic() - self._found_mono_s < _SHORT_S
        self._short_lived = self._short_lived + 1 if soon else 0
        if not lost.taken_over and self._short_lived < _SHORT_LIVED_MIN:
            return lost.reason
        return (
            f"{lost.reason}; {'' if lost.taken_over else 'perhaps '}another agent connects with the"
            f" same client id, {self._client_id}: set client_id in one of them, or gateway.name if"
            " both gateways have the same name"
        )

    def _acknowledge(self, connection: Connection) -> None:
        """Acknowledge committed messages; wait while too many bytes are uncommitted."""
        while True:
            try:
                token = self._done.get(timeout=self._commit_wait_s())
            except Empty:
                if not self._commit_wait_s():
                    return
                continue
            packet, size_bytes = self._packets.pop(token, (None, 0))
            self._waiting_bytes -= size_bytes
            if packet is not None:
                connection.acknowledge(packet)

    def _commit_wait_s(self) -> float:
        crowded = self._waiting_bytes > WAITING_BYTES_MAX
        return 1.0 if crowded and not self._stopping.is_set() else 0.0

    def _refuse(self, message: TooLarge, connection: Connection) -> None:
        """Count a message that was too large; give up its topic if each connection delivers it.

        Raises:
            LinkError: the connection is gone.

        """
        self._messages_too_large += 1
        if self._messages_too_large == 1:
            _LOG.warning(
                "a message of %d bytes on %s was discarded, perhaps others too; the limit is %d",
                message.size_bytes,
                printable(message.topic),
                RECEIVED_BYTES_MAX,
                extra={INPUT: self.name},
            )
        given_up = self._subscriptions.too_large(message.topic) if message.retained else []
        if given_up:
            _LOG.error(
                "not subscribed to %s for %.0f h: each connection delivers a retained message"
                " of %d bytes on %s; clear it at the broker, then restart",
                ", ".join(given_up),
                GIVEN_UP_S / 3600,
                message.size_bytes,
                printable(message.topic),
                extra={INPUT: self.name},
            )
            self._subscribe(connection)

    def _guarded(self, received: Received, put: Callable[[Chunk], None]) -> None:
        """Pass on the lines of a message; refuse one that has ended a thread too often.

        Raises:
            LinkError: it is too much for the memory; the broker sends it again later.

        """
        key = received.topic.encode(), received.body
        if self._guard.refuses(*key):
            lines = [received.body]
            put(self._chunk(received, lines, self._token(received, lines))._replace(refused=True))
            return
        with self._guard.over(*key):
            self._take(received, put)

    def _take(self, received: Received, put: Callable[[Chunk], None]) -> None:
        """Pass on the lines of a message.

        Raises:
            LinkError: it is too much for the memory; the broker sends it again later.

        """
        body = received.body
        if self._settings.format == "json":
            lines = documents(transcoded(body, self._settings.encoding)) or [body]
        else:
            lines = whole_lines(body)[0] or [body]
        token = self._token(received, lines)
        self._bytes += len(received.body)
        self._lines += len(lines)
        if not (received.again or received.retained):
            self._backoff.succeeded()  # a repeated message may be what ends each connection
        put(self._chunk(received, lines, token))

    def _token(self, received: Received, lines: Sequence[bytes]) -> int:
        """Return the token that acknowledges a message when it is committed; 0 if there is none.

        Raises:
            LinkError: it is too much for the memory; the broker sends it again later.

        """
        if not received.packet:  # QoS 0: no number and no acknowledgement
            return 0
        if len(self._packets) >= WAITING_MAX:
            raise LinkError(
                f"{WAITING_MAX} messages wait for their commit, and the broker keeps sending;"
                " lower its limit of unacknowledged messages"
            )
        token = next(self._tokens)
        size_bytes = len(received.body) + _LINE_BYTES * len(lines)
        self._packets[token] = received.packet, size_bytes
        self._waiting_bytes += size_bytes
        return token

    def _chunk(self, received: Received, lines: list[bytes], token: int) -> Chunk:
        # a retained message is delivered on each new connection
        again, old = received.again or received.retained, received.retained
        if self._settings.use_retained:
            old = False
        now = time.time(), time.monotonic()
        return Chunk(self.name, *now, lines, token, again, old, received.topic)
