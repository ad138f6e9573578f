"""The MQTT input: nothing the broker had to give is lost, whatever becomes of the gateway."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.config.inputs import MqttInputTable
from agent.health.status import input_lines
from agent.inputs.kinds import open_input
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from agent.inputs.source import Chunk, Input
from agent.mqtt.client import Client
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import WAIT_S_MAX, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.scripted_broker import DISCONNECT, PUBLISH, SUBACK, ScriptedBroker, Session

NAMES = [channel.name for channel in CHANNELS]
START_S = 1_700_000_000.0
ROWS = 400


class Publisher:
    """A sensor that publishes at QoS 1, and waits until the broker has it."""

    def __init__(self, port: int) -> None:
        self._client = Client()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, body: str, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(topic, body, qos=qos, retain=retain).wait_for_publish(WAIT_S_MAX)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = None


@pytest.fixture
def publisher(broker: RealBroker) -> Iterator[Publisher]:
    made = Publisher(broker.port)
    yield made
    made.close()


class Receiving:
    """A running input, and what it brought."""

    def __init__(self, port: int, **settings: object) -> None:
        table = {"name": "plant", "stream": "pump", "type": "mqtt", "columns": ["flow"]}
        given = table | {"topics": ["plant/+/flow"], "broker": broker_table(port)}
        given |= {"session_expiry_s": 3600} | settings
        self.input: Input = open_input(MqttInputTable.model_validate(given))
        self.chunks: list[Chunk] = []
        self.input.start(self.chunks.append)

    def lines(self) -> list[bytes]:
        return [line for chunk in self.chunks for line in chunk.lines]


def broker_table(port: int) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": port, "backoff_max_s": 1.0}


@pytest.fixture
def receiving(broker: RealBroker) -> Iterator[Callable[..., Receiving]]:
    made: list[Receiving] = []

    def make(**settings: object) -> Receiving:
        made.append(Receiving(broker.port, **settings))
        return made[-1]

    yield make
    for one in made:
        one.input.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_was_not_committed_comes_again_and_the_rest_does_not(
    broker: RealBroker,
    receiving: Callable[..., Receiving],
    publisher: Publisher,
    protocol: str,
) -> None:
    settings = {"broker": broker_table(broker.port) | {"protocol": protocol}}
    first = receiving(**settings)
    wait_until(lambda: first.input.status().connected, "the broker")
    for number in range(6):
        publisher.publish("plant/a/flow", f"{number}\n{number}.5")
    wait_until(lambda: len(first.chunks) == 6, "six messages")
    assert first.lines()[:3] == [b"0", b"0.5", b"1"]
    first.input.committed([chunk.token for chunk in first.chunks[:4]])
    publisher.publish("plant/b/else", "not for us")
    publisher.publish("plant/a/flow", "6")
    wait_until(lambda: len(first.chunks) == 7, "the seventh")  # by then, the four are told
    first.input.stop()
    publisher.publish("plant/a/flow", "7")  # while nobody is there
    second = receiving(**settings)
    wait_until(lambda: len(second.chunks) == 4, "what the broker kept")
    assert second.lines() == [b"4", b"4.5", b"5", b"5.5", b"6", b"7"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("columns", "session_expiry_s", "waited"),
    [
        (["flow"], None, []),
        (["time", "flow"], None, [b"0"]),
        (["flow"], 3600, [b"0"]),
        (["time", "flow"], 0, []),
    ],
)
def test_what_was_published_meanwhile_comes_only_where_it_has_a_time(
    broker: RealBroker,
    receiving: Callable[..., Receiving],
    publisher: Publisher,
    protocol: str,
    columns: list[str],
    session_expiry_s: int | None,
    waited: list[bytes],
) -> None:
    settings = {
        "broker": broker_table(broker.port) | {"protocol": protocol},
        "columns": columns,
        "session_expiry_s": session_expiry_s,
    }
    first = receiving(**settings)
    wait_until(lambda: first.input.status().connected, "the broker")
    first.input.stop()
    publisher.publish("plant/a/flow", "0")
    second = receiving(**settings)
    wait_until(lambda: second.input.status().connected, "the broker again")

    def now() -> bool:
        publisher.publish("plant/a/flow", "1")
        return b"1" in second.lines()

    wait_until(now, "a message of now")
    assert [line for line in second.lines() if line != b"1"] == waited


SAME_ID = "another agent connects with the same client id, fieldwatch:plant"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_agents_with_one_client_id_are_told(
    broker: RealBroker, receiving: Callable[..., Receiving], protocol: str
) -> None:
    settings = {"broker": broker_table(broker.port) | {"protocol": protocol, "backoff_min_s": 0.1}}
    both = [receiving(**settings), receiving(**settings)]

    def told() -> list[str]:
        errors = [one.input.status().last_error or "" for one in both]
        return [error for error in errors if SAME_ID in error]

    wait_until(lambda: bool(told()), "the one that was thrown off")
    assert told()[0].endswith(
        ": set client_id in one of them, or gateway.name if both gateways have the same name"
    )


def test_a_broker_that_names_the_reason_is_believed_at_once() -> None:
    def on_subscribe(session: Session, packet: bytes) -> None:
        session.send(SUBACK, packet + b"\0\1")
        session.send(DISCONNECT, b"\x8e")

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        one = Receiving(scripted.port, broker=broker_table(scripted.port) | {"protocol": "5"})
        try:
            wait_until(lambda: one.input.status().last_error is not None, "the reason")
            assert f"Session taken over; {SAME_ID}" in (one.input.status().last_error or "")
        finally:
            one.input.stop()


def test_it_is_connected_when_the_broker_has_the_subscription() -> None:
    """What is published before that may not arrive, so nobody should count on it."""
    asked: list[tuple[Session, bytes]] = []
    with ScriptedBroker(on_subscribe=lambda *what: asked.append(what)) as scripted:
        one = Receiving(scripted.port, broker=broker_table(scripted.port) | {"protocol": "5"})
        try:
            wait_until(lambda: bool(asked), "the subscription")
            session, packet = asked[0]
            session.publish("plant/a/flow")  # of an earlier session, perhaps
            wait_until(lambda: len(one.chunks) == 1, "the message")
            assert not one.input.status().connected
            session.send(SUBACK, packet + b"\0\1")
            wait_until(lambda: one.input.status().connected, "the broker")
        finally:
            one.input.stop()


def test_a_broker_that_is_killed_once_is_no_other_agent(
    broker: RealBroker, receiving: Callable[..., Receiving]
) -> None:
    one = receiving(broker=broker_table(broker.port) | {"protocol": "3.1.1"})
    wait_until(lambda: one.input.status().connected, "the broker")
    broker.stop()
    wait_until(lambda: not one.input.status().connected, "the loss")
    assert "another agent" not in (one.input.status().last_error or "")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_needs_no_acknowledgement_gets_none(
    broker: RealBroker,
    receiving: Callable[..., Receiving],
    publisher: Publisher,
    protocol: str,
) -> None:
    """A sensor may publish at QoS 0; an acknowledgement of that would be an error of ours."""
    one = receiving(broker=broker_table(broker.port) | {"protocol": protocol})
    wait_until(lambda: one.input.status().connected, "the broker")
    for number in range(5):
        publisher.publish("plant/a/flow", str(number), qos=0)
        wait_until(lambda number=number: len(one.chunks) > number, "the message")
        one.input.committed([one.chunks[-1].token])
    publisher.publish("plant/a/flow", "5")
    wait_until(lambda: len(one.chunks) == 6, "the last")
    one.input.committed([one.chunks[-1].token])
    assert [chunk.token for chunk in one.chunks[:5]] == [0] * 5
    assert one.input.status().reconnects == 0
    assert one.lines() == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_broker_that_is_silent_to_mqtt_5_gets_3_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.mqtt.connection.CONNECT_TIMEOUT_S", 0.5)

    def on_connect(session: Session) -> None:
        if session.protocol != 5:
            session.accept()

    with ScriptedBroker(on_connect) as scripted:
        one = Receiving(scripted.port, broker=broker_table(scripted.port))
        wait_until(lambda: one.input.status().connected, "the connection")
        one.input.stop()
        assert [session.protocol for session in scripted.sessions] == [5, 4]


def test_a_broker_that_sends_without_end_is_left_and_sends_the_rest_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MQTT 3.1.1 has no word for how much a client takes at a time."""
    monkeypatch.setattr("agent.inputs.mqtt.WAITING_MAX", 5)

    def on_subscribe(session: Session, packet: bytes) -> None:
        session.subscribed(packet)
        for number in range(1, 9):
            topic = b"plant/a/flow"
            rest = len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + b"1"
            session.sock.sendall(bytes([PUBLISH << 4 | 2, len(rest)]) + rest)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        one = Receiving(scripted.port, broker=broker_table(scripted.port) | {"protocol": "3.1.1"})
        wait_until(lambda: one.input.status().reconnects > 0, "another connection")
        status = one.input.status()
        one.input.stop()
        assert "the broker keeps sending" in str(status.last_error)
        assert len(one.chunks) <= 5 * len(scripted.sessions)


