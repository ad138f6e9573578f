"""paho's client: its network thread can be stopped at any time."""

from __future__ import annotations

import threading

import pytest
from paho.mqtt.enums import MQTTErrorCode

from agent.mqtt.client import Client
from tests.conftest import WAIT_S_MAX, RealBroker


def connected(broker: RealBroker) -> tuple[Client, threading.Thread]:
    client, there = Client(client_id="one"), threading.Event()
    client.on_connect = lambda *_: there.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert there.wait(WAIT_S_MAX)
    (thread,) = (t for t in threading.enumerate() if t.name == "paho-mqtt-client-one")
    return client, thread


def test_a_thread_that_ends_just_as_it_is_stopped(
    broker: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, thread = connected(broker)
    current, stopping = threading.current_thread, threading.get_ident()

    def and_the_thread_ends() -> threading.Thread:
        """paho calls this after its look at the thread, and before it waits for it."""
        if threading.get_ident() == stopping:
            monkeypatch.undo()
            client.disconnect()
            thread.join(WAIT_S_MAX)
        return current()

    monkeypatch.setattr(threading, "current_thread", and_the_thread_ends)
    assert client.loop_stop() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert not thread.is_alive()
    assert threading.current_thread is current  # so paho did call it
    assert client.loop_stop() == MQTTErrorCode.MQTT_ERR_INVAL  # nothing is left to stop
