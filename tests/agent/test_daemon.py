"""What the daemon promises from start to stop: an agent as a process, by what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control.client import ask
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import ROOT, WAIT_S_MAX, RealAgent, wait_until
from tests.database import make_files
from tests.fleet_rig import CHANNELS, FAR, START_S, WARM_UP, rows
from tests.serial_line import Line

CALM = WARM_UP + 20
NEVER_S = 600  # longer than any test takes
NOBODY = 9  # the port "discard", where no broker listens

StartAgent = Callable[[Path], RealAgent]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "ttyPUMP")
    yield made
    made.close()


def configured(line: Line, more: str = "", deviations_max: float = 6.0) -> Path:
    directory = line.path.parent
    make_files(directory / "data")
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = {NEVER_S}
[[streams]]
name = "pump"
silent_after_s = {NEVER_S}
[streams.baseline]
period_s = 1.0
history_samples = 40
update_samples = 5
warm_up_samples = {WARM_UP}
deviations_max = {deviations_max}
channels = [{{ name = "flow" }}, {{ name = "pressure" }}]
[[inputs]]
name = "line"
stream = "pump"
port = "{line.path}"
columns = {["time", *CHANNELS]}
{more}
""")
    return config


def started(start: StartAgent, config: Path) -> RealAgent:
    """Start an agent; return it once it is ready and reads its line."""
    log = config.with_suffix(".log")
    said = log.read_text() if log.exists() else ""
    agent = start(config)
    wait_until(lambda: ": ready: " in agent.log()[len(said) :], "the agent")
    wait_until(lambda: f": reading {config.parent}" in agent.log()[len(said) :], "its line")
    return agent


def send(line: Line, values: list[list[float]], first: int = 0) -> None:
    """Send a row a second; return once the agent has read all of it."""
    wanted = lines_read(line) + len(values)
    for number, row in enumerate(values):
        fields = [START_S + first + number, *row]
        line.write(",".join(f"{field:.3f}" for field in fields).encode() + b"\n")
    # the agent's own count: what is written to a terminal may not have reached its reader's end yet
    wait_until(lambda: lines_read(line) == wanted, "the lines to be read")


def lines_read(line: Line) -> int:
    """Ask the agent that runs, which commits nothing for that."""
    state = ask(line.path.parent / "data" / "control.sock", "state")
    return int(state["inputs"]["line"]["lines"])


def status(config: Path) -> dict[str, Any]:
    with Reader(config.parent / "data") as reader:
        return reader.status()


def alarms(config: Path) -> list[tuple[int, str]]:
    with Reader(config.parent / "data") as reader:
        try:
            return [(alarm["number"], alarm["state"]) for alarm in reader.alarms(10)]
        except StoreError:  # not yet
            return []


def stored(config: Path) -> int:
    with Reader(config.parent / "data") as reader:
        chunks = reader.newest_samples("pump", 10_000)
    return sum(len(chunk[0]) // 8 for chunk in chunks)


def test_what_was_read_before_a_stop_is_on_the_disk_after_it(
    start_agent: StartAgent, line: Line
) -> None:
    config = configured(line)
    agent = started(start_agent, config)
    assert status(config)["running"]
    send(line, rows(300))
    assert agent.stop() == 0
    assert stored(config) == 300
    after = status(config)
    assert not after["running"]
    assert after["inputs"]["line"]["lines"] == after["counters"]["samples_committed"] == 300


def test_an_alarm_does_not_wait_for_the_next_commit(start_agent: StartAgent, line: Line) -> None:
    config = configured(line)
    agent = started(start_agent, config)
    send(line, rows(CALM))
    send(line, rows(5, FAR), CALM)
    wait_until(lambda: alarms(config) == [(1, "opened")], "the alarm")
    assert stored(config) >= CALM  # what it was made of is there too
    assert agent.stop() == 0


def test_what_nobody_watches_any_more_is_closed_at_the_start_and_its_number_is_not_used_again(
    start_agent: StartAgent, line: Line
) -> None:
    config = configured(line)
    first = started(start_agent, config)
    send(line, rows(CALM))
    send(line, rows(5, FAR), CALM)
    assert first.stop() == 0
    assert alarms(config) == [(1, "opened")]
    second = started(start_agent, configured(line, deviations_max=7.0))  # another detector
    assert alarms(config) == [(1, "closed")]
    send(line, rows(CALM), CALM + 5)
    send(line, rows(5, FAR), 2 * CALM + 5)
    assert second.stop() == 0
    assert alarms(config) == [(1, "closed"), (2, "opened")]


def test_without_a_broker_it_scores_and_stops_and_messages_wait(
    start_agent: StartAgent, line: Line
) -> None:
    config = configured(line, f'[mqtt]\nhost = "127.0.0.1"\nport = {NOBODY}\n')
    agent = started(start_agent, config)
    send(line, rows(CALM))
    send(line, rows(5, FAR), CALM)
    assert agent.stop() == 0
    assert stored(config) == CALM + 5
    assert status(config)["uplink"]["state"] != "online"
    with Reader(config.parent / "data") as reader:
        assert reader.outbox_rows() >= 1


def test_a_second_agent_ends_and_the_first_goes_on(start_agent: StartAgent, line: Line) -> None:
    config = configured(line)
    first = started(start_agent, config)
    second = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=WAIT_S_MAX,
    )
    assert second.returncode not in (0, 70)
    assert str(config.parent / "data") in second.stderr
    assert "Traceback" not in second.stderr
    send(line, rows(10))
    assert first.stop() == 0
    assert stored(config) == 10
