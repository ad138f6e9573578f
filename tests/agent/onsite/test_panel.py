"""The panel: what it says, on a real broker, and what Home Assistant is told of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.onsite import PanelTable
from agent.handling.states import Standing
from agent.mqtt.client import Client
from agent.onsite.discovery import description, identifier, removed, topics_of
from agent.onsite.panels import Panels
from agent.onsite.view import view_of
from agent.store.record import Origin
from models.names import NAME
from tests.conftest import WAIT_S_MAX, RealBroker, wait_until

SCHEMA = json.loads((Path(__file__).parent / "home_assistant.json").read_text())
ORIGIN = Origin("plant", "gw-1", "0" * 16)
TOPICS = topics_of("homeassistant", "plant", "gw-1")
BASE = "fieldwatch/panel/plant/gw-1"
NAMES = st.from_regex(NAME, fullmatch=True)


def stream(**more: Any) -> dict[str, Any]:
    return {"last_sample": "2026-01-01T00:00:00Z", "last_score": 0.25, "forecast": None} | more


def standing(**more: Any) -> Standing:
    settings: dict[str, Any] = {"condition": "active", "acknowledged": False, "severity": "high"}
    return Standing(**(settings | {"priority": "high", "number": 1} | more))


# ---- what is shown


def test_the_worst_active_alarm_counts_and_what_is_suppressed_does_not() -> None:
    points = [
        (("pump", "anomaly"), standing(priority="medium")),
        (("pump", "stuck a"), standing(acknowledged=True, priority="low")),
        (("fan", "anomaly"), standing(out_of_service=True)),
        (("fan", "limit a"), standing(advisory=True)),
        (("belt", "anomaly"), standing(condition="normal")),
    ]
    view = view_of({name: stream() for name in ("pump", "fan", "belt")}, points)
    assert (view.worst, view.gateway) == (
        "medium",
        {"worst": "medium", "active": 2, "unacknowledged": 2},
    )
    assert [view.streams[name]["problem"] for name in ("pump", "fan", "belt")] == [
        *("ON", "OFF", "OFF")
    ]


@pytest.mark.parametrize("unknown", [{"last_sample": None}, {"watched": False}])
def test_without_data_a_stream_is_unknown_and_not_normal(unknown: dict[str, Any]) -> None:
    silent = view_of({"pump": stream(**unknown)}, []).streams["pump"]
    assert (silent["problem"], silent["priority"]) == (None, None)
    told = view_of({"pump": stream(**unknown)}, [(("pump", "silent"), standing())])
    assert told.streams["pump"]["problem"] == "ON"


def test_the_soonest_limit_is_shown() -> None:
    limits = [{"median_s": None}, {"median_s": 600.0}, {"median_s": 60.0}]
    view = view_of({"pump": stream(forecast={"limits": limits})}, [])
    assert view.streams["pump"]["time_to_limit_s"] == 60.0


# ---- the description


@given(st.lists(NAMES, unique=True, max_size=4), NAMES, NAMES)
def test_the_description_is_as_home_assistant_wants_it(
    streams: list[str], site: str, gateway: str
) -> None:
    topics = topics_of("homeassistant", site, gateway)
    said = description(topics, site, gateway, streams, 90)
    jsonschema.Draft202012Validator(SCHEMA).validate(said)
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", topics.config)
    ids = [one["unique_id"] for one in said["components"].values()]
    assert len(set(ids)) == len(ids) == 3 + 4 * len(streams)


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
def test_different_names_have_different_identifiers(one: list[str], other: list[str]) -> None:
    assert (identifier(*one) == identifier(*other)) == (one == other)


def test_streams_with_similar_names_are_apart() -> None:
    names = ["a.b", "a_b", "a_db", "a-b", "a__b", "a_.b", "a._b"]
    assert len({identifier(name) for name in names}) == len(names)


def test_components_that_are_gone_are_removed_and_nothing_else() -> None:
    before = description(TOPICS, "plant", "gw-1", ["pump", "fan"], 90)
    now = description(TOPICS, "plant", "gw-1", ["pump"], 90)
    gone = removed(json.dumps(before).encode(), now)
    assert set(gone) == {
        f"stream_-fan_-{key}" for key in ("problem", "score", "time_to_limit", "priority")
    }
    said = now | {"components": now["components"] | gone}
    jsonschema.Draft202012Validator(SCHEMA).validate(said)


@pytest.mark.parametrize(
    "kept",
    [
        *(b"", b"\xff", b"[]", b"{}", b'{"components": 3}', b"[" * 100_000),
        b'{"components": {"a": 3, "b": {"platform": []}, "c": {"platform": "lock"}}}',
    ],
)
def test_a_foreign_description_removes_nothing(kept: bytes) -> None:
    assert removed(kept, description(TOPICS, "plant", "gw-1", [], 90)) == {}


# ---- on a broker


class Listener:
    """A client that hears everything."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, bytes, bool]] = []
        subscribed = threading.Event()
        self.client = Client(client_id="listener", protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _, __, message: self.got.append(
            (message.topic, bytes(message.payload), message.retain)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(WAIT_S_MAX)

    def last(self, topic: str) -> bytes | None:
        return next((body for at, body, _ in reversed(self.got) if at == topic), None)

    def until(self, topic: str, body: bytes) -> None:
        wait_until(lambda: self.last(topic) == body, f"{body!r} on {topic}")

    def components(self) -> dict[str, Any]:
        body = self.last(TOPICS.config)
        return {} if body is None else dict(json.loads(body)["components"])

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def listener(broker: RealBroker) -> Iterator[Listener]:
    made = Listener(broker.port)
    yield made
    made.close()


def table(port: int, **more: Any) -> PanelTable:
    settings = {"backoff_min_s": 0.05, "backoff_max_s": 0.1, "discovery_delay_s_max": 0.0}
    return PanelTable(host="127.0.0.1", port=port, **(settings | more))


class Shown:
    """A panel that shows streams."""

    def __init__(self, settings: PanelTable) -> None:
        self.panels = Panels(ORIGIN)
        self.panels.configure(settings)
        self.panels.start()

    def show(self, *names: str, worst: bool = False) -> None:
        points = [((names[0], "anomaly"), standing())] if worst else []

        def due() -> bool:
            asked: list[bool] = []

            def streams() -> dict[str, Any]:
                asked.append(True)
                return {name: stream() for name in names}

            self.panels.show(streams, lambda: points)
            return bool(asked)

        wait_until(due, "the next view to be due")


@pytest.fixture
def shown(broker: RealBroker) -> Iterator[Shown]:
    made = Shown(table(broker.port))
    yield made
    made.panels.stop()


def test_a_stack_light_and_home_assistant_get_the_state(shown: Shown, listener: Listener) -> None:
    shown.show("pump", "fan.a")
    listener.until(f"{BASE}/worst", b"none")
    listener.until(f"{BASE}/status", b"online")
    jsonschema.Draft202012Validator(SCHEMA).validate(
        json.loads(listener.last(TOPICS.config) or b"")
    )
    shown.show("pump", "fan.a", worst=True)
    listener.until(f"{BASE}/worst", b"high")
    pump = json.loads(listener.last(f"{BASE}/stream/pump") or b"")
    assert pump == {"problem": "ON", "priority": "high", "score": 0.25, "time_to_limit_s": None}
    for component in listener.components().values():  # each finds its value
        state = json.loads(listener.last(component["state_topic"]) or b"")
        assert component["value_template"][3:-3].removeprefix("value_json.") in state


def test_who_comes_later_hears_the_description_and_no_old_state(
    shown: Shown, listener: Listener, broker: RealBroker
) -> None:
    shown.show("pump", worst=True)
    listener.until(f"{BASE}/worst", b"high")
    late = Listener(broker.port)
    wait_until(lambda: late.last(TOPICS.config) is not None, "the description")
    assert {topic for topic, _, retained in late.got if retained} == {
        TOPICS.config,
        f"{BASE}/status",
    }
    late.close()


def test_home_assistant_that_starts_is_told_everything_again(
    shown: Shown, listener: Listener
) -> None:
    shown.show("pump")
    listener.until(f"{BASE}/worst", b"none")
    listener.got.clear()
    listener.client.publish("homeassistant/status", b"offline", 1)
    listener.client.publish("homeassistant/status", b"online", 1)
    wait_until(lambda: listener.last(f"{BASE}/stream/pump") is not None, "the state")
    topics = [topic for topic, _, _ in listener.got]
    assert topics.index(TOPICS.config) < topics.index(f"{BASE}/stream/pump")
    assert (document := shown.panels.document()) is not None
    assert document["births"] == 1


def test_a_removed_stream_is_removed_also_after_a_restart(
    broker: RealBroker, listener: Listener
) -> None:
    first = Shown(table(broker.port))
    first.show("pump", "fan")
    wait_until(lambda: "stream_-fan_-score" in listener.components(), "both streams")
    first.panels.stop()
    listener.until(f"{BASE}/status", b"offline")
    listener.got.clear()
    second = Shown(table(broker.port))
    second.show("pump")
    listener.until(f"{BASE}/worst", b"none")
    bodies = [json.loads(body) for topic, body, _ in listener.got if topic == TOPICS.config]
    assert [one["components"].get("stream_-fan_-score") for one in bodies] == [
        {"platform": "sensor"},
        None,
    ]
    second.panels.stop()


def test_a_broker_that_was_away_gets_the_state_again(
    shown: Shown, listener: Listener, broker: RealBroker
) -> None:
    shown.show("pump")
    listener.until(f"{BASE}/worst", b"none")
    listener.close()
    broker.kill()
    wait_until(lambda: not (shown.panels.document() or {})["online"], "the loss")
    broker.start()
    late = Listener(broker.port)
    late.until(f"{BASE}/status", b"online")
    wait_until(lambda: bool(late.components()), "the description")
    late.close()


def test_the_state_comes_again_within_the_interval(broker: RealBroker, listener: Listener) -> None:
    made = Shown(table(broker.port, interval_s=1.0))
    made.show("pump")
    wait_until(lambda: sum(at == f"{BASE}/worst" for at, _, _ in listener.got) >= 3, "repeats")
    assert listener.components()["gateway_-worst"]["expire_after"] == 3
    made.panels.stop()


def test_without_discovery_only_the_state_is_sent(broker: RealBroker, listener: Listener) -> None:
    made = Shown(table(broker.port, discovery=False))
    made.show("pump")
    listener.until(f"{BASE}/worst", b"none")
    assert listener.last(TOPICS.config) is None
    made.panels.stop()


def test_a_killed_agent_is_offline_by_its_last_will(broker: RealBroker, listener: Listener) -> None:
    code = (
        "import sys, time; from agent.config.onsite import PanelTable;"
        "from agent.onsite.panels import Panels; from agent.store.record import Origin;"
        "p = Panels(Origin('plant', 'gw-1', '0')); p.configure("
        "PanelTable(host='127.0.0.1', port=int(sys.argv[1]))); p.start(); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(broker.port)])
    listener.until(f"{BASE}/status", b"online")
    process.kill()
    process.wait()
    listener.until(f"{BASE}/status", b"offline")


def test_new_settings_are_taken_over(broker: RealBroker, listener: Listener) -> None:
    made = Shown(table(broker.port))
    made.show("pump")
    listener.until(f"{BASE}/worst", b"none")
    made.panels.configure(table(broker.port, interval_s=7.0))
    made.show("pump")
    wait_until(
        lambda: listener.components().get("gateway_-worst", {}).get("expire_after") == 21,
        "the new settings",
    )
    made.panels.configure(None)
    listener.until(f"{BASE}/status", b"offline")
    assert made.panels.document() is None
    made.panels.stop()


def test_a_broker_that_is_not_there_holds_up_nobody() -> None:
    made = Shown(table(9))
    began = time.monotonic()
    made.panels.show(dict, list)
    assert time.monotonic() - began < 60
    wait_until(lambda: (made.panels.document() or {})["failures"] > 0, "a failure")
    made.panels.stop()
