"""What ends the agent whenever it is delivered is set aside, and everything else is committed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.defects.notes import Notes
from agent.defects.quarantine import ENDS_MAX, KEPT, NOTES
from agent.health import prometheus
from agent.health.status import describe
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from agent.mqtt.client import Client
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import WAIT_S_MAX, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.database import make_files
from tests.disk import Disk
from tests.planted import MARK

START_S = 1_700_000_000.0
NAMES = [channel.name for channel in CHANNELS]
TOPIC = "pumps/1"
HEAD = f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.3
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
silent_after_s = 3600
[[inputs]]
name = "bus"
stream = "pump"
"""
_ROWS = np.round(Pump(2).run(400).astype(float), 4)


def row(number: int, mark: bool = False) -> str:
    values = _ROWS[number].tolist()
    if mark:
        values[-1] = int(MARK)
    return ",".join(map(str, [START_S + number * PERIOD_S, *values]))


class Sensor:
    """Publishes at QoS 1, and waits until the broker has it."""

    def __init__(self, port: int) -> None:
        self._client = Client(client_id="sensor")
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, *lines: str, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(TOPIC, "\n".join(lines), qos, retain).wait_for_publish(WAIT_S_MAX)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def sensor(broker: RealBroker) -> Iterator[Sensor]:
    made = Sensor(broker.port)
    yield made
    made.close()


class Gateway:
    """An agent with a planted mistake, and somebody who starts it again as systemd does."""

    def __init__(self, directory: Path, source: str) -> None:
        self.directory = directory
        make_files(directory / "data")
        self.config = directory / "agent.toml"
        self.config.write_text(f"{HEAD}columns = {json.dumps(['time', *NAMES])}\n{source}")
        self.ends = 0
        self.agent: RealAgent | None = None

    def start(self, mistake: str) -> None:
        self.start_program([sys.executable, "-m", "tests.planted", mistake])

    def start_program(self, program: Sequence[str]) -> None:
        self.agent = RealAgent(self.config, program)
        self._before = len(self.agent.log()) if self.config.with_suffix(".log").exists() else 0
        self.agent.start()

    def wait_until_ready(self) -> None:
        wait_until(lambda: "ready:" in self.log(), "the agent")

    def log(self) -> str:
        """Of the newest agent."""
        assert self.agent is not None
        return self.agent.log()[self._before :]

    def ended(self) -> bool:
        assert self.agent is not None
        assert self.agent.process is not None
        return self.agent.process.poll() is not None

    def run_until(self, done: Callable[[], bool], mistake: str) -> None:
        def look() -> bool:
            if self.ended():
                self.ends += 1
                self.start(mistake)
            return done()

        wait_until(look, "the rest", 120)

    def wait_for_the_input(self) -> None:
        wait_until(lambda: bool(self.status()["inputs"]["bus"]["connected"]), "the input")

    def status(self) -> dict[str, Any]:
        try:
            with Reader(self.directory / "data") as reader:
                return reader.status()
        except StoreError:
            return {"inputs": {"bus": {"connected": False}}}

    def stored(self) -> list[int]:
        """Numbers of the rows that are stored."""
        try:
            with Reader(self.directory / "data") as reader:
                chunks = reader.newest_samples("pump", 10_000)
        except StoreError:
            return []
        times = np.concatenate([np.frombuffer(times) for times, *_ in chunks] or [np.empty(0)])
        return np.rint((times - START_S) / PERIOD_S).astype(int).tolist()

    def stop(self) -> None:
        assert self.agent is not None
        assert self.agent.stop() == 0

    def set_aside(self, count: int) -> list[dict[str, Any]]:
        """What the status says of it, each in its own way."""
        document = self.status()
        assert document["set_aside"]["count"] == count
        assert document["counters"]["set_aside"] == count
        assert f"fieldwatch_set_aside_total {count}\n" in prometheus.text(document)
        last: list[dict[str, Any]] = document["set_aside"]["last"]
        told = "\n".join(describe(document))
        assert f"SET ASIDE {count} lines" in told
        for one in last:
            assert one["excerpt"] in told
            kept = (self.directory / "data" / KEPT / one["digest"]).read_bytes()
            assert MARK in kept
        return last


Start = Callable[[str], Gateway]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Start]:
    made: list[Gateway] = []

    def make(source: str) -> Gateway:
        made.append(Gateway(tmp_path, source))
        return made[-1]

    yield make
    for one in made:
        if one.agent is not None:
            if not one.ended():
                one.agent.kill()
            print(one.agent.log())


