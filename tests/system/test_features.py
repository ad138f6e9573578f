"""A fast channel through a whole agent: its samples are what the trainer makes of the recording."""

from __future__ import annotations

import os
import pty
import threading
import tty
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from agent.store.reader import Reader
from models import bundle as bundles
from models.bundle import Bundle
from models.columns import of_bundle
from models.errors import StoreError
from models.messages import Samples
from tests.conftest import RealAgent, wait_until
from tests.database import make_files
from trainer.datasets.recordings import read_recording
from trainer.prepare import Grid, align

START_S = 1_700_000_000.0
RATE_HZ = 250.0  # of ``signal_bundle``: 50 values in a period of the grid
SECONDS = 24
NAMES = [channel.name for channel in CHANNELS]
SLOW = NAMES[2:]  # the first two, of the vibration, are computed
COLUMNS = ["time", "accel", *SLOW]

AGENT = """
[gateway]
name = "gw"
site = "test"

[[inputs]]
name = "daq"
stream = "pump"
{input}
columns = [{columns}]

[[streams]]
name = "pump"
bundle = "{bundle}"

[store]
directory = "{directory}"
flush_interval_s = 0.1
"""


@pytest.fixture
def bundle(tmp_path: Path, signal_bundle: Bundle) -> Path:
    path = tmp_path / "pump.fieldwatch"
    bundles.write(path, signal_bundle.manifest, dict(signal_bundle.parts), None)
    return path


@pytest.fixture
def lines() -> list[str]:
    """All channels in every row; some rows are lost, and some values no numbers or out of range."""
    random = np.random.default_rng(8)
    count = round(SECONDS * RATE_HZ)
    slow = Pump(3).run(round(SECONDS / PERIOD_S))
    made = []
    for row in range(count):
        time = row / RATE_HZ
        accel = 2 * np.sin(2 * np.pi * 40 * time) + random.normal(0, 0.3)
        values = slow[int(time / PERIOD_S)]
        cells = [f"{accel:.4f}", *(f"{value:.4f}" for value in values[2:])]
        if row % 777 == 3:
            cells[0] = "9999"
        if not 3000 <= row < 3300:  # more than a second
            made.append(",".join([f"{START_S + time:.3f}", *cells]))
    return made


def configured(tmp_path: Path, bundle: Path, source: str) -> Path:
    make_files(tmp_path / "store")
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    path = tmp_path / "agent.toml"
    path.write_text(
        AGENT.format(input=source, columns=columns, bundle=bundle, directory=tmp_path / "store")
    )
    return path


def stored(tmp_path: Path) -> Samples:
    with Reader(tmp_path / "store") as reader:
        chunks = reader.newest_samples("pump", 100_000)
    times = np.frombuffer(b"".join(times for times, *_ in chunks), np.float64)
    values = np.frombuffer(b"".join(values for _, values, *_ in chunks), np.float32)
    return Samples(times, values.reshape(len(times), len(NAMES)))


def wanted(tmp_path: Path, bundle: Path, lines: list[str]) -> Samples:
    """What the trainer makes of the recording."""
    recording = tmp_path / "recording.csv"
    recording.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    manifest = bundles.read(bundle).manifest
    read = read_recording(recording, of_bundle(manifest), manifest.source_channels)
    samples, counters = align([read], Grid.of(manifest))
    assert counters["windows_short"] > 1
    assert np.isfinite(samples.values).mean() > 0.9
    return samples


def assert_same(found: Samples, samples: Samples) -> None:
    np.testing.assert_array_equal(found.times, samples.times)
    assert found.values.tobytes() == samples.values.tobytes()


def test_from_a_file_over_a_restart(
    tmp_path: Path, bundle: Path, lines: list[str], start_agent: Callable[[Path], RealAgent]
) -> None:
    """The raw values before the restart are still there after it."""
    samples, recording = wanted(tmp_path, bundle, lines), tmp_path / "daq.csv"
    middle = 4_321  # amid a window
    recording.write_text("\n".join(lines[:middle]) + "\n")
    source = f'type = "file"\npath = "{recording}"\npoll_interval_s = 0.05\nbegin = '
    agent = start_agent(configured(tmp_path, bundle, source + '"start"'))
    before = int(np.searchsorted(samples.times, float(lines[middle - 1].split(",")[0])))
    wait_until(lambda: has(tmp_path, before), f"{before} samples")
    assert agent.stop() == 0, agent.log()
    again = start_agent(configured(tmp_path, bundle, source + '"end"'))
    wait_until(lambda: again.log().count(f"reading {recording}") == 2, "the file to be opened")
    with recording.open("a") as file:
        file.write("\n".join(lines[middle:]) + "\n")
    wait_until(lambda: has(tmp_path, len(samples.times)), f"{len(samples.times)} samples")
    assert again.stop() == 0, again.log()
    assert_same(stored(tmp_path), samples)


def test_from_a_serial_line(
    tmp_path: Path, bundle: Path, lines: list[str], start_agent: Callable[[Path], RealAgent]
) -> None:
    samples = wanted(tmp_path, bundle, lines)
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    agent = start_agent(
        configured(tmp_path, bundle, f'type = "serial"\nport = "{os.ttyname(terminal)}"')
    )
    wait_until(lambda: "ready" in agent.log(), "the agent")

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(controller, data) :]

    data = "".join(f"{line}\n" for line in lines).encode()
    writer = threading.Thread(target=write, args=(b"the end of a line\n" + data,))
    writer.start()
    wait_until(lambda: has(tmp_path, len(samples.times)), f"{len(samples.times)} samples")
    writer.join()
    assert agent.stop() == 0, agent.log()
    assert_same(stored(tmp_path), samples)
    os.close(controller)
    os.close(terminal)


def has(tmp_path: Path, count: int) -> bool:
    try:
        return len(stored(tmp_path).times) >= count
    except StoreError:  # there is no database yet
        return False
