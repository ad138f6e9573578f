"""Inputs of different kinds in a real agent: two that feed one stream, and one without a device."""

from __future__ import annotations

import os
import pty
import time
import tty
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.parsing.checksum import signed
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import ZOO_BUNDLE, RealAgent, wait_until
from tests.database import make_files

START_S = 1_700_000_000.0
ROWS = 40
HEAD = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.2
[[streams]]
name = "pump"
"""
TWO_INPUTS = """
[streams.baseline]
period_s = 0.5
channels = [{ name = "flow" }, { name = "pressure" }]
[[inputs]]
name = "sensor"
stream = "pump"
port = "auto"
by_id = "by-id"
format = "keyvalue"
time_key = "t"
keys = { flow = "Q" }
units = ["l"]
checksum = "xor"
[[inputs]]
name = "logger"
type = "file"
stream = "pump"
path = "log.csv"
header = true
time_key = "at"
keys = { pressure = "p (bar)" }
separator = ";"
decimal = ","
begin = "start"
poll_interval_s = 0.02
"""


def taken(directory: Path) -> list[int]:
    """The lines of each input so far."""
    with Reader(directory / "data") as reader:
        return [one["lines"] for one in reader.status()["inputs"].values()]


def stored(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and values (n, 2) of the stream, in order."""
    try:
        with Reader(directory / "data") as reader:
            chunks = list(reader.newest_samples("pump", 10_000))
    except StoreError:
        chunks = []
    times = np.concatenate([np.frombuffer(times) for times, *_ in chunks] or [np.empty(0)])
    values = [np.frombuffer(values, np.float32) for _, values, *_ in chunks]
    order = np.argsort(times)
    table = np.concatenate(values).reshape(len(times), -1) if values else np.empty((0, 2))
    return times[order], table[order]


def test_a_serial_line_and_a_file_meet_on_the_grid_of_one_stream(
    start_agent: Callable[[Path], RealAgent], tmp_path: Path
) -> None:
    """Values of the same half second come by two ways, at other times; each row is whole."""
    make_files(tmp_path / "data")
    (tmp_path / "by-id").mkdir()
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    (tmp_path / "by-id" / "usb-sensor").symlink_to(os.ttyname(terminal))
    config = tmp_path / "agent.toml"
    config.write_text(HEAD + "lateness_samples = 1000" + TWO_INPUTS)
    agent = start_agent(config)
    wait_until(lambda: "reading" in agent.log(), "the port")
    os.write(controller, b"..a piece of a line\n")
    with (tmp_path / "log.csv").open("w", buffering=1) as log:
        log.write("at;note;p (bar)\n")
        for row in range(ROWS):
            now = START_S + row * 0.5
            log.write(f"{now:.1f};ok;{row / 4}\n".replace(".", ","))
            os.write(controller, signed(f"t={now:.2f} Q= {row}l".encode(), "xor") + b"\r\n")
            time.sleep(0.005 * (row % 3))
        wait_until(lambda: min(taken(tmp_path)) >= ROWS, "all lines to be taken")
        # what is a thousand samples later ends the waiting
        os.write(controller, signed(f"t={now + 501:.2f} Q=0l".encode(), "xor") + b"\n")
        log.write(f"{now + 501:.1f};ok;0\n")
        wait_until(lambda: len(stored(tmp_path)[0]) >= ROWS, "the rows")
    times, values = (part[:ROWS] for part in stored(tmp_path))
    assert times.tolist() == [START_S + row * 0.5 for row in range(ROWS)]
    assert values[:, 0].tolist() == list(range(ROWS))
    assert values[:, 1].tolist() == [row / 4 for row in range(ROWS)]
    with Reader(tmp_path / "data") as reader:
        inputs = reader.status()["inputs"]
    assert inputs["logger"]["rejected"] == {}
    assert inputs["sensor"]["rejected"] == {}
    assert inputs["sensor"]["lines_cut"] == 1
    assert agent.stop() == 0
    os.close(controller)
    os.close(terminal)


def test_the_agent_runs_with_the_simulated_pump_and_no_device(
    start_agent: Callable[[Path], RealAgent], tmp_path: Path
) -> None:
    make_files(tmp_path / "data")
    config = tmp_path / "agent.toml"
    config.write_text(f"""{HEAD}
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "simulated"
type = "simulator"
stream = "pump"
""")
    agent = start_agent(config)
    wait_until(lambda: len(stored(tmp_path)[0]) >= 5, "five samples")
    assert agent.stop() == 0
    times, values = stored(tmp_path)
    assert np.diff(times).max() < 0.21
    assert not np.isnan(values).any()