def mqtt(broker: RealBroker, protocol: str) -> str:
    return (
        f'type = "mqtt"\ntopics = ["pumps/+"]\nbroker = {{ host = "127.0.0.1",'
        f' port = {broker.port}, protocol = "{protocol}", backoff_min_s = 0.1,'
        " backoff_max_s = 0.2 }\n"
    )


@pytest.mark.parametrize(("mistake", "protocol"), [("kill", "5"), ("fail", "3.1.1")])
def test_a_message_that_ends_the_agent_is_set_aside_and_the_others_are_committed(
    broker: RealBroker, sensor: Sensor, gateway: Start, mistake: str, protocol: str
) -> None:
    one = gateway(mqtt(broker, protocol))
    one.start(mistake)
    one.wait_for_the_input()
    good = [number for number in range(40) if number != 20]
    for number in range(40):
        sensor.publish(row(number, mark=number == 20))
    one.run_until(lambda: set(good) <= set(one.stored()), mistake)
    assert one.ends == 1 + ENDS_MAX
    assert sorted(set(one.stored()) - {20}) == good  # 20 may be interpolated
    assert len(one.stored()) == len(set(one.stored()))
    (aside,) = one.set_aside(1)
    assert (aside["input"], aside["origin"]) == ("bus", TOPIC)
    assert str(START_S + 20 * PERIOD_S) in aside["excerpt"]
    one.stop()
    # nothing is left that ends the next one, which is told of a clean stop
    one.start(mistake)
    one.wait_until_ready()
    noted = (one.directory / "data" / NOTES).read_bytes()
    sensor.publish(row(40))
    wait_until(lambda: 40 in one.stored(), "a message of now")
    assert not one.ended()
    assert (one.directory / "data" / NOTES).read_bytes() == noted  # nothing, for a message
    assert not one.status()["set_aside"]["careful"]
    # the same once more: it is known
    sensor.publish(row(20, mark=True))
    sensor.publish(row(41))
    wait_until(lambda: 41 in one.stored(), "the message after it")
    assert not one.ended()
    one.stop()
    one.set_aside(2)


def test_of_a_message_with_many_lines_the_one_line_is_set_aside(
    broker: RealBroker, sensor: Sensor, gateway: Start
) -> None:
    one = gateway(mqtt(broker, "5"))
    one.start("kill")
    one.wait_for_the_input()
    sensor.publish(*(row(number, mark=number == 7) for number in range(10)))
    good = [number for number in range(10) if number != 7]
    one.run_until(lambda: set(good) <= set(one.stored()), "kill")
    assert one.ends == 2 + ENDS_MAX
    assert len(one.set_aside(1)) == 1
    one.stop()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_retained_message_is_set_aside_too(
    broker: RealBroker, sensor: Sensor, gateway: Start, qos: int
) -> None:
    """It comes with each connection, as if it were new, and at QoS 0 without a number."""
    sensor.publish(row(0, mark=True), qos=qos, retain=True)
    one = gateway(mqtt(broker, "5"))
    one.start("kill")
    one.run_until(lambda: bool(one.status().get("set_aside", {}).get("count")), "kill")
    assert one.ends == 1 + ENDS_MAX
    sensor.publish(row(1))
    wait_until(lambda: 1 in one.stored(), "a message of now")
    one.stop()
    # at QoS 1 the broker has kept one of each connection that got as far as to subscribe
    count = one.status()["set_aside"]["count"]
    assert 1 <= count <= 1 + qos * one.ends
    one.set_aside(count)


@pytest.mark.parametrize("header", [False, True])
def test_a_line_of_a_file_that_is_read_again_is_set_aside(
    tmp_path: Path, gateway: Start, header: bool
) -> None:
    log = tmp_path / "log.csv"
    source = f'type = "file"\nbegin = "start"\npoll_interval_s = 0.05\npath = "{log}"\n'
    one = gateway(source)
    if header:
        text = one.config.read_text().replace("columns = ", "header = true\n# ")
        one.config.write_text(text + 'time_key = "time"\n')
    numbers = range(60)
    lines = [row(number, mark=number == 30) for number in numbers]
    head = [",".join(["time", *NAMES])] if header else []
    log.write_text("".join(f"{line}\n" for line in head + lines))
    one.start("kill")
    good = set(numbers) - {30}
    one.run_until(lambda: good <= set(one.stored()), "kill")
    assert one.ends == 2 + ENDS_MAX
    one.set_aside(1)
    one.stop()
    # and each start after it passes it over
    one.start("kill")
    with log.open("a") as file:
        file.write(f"{row(60)}\n")
    wait_until(lambda: 60 in one.stored(), "a line of now")
    assert not one.ended()
    one.stop()
    one.set_aside(2)


