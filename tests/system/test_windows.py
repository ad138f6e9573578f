"""The whole way of an alarm's window: a fault, a drawing, a ring that is overwritten, a file."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agent.bundles.load import load
from agent.commands.replay import replay
from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump, csv_line
from agent.store.reader import Reader
from agent.store.window import Seen
from agent.store.windows import window
from models.align import Aligner
from models.detector import Result
from models.messages import Float32, Readings, Samples
from models.times import iso_time, unix_s
from tests.agent_rig import START_S, StartAgent, configure, lines, running, scored
from tests.conftest import ROOT, ZOO_BUNDLE, wait_until
from tests.serial_line import Line
from tests.system.test_clock_steps import FakeClock, send

NAMES = [channel.name for channel in CHANNELS]
ROWS = 1600
FAULT_S = 120.0
OPEN = round((FAULT_S + 10) / PERIOD_S)  # rows: the alarm is open, its window grows
RING = 200


def command(*words: str | Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    ).stdout


def kept(directory: Path) -> Seen | None:
    with Reader(directory / "data") as reader:
        return window(reader.query_records, "pump", 1)


def lost(directory: Path, until_s: float) -> bool:
    """Whether the ring has no sample until this time any more."""
    with Reader(directory / "data") as reader:
        chunks = reader.newest_samples("pump", 10**6)
    return not chunks or float(np.frombuffer(chunks[0].times)[0]) > until_s


def as_scored(rows: Float32) -> tuple[Samples, Result]:
    """What a detector that nobody interrupts sees of these rows, and what it finds."""
    read = [csv_line(START_S + at * PERIOD_S, row).split(",") for at, row in enumerate(rows)]
    times = np.array([float(row[0]) for row in read])
    values = np.array([list(map(float, row[1:])) for row in read], np.float32)
    _, detector = load(ZOO_BUNDLE)
    samples = Aligner(detector.manifest.sampling, len(NAMES)).push(Readings(times, values))
    return samples, detector.step(detector.start(), samples)


@pytest.mark.parametrize("killed", [False, True])
def test_a_window_outlives_ring_and_kill_and_goes_into_a_file_as_it_was_scored(
    tmp_path: Path, line: Line, start_agent: StartAgent, killed: bool
) -> None:
    rows = Pump(12, [Fault("cavitation", FAULT_S, 20.0)]).run(ROWS)
    file = configure(tmp_path, line, 1)
    text = file.read_text().replace("[mqtt]", f"ring_rows_max = {RING}\n[mqtt]", 1)
    file.write_text(text.replace("[[inputs]]", "[streams.alarms]\nwindow_samples = 80\n[[inputs]]"))
    agent = start_agent(file)
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(lines(rows[:OPEN]))
    wait_until(lambda: kept(tmp_path) is not None, "the window")
    if killed:
        wait_until(lambda: scored(tmp_path) >= OPEN - 1, "the samples so far")
        agent.kill()
        growing = kept(tmp_path)
        assert growing is not None
        assert growing.to_come > 0
        agent.start()
        wait_until(lambda: running(tmp_path), "the agent after the kill")
    line.write(lines(rows[OPEN:], OPEN))
    with Reader(tmp_path / "data") as reader:
        wait_until(lambda: bool((reader.alarm("pump", 1) or {}).get("closed")), "the end")
    wait_until(lambda: getattr(kept(tmp_path), "to_come", 1) == 0, "the whole window")
    seen = kept(tmp_path)
    assert seen is not None

    shown = command("alarms", "show", "pump#1", "--utc", "--config", file)
    assert "* observed, - expected, + both" in shown
    assert "           1 ====" in shown
    assert "^ onset" in shown

    wait_until(lambda: lost(tmp_path, seen.times[-1]), "the ring to be overwritten")
    assert kept(tmp_path) == seen
    said = json.loads(command("alarms", "show", "pump#1", "--json", "--window", "--config", file))
    assert said["window"] == seen.document()

    command("alarms", "label", "pump#1", "confirmed", "--reason", "cavitation", "--config", file)
    words = ["labels", "export", "--stream", "pump", "--windows-in", tmp_path / "windows"]
    exported = command(*words, "--windows", tmp_path / "around.csv", "--config", file)
    assert ",cavitation,confirmed," in exported
    compare(tmp_path, rows)


def compare(directory: Path, rows: Float32) -> None:
    """Compare the files with what a detector that nobody interrupts finds."""
    samples, found = as_scored(rows)
    read = list(csv.DictReader((directory / "windows/pump-1-confirmed.csv").read_text().split()))
    moments = [iso_time(time) for time in samples.times.tolist()]
    first = moments.index(read[0]["time"])
    part = slice(first, first + len(read))
    assert [row["time"] for row in read] == moments[part]
    for at, name in enumerate(NAMES):
        assert column(read, name) == samples.values[part, at].tolist()
        assert column(read, f"{name}.expected") == found.scores.predicted[part, at].tolist()
        assert {row[f"{name}.quality"] for row in read} == {"good"}
    assert column(read, "score") == found.scores.score[part].tolist()
    assert {row["threshold"] for row in read} == {"1.0"}
    (directory / "rows.csv").write_text(
        "\n".join([",".join(["time", *NAMES]), lines(rows).decode()])
    )
    events = replay(directory / "rows.csv", ZOO_BUNDLE)["events"]
    worst = max(event["score"] for event in events if event["number"] == 1)
    assert max(column(read, "score")) == pytest.approx(worst, rel=1e-5)
    around = list(csv.DictReader((directory / "around.csv").read_text().split()))
    first_around = next(row for row in around if row["time"] == read[0]["time"])
    assert first_around[NAMES[0]] == f"{float(read[0][NAMES[0]]):.7g}"


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    """Return a column as the float32 that it was."""
    return np.array([row[name] for row in rows], np.float32).tolist()


def test_times_of_a_wrong_clock_are_corrected_while_a_window_grows(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    rows, clock = Pump(2).run(30), FakeClock(tmp_path / "off")
    file = configure(tmp_path, line, 1)
    flow = next(channel for channel in CHANNELS if channel.name == "flow")
    limit = f'[[streams.limits]]\nchannel = "flow"\nunit = "{flow.unit}"\nhigh_critical = 1.0\n'
    alarms = "[streams.alarms]\nwindow_samples = 20\n"
    text = file.read_text().replace("[[inputs]]", f"{limit}{alarms}[[inputs]]")
    file.write_text(text.replace("'time', ", ""))
    clock.set(-time.time() + 100)
    agent = start_agent(file, **clock.environment)
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(b"\n")  # what comes before the first line end may be cut
    send(line, rows[:10], tmp_path)
    wait_until(lambda: kept(tmp_path) is not None, "the window")
    before = kept(tmp_path)
    assert before is not None
    assert before.times[0] < 3600
    clock.set(0)
    wait_until(lambda: "stored times corrected" in agent.log(), "the correction")
    send(line, rows[10:], tmp_path)
    wait_until(lambda: getattr(kept(tmp_path), "to_come", 1) == 0, "the whole window")
    seen = kept(tmp_path)
    assert seen is not None
    with Reader(tmp_path / "data") as reader:
        opened_s = unix_s((reader.alarm("pump", 1) or {})["opened"])
    assert seen.times[0] <= opened_s + 0.001 <= seen.times[-1]
    assert np.diff(seen.times).min() > 0
    assert seen.times[-1] - seen.times[0] < 3600
