"""Which version of MQTT is spoken with a broker, by each that connects to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.commands.probe.listen import listen_to_broker
from agent.config.broker import BrokerTable, MqttTable
from agent.config.inputs import MqttInputTable
from agent.inputs.mqtt import MqttInput
from agent.mqtt.connection import LinkError
from agent.mqtt.version import probe_broker
from tests.conftest import wait_until
from tests.scripted_broker import ScriptedBroker, Session
from tests.uplink_rig import Collecting, Gateway

UNSUPPORTED = {5: 0x84, 4: 1}  # by the number of the version on the wire; 4 is MQTT 3.1.1
FAST = {"backoff_min_s": 1e-3, "backoff_max_s": 1e-2}


def table(port: int, **more: Any) -> BrokerTable:
    return BrokerTable.model_validate({"host": "127.0.0.1", "port": port} | FAST | more)


@contextmanager
def uplink(port: int, path: Path) -> Iterator[None]:
    one = Gateway(path, port)
    one.uplink.start()
    try:
        yield
    finally:
        one.close()


@contextmanager
def collector(port: int, path: Path) -> Iterator[None]:
    one = Collecting(port, path)
    try:
        yield
    finally:
        one.close()


@contextmanager
def mqtt_input(port: int, path: Path) -> Iterator[None]:
    given = {"name": "bus", "stream": "pump", "type": "mqtt", "columns": ["flow"], "topics": ["a"]}
    one = MqttInput(MqttInputTable.model_validate(given | {"broker": table(port).model_dump()}))
    one.start(lambda chunk: None)
    try:
        yield
    finally:
        one.stop()


@contextmanager
def check(port: int, path: Path) -> Iterator[None]:
    assert probe_broker(table(port), "check") == "3.1.1"
    yield


@contextmanager
def probe(port: int, path: Path) -> Iterator[None]:
    assert listen_to_broker(table(port), ["a"], 0.01, lambda line: None).problem is None
    yield


EACH = [uplink, collector, mqtt_input, check, probe]


def says_so(session: Session) -> None:
    session.accept(code=UNSUPPORTED[5])


def hangs_up(session: Session) -> None:
    session.hang_up()


def says_nothing(session: Session) -> None:
    pass


@pytest.mark.parametrize("to_mqtt_5", [says_so, hangs_up, says_nothing])
@pytest.mark.parametrize("connecting", EACH)
def test_each_takes_the_older_version_where_the_broker_does_not_know_5(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    connecting: Callable[..., Any],
    to_mqtt_5: Callable[[Session], None],
) -> None:
    monkeypatch.setattr("agent.mqtt.connection.CONNECT_TIMEOUT_S", 1.0)
    accepted: list[int] = []

    def on_connect(session: Session) -> None:
        if session.protocol == 5:
            to_mqtt_5(session)
        else:
            accepted.append(session.protocol)
            session.accept()

    with ScriptedBroker(on_connect) as scripted, connecting(scripted.port, tmp_path):
        wait_until(lambda: bool(accepted), "a connection by MQTT 3.1.1")
        assert scripted.sessions[0].protocol == 5


@pytest.mark.parametrize("connecting", [uplink, collector, mqtt_input])
def test_a_broker_that_takes_neither_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, connecting: Callable[..., Any]
) -> None:
    tried: list[int] = []

    def on_connect(session: Session) -> None:
        tried.append(session.protocol)
        session.accept(code=UNSUPPORTED[session.protocol])

    with ScriptedBroker(on_connect) as scripted, connecting(scripted.port, tmp_path):
        wait_until(lambda: len(tried) > 4, "both versions to be tried")
    assert "the connection ended without an answer" in caplog.text
    assert set(tried[2:]) == {5, 4}


@pytest.mark.parametrize("connecting", [uplink, collector, mqtt_input])
def test_a_broker_that_only_started_slowly_gets_mqtt_5_again(
    tmp_path: Path, connecting: Callable[..., Any]
) -> None:
    """It hung up on its first client, and knows 5 only."""
    accepted: list[int] = []

    def on_connect(session: Session) -> None:
        if len(scripted.sessions) == 1:
            session.hang_up()
        elif session.protocol == 5:
            accepted.append(5)
            session.accept()
        else:
            session.accept(code=UNSUPPORTED[4])

    with ScriptedBroker(on_connect) as scripted, connecting(scripted.port, tmp_path):
        wait_until(lambda: bool(accepted), "a connection by MQTT 5")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_version_that_is_configured_is_kept(protocol: str) -> None:
    with ScriptedBroker(hangs_up) as scripted:
        for _ in range(2):
            with pytest.raises(LinkError, match="without an answer"):
                probe_broker(table(scripted.port, protocol=protocol), "check")
        tried = {session.protocol for session in scripted.sessions}
    assert tried == {5 if protocol == "5" else 4}


def test_a_broker_that_is_away_is_told_of() -> None:
    with ScriptedBroker() as scripted:
        port = scripted.port
    with pytest.raises(LinkError, match="refused"):
        probe_broker(MqttTable(host="127.0.0.1", port=port), "check")


def test_a_subscription_that_is_denied_makes_the_collectors_waits_longer(tmp_path: Path) -> None:
    def on_subscribe(session: Session, packet: bytes) -> None:
        session.subscribed(packet, code=0x87)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        one = Collecting(scripted.port, tmp_path, backoff_min_s=1e-3, backoff_max_s=3600)
        try:
            wait_until(lambda: len(scripted.sessions) > 5, "some connections")
        finally:
            one.close()
    assert one.collector.backoff.failures >= 5
