"""What a running agent stored goes to the trainer as it was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, csv_line
from tests.agent_rig import START_S, StartAgent, configure, running, scored
from tests.conftest import ROOT, wait_until
from tests.serial_line import Line
from trainer import config, prepared

ROWS = 600
NAMES = [channel.name for channel in CHANNELS]
TRAINING = """
[bundle]
name = "again"
[data]
files = ["pump.csv.gz"]
{channels}
[sampling]
period_s = {period_s}
"""


def test_a_running_agent_is_exported_and_trained_on(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    rows = Pump(12).run(ROWS)
    file = configure(tmp_path, line, 1)
    start_agent(file)
    wait_until(lambda: running(tmp_path), "the agent")
    sent = [csv_line(START_S + at * PERIOD_S, row) for at, row in enumerate(rows)]
    for at in range(100, 130):  # the second channel is missing for a while
        cells = sent[at].split(",")
        sent[at] = ",".join([*cells[:2], "", *cells[3:]])
    line.write("".join(f"{one}\n" for one in sent).encode())
    wait_until(lambda: scored(tmp_path) >= ROWS, "the samples")
    words = ["export", "--config", file, "--stream", "pump", tmp_path / "pump.csv.gz"]
    told = subprocess.run(
        [sys.executable, "-m", "agent", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert f"pump.csv.gz: {ROWS} samples" in told
    channels = "".join(f'[[data.channels]]\nname = "{name}"\n' for name in NAMES)
    (tmp_path / "again.toml").write_text(TRAINING.format(channels=channels, period_s=PERIOD_S))
    (source,) = prepared.sources(config.read(tmp_path / "again.toml"), lambda _: None)
    read = source.recording
    cells = [[float(cell or "nan") for cell in one.split(",")] for one in sent]
    np.testing.assert_array_equal(read.readings.values, np.array(cells)[:, 1:].astype(np.float32))
    np.testing.assert_allclose(read.readings.times, np.array(cells)[:, 0], atol=1e-3, rtol=0)
    assert np.isnan(read.readings.values[100:130, 1]).all()
