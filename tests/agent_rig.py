"""An agent with one serial line, a broker and central ops who listen, for tests of the whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho

from agent.inputs.plant import CHANNELS, PERIOD_S, csv_line
from agent.mqtt.client import Client
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import WAIT_S_MAX, ZOO_BUNDLE, RealAgent
from tests.database import make_files
from tests.serial_line import Line

START_S = 1_700_000_000.0
StartAgent = Callable[..., RealAgent]  # configuration, program, environment


class Ops:
    """A collector with a session that the broker keeps."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._subscribed = threading.Event()
        self._client = Client(
            client_id="ops",
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        self._client.on_connect = lambda client, *_: client.subscribe("fieldwatch/v1/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, json.loads(message.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(WAIT_S_MAX)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [body for topic, body in list(self.messages) if topic.split("/")[4] == kind]

    def numbered(self) -> list[dict[str, Any]]:
        return [body for topic, body in list(self.messages) if not topic.endswith("/status")]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


# lines of ``[mqtt]``: what a collector without a key says counts
UNSIGNED_CENTRAL = 'acknowledgement = "central"\nunsigned_acknowledgements = true'


def configure(directory: Path, line: Line, port: int, **changes: str) -> Path:
    make_files(directory / "data")
    settings = {"flush_interval_s": "0.1", "bundle": str(ZOO_BUNDLE), "silent_after_s": "30"}
    settings |= changes
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = {settings["flush_interval_s"]}
[mqtt]
host = "127.0.0.1"
port = {port}
backoff_min_s = 0.1
backoff_max_s = 0.5
[summary]
interval_s = 10
[health]
interval_s = 1
[[streams]]
name = "pump"
bundle = "{settings["bundle"]}"
silent_after_s = {settings["silent_after_s"]}
[[inputs]]
name = "line"
port = "{line.path}"
stream = "pump"
columns = {["time", *(channel.name for channel in CHANNELS)]}
""")
    return config


def lines(rows: np.ndarray[Any, Any], first: int = 0) -> bytes:
    return b"".join(
        csv_line(START_S + (first + index) * PERIOD_S, row).encode() + b"\n"
        for index, row in enumerate(rows)
    )


def status(directory: Path) -> dict[str, Any]:
    with Reader(directory / "data") as reader:
        try:
            return reader.status()
        except StoreError:  # not yet
            return {"running": False, "streams": {"pump": {"counters": {}}}, "inputs": {"line": {}}}


def scored(directory: Path) -> int:
    return int(status(directory)["streams"]["pump"]["counters"].get("samples", 0))


def kept_scores(directory: Path) -> np.ndarray[Any, Any]:
    with Reader(directory / "data") as reader:
        chunks = reader.newest_samples("pump", 10**6)
    return np.frombuffer(b"".join(scores for _, _, scores, _ in chunks), np.float32)


def running(directory: Path) -> bool:
    current = status(directory)
    return bool(current["running"] and current["inputs"]["line"]["connected"])
