"""A new configuration while the agent runs: a real process, its real socket, real brokers."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import Clock
from agent.config import load as configuration
from agent.config.load import AgentConfig
from agent.config.reload import RELOADED, differences, take_over, takes_effect
from agent.control.client import ask
from agent.control.protocol import Refused
from agent.inputs.plant import PERIOD_S, Pump
from agent.mqtt.client import Client
from agent.scoring.fleet import Fleet
from agent.scoring.stream import Stream
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.record import Outgoing
from agent.store.writer import Store
from agent.uplink.handover import Relay
from agent.uplink.sender import Uplink
from models.bundle import Bundle
from models.errors import ConfigError, StoreError
from models.messages import Readings
from models.pipeline import Pipeline
from models.settings import tables_in
from tests import forecast_rig
from tests.conftest import WAIT_S_MAX, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.database import make_files

MAIN = f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[health]
interval_s = 3600
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
silent_after_s = 3600
[[inputs]]
name = "line"
stream = "pump"
port = "/dev/does-not-exist"
columns = ["time", "flow"]
"""

StartAgent = Callable[[Path], RealAgent]


def written(directory: Path) -> Path:
    make_files(directory / "data")
    (directory / "conf.d").mkdir()
    (directory / "agent.toml").write_text(MAIN)
    return directory / "agent.toml"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    return written(tmp_path)


def drop_in(main: Path, text: str) -> None:
    (main.parent / "conf.d" / "a.toml").write_text(text)


def status(main: Path) -> dict[str, Any]:
    with Reader(main.parent / "data") as reader:
        try:
            return reader.status()
        except StoreError:  # not yet
            return {}


def opened(main: Path) -> list[str]:
    with Reader(main.parent / "data") as reader:
        return [alarm["kind"] for alarm in reader.alarms(10, open_only=True)]


@pytest.fixture
def running(main: Path, start_agent: StartAgent) -> Callable[[], RealAgent]:
    def run() -> RealAgent:
        agent = start_agent(main)
        wait_until(lambda: bool(status(main)), "the agent to be ready")
        return agent

    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAgent]:
    """An agent for tests that leave it as it was; a start takes longer than they do."""
    agent = RealAgent(written(tmp_path_factory.mktemp("shared")))
    agent.start()
    wait_until(lambda: bool(status(agent.config)), "the agent to be ready")
    yield agent
    assert agent.stop() == 0


def reload(main: Path, text: str) -> dict[str, Any]:
    """Lay a drop-in over the configuration, and have the agent read it; return the answer."""
    drop_in(main, text)
    return ask(main.parent / "data" / "control.sock", "reload")


def state(main: Path) -> dict[str, Any]:
    return ask(main.parent / "data" / "control.sock", "state")


# ---- the process


def test_what_can_change_takes_effect_and_the_rest_is_told(
    main: Path, running: Callable[[], RealAgent]
) -> None:
    agent = running()
    assert opened(main) == []
    told = reload(
        main,
        '[health]\ninterval_s = 0.1\n[[streams]]\nname = "pump"\nsilent_after_s = 0.1\n'
        '[[inputs]]\nname = "line"\nbaud = 9600\n[gateway]\nsite = "other"\n'
        f'[[streams]]\nname = "b"\nbundle = "{ZOO_BUNDLE}"\n'
        '[[inputs]]\nname = "b"\nstream = "b"\nport = "b"\ncolumns = ["flow"]\n',
    )
    assert (
        "configuration loaded; changed: health.interval_s, streams.pump.silent_after_s\n"
        in agent.log()
    )
    waiting = ["gateway.site", "streams.b", "inputs.line.baud", "inputs.b"]
    assert told == {
        "changed": ["health.interval_s", "streams.pump.silent_after_s"],
        "exchanged": {},
        "needs_restart": waiting,
        "still_refused": {},
        "mended": [],
    }
    assert f"these settings need a restart: {'; '.join(waiting)}\n" in agent.log()
    wait_until(lambda: opened(main) == ["silent"], "the alarm of a stream that is silent")
    wait_until(lambda: status(main)["store"]["outbox_rows"] >= 3, "health messages")
    assert status(main)["configuration"]["needs_restart"] == waiting
    assert status(main)["gateway"] == "plant/gw-1"
    assert agent.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[health]\ninterval_s = 0\n", "conf.d/a.toml: health.interval_s = 0"),
        ("no toml", "conf.d/a.toml: not TOML"),
        (
            '[health]\ninterval_s = 0.1\n[[streams]]\nname = "pump"\n'
            '[[streams.limits]]\nchannel = "flwo"\nhigh_warning = 1\n',
            "stream pump: limits: channel = 'flwo'",
        ),
    ],
)
def test_a_wrong_configuration_leaves_the_old_one_running(
    shared: RealAgent, text: str, said: str
) -> None:
    agent, main = shared, shared.config
    with pytest.raises(Refused) as refused:
        reload(main, text)
    assert refused.value.exit_code == ConfigError.exit_code
    assert said in str(refused.value)
    assert "ERROR agent.reloading: reload refused, nothing has changed: " in agent.log()
    assert said in agent.log()
    assert said in status(main)["configuration"]["refused"]  # stored before the answer
    assert reload(main, "") == {
        "changed": [],
        "exchanged": {},
        "needs_restart": [],
        "still_refused": {},
        "mended": [],
    }
    assert status(main)["configuration"]["refused"] is None
    assert "changed: nothing" in agent.log()
    assert status(main)["store"]["outbox_rows"] == 0  # the other half did not take effect


