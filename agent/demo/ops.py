"""Central ops in the demo: a subscriber that prints and counts what it receives."""

from __future__ import annotations

import json
from queue import SimpleQueue
from typing import Any

import paho.mqtt.client as mqtt

from agent.mqtt.client import Client


class Ops:
    """Subscribes to all topics of the gateway; a context manager.

    The network thread only puts messages into a queue. The demo's loop calls ``drain``.
    """

    def __init__(self, port: int) -> None:
        self._received: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        self._client = Client(client_id="demo-ops", protocol=mqtt.MQTTv311)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._port = port
        self.ids: set[str] = set()  # of numbered messages
        self.lines: list[str] = []

    def __enter__(self) -> Ops:
        """Connect and subscribe."""
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe("fieldwatch/v1/#", qos=1)

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        self._received.put((message.topic, bytes(message.payload)))

    def drain(self) -> None:
        """Process the messages that arrived since the last call."""
        while not self._received.empty():
            topic, payload = self._received.get()
            message = json.loads(payload)
            kind = topic.split("/")[4]
            if kind != "status":
                self.ids.add(message["id"])
            self.lines.append(f"{topic}  {_brief(kind, message['data'])}")


def _brief(kind: str, data: dict[str, Any]) -> str:
    if kind == "alarm":
        return f"{data['kind']} {data['state']}, score {data['score']:.1f}"
    if kind == "transition":
        return f"{data['point']} #{data['number']} {data['what']}, now {data['after']}"
    if kind == "summary":
        score = data["score_max"]
        highest = "not scored yet" if score is None else f"highest score {score:.2f}"
        return f"{data['n']} samples, {highest}"
    if kind == "health":
        return f"{data['rss_mb']} MB, clock {data['clock']}"
    return str(data["state"])
