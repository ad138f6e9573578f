"""What the tests of the uplink stand on: a gateway without its sensors, and central ops."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from agent.collector.enrolled import Enrolled
from agent.collector.reading import Message
from agent.collector.run import Collector
from agent.collector.tidying import Keeping
from agent.config.broker import MqttTable
from agent.mqtt.client import Client
from agent.mqtt.signer import read_signer
from agent.store.batch import Batch
from agent.store.record import Kind, Outgoing
from agent.store.writer import Store
from agent.uplink.sender import Uplink
from models.keys import SecretKey
from tests.conftest import WAIT_S_MAX

FAST = {
    "backoff_min_s": 0.05,
    "backoff_max_s": 0.2,
    "unsubscribed_retry_s": 0.2,
    "denied_retry_s": 0.2,
    "stop_timeout_s": 1,
    "replay_rate_max": 1e6,
    "health_expiry_s": 1e12,  # the rig's messages are of 1970
}


class Ops:
    """A collector with a session that the broker keeps, as central ops should have."""

    def __init__(self, port: int, *topics: str, client_id: str = "ops") -> None:
        self._topics = [(topic, 1) for topic in topics or ("fieldwatch/v1/#",)]
        self.received: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self._subscribed = threading.Event()
        self._client = Client(
            client_id=client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topics)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(WAIT_S_MAX)

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("/acknowledged") or "/_central/" in message.topic:
            return
        document = json.loads(message.payload)
        status = message.topic.endswith("/status")
        (self.statuses if status else self.received).append(document)

    def numbers(self) -> list[int]:
        """In order of their first arrival, repeats dropped."""
        return list(dict.fromkeys(message["seq"] for message in self.received))

    def subscribe(self, topic: str) -> None:
        self._topics.append((topic, 1))
        self._client.subscribe(topic, 1)

    def say(self, topic: str, body: object) -> None:
        """Publish, retained; bytes as they are, the rest as JSON."""
        payload = body if isinstance(body, bytes) else json.dumps(body)
        self._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(WAIT_S_MAX)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Collecting:
    """The reference collector, in a thread."""

    def __init__(
        self,
        port: int,
        directory: Path,
        key: SecretKey | None = None,
        enrolled: Enrolled | None = None,
        samples: Keeping | None = None,
        **more: Any,
    ) -> None:
        """With ``key`` it signs, with ``enrolled`` it checks who a gateway is.

        With ``samples`` it takes them, too.
        """
        settings = MqttTable(host="127.0.0.1", port=port, **(FAST | more))
        self.messages: list[Message] = []
        self.collector = Collector(
            settings,
            "plant",
            directory,
            self.messages.append,
            enrolled=enrolled,
            key=key,
            samples=samples,
        )
        self._thread = threading.Thread(target=self.collector.run)
        self._thread.start()

    def numbers(self) -> list[int]:
        return [message.seq for message in self.messages]

    def close(self) -> None:
        """Stop it; done twice, it does nothing."""
        self.collector.stop()
        self._thread.join()


class Gateway:
    """Store and uplink with the part of the loop between them."""

    def __init__(
        self, directory: Path, port: int, keys: Path | None = None, **settings: Any
    ) -> None:
        """Without ``keys`` it believes a collector that does not sign."""
        self._closed = False
        self.store = Store(directory, "plant", "gw-1", 100_000, 1000)
        self.store.open()
        self.settings = MqttTable(host="127.0.0.1", port=port, **(FAST | settings))
        if keys is None:
            self.settings = self.settings.model_copy(update={"unsigned_acknowledgements": True})
        self.uplink = Uplink(
            self.settings,
            self.store.origin,
            directory,
            lambda: self.store.last_seq,
            keys=keys,
            signer=read_signer(self.settings.sign, "plant", "gw-1"),
        )

    def put(self, count: int, kind: Kind = "summary", stream: str = "pump") -> None:
        batch = Batch(messages=[Outgoing(kind, stream, 0.0, {"n": n}) for n in range(count)])
        self.store.commit(batch, "synced")

    def delete_acknowledged(self) -> int:
        acked = self.uplink.acknowledged()
        self.store.commit(Batch(acked=acked, counters=self.uplink.counters()), "synced")
        self.uplink.committed(acked)
        return int(self.store.document()["outbox_rows"])

    def close(self) -> None:
        """Stop it; done twice, it does nothing."""
        if not self._closed:
            self._closed = True
            self.uplink.stop()
            self.store.close()
