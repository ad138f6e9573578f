"""Cuts what a broker sends, packet by packet, to a bounded size before paho sees it.

paho keeps a packet until it is complete, up to 256 MB. Not every broker respects the maximum packet
size of a client, and with MQTT 3.1.1 a client cannot announce one. So what fits is passed on, and a
longer message is discarded while it arrives: paho gets a short one in its place, with the same
topic and packet number, so that paho acknowledges it and the broker does not send it for ever.

A message whose topic is not text is replaced, too; and properties of messages, which nobody here
reads, are removed. Either would end paho's network thread, because not every broker checks them as
paho does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

_PUBLISH: Final = 3
_QOS: Final = 0b110  # of the first byte of a message
_QOS_1: Final = 0b010
PIECE_BYTES: Final = 65_536
_LENGTH_BYTES_MAX: Final = 4  # of a fixed header, by the standard
_FIXED_BYTES_MAX: Final = 1 + _LENGTH_BYTES_MAX
_MORE: Final = 128  # in a byte of a length: another one follows
_HEAD_BYTES_MAX: Final = 2 + 65_535 + 2  # topic and packet number
_MARK_BYTES: Final = 16
_SIZE_BYTES: Final = 4


class Packets:
    """What one connection brings; ``agent.mqtt.bounded_socket`` feeds it. It does no I/O.

    Args:
        packet_bytes_max: A longer packet is not kept. If it is a message, ``too_large`` knows its
            replacement; any other ends the connection.
        mqtt5: Whether messages have properties.
        wait_for_room: Called before each packet; may wait.

    """

    def __init__(
        self, packet_bytes_max: int, mqtt5: bool, wait_for_room: Callable[[], None]
    ) -> None:
        self._packet_bytes_max = packet_bytes_max
        self._mqtt5 = mqtt5
        self._wait_for_room = wait_for_room
        self._mark = secrets.token_bytes(_MARK_BYTES)  # which no sender can know ...
        self._no_text = secrets.token_bytes(_MARK_BYTES)  # ... nor this, for one without a topic
        self._buffer, self._at = b"", 0  # what was read, and how much of it is used
        self._ready = b""  # for the reader, before what is in the buffer
        self._passing = 0  # bytes of the packet that are passed on unchanged
        self._discarding = 0  # bytes of the packet that are discarded
        self.trouble: str | None = None  # why ``take`` has raised ConnectionAbortedError

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        self._buffer, self._at = self._buffer[self._at :] + data, 0

    def __len__(self) -> int:
        """Return how many bytes were received, or made, and not taken yet."""
        return len(self._ready) + len(self._buffer) - self._at

    def take(self, bytes_max: int) -> bytes:
        """Return at most so many bytes of what fits; none: more has to be received first.

        Raises:
            ConnectionAbortedError: what was received is not MQTT, or too large.

        """
        while not self._ready:
            if self._passing:
                end = min(self._at + min(bytes_max, self._passing), len(self._buffer))
                data = self._buffer[self._at : end]
                self._passing -= end - self._at
                self._at = end
                return data
            if not (self._discard() if self._discarding else self._begin()):
                return b""
        data, self._ready = self._ready[:bytes_max], self._ready[bytes_max:]
        return data

    def too_large(self, payload: bytes | bytearray) -> int | None:
        """Return the length of the packet that a message replaces; None for any other message."""
        if not payload.startswith(self._mark):
            return None
        return int.from_bytes(payload[_MARK_BYTES : _MARK_BYTES + _SIZE_BYTES], "big")

    def has_no_topic(self, payload: bytes | bytearray) -> bool:
        """Whether a message replaces one whose topic is not text."""
        return payload.startswith(self._no_text)

    def _begin(self) -> bool:
        """Decide what to do with a packet; return whether enough of it has come for that."""
        self._wait_for_room()
        return self._decided()

    def _decided(self) -> bool:
        """Decide, if enough of the packet has come."""
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
        if first >> 4 == _PUBLISH:
            return self._message(first, fixed, fixed + length)
        if fixed + length > self._packet_bytes_max:
            raise self._broken(
                f"the broker sends a packet of {fixed + length} bytes that is no message"
            )
        self._passing = fixed + length
        return True

    def _message(self, first: int, fixed: int, size: int) -> bool:
        """Decide what to do with a message, if its topic and its properties have come."""
        if self._is_plain(first, fixed, size):
            self._passing = size
            return True
        head = self._head(first, fixed, size)
        if head is None:
            return False
        topic = head[2 : len(head) - 2 * bool(first & _QOS)]
        number = head[2 + len(topic) :]
        if not _is_topic(topic):
            harmless = b"\0\1?" + number
            self._replace(first, harmless, self._no_text, fixed + len(head), size)
        elif size > self._packet_bytes_max:
            self._replace(first, head, self._mark, fixed + len(head), size)
        elif self._mqtt5:
            return self._without_properties(first, head, fixed, size)
        else:
            self._passing = size
        return True

    def _is_plain(self, first: int, fixed: int, size: int) -> bool:
        """Whether a message is complete and passed on unchanged: fast, because most are."""
        buffer, begin, end = self._buffer, self._at + fixed, self._at + size
        if end > len(buffer) or end < begin + 2 or size > self._packet_bytes_max:
            return False
        topic_end = begin + 2 + (buffer[begin] << 8 | buffer[begin + 1])
        rest = topic_end + 2 if first & _QOS else topic_end
        if rest >= end or (self._mqtt5 and buffer[rest]):  # it has properties
            return False
        return _is_topic(buffer[begin + 2 : topic_end])

    def _head(self, first: int, fixed: int, size: int) -> bytes | None:
        """Return topic and packet number of a message; None before they have come."""
        come = self._buffer[self._at + fixed : self._at + fixed + _HEAD_BYTES_MAX]
        # a message at QoS 0 has no packet number
        wanted = 2 + int.from_bytes(come[:2], "big") + 2 * bool(first & _QOS)
        if len(come) >= 2 or size - fixed < 2:
            self._check_within(fixed + wanted, size, "a topic")
        return come[:wanted] if len(come) >= max(wanted, 2) else None

    def _check_within(self, end: int, size: int, what: str) -> None:
        if end > size:
            raise self._broken(f"the broker sends what is no MQTT: {what} longer than its packet")

    def _without_properties(self, first: int, head: bytes, fixed: int, size: int) -> bool:
        """Pass on a message without its properties, if they have come."""
        begin = self._at + fixed + len(head)
        come = self._buffer[begin : begin + _LENGTH_BYTES_MAX]
        ends = [number for number, byte in enumerate(come, 1) if byte < _MORE]
        if not ends:
            self._check_within(fixed + len(head) + len(come) + 1, size, "properties")
            if len(come) == _LENGTH_BYTES_MAX:
                raise self._broken("the broker sends what is no MQTT: a length without an end")
            return False
        length = sum((byte & 127) << 7 * at for at, byte in enumerate(come[: ends[0]]))
        used = fixed + len(head) + ends[0] + length
        self._check_within(used, size, "properties")
        if not length:
            self._passing = size
            return True
        if len(self._buffer) - self._at < used:
            return False
        self._at += used
        self._passing = size - used
        self._ready = _header(first, len(head) + 1 + self._passing) + head + b"\0"
        return True

    def _replace(self, first: int, head: bytes, mark: bytes, used: int, size: int) -> None:
        """Replace a message, of which this many bytes are used, by a short one."""
        self._at += used
        self._discarding = size - used
        self._ready = self._in_its_place(first, head, mark, size)

    def _in_its_place(self, first: int, head: bytes, mark: bytes, size: int) -> bytes:
        """Return the beginning of a message without the long one's properties and payload.

        Its payload has a byte for each discarded piece: paho would take the broker for lost if it
        received nothing during a large message.
        """
        properties = b"\0" * self._mqtt5
        begin = head + properties + mark + size.to_bytes(_SIZE_BYTES, "big")
        return _header(first, len(begin) + self._discarding // PIECE_BYTES) + begin

    def _discard(self) -> bool:
        """Discard the received part of a long message; return whether there was any."""
        if self._at == len(self._buffer):
            return False
        before = self._discarding // PIECE_BYTES
        count = min(len(self._buffer) - self._at, self._discarding)
        self._at += count
        self._discarding -= count
        self._ready = b"\0" * (before - self._discarding // PIECE_BYTES)
        return True

    def _broken(self, trouble: str) -> ConnectionAbortedError:
        self.trouble = trouble
        return ConnectionAbortedError(trouble)


def _is_topic(topic: bytes) -> bool:
    try:
        topic.decode()
    except UnicodeDecodeError:
        return False
    return bool(topic) and b"\0" not in topic


def _header(first: int, length: int) -> bytes:
    """Return the fixed header of a packet that is not empty."""
    digits = [length >> 7 * at & 127 for at in range(_LENGTH_BYTES_MAX) if length >> 7 * at]
    return bytes([first, *(digit | 128 for digit in digits[:-1]), digits[-1]])
