"""Client ids of MQTT inputs: no two gateways share one, whatever host they run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.config.inputs import MqttInputTable
from agent.config.load import AgentConfig, load
from agent.inputs.kinds import open_input
from agent.inputs.source import Chunk, Input
from models.errors import ConfigError
from tests.conftest import RealBroker, wait_until
from tests.scripted_broker import ScriptedBroker, Session

NAME_MAX = "x" * 64


class Receiving:
    """The first input of a configuration, running."""

    def __init__(self, config: AgentConfig) -> None:
        self.chunks: list[Chunk] = []
        self.input: Input = open_input(config.inputs[0])
        self.input.start(self.chunks.append)

    def lines(self) -> list[bytes]:
        return [line for chunk in self.chunks for line in chunk.lines]


@pytest.fixture
def running() -> Iterator[list[Receiving]]:
    started: list[Receiving] = []
    yield started
    for one in started:
        one.input.stop()


def configured(
    directory: Path, port: int, name: str, more: str = "", inputs: int = 1, site: str = "plant"
) -> AgentConfig:
    """Of a gateway; all gateways' first input has the same name."""
    text = f"""
[gateway]
site = "{site}"
name = "{name}"
[[streams]]
name = "flow"
baseline = {{ period_s = 1.0, channels = [{{ name = "flow" }}] }}
"""
    for number in range(inputs):
        text += f"""
[[inputs]]
name = "bus-{number}"
type = "mqtt"
stream = "flow"
topics = ["plant/flow"]
columns = ["flow"]
session_expiry_s = 3600
broker = {{ host = "127.0.0.1", port = {port}, protocol = "3.1.1", backoff_min_s = 0.1 }}
{more}
"""
    path = directory / f"{name[:8]}.toml"
    path.write_text(text)
    return load(path)


def client_id(config: AgentConfig) -> str | None:
    (source,) = config.inputs
    assert isinstance(source, MqttInputTable)
    return source.client_id


def test_two_gateways_on_one_host_both_hear_everything(
    tmp_path: Path, broker: RealBroker, running: list[Receiving]
) -> None:
    for name in ("gw-1", "gw-2"):
        running.append(Receiving(configured(tmp_path, broker.port, name)))
    for one in running:
        wait_until(lambda one=one: one.input.status().connected, "the broker")
    sensor = paho.Client(CallbackAPIVersion.VERSION2)
    sensor.connect("127.0.0.1", broker.port)
    sensor.loop_start()
    for number in range(20):
        sensor.publish("plant/flow", str(number), qos=1).wait_for_publish(10)
    for one in running:
        wait_until(lambda one=one: len(one.lines()) >= 20, "all messages")
        assert [int(line) for line in one.lines()] == list(range(20)), "each once"
        assert one.input.status().reconnects == 0
    sensor.disconnect()
    sensor.loop_stop()
    sensor.on_connect = None


def test_no_other_gateway_and_no_uplink_has_it(tmp_path: Path) -> None:
    ids = {
        client_id(configured(tmp_path, 1, name, site=site))
        for site, name in (("a", "b-bus-0"), ("a-b", "bus-0"), ("a", "b"))
    }
    assert ids == {
        "fieldwatch:a:b-bus-0:bus-0",
        "fieldwatch:a-b:bus-0:bus-0",
        "fieldwatch:a:b:bus-0",
    }
    assert not any(str(one).startswith("fieldwatch-") for one in ids), "an uplink's does"


def test_it_can_be_set_and_must_differ_at_one_broker(tmp_path: Path) -> None:
    more = 'client_id = "fieldwatch-pi-bus"'
    assert client_id(configured(tmp_path, 1, "gw-1", more)) == "fieldwatch-pi-bus"
    with pytest.raises(ConfigError, match=r"'fieldwatch-pi-bus' at 127\.0\.0\.1:1 occurs"):
        configured(tmp_path, 1, "gw-1", more, inputs=2)
    for wrong in ("", "a b", "é", "x" * 201):
        with pytest.raises(ConfigError, match="client_id"):
            configured(tmp_path, 1, "gw-1", f'client_id = "{wrong}"')


def test_the_longest_one_is_taken_by_a_broker_of_mqtt_3_1_1(
    tmp_path: Path, broker: RealBroker, running: list[Receiving]
) -> None:
    """The standard lets a broker refuse more than 23 characters; mosquitto takes them."""
    config = configured(tmp_path, broker.port, NAME_MAX, site=NAME_MAX)
    assert len(client_id(config) or "") > 128
    running.append(Receiving(config))
    wait_until(lambda: running[0].input.status().connected, "the broker")


def test_a_broker_that_refuses_it_is_told_with_the_id(
    tmp_path: Path, running: list[Receiving]
) -> None:
    def refuse(session: Session) -> None:
        session.accept(code=2)  # identifier rejected

    with ScriptedBroker(on_connect=refuse) as scripted:
        running.append(Receiving(configured(tmp_path, scripted.port, "gw-1")))
        told = "fieldwatch:plant:gw-1:bus-0"
        wait_until(lambda: told in (running[0].input.status().last_error or ""), "the reason")
