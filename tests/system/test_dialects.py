"""An agent changes its dialect; the collector has each message once, as JSON."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import paho.mqtt.client as paho
import pytest
import yaml

from agent.inputs.plant import Fault, Pump
from agent.mqtt.client import Client
from tests.agent_rig import UNSIGNED_CENTRAL, StartAgent, configure, lines, running, status
from tests.collector_process import CollectorProcess
from tests.conftest import ROOT, RealBroker, wait_until
from tests.serial_line import Line


@contextmanager
def listening(port: int) -> Iterator[list[paho.MQTTMessage]]:
    """Yield what goes over the broker, as it is."""
    heard: list[paho.MQTTMessage] = []
    client = Client(protocol=paho.MQTTv5)
    client.on_message = lambda _, __, message: heard.append(message)
    client.connect("127.0.0.1", port)
    client.subscribe("fieldwatch/v1/plant/gw-1/#", qos=1)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
        client.on_message = None


@pytest.mark.parametrize(("first", "then"), [("cbor", "json"), ("json", "cbor")])
def test_a_gateway_changes_its_dialect_and_the_collector_has_all_it_says(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    start_agent: StartAgent,
    first: str,
    then: str,
) -> None:
    config = configure(tmp_path, line, broker.port)
    text = config.read_text().replace("[mqtt]", f"[mqtt]\n{UNSIGNED_CENTRAL}")
    config.write_text(text.replace("[mqtt]", f'[mqtt]\ndialect = "{first}"'))
    central = CollectorProcess(broker.port, tmp_path / "central")
    try:
        with listening(broker.port) as heard:
            agent = start_agent(config)
            wait_until(lambda: running(tmp_path), "the agent")
            rows = Pump(11, [Fault("cavitation", 100.0)]).run(700)
            line.write(lines(rows))
            wait_until(
                lambda: kinds_of(central) == {"alarm", "transition", "summary", "health"},
                "each kind",
            )
            config.write_text(text.replace("[mqtt]", f'[mqtt]\ndialect = "{then}"'))
            assert agent.process is not None
            agent.process.send_signal(signal.SIGHUP)
            wait_until(lambda: forms_of(heard, "health") == {first, then}, "the other dialect")
            wait_until(lambda: through(tmp_path) > 20, "them")
            assert agent.stop() == 0, agent.log()
            assert forms_of(heard, "status") == {"json"}
            assert forms_of(heard, "alarm") <= {first, then}
            said = central.messages()
    finally:
        central.end()
    assert [one["seq"] for one in sorted(said, key=lambda one: one["seq"])] == list(
        range(1, len(said) + 1)
    )
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    for one in said:
        topic = one.pop("topic").split("/")
        schema = {"$ref": f"#/components/schemas/{topic[4].title()}"}
        validator = jsonschema.Draft202012Validator(schema | {"components": document["components"]})
        validator.validate(one)


def through(directory: Path) -> int:
    """Up to which number the collector has all; 0 until it has said so to the new connection."""
    return status(directory)["uplink"]["central"]["through_seq"] or 0


def kinds_of(central: CollectorProcess) -> set[str]:
    return {one["topic"].split("/")[4] for one in central.messages()}


def forms_of(heard: list[paho.MQTTMessage], kind: str) -> set[str]:
    """Return the dialects that messages of a kind came in; content type and first byte agree."""
    found = set()
    for message in list(heard):
        if f"/{kind}" in message.topic:
            said = getattr(message.properties, "ContentType", "application/json")
            plain = message.payload.startswith(b"{")
            assert said == ("application/json" if plain else "application/cbor")
            found.add("json" if plain else "cbor")
    return found
