"""What a broker sends, packet by packet, cut to a bounded size before paho sees it.

paho keeps a packet until it is whole, however long that is: up to 256 MB. Not every broker keeps to
the longest that a client takes, and with MQTT 3.1.1 a client cannot say so. ``BoundedSocket`` is
between the network and paho. It reads in large pieces, and passes on what fits. A longer message is
thrown away while it arrives, and paho gets a short one in its place: with the same topic and packet
number, so that paho acknowledges it and the broker does not send it for ever.
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
_FIXED_BYTES_MAX: Final = 1 + _LENGTH_BYTES_MAX
_MORE: Final = 128  # in a byte of a length: another one follows
_HEAD_BYTES_MAX: Final = 2 + 65_535 + 2  # topic and packet number
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
        self._within_tls = getattr(sock, "pending", None)
        self._buffer, self._at = b"", 0  # what was read, and how far it is used up
        self._starved = False  # nothing can be done with it before more comes
        self._ready = b""  # for the reader, before what is in the buffer
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
                if self._at == len(self._buffer) and not self._read():
                    return b""
                end = min(self._at + min(buffer_size, self._passing), len(self._buffer))
                data = self._buffer[self._at : end]
                self._passing -= end - self._at
                self._at = end
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

    def _read(self) -> bool:
        """Read on; say whether the broker is still there."""
        try:
            data = self._sock.recv(_PIECE_BYTES)
        except OSError:  # there is nothing yet, mostly
            self._starved = True
            raise
        self._buffer, self._at = self._buffer[self._at :] + data, 0
        self._starved = False
        return bool(data)

    def _begin(self) -> bool:
        """Decide what becomes of a packet; say whether the broker is still there."""
        self._wait_for_room()
        while not self._decided():
            if not self._read():
                return False
        return True

    def _decided(self) -> bool:
        """Decide, if enough of the packet has come for that."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return False
        first, fixed, length = buffer[at], 2, buffer[at + 1]
        if first >> 4 == _PUBLISH and first & _QOS > _QOS_1:
            # paho keeps these until the broker says something that it need not say
            raise self._broken("the broker sends a message at QoS 2, which nobody asked for")
        if length >= _MORE:
            head = buffer[at : at + _FIXED_BYTES_MAX]
            ends = [number for number, byte in enumerate(head) if number and byte < _MORE]
            if not ends:
                if len(head) == _FIXED_BYTES_MAX:
                    raise self._broken("the broker sends what is no MQTT: a length without an end")
                return False
            fixed = ends[0] + 1
            length = sum((byte & 127) << 7 * number for number, byte in enumerate(head[1:fixed]))
        if fixed + length > self._packet_bytes_max:
            return self._replaced(first, fixed, fixed + length)
        self._passing = fixed + length
        return True

    def _replaced(self, first: int, fixed: int, size: int) -> bool:
        """Put a short message in the place of a packet, if its topic has come."""
        if first >> 4 != _PUBLISH:
            raise self._broken(f"the broker sends a packet of {size} bytes that is no message")
        come = self._buffer[self._at + fixed : self._at + fixed + _HEAD_BYTES_MAX]
        if len(come) < 2:
            return False
        # a message at QoS 0 has no packet number
        wanted = 2 + int.from_bytes(come[:2], "big") + 2 * bool(first & _QOS)
        if fixed + wanted > size:
            raise self._broken("the broker sends what is no MQTT: a topic longer than its packet")
        if len(come) < wanted:
            return False
        self._at += fixed + wanted
        self._discarding = size - fixed - wanted
        self._ready = self._in_its_place(first, come[:wanted], size)
        return True

    def _in_its_place(self, first: int, head: bytes, size: int) -> bytes:
        """Return the beginning of a message without the long one's properties and payload.

        Its payload has a byte for each piece that is thrown away: paho takes a broker that says
        nothing for so long as a large message takes for lost.
        """
        properties = b"\0" * self._mqtt5
        mark = self._mark + size.to_bytes(_SIZE_BYTES, "big")
        begin = head + properties + mark
        length = len(begin) + self._discarding // _PIECE_BYTES
        digits = [length >> 7 * at & 127 for at in range(_LENGTH_BYTES_MAX) if length >> 7 * at]
        header = bytes([first, *(digit | 128 for digit in digits[:-1]), digits[-1]])
        return header + begin

    def _discard(self) -> bool:
        """Throw away what is there of a long message; say whether the broker is still there."""
        if self._at == len(self._buffer) and not self._read():
            return False
        before = self._discarding // _PIECE_BYTES
        count = min(len(self._buffer) - self._at, self._discarding)
        self._at += count
        self._discarding -= count
        self._ready = b"\0" * (before - self._discarding // _PIECE_BYTES)
        return True

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
        waiting = 0 if self._starved else len(self._buffer) - self._at
        within = self._within_tls() if self._within_tls else 0
        return len(self._ready) + waiting + within
