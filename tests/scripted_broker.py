"""The other side of the link, by a script: for what a good broker never does.

It speaks as much MQTT 5 and 3.1.1 as we need: CONNECT, PUBLISH at QoS 1, SUBSCRIBE, UNSUBSCRIBE
and DISCONNECT.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP = 10, 11, 12, 13
_PIECE = bytes(65_536)


@dataclass
class Published:
    topic: str
    body: bytes
    packet: int
    retain: bool


@dataclass
class Session:
    """What one client did; and the script's means to answer."""

    sock: socket.socket
    protocol: int = 0
    username: str | None = None
    password: str | None = None
    will: tuple[str, bytes] | None = None  # topic and body
    published: list[Published] = field(default_factory=list)
    unanswered: int = 0
    unanswered_max: int = 0
    said_goodbye: bool = False
    acknowledged: list[int] = field(default_factory=list)  # packet numbers of messages to it
    unsubscribed: list[str] = field(default_factory=list)

    def send(self, kind: int, payload: bytes) -> None:
        self.sock.sendall(bytes([kind << 4, len(payload)]) + payload)

    def accept(
        self,
        receive_maximum: int | None = None,
        packet_bytes_max: int | None = None,
        code: int = 0,
    ) -> None:
        properties = b""
        if receive_maximum is not None:
            properties += b"\x21" + receive_maximum.to_bytes(2, "big")
        if packet_bytes_max is not None:
            properties += b"\x27" + packet_bytes_max.to_bytes(4, "big")
        tail = bytes([len(properties)]) + properties if self.protocol == 5 else b""
        self.send(CONNACK, bytes([0, code]) + tail)

    def subscribed(self, packet: bytes, code: int = 1) -> None:
        """Answer for the two topics that the uplink asks for."""
        properties = b"\0" if self.protocol == 5 else b""
        self.send(SUBACK, packet + properties + bytes([code, code]))

    def publish(
        self, topic: str, size_bytes: int = 1, packet: int = 0, retain: bool = False
    ) -> None:
        """Send zeros, however many: a broker that does not care what the client takes."""
        head = len(topic.encode()).to_bytes(2, "big") + topic.encode()
        head += packet.to_bytes(2, "big") if packet else b""
        head += b"\0" if self.protocol == 5 else b""
        first = PUBLISH << 4 | (2 if packet else 0) | retain
        self.sock.sendall(fixed_header(first, len(head) + size_bytes) + head)
        while size_bytes:
            piece = _PIECE[:size_bytes]
            self.sock.sendall(piece)
            size_bytes -= len(piece)

    def hang_up(self) -> None:
        """Close the connection; a close alone would not wake the thread that reads."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def answer(self, message: Published, code: int = 0) -> None:
        self.unanswered -= 1
        tail = bytes([code]) if self.protocol == 5 and code else b""
        self.send(PUBACK, message.packet.to_bytes(2, "big") + tail)


class ScriptedBroker:
    """Listens on a free port; each connection is handled by the two functions of the script."""

    def __init__(
        self,
        on_connect: Callable[[Session], None] = lambda session: session.accept(),
        on_publish: Callable[[Session, Published], None] = lambda session, message: session.answer(
            message
        ),
        on_subscribe: Callable[[Session, bytes], None] = lambda session, packet: session.subscribed(
            packet
        ),
    ) -> None:
        self._on_connect, self._on_publish = on_connect, on_publish
        self._on_subscribe = on_subscribe
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sessions: list[Session] = []
        self._threads = [threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in self.sessions:
            session.hang_up()
        for thread in self._threads:
            thread.join()

    def bodies(self) -> list[bytes]:
        """All that was published except statuses, over all sessions, in order."""
        return [
            message.body
            for session in self.sessions
            for message in session.published
            if not message.topic.endswith("/status")
        ]

    def _listen(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            session = Session(sock)
            self.sessions.append(session)
            self._threads.append(threading.Thread(target=self._serve, args=(session,)))
            self._threads[-1].start()

    def _serve(self, session: Session) -> None:
        try:
            while True:
                self._packet(session, *_read_packet(session.sock))
        except OSError:  # the client left, or the script hung up
            session.sock.close()

    def _packet(self, session: Session, head: int, payload: bytes) -> None:
        if head >> 4 == CONNECT:
            _read_connect(session, payload)
            self._on_connect(session)
        elif head >> 4 == PUBLISH:
            message = _read_publish(session, head, payload)
            session.published.append(message)
            session.unanswered += 1
            session.unanswered_max = max(session.unanswered_max, session.unanswered)
            self._on_publish(session, message)
        elif head >> 4 == SUBSCRIBE:
            self._on_subscribe(session, payload[:2])
        elif head >> 4 == PUBACK:
            session.acknowledged.append(int.from_bytes(payload[:2], "big"))
        elif head >> 4 == UNSUBSCRIBE:
            session.unsubscribed += _read_topics(session, payload)
            properties = b"\0" if session.protocol == 5 else b""
            codes = bytes(len(session.unsubscribed)) if session.protocol == 5 else b""
            session.send(UNSUBACK, payload[:2] + properties + codes)
        elif head >> 4 == PINGREQ:
            session.send(PINGRESP, b"")
        elif head >> 4 == DISCONNECT:
            session.said_goodbye = True
            raise ConnectionResetError


def fixed_header(first: int, length: int) -> bytes:
    digits = [length >> 7 * at & 127 for at in range(4) if length >> 7 * at] or [0]
    return bytes([first, *(digit | 128 for digit in digits[:-1]), digits[-1]])


def _read_topics(session: Session, payload: bytes) -> list[str]:
    at, topics = 3 if session.protocol == 5 else 2, []
    while at < len(payload):
        length = int.from_bytes(payload[at : at + 2], "big")
        topics.append(payload[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return topics


def _read_packet(sock: socket.socket) -> tuple[int, bytes]:
    head, length, shift = _read(sock, 1)[0], 0, 0
    while True:
        byte = _read(sock, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head, _read(sock, length)


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _read_connect(session: Session, payload: bytes) -> None:
    session.protocol = payload[6]
    flags, at = payload[7], 10
    if session.protocol == 5:
        at += 1 + payload[at]

    def text() -> bytes:
        nonlocal at
        length = int.from_bytes(payload[at : at + 2], "big")
        at += 2 + length
        return payload[at - length : at]

    text()  # client id
    if flags & 4:
        if session.protocol == 5:
            at += 1 + payload[at]
        session.will = text().decode(), text()
    if flags & 128:
        session.username = text().decode()
    if flags & 64:
        session.password = text().decode()


def _read_publish(session: Session, head: int, payload: bytes) -> Published:
    length = int.from_bytes(payload[:2], "big")
    topic, at = payload[2 : 2 + length].decode(), 2 + length
    packet = int.from_bytes(payload[at : at + 2], "big")
    at += 2
    if session.protocol == 5:
        at += 1 + payload[at]
    return Published(topic, payload[at:], packet, bool(head & 1))
