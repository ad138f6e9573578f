"""The whole way of a finding: a fault, its alarm, a label on the terminal, the next training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump, csv_line
from agent.store.reader import Reader
from models import bundle as bundles
from models.times import unix_s
from tests.agent_rig import START_S, StartAgent, configure, lines, running
from tests.conftest import ROOT, wait_until
from tests.serial_line import Line
from trainer import config, train
from trainer.datasets import Label
from trainer.datasets.labels import read_labels

SCORED = 1200  # samples that the agent gets; the recording goes on after them
RECORDED = 6000
NAMES = [channel.name for channel in CHANNELS]
TRAINING = """
[bundle]
name = "relearnt"
[data]
files = ["recording.csv"]
labels = "pump.labels.csv"
labels_margin_samples = 10
{channels}
[sampling]
period_s = {period_s}
warm_up_samples = 20
[network]
layers = [4]
[fit]
epochs = 1
chunk_samples = 25
[smoothing]
spans_samples = [10]
"""


def command(*words: str | Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "agent", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return ended.stdout


def test_a_fault_is_labelled_and_the_next_training_leaves_it_out(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    rows = Pump(12, [Fault("cavitation", 120.0, 20.0)]).run(RECORDED)
    file = configure(tmp_path, line, 1)
    start_agent(file)
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(lines(rows[:SCORED]))
    with Reader(tmp_path / "data") as reader:
        wait_until(lambda: bool((reader.alarm("pump", 1) or {}).get("closed")), "the end")
        alarm = reader.alarm("pump", 1)
    assert alarm is not None
    made = command(
        "alarms", "label", "pump#1", "confirmed", "--reason", "bearing", "--config", file
    )
    assert made.endswith("label confirmed; it is in the logbook\n")
    assert "bearing" in command("alarms", "labels", "--label", "confirmed", "--config", file)
    (tmp_path / "pump.labels.csv").write_text(
        command("labels", "export", "--stream", "pump", "--config", file)
    )
    (label,) = read_labels(tmp_path / "pump.labels.csv")
    assert label == Label(unix_s(alarm["onset"]), unix_s(alarm["closed"]), "bearing")
    fault_s = START_S + 120.0
    assert fault_s <= label.start < fault_s + 20.0

    recording = [csv_line(START_S + at * PERIOD_S, row) for at, row in enumerate(rows)]
    header = ",".join(["time", *NAMES])
    (tmp_path / "recording.csv").write_text("\n".join([header, *recording]) + "\n")
    channels = "".join(f'[[data.channels]]\nname = "{name}"\n' for name in NAMES)
    training = tmp_path / "relearnt.toml"
    training.write_text(TRAINING.format(channels=channels, period_s=PERIOD_S))
    outcome = train.train(config.read(training), tmp_path, None, lambda _: None, accept=True)
    found = bundles.read(outcome.path).manifest.metrics["data"]["labels"]
    duration_s = label.end - label.start
    assert found["cuts"][0]["samples"] == round(duration_s / PERIOD_S) + 1 + 2 * 10
    assert found["remaining"] == RECORDED - found["removed"]
    report = outcome.report.read_text()
    assert f"<td>bearing</td><td>{alarm['onset']}</td><td>{alarm['closed']}</td>" in report