def test_ends_from_outside_cost_no_good_message(
    broker: RealBroker, sensor: Sensor, gateway: Start
) -> None:
    """Hundreds in hand, and more kills than a message may have: all is there in the end."""
    one = gateway(mqtt(broker, "5"))
    settings = one.config.read_text()
    slow = settings.replace("flush_interval_s = 0.3", "flush_interval_s = 3600")
    one.config.write_text(slow)
    one.start("kill")
    wait_until(lambda: "receiving" in one.log(), "the input")
    for number in range(400):
        sensor.publish(row(number))
    for share in (0, 0.1, 0.2, 0.3, 0.4):
        wait_until(lambda share=share: len(one.stored()) >= 400 * share, f"{share} of them")
        assert one.agent is not None
        one.agent.kill()
        one.start("kill")
    one.wait_until_ready()
    one.stop()  # in the middle of it
    one.config.write_text(settings)
    one.start("kill")
    wait_until(lambda: len(one.stored()) >= 400, "all of them")
    assert one.status()["set_aside"]["count"] == 0
    one.stop()
    assert sorted(one.stored()) == list(range(400))


@pytest.mark.parametrize(
    "method",
    ["agent.inputs.mqtt:MqttInput:_take", "agent.mqtt.connection:Connection:_pass_on"],
    ids=["the input's own", "paho's"],
)
@pytest.mark.parametrize(("qos", "retain"), [(1, False), (0, True)])
def test_a_message_that_ends_a_thread_of_its_input_is_set_aside_too(
    tmp_path: Path,
    broker: RealBroker,
    sensor: Sensor,
    gateway: Start,
    method: str,
    qos: int,
    retain: bool,
) -> None:
    trigger = tmp_path / "now"
    trigger.write_text(MARK.decode())
    one = gateway(mqtt(broker, "5"))
    one.start("fail")
    one.wait_for_the_input()
    one.stop()  # the broker knows the session from now on
    sensor.publish(row(0, mark=True), qos=qos, retain=retain)
    sensor.publish(row(1))
    mistake = f"{method}:{trigger}"
    one.start(mistake)
    counted = lambda: one.status().get("set_aside", {}).get("count")  # noqa: E731
    one.run_until(lambda: 1 in one.stored() and bool(counted()), mistake)
    assert one.ends == ENDS_MAX
    one.stop()
    (aside,) = one.set_aside(1)
    assert (aside["input"], aside["origin"]) == ("bus", TOPIC)
    # a clean stop, and the next one goes on: at QoS 1 the broker has heard that it is in good hands
    one.start(mistake)
    sensor.publish(row(2))
    wait_until(lambda: 2 in one.stored() or one.ended(), "a message of now")
    # what waited in the session comes before what is retained
    wait_until(lambda: counted() == 1 + retain or one.ended(), "what comes again to be counted")
    assert not one.ended()
    one.stop()
    one.set_aside(1 + retain)


def test_kills_on_a_full_disk_cost_no_good_message(
    tmp_path: Path, broker: RealBroker, sensor: Sensor, gateway: Start, disk: Disk
) -> None:
    """What was taken and cannot be committed is not in hand for as long as the disk is full."""
    one = gateway(mqtt(broker, "5"))

    def start() -> int:
        one.start_program(disk.program)
        return noted()[0]

    def noted() -> tuple[int, object]:
        try:
            notes = Notes(tmp_path / "data" / NOTES)
        except OSError:
            return 0, None
        notes.close()
        return notes.number, notes.read().get("hand")

    start()
    one.wait_for_the_input()
    disk.fails("full")
    sensor.publish(row(0))
    for _ in range(ENDS_MAX + 2):
        assert one.agent is not None
        one.agent.kill()
        before = start()
        # the start, what is in hand, and that it is no more
        wait_until(lambda before=before: noted()[0] >= before + 3, "the message to be taken")
        wait_until(lambda: noted()[1] is None, "nothing to be in hand")
    disk.works()
    wait_until(lambda: one.stored() == [0], "the message")
    one.stop()
    assert one.status()["set_aside"]["count"] == 0
