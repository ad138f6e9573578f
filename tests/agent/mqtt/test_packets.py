"""What a broker sends is bounded before paho sees it: what fits is passed on as it is."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.mqtt.bounded_socket import BoundedSocket
from tests.conftest import WAIT_S_MAX
from tests.scripted_broker import fixed_header

BYTES_MAX = 1000
Connect = Callable[..., "Reading"]


class Reading:
    """What a reader that asks as paho does gets of what is sent."""

    def __init__(self, data: bytes, mqtt5: bool = False, piece_bytes: int = 100_000) -> None:
        ours, self._theirs = socket.socketpair()
        ours.settimeout(WAIT_S_MAX)
        self.bounded = BoundedSocket(ours, BYTES_MAX, mqtt5, lambda: None)
        pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
        self._thread = threading.Thread(target=self._send, args=(pieces,))
        self._thread.start()

    def _send(self, pieces: list[bytes]) -> None:
        try:
            for piece in pieces:
                self._theirs.sendall(piece)
            self._theirs.shutdown(socket.SHUT_WR)
        except OSError:  # the reader has enough
            pass

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.bounded.recv(count - len(data))
            assert more, "the end came too early"
            data += more
        return data

    def packet(self) -> tuple[int, bytes]:
        first, length, shift = self.exactly(1)[0], 0, 0
        while True:
            byte = self.exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, self.exactly(length)

    def close(self) -> None:
        self.bounded.close()
        self._thread.join(WAIT_S_MAX)
        self._theirs.close()


@pytest.fixture
def reading() -> Iterator[Connect]:
    made: list[Reading] = []

    def connect(data: bytes, **settings: object) -> Reading:
        made.append(Reading(data, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield connect
    for one in made:
        one.close()


def message(
    size: int, topic: bytes = b"a/b", qos: int = 1, properties: bytes | None = None
) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (b"\0\7" if qos else b"")
    if properties is not None:
        body += fixed_header(0, len(properties))[1:] + properties
    body += b"x" * size
    return fixed_header(0x30 | qos << 1, len(body)) + body


@pytest.mark.parametrize("piece_bytes", [1, 3, 100_000])
def test_what_fits_is_passed_on_as_it_is(reading: Connect, piece_bytes: int) -> None:
    noise = random.Random(1)
    packets = []
    for _ in range(60):
        first = noise.choice([0x20, 0x40, 0x90, 0xD0, 0xE0])
        packets.append((first, noise.randbytes(noise.choice([0, 1, 2, 127, 128, BYTES_MAX - 3]))))
    packets += [one.packet() for one in [reading(message(size)) for size in (0, 1, 500)]]
    sent = b"".join(fixed_header(first, len(body)) + body for first, body in packets)
    one = reading(sent, piece_bytes=piece_bytes)
    assert [one.packet() for _ in packets] == packets
    assert one.bounded.recv(1) == b""  # the end


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [BYTES_MAX, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("mqtt5", [False, True])
@pytest.mark.parametrize("piece_bytes", [5, 70_000])
def test_a_longer_message_has_a_short_one_in_its_place(
    reading: Connect, qos: int, size: int, mqtt5: bool, piece_bytes: int
) -> None:
    none = b"" if mqtt5 else None
    large, small = message(size, qos=qos, properties=none), message(1, properties=none)
    one = reading(large + small, mqtt5=mqtt5, piece_bytes=max(piece_bytes, size // 1000))
    first, body = one.packet()
    head = b"\0\3a/b" + (b"\0\7" if qos else b"") + (b"\0" if mqtt5 else b"")
    assert (first, body[: len(head)]) == (large[0], head)
    assert one.bounded.packets.too_large(body[len(head) :]) == len(large)
    assert len(body) < 100
    first, body = one.packet()
    assert fixed_header(first, len(body)) + body == small
    assert one.bounded.packets.too_large(body) is None


def test_a_reader_hears_that_something_comes_while_a_large_message_does(reading: Connect) -> None:
    """paho takes a broker for lost that says nothing for two keepalives."""
    size = 20 * 65_536
    one = reading(message(size))
    _, body = one.packet()
    assert len(body) == len(b"\0\3a/b\0\7") + 16 + 4 + 20


def test_nobody_can_send_what_looks_like_a_message_that_was_too_large(reading: Connect) -> None:
    one, other = reading(message(2000)), reading(b"")
    _, body = one.packet()
    assert one.bounded.packets.too_large(body[7:]) is not None
    assert other.bounded.packets.too_large(body[7:]) is None


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x30\xff\xff\xff\xff", "a packet length without end"),
        (b"\x20\xff\xff\xff\x7f", "a packet of 268435460 bytes that is not a message"),
        (b"\x90\xe9\x07", "a packet of 1004 bytes that is not a message"),
        (b"\x32\xe9\x07\xff\xff" + b"x" * 2000, "a topic longer than its packet"),
        (b"\x30\0", "a topic longer than its packet"),
        (b"\x30\1\0", "a topic longer than its packet"),
        (b"\x32\5\0\3a/b", "a topic longer than its packet"),
        (b"\x34\x05\0\1a\0\1", "a message at QoS 2"),
        (message(5000, qos=2), "a message at QoS 2"),
        (b"\x36\0", "a message at QoS 2"),
    ],
)
def test_what_is_no_mqtt_or_no_message_and_too_large_ends_the_connection(
    reading: Connect, sent: bytes, said: str
) -> None:
    one = reading(sent)
    with pytest.raises(ConnectionAbortedError, match=said):
        one.packet()
    assert said in str(one.bounded.packets.trouble)


def test_an_end_in_the_middle_is_an_end(reading: Connect) -> None:
    large = message(200_000)
    for cut in (1, 2, 3, 6, 8, 12, 100_000):
        one = reading(large[:cut])
        while one.bounded.recv(100):
            pass
        assert one.bounded.packets.trouble is None


@pytest.mark.parametrize("topic", [b"\xff\xfe", b"a/\xed\xa0\x80", b"a\0b", b"\x80" * 65_535, b""])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("mqtt5", [False, True])
@pytest.mark.parametrize("size", [1, 2000])
@pytest.mark.parametrize("piece_bytes", [7, 100_000])
def test_a_message_whose_topic_is_no_text_has_one_in_its_place(
    reading: Connect, topic: bytes, qos: int, mqtt5: bool, size: int, piece_bytes: int
) -> None:
    none = b"" if mqtt5 else None
    small = message(1, properties=none)
    sent = message(size, topic, qos, none) + small
    one = reading(sent, mqtt5=mqtt5, piece_bytes=max(piece_bytes, len(sent) // 1000))
    first, body = one.packet()
    head = b"\0\1?" + (b"\0\7" if qos else b"") + (b"\0" if mqtt5 else b"")
    assert (first, body[: len(head)]) == (0x30 | qos << 1, head)
    assert one.bounded.packets.has_no_topic(body[len(head) :])
    assert one.bounded.packets.too_large(body[len(head) :]) is None
    first, body = one.packet()
    assert fixed_header(first, len(body)) + body == small


@pytest.mark.parametrize("properties", [b"", b"\x26\0\3\xef\xbb\xbf\0\1b", b"\xff" * 300])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 500])
@pytest.mark.parametrize("piece_bytes", [1, 100_000])
def test_a_message_is_passed_on_without_its_properties(
    reading: Connect, properties: bytes, qos: int, size: int, piece_bytes: int
) -> None:
    sent = message(size, qos=qos, properties=properties) + b"\xd0\0"
    one = reading(sent, mqtt5=True, piece_bytes=piece_bytes)
    first, body = one.packet()
    assert fixed_header(first, len(body)) + body == message(size, qos=qos, properties=b"")
    assert one.packet() == (0xD0, b"")


@pytest.mark.parametrize("tail", [b"", b"\5abcd", b"\x80", b"\xff\xff\xff\xff\1"])
def test_properties_that_do_not_fit_end_the_connection(reading: Connect, tail: bytes) -> None:
    body = b"\0\3a/b\0\7" + tail
    one = reading(fixed_header(0x32, len(body)) + body + b"\xd0\0" * 9, mqtt5=True)
    with pytest.raises(ConnectionAbortedError, match="invalid MQTT"):
        one.packet()