def linked(main: Path, port: int) -> bool:
    try:
        link = state(main)["uplink"]
    except Refused:  # too many commands in a second
        return False
    # held: nobody is subscribed
    return (
        bool(link) and link["broker"].endswith(f":{port}") and link["state"] in ("online", "held")
    )


def test_another_broker_takes_over(
    main: Path, running: Callable[[], RealAgent], broker: RealBroker, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = RealBroker(tmp_path / "other")
    other.start()
    try:
        link = '[health]\ninterval_s = 0.1\n[mqtt]\nhost = "127.0.0.1"\nport = {}\n'
        agent = running()  # without a broker
        for one in (broker, other):
            assert reload(main, link.format(one.port))["changed"][0].startswith("mqtt")
            wait_until(partial(linked, main, one.port), "the link to the other broker")
        reload(main, "")
        wait_until(lambda: state(main)["uplink"] is None, "the link to end")
        assert agent.stop() == 0
    finally:
        other.kill()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WAIT_S_MAX)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


@pytest.mark.parametrize("text", ["[health]\ninterval_s = 5\n", "typo = 1\n"])
def test_systemd_is_told(
    main: Path, start_agent: StartAgent, systemd: socket.socket, text: str
) -> None:
    agent = start_agent(main)

    def told(what: bytes) -> bytes:
        """Wait for it in all: an agent that lives says something else each interval."""
        deadline = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < deadline:
            if (message := systemd.recv(4096)).startswith(what):
                return message
        pytest.fail(f"waited {WAIT_S_MAX:.0f} s for {what!r}")

    told(b"READY=1")
    drop_in(main, text)
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=.+", told(b"RELOADING=1"))
    told(b"READY=1")
    told(b"WATCHDOG=1")
    assert agent.stop() == 0


# ---- what takes effect


def load(main: Path, text: str = "") -> AgentConfig:
    drop_in(main, text)
    return configuration.load(main)


def test_what_takes_effect_is_told_apart(main: Path) -> None:
    now = load(main)
    new = load(
        main,
        '[gateway]\nsite = "x"\n[mqtt]\nhost = "b"\n[store]\nring_rows_max = 5\n'
        'directory = "y"\n[[streams]]\nname = "pump"\nlateness_samples = 5\n'
        "[streams.prediction]\non_forecasts = 7\n"
        f'[[streams]]\nname = "b"\nbundle = "{ZOO_BUNDLE}"\n'
        '[[inputs]]\nname = "b"\nstream = "b"\nport = "b"\ncolumns = ["flow"]\n',
    )
    wanted = take_over(now, new)
    assert list(differences(now, wanted)) == [
        "store.ring_rows_max",
        "mqtt",
        "streams.pump.prediction.on_forecasts",
    ]
    assert list(differences(wanted, new)) == [
        "gateway.site",
        "store.directory",
        "streams.pump.lateness_samples",
        "streams.b",
        "inputs.b",
    ]


def test_a_stream_that_is_gone_stays_until_a_restart(main: Path) -> None:
    new = load(main)
    now = load(
        main,
        f'[[streams]]\nname = "b"\nbundle = "{ZOO_BUNDLE}"\n'
        '[[inputs]]\nname = "b"\nstream = "b"\nport = "b"\ncolumns = ["flow"]\n',
    )
    assert take_over(now, new) == now
    assert list(differences(now, new)) == ["streams.b", "inputs.b"]


def test_the_order_of_tables_says_nothing(main: Path) -> None:
    now = load(main)
    mixed = now.model_copy(update={"inputs": now.inputs[::-1]})
    assert list(differences(now, mixed)) == []


def test_every_setting_that_takes_effect_exists() -> None:
    for place in RELOADED:
        tables = [AgentConfig]
        for step in place:
            if step != "*":
                (field,) = [t.model_fields[step] for t in tables if step in t.model_fields]
                tables = tables_in(field.annotation)
    assert takes_effect(("mqtt", "host"))
    assert not takes_effect(("store", "directory"))


# ---- the parts


