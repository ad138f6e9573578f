"""Messages that are too large: they cost neither memory nor the other messages, nor come for ever.

mosquitto keeps to what an MQTT 5 client takes; with 3.1.1, and from a broker that does not care,
they come.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from agent.commands.probe.listen import listen_to_broker
from agent.config.broker import BrokerTable, MqttTable
from agent.config.inputs import MqttInputTable
from agent.health.status import input_lines
from agent.inputs.mqtt import MqttInput
from agent.inputs.source import Chunk
from agent.mqtt.bounded_socket import BoundedSocket
from agent.mqtt.client import Client
from agent.mqtt.connection import (
    Connected,
    Connection,
    ConnectionEvent,
    Lost,
    Protocol,
    Received,
    Subscribed,
    TooLarge,
)
from agent.mqtt.version import probe_broker
from tests.conftest import ROOT, WAIT_S_MAX, RealBroker, wait_until
from tests.scripted_broker import ScriptedBroker, Session
from tests.uplink_rig import Collecting, Gateway

LARGE = 3_000_000
PROTOCOLS: list[Protocol] = ["5", "3.1.1"]


def publish(port: int, topic: str, body: bytes, qos: int = 1, retained: bool = False) -> None:
    """Publish, and return when the broker has it: it answers requests in their order.

    A connection that is closed with an answer unread is reset, and what the broker has not yet
    read is lost.
    """
    connected, answered = threading.Event(), threading.Event()
    client = Client()
    client.on_connect = lambda *_: connected.set()
    client.on_subscribe = lambda *_: answered.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(WAIT_S_MAX)
    client.publish(topic, body, qos=qos, retain=retained).wait_for_publish(WAIT_S_MAX)
    client.subscribe("nobody/says/this")
    assert answered.wait(WAIT_S_MAX)
    client.disconnect()
    client.loop_stop()


def retain(port: int, topic: str, body: bytes, qos: int = 1) -> None:
    publish(port, topic, body, qos, retained=True)


def table(port: int, **more: Any) -> BrokerTable:
    return BrokerTable(host="127.0.0.1", port=port, backoff_max_s=1.0, **more)


@contextmanager
def opened(port: int, protocol: Protocol, **settings: Any) -> Iterator[Connection]:
    connection = Connection(table(port), "test", protocol, **settings)
    try:
        connection.open()
        assert isinstance(connection.answer(threading.Event()), Connected)
        yield connection
    finally:
        connection.close(politely=True)


def events(connection: Connection, count: int) -> list[ConnectionEvent]:
    """The next ones, without the answer to a subscription."""
    found: list[ConnectionEvent] = []
    while len(found) < count:
        event = connection.events.get(WAIT_S_MAX)
        if not isinstance(event, Subscribed):
            found.append(event)
    return found


def flood(size: int = LARGE, packet: int = 9, retained: bool = True) -> Callable[..., None]:
    """What a broker that does not care sends to each subscriber: a large one, and a small one."""

    def on_subscribe(session: Session, packet_number: bytes) -> None:
        session.subscribed(packet_number)
        session.publish("big/one", size, packet, retained)
        session.publish("plant/flow", 1, packet and packet + 1)

    return on_subscribe


@pytest.mark.parametrize("expiry_s", [None, 3600])
@pytest.mark.parametrize("qos", [0, 1])
def test_mosquitto_brings_a_large_retained_message_and_what_follows_it(
    broker: RealBroker, qos: int, expiry_s: int | None
) -> None:
    retain(broker.port, "big/one", b"x" * LARGE, qos)
    retain(broker.port, "plant/flow", b"1", qos)
    with opened(broker.port, "3.1.1", session_expiry_s=expiry_s) as connection:
        connection.subscribe(["big/+", "plant/flow"])
        first, second = events(connection, 2)
        assert isinstance(first, TooLarge)
        assert first[0] == "big/one"
        assert first.size_bytes == LARGE + 5 + len("\0\0big/one") + 2 * bool(qos)
        assert first.retained
        assert isinstance(second, Received)
        assert (second.topic, second.body) == ("plant/flow", b"1")
    with opened(broker.port, "5", session_expiry_s=expiry_s) as connection:
        connection.subscribe(["big/+", "plant/flow"])
        (only,) = events(connection, 1)
        assert isinstance(only, Received)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("expiry_s", [None, 3600])
@pytest.mark.parametrize("packet", [0, 9])
def test_a_broker_that_does_not_care_gets_its_acknowledgement(
    protocol: Protocol, expiry_s: int | None, packet: int
) -> None:
    with (
        ScriptedBroker(on_subscribe=flood(packet=packet)) as scripted,
        opened(scripted.port, protocol, session_expiry_s=expiry_s) as connection,
    ):
        connection.subscribe(["#", "plant/flow"])
        first, second = events(connection, 2)
        assert isinstance(first, TooLarge)
        assert isinstance(second, Received)
        if packet:
            acknowledged = scripted.sessions[0].acknowledged
            wait_until(lambda: 9 in acknowledged, "the acknowledgement")


def test_paho_takes_its_bytes_from_us_and_says_when_it_ends(
    broker: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked in public; this fails where a new paho does otherwise."""
    taken: list[int] = []
    recv = BoundedSocket.recv

    def noted(bounded: BoundedSocket, count: int) -> bytes:
        taken.append(count)
        return recv(bounded, count)

    monkeypatch.setattr(BoundedSocket, "recv", noted)
    # as a paho that tells nobody
    silent = property(lambda client: None, lambda client, callback: None)
    monkeypatch.setattr(paho.Client, "on_disconnect", silent)
    with opened(broker.port, "5") as connection:
        assert taken
        broker.kill()
        assert isinstance(connection.events.get(WAIT_S_MAX), Lost)


