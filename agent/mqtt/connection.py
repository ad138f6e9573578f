"""The only door to paho: one connection to the broker, from its opening to its end.

A ``Connection`` is used once. What paho keeps by itself (unacknowledged messages, which it would
send all at once when it reconnects; packet numbers, the protocol version) ends with it, so
that SQLite is the only queue. paho's callbacks run in its network thread, where a lock or an
exception would hang or kill it: they only enqueue.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Sequence
from queue import Empty
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.guard import Guard
from agent.mqtt.bounded_queue import BoundedQueue
from agent.mqtt.bounded_socket import BoundedSocket
from agent.mqtt.client import Client
from agent.mqtt.credentials import Credentials
from models.errors import FieldwatchError

if TYPE_CHECKING:
    from agent.config.broker import BrokerTable
    from agent.mqtt.payload import Payload

Protocol = Literal["5", "3.1.1"]

CONNECT_TIMEOUT_S = 10.0
GOODBYE_S_MAX = 0.5
UNSUPPORTED_PROTOCOL = 0x84
_RECEIVE_MAXIMUM = 65535  # if the broker names none
_PACKET_BYTES_MAX = 268_435_455  # the longest that MQTT can express
NO_PACKET = -1  # in place of a packet number
RECEIVED_BYTES_MAX = 65_536  # of a packet, unless more is requested
WAITING_BYTES_MAX = 8 * 2**20  # received and not fetched; above this nothing more is read
_SHARED = "$share/"  # before the name of a group, and what it shares
_TAKEN_OVER = 0x8E
_INVALID_CLIENT_ID = 0x85
_UNSPECIFIED = 0x80  # paho's word for a connection that is simply gone
_EXPIRY_S_MAX = 0xFFFFFFFF
_VERSIONS = {"5": paho.MQTTv5, "3.1.1": paho.MQTTv311}


class LinkError(FieldwatchError):
    """The broker cannot be reached, or refuses; the text says why."""

    def without(self, broker: BrokerTable) -> str:
        """Return the text without the broker's address, for where that is said already."""
        return str(self).removeprefix(f"{broker.host}:{broker.port}: ")


class Connected(NamedTuple):
    """The broker accepted, and says its limits."""

    receive_maximum: int  # unacknowledged messages at a time
    packet_bytes_max: int  # a longer packet would cost the connection


class Refused(NamedTuple):
    """The broker does not accept this client."""

    code: int
    reason: str


class Lost(NamedTuple):
    """The connection is gone."""

    reason: str
    taken_over: bool = False  # by another client with the same id, as some MQTT 5 brokers report


class Acknowledged(NamedTuple):
    """The broker answered for the message with this packet number; 0 is success."""

    packet: int
    code: int
    failed: bool
    reason: str


class Subscribed(NamedTuple):
    """The broker answered to a subscription; ``refusal`` says why not, None is success."""

    refusal: str | None
    packet: int = 0  # the number of the request


class Received(NamedTuple):
    """Somebody published to a topic that this side is subscribed to."""

    topic: str
    body: bytes
    packet: int  # for the acknowledgement, if that is not sent at once
    again: bool  # the broker has sent it before, without an acknowledgement
    # it existed before the subscription, for an unknown time; or see ``as_published``
    retained: bool = False


class TooLarge(NamedTuple):
    """A received message was too large, and was discarded while receiving."""

    topic: str
    size_bytes: int  # of the packet
    retained: bool  # the broker keeps it, and sends it again with each subscription


class NoTopic(NamedTuple):
    """A received message had a topic that is not text, and was discarded while receiving."""


class Woken(NamedTuple):
    """Wakes the thread of this side; nothing happened on the connection."""


ConnectionEvent = (
    Connected | Refused | Lost | Acknowledged | Subscribed | Received | TooLarge | NoTopic | Woken
)


