"""What nobody foresaw ends the agent, after the store is safe: in a thread, and in the loop."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.defects.quarantine import ENDS_MAX
from agent.dialects.topics import acknowledged_topic
from agent.health.status import describe
from agent.inputs.plant import Pump
from agent.mqtt.client import Client
from agent.store.reader import Reader
from models.errors import Defect
from tests.agent_rig import (
    UNSIGNED_CENTRAL,
    Ops,
    configure,
    kept_scores,
    lines,
    running,
    scored,
    status,
)
from tests.collector_process import CollectorProcess
from tests.conftest import WAIT_S_MAX, RealAgent, RealBroker, wait_until
from tests.planted import MARK
from tests.serial_line import Line

END_S_MAX = 30.0
StartPlanted = Callable[..., RealAgent]


@pytest.fixture
def start_planted() -> Iterator[StartPlanted]:
    agents: list[RealAgent] = []

    def start(config: Path, mistake: str, **environment: str) -> RealAgent:
        program = [sys.executable, "-m", "tests.planted", mistake]
        agents.append(RealAgent(config, program, **environment))
        agents[-1].start()
        return agents[-1]

    yield start
    for agent in agents:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()
    for log in {agent.log() for agent in agents}:
        print(log)


def wait_for_a_tick(systemd: socket.socket) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while systemd.recv(4096) != b"WATCHDOG=1":
        assert time.monotonic() < deadline


def end(agent: RealAgent) -> int:
    assert agent.process is not None
    return agent.process.wait(END_S_MAX)


THREADS = {
    "an input's": ("agent.inputs.serial:SerialInput:_read", "input line"),
    "an input's, while it looks for its device": ("agent.inputs.serial:SerialInput:_lost", "input"),
    "the uplink's": ("agent.uplink.session:Session:_fill", "uplink"),
    "the uplink's, while it waits": ("agent.uplink.sender:Uplink:_failed", "uplink"),
    "paho's": ("agent.mqtt.connection:Connection:_on_publish", "paho"),
}


@pytest.mark.parametrize(("method", "thread"), THREADS.values(), ids=THREADS.keys())
def test_a_thread_that_dies_takes_the_agent_with_it_and_no_reading(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    start_planted: StartPlanted,
    method: str,
    thread: str,
) -> None:
    trigger = tmp_path / "now"
    # what comes is committed by the end only
    config = configure(tmp_path, line, broker.port, flush_interval_s="3600")
    agent = start_planted(config, f"{method}:{trigger}")
    wait_until(lambda: "reading" in agent.log() and "ready" in agent.log(), "the agent")
    wait_until(lambda: "is up" in agent.log(), "the link")
    line.write(lines(Pump(11).run(50)))
    wait_until(lambda: agent.log().count("met") >= 50, "the lines to be read")
    trigger.touch()
    if "_lost" in method:
        line.unplug()
    elif "_failed" in method:
        broker.kill()
    elif "serial" in method:
        line.unplug()
        line.plug_in()
    else:
        broker.kill()
        broker.start()
    assert end(agent) == Defect.exit_code
    log = agent.log()
    assert f"CRITICAL agent.defects.threads: a defect ended thread '{thread}" in log
    assert "Planted" in log
    assert "Traceback" in log
    assert log.splitlines()[-1].startswith("fieldwatch-agent: thread")
    assert not status(tmp_path)["running"]
    assert len(kept_scores(tmp_path)) == 50


@pytest.mark.parametrize(
    "method",
    ["agent.uplink.acknowledgements:Central:heard", "agent.uplink.session:Session:_send_whole"],
)
def test_what_ends_the_uplink_whenever_it_comes_is_left_alone(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    start_planted: StartPlanted,
    method: str,
) -> None:
    """A retained word of the collector, or a message that cannot be sent: the rest goes on."""
    trigger = tmp_path / "now"
    heard = "heard" in method
    trigger.write_text("424242" if heard else "seq=1,")
    config = configure(tmp_path, line, broker.port, silent_after_s="0.5")  # message 1
    config.write_text(config.read_text().replace("[mqtt]", f"[mqtt]\n{UNSIGNED_CENTRAL}", heard))
    client = Client()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    topic = acknowledged_topic("plant", "gw-1")
    body = '{"epoch": "424242", "through_seq": 1}'
    client.publish(topic, body, qos=1, retain=True).wait_for_publish(WAIT_S_MAX)
    client.disconnect()
    client.loop_stop()
    for _ in range(ENDS_MAX):
        agent = start_planted(config, f"{method}:{trigger}")
        assert end(agent) == Defect.exit_code
    agent = start_planted(config, f"{method}:{trigger}")

    def left_alone() -> int:
        link = status(tmp_path)["uplink"]
        return int(link["refused"] if heard else link["parked"])

    wait_until(lambda: running(tmp_path) and left_alone() == 1, "it to be left alone")
    published = "published" if not heard else "connections"  # it has confirmed nothing
    wait_until(lambda: status(tmp_path)["uplink"][published] > 0, "the rest to go on")
    told = "\n".join(describe(status(tmp_path)))
    assert ("1 messages of the collector are not read" if heard else "does not accept") in told
    assert agent.stop() == 0


def test_a_collectors_thread_that_dies_takes_it_along(tmp_path: Path, broker: RealBroker) -> None:
    trigger = tmp_path / "now"
    trigger.touch()
    mistake = f"agent.mqtt.connection:Connection:_on_subscribe:{trigger}"
    collector = CollectorProcess(broker.port, tmp_path / "central", mistake=mistake)
    try:
        assert collector.ended(END_S_MAX) == Defect.exit_code
    finally:
        collector.end()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WAIT_S_MAX)
        yield listening


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "ttySECOND")
    yield made
    made.close()


@pytest.mark.parametrize("mistake", ["fail", "leave"])
def test_what_ends_the_loop_costs_the_other_streams_nothing(
    tmp_path: Path,
    line: Line,
    second: Line,
    broker: RealBroker,
    ops: Ops,
    systemd: socket.socket,
    start_planted: StartPlanted,
    mistake: str,
) -> None:
    config = configure(tmp_path, line, broker.port, flush_interval_s="3600")
    text = config.read_text()
    _, _, table = text.partition("[[streams]]")
    other = "[[streams]]" + table.replace('"pump"', '"other"').replace('"line"', '"second"')
    config.write_text(text + other.replace(str(line.path), str(second.path)))
    agent = start_planted(config, mistake, NOTIFY_SOCKET=str(tmp_path / "notify"))
    wait_until(lambda: agent.log().count(": reading") == 2, "both lines")
    wait_for_a_tick(systemd)  # the next one will not come
    second.write(lines(Pump(11).run(30)))
    line.write(lines(Pump(11).run(20)))
    wait_until(lambda: agent.log().count("met") >= 50, "the lines to be read")
    line.write(b"%s,1,1,1,1,1,1,1,1\n" % MARK)
    assert end(agent) == Defect.exit_code
    log = agent.log()
    assert "CRITICAL agent.daemon: a defect ended the loop" in log
    assert ("Planted" if mistake == "fail" else "SystemExit") in log
    with Reader(tmp_path / "data") as reader:
        kept = {
            name: sum(len(times) // 8 for times, *_ in reader.newest_samples(name, 1000))
            for name in ("pump", "other")
        }
    assert kept == {"pump": 0, "other": 30}
    wait_until(lambda: ops.of_kind("status")[-1]["data"]["state"] == "offline", "the goodbye")


def test_a_mistake_in_the_status_costs_no_reading(
    tmp_path: Path, line: Line, broker: RealBroker, start_planted: StartPlanted
) -> None:
    trigger = tmp_path / "now"
    config = configure(tmp_path, line, broker.port, flush_interval_s="0.2")
    agent = start_planted(config, f"agent.overview:Overview:document:{trigger}")
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(lines(Pump(11).run(20)))
    wait_until(lambda: scored(tmp_path) == 20, "them")
    trigger.touch()
    assert end(agent) == Defect.exit_code
    assert len(kept_scores(tmp_path)) == 20
