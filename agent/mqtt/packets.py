"""Bounds the size of the packets from a broker before they reach paho.

paho keeps a packet until it is complete, up to 256 MB. Not every broker respects the maximum packet
size of a client, and with MQTT 3.1.1 a client cannot announce one. So a packet that fits is passed
on, and a longer message is discarded while it arrives. paho gets a short message in its place, with
the same topic and packet identifier. paho acknowledges it, so the broker does not resend it for
ever.

A message whose topic is not valid text is replaced, too. The properties of messages, which the
agent does not read, are removed. paho checks both more strictly than some brokers do, and an
invalid one would end its network thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

_PUBLISH: Final = 3
_QOS: Final = 0b110  # mask in the first byte of a message
_QOS_1: Final = 0b010
PIECE_BYTES: Final = 65_536
_LENGTH_BYTES_MAX: Final = 4  # in a fixed header (MQTT 3.1.1 and 5, section 2)
_FIXED_BYTES_MAX: Final = 1 + _LENGTH_BYTES_MAX
_MORE: Final = 128  # this bit in a byte of a length says that another byte follows
_HEAD_BYTES_MAX: Final = 2 + 65_535 + 2  # length of the topic, topic, packet identifier
_MARK_BYTES: Final = 16
_SIZE_BYTES: Final = 4


class Packets:
    """The packets that one connection receives. It does no I/O: ``bounded_socket`` feeds it.

    Args:
        packet_bytes_max: A longer message is replaced, and ``too_large`` recognizes the
            replacement. Any other longer packet ends the connection.
        mqtt5: Whether messages have properties.
        wait_for_room: Called before each packet; may block.

    """

    def __init__(
        self, packet_bytes_max: int, mqtt5: bool, wait_for_room: Callable[[], None]
    ) -> None:
        self._packet_bytes_max = packet_bytes_max
        self._mqtt5 = mqtt5
        self._wait_for_room = wait_for_room
        # random, so that no sender can imitate them
        self._mark = secrets.token_bytes(_MARK_BYTES)  # replaces a message that is too large
        self._no_text = secrets.token_bytes(_MARK_BYTES)  # replaces one with an invalid topic
        self._buffer, self._at = b"", 0  # received bytes, and how many of them are used
        self._ready = b""  # the reader gets these before the bytes in the buffer
        self._passing = 0  # bytes of the packet still to pass on unchanged
        self._discarding = 0  # bytes of the packet still to discard
        self.trouble: str | None = None  # why ``take`` has raised ConnectionAbortedError

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer, self._at = self._buffer[self._at :] + data, 0

    def __len__(self) -> int:
        """Return how many bytes, received or generated, were not taken yet."""
        return len(self._ready) + len(self._buffer) - self._at

    def take(self, bytes_max: int) -> bytes:
        """Return at most ``bytes_max`` bytes for paho; none if more must be received first.

        Raises:
            ConnectionAbortedError: the received bytes are not MQTT, or a packet is too large.

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
        """Return the length of the packet that this message replaces; None if it replaces none."""
        if not payload.startswith(self._mark):
            return None
        return int.from_bytes(payload[_MARK_BYTES : _MARK_BYTES + _SIZE_BYTES], "big")

    def has_no_topic(self, payload: bytes | bytearray) -> bool:
        """Whether this message replaces one whose topic is not valid text."""
        return payload.startswith(self._no_text)

    def _begin(self) -> bool:
        """Decide what to do with a packet; return whether enough of it has arrived to decide."""
        self._wait_for_room()
        return self._decided()

    def _decided(self) -> bool:
        """Decide, if enough of the packet has arrived; return whether it has."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return False
        first, fixed, length = buffer[at], 2, buffer[at + 1]
        if first >> 4 == _PUBLISH and first & _QOS > _QOS_1:
            # paho keeps a QoS 2 message until the broker releases it, which may never happen
            raise self._broken("the broker sends a message at QoS 2; the agent asked for QoS 1")
        if length >= _MORE:
            head = buffer[at : at + _FIXED_BYTES_MAX]
            ends = [number for number, byte in enumerate(head) if number and byte < _MORE]
            if not ends:
                if len(head) == _FIXED_BYTES_MAX:
                    raise self._broken("the broker sends invalid MQTT: a packet length without end")
                return False
            fixed = ends[0] + 1
            length = sum((byte & 127) << 7 * number for number, byte in enumerate(head[1:fixed]))
        if first >> 4 == _PUBLISH:
            return self._message(first, fixed, fixed + length)
        if fixed + length > self._packet_bytes_max:
            raise self._broken(
                f"the broker sends a packet of {fixed + length} bytes that is not a message"
            )
        self._passing = fixed + length
        return True

    def _message(self, first: int, fixed: int, size: int) -> bool:
        """Decide what to do with a message, if its topic and its properties have arrived."""
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
        """Whether a message is complete and needs no change; this is the fast, common case."""
        buffer, begin, end = self._buffer, self._at + fixed, self._at + size
        if end > len(buffer) or end < begin + 2 or size > self._packet_bytes_max:
            return False
        topic_end = begin + 2 + (buffer[begin] << 8 | buffer[begin + 1])
        rest = topic_end + 2 if first & _QOS else topic_end
        if rest >= end or (self._mqtt5 and buffer[rest]):  # it has properties
            return False
        return _is_topic(buffer[begin + 2 : topic_end])

    def _head(self, first: int, fixed: int, size: int) -> bytes | None:
        """Return a message's topic, with its length, and its packet identifier.

        None if they have not arrived yet.
        """
        come = self._buffer[self._at + fixed : self._at + fixed + _HEAD_BYTES_MAX]
        # a message at QoS 0 has no packet identifier
        wanted = 2 + int.from_bytes(come[:2], "big") + 2 * bool(first & _QOS)
        if len(come) >= 2 or size - fixed < 2:
            self._check_within(fixed + wanted, size, "a topic")
        return come[:wanted] if len(come) >= max(wanted, 2) else None

    def _check_within(self, end: int, size: int, what: str) -> None:
        if end > size:
            raise self._broken(f"the broker sends invalid MQTT: {what} longer than its packet")

    def _without_properties(self, first: int, head: bytes, fixed: int, size: int) -> bool:
        """Pass on a message without its properties, if they have arrived."""
        begin = self._at + fixed + len(head)
        come = self._buffer[begin : begin + _LENGTH_BYTES_MAX]
        ends = [number for number, byte in enumerate(come, 1) if byte < _MORE]
        if not ends:
            self._check_within(fixed + len(head) + len(come) + 1, size, "properties")
            if len(come) == _LENGTH_BYTES_MAX:
                raise self._broken("the broker sends invalid MQTT: a length without end")
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
        """Replace a message of ``size`` bytes, ``used`` of which were read, by a short one."""
        self._at += used
        self._discarding = size - used
        self._ready = self._in_its_place(first, head, mark, size)

    def _in_its_place(self, first: int, head: bytes, mark: bytes, size: int) -> bytes:
        """Return the beginning of a message that replaces a long one; it has no properties.

        Its payload is ``mark``, then one byte for each discarded piece. If paho received nothing
        during a large message, it would consider the broker lost.
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