class Connection:
    """One connection; what happens on it comes out of ``events``, in order.

    Nothing is opened before ``open``. One thread uses it; any thread may put ``Woken``. What is
    received while ``received_waiting_max`` events wait is dropped: that is no loss of what is
    said again. With ``session_expiry_s`` the broker keeps for that long what is published while we
    are away, and what was received is acknowledged by ``acknowledge`` only: what is dropped then
    comes again on the next connection, and this one is ``Lost``; after 0 seconds nothing does.
    """

    def __init__(
        self,
        settings: BrokerTable,
        client_id: str,
        protocol: Protocol,
        *,
        received_bytes_max: int = RECEIVED_BYTES_MAX,
        received_waiting_max: int = 1000,
        session_expiry_s: int | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._credentials = Credentials(settings)
        self._mqtt5 = protocol == "5"
        self._received_bytes_max = received_bytes_max
        self._received_waiting_max = received_waiting_max
        self._session_expiry_s = session_expiry_s
        self._guard = guard or Guard()
        self.events: BoundedQueue[ConnectionEvent] = BoundedQueue(WAITING_BYTES_MAX)
        # of published messages; there are few kinds
        self._properties: dict[tuple[float | None, Payload | None], Properties] = {}
        self._client = _Client(
            self.events,
            received_bytes_max,
            client_id=client_id,
            protocol=_VERSIONS[protocol],
            reconnect_on_failure=False,
            clean_session=None if self._mqtt5 else not session_expiry_s,
            manual_ack=session_expiry_s is not None,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        # the sender keeps to the window; paho must never hold a message back by itself
        self._client.max_inflight_messages_set(_RECEIVE_MAXIMUM)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def open(self, will_topic: str | None = None, will: bytes = b"") -> None:
        """Connect; the broker's answer comes as an event. A will is retained.

        Raises:
            LinkError: not reachable, or password or certificates cannot be used.

        """
        if will_topic is not None:
            self._client.will_set(will_topic, will, qos=1, retain=True)
        try:
            self._authenticate()
            self._client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                properties=self._opening(),
                **self._start(),
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise LinkError(
                f"{self._settings.host}:{self._settings.port}: {_explain(error)}"
            ) from error
        self._client.loop_start()

    def _authenticate(self) -> None:
        """Read password and certificates each time: they are renewed while we run."""
        password, context = self._credentials.read()
        if self._settings.username is not None:
            self._client.username_pw_set(self._settings.username, password)
        if context is not None:
            self._client.tls_set_context(context)

    def _opening(self) -> Properties | None:
        if not self._mqtt5:
            return None
        properties = _properties(PacketTypes.CONNECT)
        properties.MaximumPacketSize = self._received_bytes_max
        if self._session_expiry_s is not None:
            properties.SessionExpiryInterval = self._session_expiry_s
            properties.ReceiveMaximum = self._received_waiting_max
        return properties

    def _start(self) -> dict[str, Any]:
        return {"clean_start": not self._session_expiry_s} if self._mqtt5 else {}

    def acknowledge(self, packet: int) -> None:
        """Acknowledge a received message; see ``session_expiry_s``."""
        self._client.ack(packet, 1)

    def renewed(self) -> bool:
        """Whether password or certificates were replaced since the opening, by usable ones."""
        return self._credentials.renewed()

    def answer(self, stopping: threading.Event) -> Connected | Refused:
        """Wait for the broker's answer to the opening, or until ``stopping`` is set.

        Raises:
            LinkError: there is none.

        """
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not stopping.is_set():
            match self._next(deadline):
                case Connected() | Refused() as answer:
                    return answer
                case Lost(reason):
                    raise LinkError(f"the connection ended without an answer: {reason}")
                case None:
                    raise LinkError("the broker does not answer; is it an MQTT broker?")
        raise LinkError("stopped before the broker answered")

    def _next(self, deadline: float) -> ConnectionEvent | None:
        try:
            return self.events.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return None

    def publish(
        self,
        topic: str,
        body: bytes,
        retain: bool = False,
        expiry_s: float | None = None,
        form: Payload | None = None,
    ) -> int | None:
        """Send at QoS 1; return the packet number, or None if the connection is gone.

        With MQTT 5 the broker drops a message that it cannot deliver within ``expiry_s``, and the
        message names its ``form``.
        """
        properties = self._told_of(expiry_s, form) if self._mqtt5 else None
        message = self._client.publish(topic, body, 1, retain, properties)
        return message.mid if message.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def _told_of(self, expiry_s: float | None, form: Payload | None) -> Properties | None:
        """Return the properties of a message; made once, as that takes longer than to send one."""
        if form is not None and form.content_type is None:
            form = None
        if expiry_s is None and form is None:
            return None
        if (expiry_s, form) not in self._properties:
            made = self._properties[expiry_s, form] = _properties(PacketTypes.PUBLISH)
            if expiry_s is not None:
                made.MessageExpiryInterval = min(math.ceil(expiry_s), _EXPIRY_S_MAX)
            if form is not None and form.content_type is not None:
                made.ContentType = form.content_type
                made.UserProperty = list(form.user_properties)
        return self._properties[expiry_s, form]

    def subscribe(self, topics: Sequence[str], *, as_published: bool = False) -> int:
        """Subscribe to these topics at QoS 1; return the packet number that the answer has.

        ``as_published``: with MQTT 5 a message is ``retained`` also if it was published as such
        while this side was subscribed. With 3.1.1 the broker does not say so.

        Raises:
            LinkError: the connection is gone.

        """
        if self._mqtt5:
            options = SubscribeOptions(qos=1, retainAsPublished=as_published)
            code, packet = self._client.subscribe([(topic, options) for topic in topics])
        else:
            code, packet = self._client.subscribe([(topic, 1) for topic in topics])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or packet is None:
            raise LinkError("the connection is gone")
        return packet

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Unsubscribe from these topics.

        Raises:
            LinkError: the connection is gone.

        """
        code, _ = self._client.unsubscribe(list(topics))
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError("the connection is gone")

    def close(self, politely: bool) -> None:
        """End the connection; politely means that the broker drops the will."""
        self.events.close()
        if politely and self._client.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._wait_for_the_end()
        with contextlib.suppress(OSError):  # the other side was faster
            if self._client.bounded is not None:
                # a broker that hangs would keep the network thread, and us, waiting
                self._client.bounded.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        # paho's sockets go with it, at once, where nothing refers in a circle
        client = self._client
        client.on_connect = client.on_disconnect = client.on_publish = None
        client.on_subscribe = client.on_message = None

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + GOODBYE_S_MAX
        while not isinstance(self._next(deadline), Lost | None):
            pass

    def _on_connect(self, _: Any, __: Any, ___: Any, code: ReasonCode, properties: Any) -> None:
        if code.is_failure:
            which = f": {self._client_id}" if code.value == _INVALID_CLIENT_ID else ""
            self.events.put(Refused(code.value, f"{code}{which}"))
        else:
            receive_maximum = getattr(properties, "ReceiveMaximum", _RECEIVE_MAXIMUM)
            packet_bytes_max = getattr(properties, "MaximumPacketSize", _PACKET_BYTES_MAX)
            self.events.put(Connected(receive_maximum, packet_bytes_max))

    def _on_disconnect(self, _: Any, __: Any, ___: Any, code: ReasonCode, ____: Any) -> None:
        bounded = self._client.bounded
        trouble = None if bounded is None else bounded.packets.trouble
        reason = "the connection broke" if code.value == _UNSPECIFIED else str(code)
        self.events.put(Lost(trouble or reason, code.value == _TAKEN_OVER))

    def _on_publish(self, _: Any, __: Any, packet: int, code: ReasonCode, ___: Any) -> None:
        self.events.put(Acknowledged(packet, code.value, code.is_failure, str(code)))

    def _on_subscribe(
        self, _: Any, __: Any, packet: int, codes: list[ReasonCode], ___: Any
    ) -> None:
        refusal = next((str(code) for code in codes if code.is_failure), None)
        self.events.put(Subscribed(refusal, packet))

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        topic = message.topic  # a text: the bounded socket sees to that
        body = bytes(message.payload)
        received = Received(topic, body, message.mid, message.dup, message.retain)
        key = topic.encode(), body
        if self._guard.refuses(*key):
            self.events.put(received, len(body))
            return
        with self._guard.over(*key, last=False):
            self._pass_on(received, message.qos)

    def _pass_on(self, received: Received, qos: int) -> None:
        bounded = self._client.bounded
        assert bounded is not None  # nothing else brings messages
        topic, body = received.topic, received.body
        if (size := bounded.packets.too_large(body)) is not None:
            if qos:
                self.acknowledge(received.packet)
            self.events.put(TooLarge(topic, size, received.retained), len(topic))
        elif bounded.packets.has_no_topic(body):
            if qos:
                self.acknowledge(received.packet)
            self.events.put(NoTopic())
        elif self.events.qsize() < self._received_waiting_max:
            self.events.put(received, len(body))
        elif self._session_expiry_s is not None:
            self.events.put(Lost("the broker keeps sending more than is taken from its connection"))


class _Client(Client):
    """paho, with a bounded socket; the end of its network thread is always reported.

    The two methods are not in paho's public interface. Tests fail if paho stops calling them.
    """

    def __init__(
        self, events: BoundedQueue[ConnectionEvent], packet_bytes_max: int, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._events = events
        self._packet_bytes_max = packet_bytes_max
        self.bounded: BoundedSocket | None = None

    def _create_socket(self) -> BoundedSocket:
        sock = super()._create_socket()
        assert isinstance(sock, socket.socket)  # a TLS one is; we use neither web nor Unix sockets
        mqtt5 = self.protocol == paho.MQTTv5
        room = self._events.wait_for_room
        self.bounded = BoundedSocket(sock, self._packet_bytes_max, mqtt5, room)
        return self.bounded

    def _thread_main(self) -> None:
        try:
            super()._thread_main()
        finally:
            self._events.put(Lost("the connection ended"))


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription to ``topic_filter`` brings what is published on ``topic``."""
    if topic_filter.startswith(_SHARED):
        topic_filter = topic_filter.removeprefix(_SHARED).partition("/")[2]
    return paho.topic_matches_sub(topic_filter, topic)


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call]


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ConnectionError) and error.strerror:
        return error.strerror  # without its number
    return str(error) or type(error).__name__