def test_a_broker_that_was_away_is_found_again(
    broker: RealBroker, receiving: Callable[..., Receiving]
) -> None:
    one = receiving()
    wait_until(lambda: one.input.status().connected, "the broker")
    broker.kill()
    wait_until(lambda: not one.input.status().connected, "its loss")
    assert one.input.status().last_error
    broker.start()
    wait_until(lambda: one.input.status().reconnects == 1, "the broker again")


RETAINED = {  # stream: settings of its input
    "untimed": "",
    "timed": 'time_key = "at"',
    "used": "use_retained = true",
}


def configure_retained(directory: Path, port: int, protocol: str) -> Path:
    config = directory / "agent.toml"
    config.write_text(
        """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "."
flush_interval_s = 0.1
"""
        + "".join(
            f"""
[[streams]]
name = "{name}"
[streams.baseline]
period_s = 0.1
channels = [{{ name = "flow" }}]
[[inputs]]
name = "{name}"
type = "mqtt"
stream = "{name}"
topics = ["plant/#"]
format = "json"
ignore_keys = ["at"]
broker = {{ host = "127.0.0.1", port = {port}, protocol = "{protocol}", backoff_min_s = 0.1 }}
{settings}
"""
            for name, settings in RETAINED.items()
        )
    )
    return config


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_retained_message_without_a_time_is_no_reading_of_now(
    broker: RealBroker,
    publisher: Publisher,
    start_agent: Callable[[Path], RealAgent],
    tmp_path: Path,
    protocol: str,
) -> None:
    """It is counted, with each connection again; one that has a time is used, once."""
    publisher.publish("plant/a", json.dumps({"flow": 77.75, "at": START_S}), retain=True)
    agent = start_agent(configure_retained(tmp_path, broker.port, protocol))

    def counts() -> dict[str, tuple[int, int, int]]:
        """Rejected as retained, readings, and rows that came before, of each stream."""
        try:
            with Reader(tmp_path) as reader:
                found = reader.status()
        except StoreError:
            return {}
        streams = {name: found["streams"][name]["counters"] for name in RETAINED}
        return {
            name: (
                found["inputs"][name]["rejected"].get("retained", 0),
                counters.get("readings", 0),
                counters.get("duplicate", 0) if name == "timed" else 0,  # else by how they arrive
            )
            for name, counters in streams.items()
        }

    expected = {"untimed": (1, 0, 0), "timed": (0, 1, 0), "used": (0, 1, 0)}
    wait_until(lambda: counts() == expected, "the retained message")
    publisher.publish("plant/a", json.dumps({"flow": 5.5, "at": START_S + 60}))
    expected = {"untimed": (1, 1, 0), "timed": (0, 2, 0), "used": (0, 2, 0)}
    wait_until(lambda: counts() == expected, "a message of now")
    assert agent.stop() == 0
    with Reader(tmp_path) as reader:
        ((_, values, *_),) = reader.newest_samples("untimed", 100)
    assert np.frombuffer(values, np.float32).tolist() == [5.5]
    agent = start_agent(agent.config)  # a new subscription, and what is retained comes again
    expected = {"untimed": (1, 0, 0), "timed": (0, 0, 1), "used": (0, 1, 0)}
    wait_until(lambda: counts() == expected, "the retained message again")
    assert agent.stop() == 0