def fleet_of(bundle: Bundle) -> tuple[Fleet, Stream]:
    fleet = Fleet(Pipeline(bundle), [settings()], 60.0, Clock())
    return fleet, fleet.streams[0]


def settings(**changes: Any) -> configuration.StreamTable:
    return configuration.StreamTable.model_validate({"name": "pump", "bundle": "b"} | changes)


def test_limits_that_do_not_fit_are_refused_before_anything_changes(zoo_bundle: Bundle) -> None:
    _, stream = fleet_of(zoo_bundle)
    with pytest.raises(ConfigError, match="flwo"):
        stream.check(settings(limits=[{"channel": "flwo", "high_warning": 1}]))


def summaries(batch: Batch) -> list[Any]:
    return [message.data for message in batch.messages if message.kind == "summary"]


def test_another_interval_ends_the_summary_in_progress(zoo_bundle: Bundle) -> None:
    (fleet, stream), batch, rows = fleet_of(zoo_bundle), Batch(), Pump(1).run(126)
    readings = Readings(1200.0 + np.arange(126) * PERIOD_S, rows)

    def take(begin: int, end: int) -> None:
        part = Readings(readings.times[begin:end], readings.values[begin:end])
        fleet.take(np.zeros(end - begin, np.int64), part, batch)
        fleet.flush(batch)

    take(0, 51)
    stream.reconfigure(settings(), 60.0, batch)
    assert summaries(batch) == []
    stream.reconfigure(settings(), 10.0, batch)
    taken = stream.counters["samples"]
    assert [summary["n"] for summary in summaries(batch)] == [taken]
    take(51, 126)
    assert sum(summary["n"] for summary in summaries(batch)) == 100  # 25 are in progress


def limit_alarms(stream: Stream) -> list[Any]:
    return [alarm for alarm in stream.document()["open_alarms"] if alarm["kind"] == "limit"]


def test_an_alarm_goes_with_its_limit_and_stays_with_other_settings(
    forecasting_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    config = forecast_rig.configure(tmp_path, forecasting_bundle())
    gateway = forecast_rig.Gateway(config)
    gateway.feed(forecast_rig.rising(forecast_rig.RISE_STEPS + 10))
    before, batch = configuration.load(config).streams[0], Batch()
    prediction = before.prediction.model_copy(update={"off_forecasts": 9})
    gateway.stream.reconfigure(before.model_copy(update={"prediction": prediction}), 60.0, batch)
    (alarm,) = limit_alarms(gateway.stream)
    assert batch.alarms == []
    gateway.stream.reconfigure(before.model_copy(update={"limits": []}), 60.0, batch)
    assert [(closed["number"], closed["state"]) for closed in batch.alarms] == [
        (alarm["number"], "closed")
    ]
    gateway.stream.save(batch, 1)
    assert limit_alarms(gateway.stream) == []
    gateway.close()


def test_an_uplink_that_leaves_takes_its_acknowledgements_along(
    broker: RealBroker, tmp_path: Path
) -> None:
    store = Store(tmp_path, "plant", "gw-1", 1000, 1000)
    store.open()
    table = configuration.MqttTable(host="127.0.0.1", port=broker.port)

    def uplink() -> Uplink:
        return Uplink(table, store.origin, store.directory, lambda: store.last_seq)

    relay, batch = Relay(uplink()), Batch()
    ops = Client()  # without a subscriber messages are held
    subscribed = threading.Event()
    ops.on_connect = lambda client, *_: client.subscribe("fieldwatch/v1/#", qos=1)
    ops.on_subscribe = lambda *_: subscribed.set()
    ops.connect("127.0.0.1", broker.port)
    ops.loop_start()
    assert subscribed.wait(WAIT_S_MAX)
    relay.start()
    batch.messages = [Outgoing("health", None, 0.0, {}) for _ in range(50)]
    store.commit(batch, "synced")
    second = uplink()
    relay.replace(second)

    def turn() -> dict[str, Any]:
        batch.acked += relay.acknowledged()
        acked = batch.acked
        store.commit(batch, "synced")
        relay.committed(acked)
        return relay.snapshot() or {}

    wait_until(lambda: turn() and second.snapshot()["state"] == "online", "the second uplink")
    wait_until(lambda: turn() and store.document()["outbox_rows"] == 0, "all to be sent")
    relay.stop()
    store.close()
    ops.disconnect()
    ops.loop_stop()


def test_caps_that_shrink_take_effect_with_the_next_commit(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 1000, 1000)
    store.open()
    batch = Batch(messages=[Outgoing("health", None, 0.0, {}) for _ in range(50)])
    store.commit(batch, "synced")
    store.limit(10, 1000, 1000, 2**30)
    batch.messages = [Outgoing("health", None, 0.0, {})]
    store.commit(batch, "synced")
    assert store.document()["outbox_rows"] == 10
    assert store.document()["evicted"]["health"] == 41
    store.close()