def test_no_thread_of_paho_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason, a defect of paho's or ours."""

    def break_down(*_: object) -> None:
        raise RuntimeError("a defect")

    told: list[object] = []
    monkeypatch.setattr("threading.excepthook", told.append)
    with ScriptedBroker() as scripted, opened(scripted.port, "5") as connection:
        monkeypatch.setattr(paho.Client, "loop_read", break_down)
        scripted.sessions[0].publish("plant/flow")
        assert isinstance(connection.events.get(WAIT_S_MAX), Lost)
    assert told


MALFORMED = {
    "a packet length without end": b"\x30\xff\xff\xff\xff\x01",
    "a packet of 268435460 bytes": b"\x90\xff\xff\xff\x7f",
    "a message at QoS 2": b"\x34\x05\0\1a\0\1",
    "a topic longer than its packet": b"\x30\x01\x00",
    "Protocol error": b"\x00\x00",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("said", MALFORMED)
def test_what_is_no_mqtt_is_a_lost_link_with_its_reason(protocol: Protocol, said: str) -> None:
    with ScriptedBroker() as scripted, opened(scripted.port, protocol) as connection:
        scripted.sessions[0].sock.sendall(MALFORMED[said])
        lost = connection.events.get(WAIT_S_MAX)
        assert isinstance(lost, Lost)
        assert said in lost.reason


class Receiving:
    def __init__(self, port: int, topics: list[str], **more: Any) -> None:
        given = {"name": "plant", "stream": "pump", "type": "mqtt", "columns": ["flow"]}
        broker = table(port, **more)
        settings = MqttInputTable.model_validate(given | {"topics": topics, "broker": broker})
        self.input = MqttInput(settings)
        self.chunks: list[Chunk] = []
        self.input.start(self.put)

    def put(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.input.committed([chunk.token])

    def told(self) -> str:
        status = self.input.status()
        document = {
            "connected": True, "lines": 0, "reconnects": 0, "rejected": {}, "rejects": [],
            "messages_too_large": status.messages_too_large,
            "topics_given_up": status.topics_given_up,
        }  # fmt: skip
        return "\n".join(input_lines("plant", document))


def test_a_topic_that_brings_one_at_two_connections_is_given_up_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = f"persistence true\npersistence_location {tmp_path}/\nuser root\n"
    broker = RealBroker(tmp_path, more)
    broker.start()
    retain(broker.port, "big/one", b"x" * LARGE)
    one = Receiving(broker.port, ["big/#", "plant/flow"], protocol="3.1.1")
    try:
        for connection in (1, 2, 3):
            wait_until(lambda n=connection: one.input.status().reconnects == n - 1, "the broker")
            large = min(connection, 2)
            wait_until(lambda n=large: one.input.status().messages_too_large == n, "the large one")
            wait_until(
                lambda n=connection: bool(one.input.status().topics_given_up) == (n > 1),
                "the giving up",
            )
            publish(broker.port, "plant/flow", str(connection).encode())
            wait_until(lambda n=connection: len(one.chunks) == n, "a small one")
            broker.stop()
            broker.start()
    finally:
        one.input.stop()
        broker.kill()
    assert [chunk.lines for chunk in one.chunks] == [[b"1"], [b"2"], [b"3"]]
    assert one.input.status().messages_too_large == 2
    assert "NOT SUBSCRIBED to big/#" in one.told()
    assert "2 messages were too large" in one.told()
    assert caplog.text.count("was discarded, perhaps others too") == 1
    assert caplog.text.count("not subscribed to big/#") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_given_up_is_taken_back_from_a_session_that_the_broker_keeps(
    protocol: Protocol,
) -> None:
    """Else it would keep the messages of that topic for us."""
    subscribed = flood()
    with ScriptedBroker(on_subscribe=subscribed) as scripted:
        one = Receiving(scripted.port, ["big/#", "plant/flow"], protocol=protocol)
        try:
            wait_until(lambda: len(one.chunks) == 1, "the first connection's messages")
            assert scripted.sessions[0].unsubscribed == []
            scripted.sessions[0].hang_up()
            wait_until(lambda: len(scripted.sessions) == 2, "the second connection")
            wait_until(lambda: scripted.sessions[1].unsubscribed == ["big/#"], "the giving up")
        finally:
            one.input.stop()


def test_messages_that_are_not_retained_are_no_reason_to_give_a_topic_up() -> None:
    with ScriptedBroker(on_subscribe=flood(retained=False)) as scripted:
        one = Receiving(scripted.port, ["big/#", "plant/flow"])
        try:
            for number in range(3):
                wait_until(lambda number=number: len(one.chunks) == number + 1, "a small one")
                assert one.input.status().messages_too_large == number + 1
                scripted.sessions[-1].hang_up()
            assert one.input.status().topics_given_up == ()
        finally:
            one.input.stop()


def test_what_waits_for_its_commit_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker waits meanwhile; no connection is lost for it."""
    monkeypatch.setattr("agent.inputs.mqtt.WAITING_BYTES_MAX", 200_000)
    monkeypatch.setattr("agent.mqtt.connection.WAITING_BYTES_MAX", 200_000)
    sent = threading.Event()

    def on_subscribe(session: Session, packet: bytes) -> None:
        session.subscribed(packet)
        for number in range(1, 301):
            session.publish("plant/flow", 50_000, number)
        sent.set()

    class Slow(Receiving):
        def put(self, chunk: Chunk) -> None:
            self.chunks.append(chunk)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        one = Slow(scripted.port, ["plant/flow", "b"])
        try:
            wait_until(lambda: len(one.chunks) == 4, "what there is room for")
            for number in range(300):
                wait_until(lambda number=number: len(one.chunks) > number, "the next message")
                assert len(one.chunks) <= number + 5
                one.input.committed([one.chunks[number].token])
            assert sent.wait(WAIT_S_MAX)
            wait_until(lambda: len(scripted.sessions[0].acknowledged) == 300, "all to be told")
            assert one.input.status().reconnects == 0
        finally:
            one.input.stop()


def test_a_large_acknowledgement_is_counted_and_the_uplink_goes_on(
    broker: RealBroker, gateway: Callable[..., Gateway], collecting: Callable[..., Collecting]
) -> None:
    retain(broker.port, "fieldwatch/v1/plant/gw-1/acknowledged", b"x" * LARGE)
    one = gateway(broker.port, acknowledgement="central", protocol="3.1.1")
    one.put(3)
    one.uplink.start()
    wait_until(
        lambda: one.uplink.snapshot()["central"]["rejected"]["too_large"] == 1, "the large one"
    )
    collecting(broker.port)
    wait_until(lambda: one.delete_acknowledged() == 0, "the collector to have all")


def test_the_collector_counts_it_and_goes_on(
    broker: RealBroker, gateway: Callable[..., Gateway], collecting: Callable[..., Collecting]
) -> None:
    retain(broker.port, "fieldwatch/v1/plant/gw-2/health", b"x" * LARGE)
    central = collecting(broker.port, protocol="3.1.1")
    one = gateway(broker.port, acknowledgement="central")
    one.put(3)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "the collector to have all")
    assert central.collector.counters["rejected"] == 1


def test_probe_and_check_tell_of_it_and_go_on(broker: RealBroker) -> None:
    retain(broker.port, "big/one", b"x" * LARGE)
    retain(broker.port, "plant/flow", b"1")
    shown: list[bytes] = []
    settings = table(broker.port, protocol="3.1.1")
    heard = listen_to_broker(settings, ["#"], 1.0, shown.append)
    assert shown == [b"plant/flow 1"]
    assert f"a message of {LARGE + 16} bytes on big/one was not taken" in str(heard.note)
    assert heard.problem is None

    def rude(session: Session) -> None:
        session.publish("big/one", LARGE)
        session.accept()

    with ScriptedBroker(rude) as scripted:
        assert probe_broker(MqttTable(host="127.0.0.1", port=scripted.port), "check") == "5"


RECEIVE = """
import sys, threading
from agent.config.broker import BrokerTable
from agent.health.measured import rss_max_mb, rss_mb
from agent.mqtt.connection import Connection, Received
port, protocol = int(sys.argv[1]), sys.argv[2]
connection = Connection(
    BrokerTable(host="127.0.0.1", port=port), "memory", protocol, session_expiry_s=3600
)
connection.open()
connection.answer(threading.Event())
before = rss_mb()
connection.subscribe(["big/#", "plant/flow"])
while not isinstance(event := connection.events.get(timeout=60), Received) or (
    event.topic != "plant/flow"
):
    pass
print(rss_max_mb() - before)
connection.close(politely=False)
"""


def growth_mb(port: int, protocol: Protocol) -> float:
    """What it takes a process of its own to receive a large message and the one after it."""
    command = [sys.executable, "-c", RECEIVE, str(port), protocol]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    return float(json.loads(ended.stdout))


def test_the_memory_is_that_of_small_messages(broker: RealBroker) -> None:
    size = 100_000_000
    retain(broker.port, "big/one", bytes(size))
    retain(broker.port, "plant/flow", b"1")
    assert growth_mb(broker.port, "3.1.1") < 15
    for protocol in PROTOCOLS:
        with ScriptedBroker(on_subscribe=flood(size)) as scripted:
            assert growth_mb(scripted.port, protocol) < 15
