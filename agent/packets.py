"""What a broker sends, packet by packet, cut to a bounded size before paho sees it.

paho keeps a packet until it is whole, however long that is: up to 256 MB. Not every broker keeps to
the longest that a client takes, and with MQTT 3.1.1 a client cannot say so. ``BoundedSocket`` is
between the network and paho. It passes on what fits. A longer message is thrown away while it
arrives, and paho gets a short one in its place: with the same topic and packet number, so that
paho acknowledges it and the broker does not send it for ever.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Final

_PUBLISH: Final = 3
_QOS: Final = 0b110  # of the first byte of a message
_QOS_1: Final = 0b010
_PIECE_BYTES: Final = 65_536
_LENGTH_BYTES_MAX: Final = 4  # of a fixed header, by the standard
_MARK_BYTES: Final = 16
_SIZE_BYTES: Final = 4


class BoundedSocket:
    """A socket to a broker; paho's network thread reads from it.

    Args:
        sock: The socket, a TLS one perhaps.
        packet_bytes_max: A longer packet is not kept. Where it is a message, ``too_large`` knows
            the one in its place; any other ends the connection.
        mqtt5: Whether messages have properties.
        wait_for_room: Called before each packet; may wait.

    """

    def __init__(
        self,
        sock: socket.socket,
        packet_bytes_max: int,
        mqtt5: bool,
        wait_for_room: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._packet_bytes_max = packet_bytes_max
        self._mqtt5 = mqtt5
        self._wait_for_room = wait_for_room
        self._mark = secrets.token_bytes(_MARK_BYTES)  # which no sender can know
        self._head = bytearray()  # of the packet that begins
        self._ready = b""  # for the reader, before what follows
        self._passing = 0  # bytes of the packet that the reader gets as they come
        self._discarding = 0  # bytes of the packet that nobody gets
        self.trouble: str | None = None  # why ``recv`` has raised ConnectionAbortedError

    def recv(self, buffer_size: int) -> bytes:
        """Return at most ``buffer_size`` bytes; none at the end of the connection.

        Raises:
            OSError: as of the socket; ConnectionAbortedError for what is no MQTT, or too large.

        """
        while not self._ready:
            if self._passing:
                data = self._sock.recv(min(buffer_size, self._passing))
                self._passing -= len(data)
                return data
            if not (self._discard() if self._discarding else self._begin()):
                return b""
        data, self._ready = self._ready[:buffer_size], self._ready[buffer_size:]
        return data

    def too_large(self, payload: bytes | bytearray) -> int | None:
        """Return how long the packet was that a message stands for; None for any other message."""
        if not payload.startswith(self._mark):
            return None
        return int.from_bytes(payload[_MARK_BYTES : _MARK_BYTES + _SIZE_BYTES], "big")

    def _begin(self) -> bool:
        """Read of the beginning of a packet what is there; say whether the broker is."""
        if not self._head:
            self._wait_for_room()
        data = self._sock.recv(self._missing())
        self._head += data
        if not self._missing():
            self._begun()
        return bool(data)

    def _missing(self) -> int:
        """Return how many bytes to read until it is clear what becomes of the packet."""
        head = self._head
        fixed = self._fixed_bytes()
        if head and head[0] >> 4 == _PUBLISH and head[0] & _QOS > _QOS_1:
            # paho keeps these until the broker says something that it need not say
            raise self._broken("the broker sends a message at QoS 2, which nobody asked for")
        if fixed is None:
            return 2 - len(head) if len(head) < 2 else 1
        size = fixed + self._length(fixed)
        if size <= self._packet_bytes_max:
            return 0
        if head[0] >> 4 != _PUBLISH:
            raise self._broken(f"the broker sends a packet of {size} bytes that is no message")
        if len(head) < fixed + 2:
            return fixed + 2 - len(head)
        numbered = bool(head[0] & _QOS)  # a message at QoS 0 has no packet number
        whole = fixed + 2 + int.from_bytes(head[fixed : fixed + 2], "big") + 2 * numbered
        if whole > size:
            raise self._broken("the broker sends what is no MQTT: a topic longer than its packet")
        return whole - len(head)

    def _fixed_bytes(self) -> int | None:
        """Return how long the fixed header is; None where its end has not come."""
        for at, byte in enumerate(self._head[1:], 2):
            if byte < 128:
                return at
        if len(self._head) > _LENGTH_BYTES_MAX:
            raise self._broken("the broker sends what is no MQTT: a length without an end")
        return None

    def _length(self, fixed: int) -> int:
        return sum((byte & 127) << 7 * at for at, byte in enumerate(self._head[1:fixed]))

    def _begun(self) -> None:
        fixed = self._fixed_bytes()
        assert fixed is not None
        length = self._length(fixed)
        if fixed + length <= self._packet_bytes_max:
            self._ready, self._passing = bytes(self._head), length
        else:
            self._discarding = length - (len(self._head) - fixed)
            self._ready = self._in_its_place(fixed, fixed + length)
        self._head.clear()

    def _in_its_place(self, fixed: int, size: int) -> bytes:
        """Return the beginning of a message without the long one's properties and payload.

        Its payload has a byte for each piece that is thrown away: paho takes a broker that says
        nothing for so long as a large message takes for lost.
        """
        properties = b"\0" * self._mqtt5
        mark = self._mark + size.to_bytes(_SIZE_BYTES, "big")
        begin = bytes(self._head[fixed:]) + properties + mark
        length = len(begin) + self._discarding // _PIECE_BYTES
        digits = [length >> 7 * at & 127 for at in range(_LENGTH_BYTES_MAX) if length >> 7 * at]
        header = bytes([self._head[0], *(digit | 128 for digit in digits[:-1]), digits[-1]])
        return header + begin

    def _discard(self) -> bool:
        """Throw away what is there of a long message; say whether the broker is still there."""
        before = self._discarding // _PIECE_BYTES
        data = self._sock.recv(min(_PIECE_BYTES, self._discarding))
        self._discarding -= len(data)
        self._ready = b"\0" * (before - self._discarding // _PIECE_BYTES)
        return bool(data)

    def _broken(self, trouble: str) -> ConnectionAbortedError:
        self.trouble = trouble
        return ConnectionAbortedError(trouble)

    # what else paho does with a socket

    def send(self, buffer: bytes | bytearray) -> int:
        """See ``socket.send``."""
        return self._sock.send(buffer)

    def close(self) -> None:
        """See ``socket.close``."""
        self._sock.close()

    def shutdown(self, how: int) -> None:
        """See ``socket.shutdown``."""
        self._sock.shutdown(how)

    def fileno(self) -> int:
        """See ``socket.fileno``."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """See ``socket.setblocking``."""
        self._sock.setblocking(flag)

    def pending(self) -> int:
        """Return how many bytes can be read that ``select`` does not see."""
        within = getattr(self._sock, "pending", None)  # of TLS
        return len(self._ready) + (within() if within else 0)