def test_a_killed_agent_gets_again_what_it_had_not_committed(
    broker: RealBroker,
    publisher: Publisher,
    start_agent: Callable[[Path], RealAgent],
    tmp_path: Path,
) -> None:
    """Of messages with nested JSON, one row each, over three kills: all rows, each once."""
    (tmp_path / "data").mkdir()
    keys = {name: f"/values/{name}" for name in NAMES}
    pairs = ", ".join(f"{name} = {json.dumps(key)}" for name, key in keys.items())
    config = tmp_path / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.3
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
lateness_samples = 1000
[[inputs]]
name = "bus"
type = "mqtt"
stream = "pump"
format = "json"
time_key = "/at"
keys = {{ {pairs} }}
topics = ["pumps/1"]
broker = {{ host = "127.0.0.1", port = {broker.port}, backoff_min_s = 0.1, backoff_max_s = 0.2 }}
""")
    rows = Pump(2).run(ROWS)
    agent = start_agent(config)
    wait_until(lambda: "receiving from" in agent.log(), "the subscription")

    def publish() -> None:
        for number, row in enumerate(rows):
            values = dict(zip(NAMES, (round(float(v), 4) for v in row), strict=True))
            document = {"at": START_S + number * PERIOD_S, "values": values, "more": {"id": 7}}
            publisher.publish("pumps/1", json.dumps(document))
            ended.wait(0.005)

    ended = threading.Event()
    thread = threading.Thread(target=publish)
    thread.start()
    for share in (0.2, 0.5, 0.8):
        wait_until(lambda share=share: stored(tmp_path) >= share * ROWS, f"{share} of the rows")
        agent.kill()
        before = len(agent.log())
        agent = start_agent(config)
    thread.join()
    wait_until(lambda: stored(tmp_path) >= ROWS, "all rows")
    wait_until(lambda: "ready:" in agent.log()[before:], "the last agent to be ready")
    assert agent.stop() == 0
    assert stored(tmp_path) == ROWS


def stored(directory: Path) -> int:
    try:
        with Reader(directory / "data") as reader:
            chunks = reader.newest_samples("pump", 10 * ROWS)
    except StoreError:
        return 0
    times = np.concatenate([np.frombuffer(times) for times, *_ in chunks] or [np.empty(0)])
    assert len(np.unique(times)) == len(times)
    return len(times)


def scripted_message(session: Session, topic: bytes, number: int) -> None:
    properties = b"\0" if session.protocol == 5 else b""
    rest = len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + properties
    session.sock.sendall(bytes([PUBLISH << 4 | 2, len(rest) + 1]) + rest + b"%d" % number)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_topic_that_is_no_text_costs_its_own_message_only(protocol: str) -> None:
    bad = [b"plant/\xed\xa0\x80", b"plant/\xff/flow", b"plant/\0/flow"]

    def on_subscribe(session: Session, packet: bytes) -> None:
        session.subscribed(packet)
        for number, topic in enumerate([*bad, b"plant/a/flow"], 1):
            scripted_message(session, topic, number)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        one = Receiving(scripted.port, broker=broker_table(scripted.port) | {"protocol": protocol})
        wait_until(lambda: one.lines() == [b"4"], "the good one")
        (session,) = scripted.sessions
        wait_until(lambda: session.acknowledged == [1, 2, 3], "the others to be acknowledged")
        status = one.input.status()
        one.input.stop()
        assert (status.messages_without_topic, status.reconnects) == (3, 0)
        assert any(
            "3 messages were discarded" in line
            for line in input_lines("plant", status._asdict() | {"rejected": {}, "rejects": []})
        )


def test_a_property_that_paho_does_not_take_ends_nothing(
    broker: RealBroker, receiving: Callable[..., Receiving]
) -> None:
    """mosquitto lets it pass, as the standard does: paho raises in its thread."""
    one = receiving()
    wait_until(lambda: one.input.status().connected, "the connection")
    topic, text = b"plant/a/flow", b"\xef\xbb\xbf"
    with socket.create_connection(("127.0.0.1", broker.port), 10) as sensor:
        sensor.sendall(b"\x10\x11\0\4MQTT\5\2\0\x3c\0\0\4test")
        assert sensor.recv(100)[0] == 0x20
        user = b"\x26" + len(text).to_bytes(2, "big") + text + b"\0\1b"
        rest = len(topic).to_bytes(2, "big") + topic + b"\0\1" + bytes([len(user)]) + user + b"7"
        sensor.sendall(bytes([PUBLISH << 4 | 2, len(rest)]) + rest)
        assert sensor.recv(100)[0] == 0x40
    wait_until(lambda: one.lines() == [b"7"], "the message")
    assert one.input.status().reconnects == 0


def test_a_connection_that_breaks_at_once_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that ends each connection as it comes must not have it opened without a pause."""
    monkeypatch.setattr("agent.backoff.random.uniform", lambda _, bound: bound)
    begun_s: list[float] = []

    def on_subscribe(session: Session, packet: bytes) -> None:
        begun_s.append(time.monotonic())
        session.subscribed(packet)
        session.hang_up()

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        pauses = {"backoff_min_s": 0.1, "backoff_max_s": 60.0}
        one = Receiving(scripted.port, broker=broker_table(scripted.port) | pauses)
        wait_until(lambda: len(begun_s) >= 5, "five connections")
        one.input.stop()
    assert begun_s[4] - begun_s[3] >= 0.8
