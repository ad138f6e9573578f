"""The broker's other clients: a subscriber in a separate process, and a bare publisher.

The agent would keep messages without a subscriber. A subscriber in this process would count as the
agent's cost.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion

from agent.config.broker import MqttTable
from agent.dialects.topics import ROOT
from agent.mqtt.client import Client
from models.errors import FieldwatchError

_ANSWER_S_MAX = 30.0


class NoAnswer(FieldwatchError):
    """The broker does not answer."""


class Subscriber:
    """Subscribes to all messages of the agent, in a separate process; a context manager."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __enter__(self) -> Self:
        """Start it and wait until it has subscribed."""
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-P", "-m", __spec__.name, str(self._port)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self.__exit__()
            raise NoAnswer("the subscriber could not subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _client(name: str, protocol: MQTTProtocolVersion) -> paho.Client:
    return Client(client_id=name, protocol=protocol)


def _subscribe(port: int) -> None:
    """Subscribe until the process ends; print a line on stdout once subscribed."""
    client = _client("bench-ops", MQTTProtocolVersion.MQTTv311)

    def ask(*_: Any) -> None:
        client.subscribe(f"{ROOT}/#", qos=1)

    def tell(*_: Any) -> None:
        sys.stdout.write("subscribed\n")
        sys.stdout.flush()

    client.on_connect, client.on_subscribe = ask, tell
    client.connect("127.0.0.1", port)
    client.loop_forever()


class Publishing:
    """Publishes with QoS 1 and the agent's window: paho and nothing else."""

    def __init__(self, mqtt: MqttTable) -> None:
        protocol = (
            MQTTProtocolVersion.MQTTv311 if mqtt.protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
        )
        self._client = _client("bench-bare", protocol)
        self._client.max_inflight_messages_set(mqtt.inflight_max)
        self._client.on_publish = self._on_publish
        self._window = mqtt.inflight_max
        self._free = threading.Semaphore(self._window)
        self._address = mqtt.host, mqtt.port

    def _on_publish(self, *_: Any) -> None:
        self._free.release()

    def run(self, messages: Sequence[tuple[str, bytes]]) -> tuple[float, float]:
        """Publish all; return CPU time of the process and wall time until the last answer, s.

        Raises:
            NoAnswer: the broker does not acknowledge.

        """
        self._client.connect(*self._address)
        self._client.loop_start()
        try:
            cpu, wall = time.process_time(), time.monotonic()
            for topic, body in messages:
                self._wait()
                self._client.publish(topic, body, qos=1)
            for _ in range(self._window):  # until all are answered
                self._wait()
            return time.process_time() - cpu, time.monotonic() - wall
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _wait(self) -> None:
        """Wait until the window has room."""
        if not self._free.acquire(timeout=_ANSWER_S_MAX):
            raise NoAnswer("the broker does not acknowledge")


if __name__ == "__main__":
    _subscribe(int(sys.argv[1]))
