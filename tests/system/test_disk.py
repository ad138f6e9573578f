"""The agent on a disk that fails while it runs; see ``tests/disk.py`` for how it fails."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.control.client import ask
from agent.inputs.plant import PERIOD_S, Fault, Pump
from agent.store.migrations import READINGS, RECORDS
from models.bundle import Bundle
from models.messages import Samples
from models.pipeline import Pipeline
from tests.agent_rig import (
    START_S,
    Ops,
    StartAgent,
    configure,
    kept_scores,
    lines,
    running,
    scored,
    status,
)
from tests.conftest import RealBroker, wait_until
from tests.disk import Disk
from tests.serial_line import Line

PAGE = 4096


def unstored(ops: Ops) -> dict[str, Any] | None:
    """What central ops last heard of it."""
    said: dict[str, Any] | None = ops.of_kind("status")[-1]["data"].get("unstored")
    return said


def alarm_numbers(ops: Ops) -> list[tuple[int, str]]:
    return [(one["data"]["number"], one["data"]["state"]) for one in ops.of_kind("alarm")]


@pytest.mark.parametrize("fault", ["full", "io", "sync", "readonly", "permission"])
def test_on_a_disk_that_fails_alarms_are_told_and_nothing_is_lost(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    ops: Ops,
    disk: Disk,
    start_agent: StartAgent,
    zoo_bundle: Bundle,
    fault: str,
) -> None:
    agent = start_agent(configure(tmp_path, line, broker.port), disk.program)
    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(11, [Fault("cavitation", 100.0, 20.0)]).run(900)
    line.write(lines(rows[:300]))
    wait_until(lambda: scored(tmp_path) == 300, "the first part")
    disk.fails(fault)
    line.write(lines(rows[300:700], 300))
    wait_until(lambda: bool((unstored(ops) or {}).get("alarms")), "the alarm in the status")
    said = unstored(ops)
    assert said is not None
    assert said["alarms_waiting"] >= 1
    assert said["alarms"][0]["kind"] == "anomaly"
    assert said["alarms"][0]["number"] is None
    assert RECORDS in said["error"] or READINGS in said["error"]
    assert ops.of_kind("alarm") == []  # no record before it is on the disk
    line.write(lines(rows[700:], 700))
    disk.works()
    wait_until(lambda: scored(tmp_path) == 900, "all samples")
    wait_until(lambda: unstored(ops) is None, "the end of the trouble in the status")
    wait_until(lambda: len(alarm_numbers(ops)) >= 1, "the alarm itself")
    assert agent.stop() == 0, agent.log()
    pipeline = Pipeline(zoo_bundle)
    values = [[float(field) for field in row.split(b",")[1:]] for row in lines(rows).split()]
    times = START_S + np.arange(900) * PERIOD_S
    expected = pipeline.step(pipeline.start(), Samples(times, np.array(values, np.float32)))
    assert np.array_equal(kept_scores(tmp_path), expected.scores.score, equal_nan=True)
    assert alarm_numbers(ops) == [(event.number, event.state) for event in expected.events]
    assert sorted(one["seq"] for one in ops.numbered()) == list(range(1, len(ops.numbered()) + 1))
    assert agent.log().count("cannot write to the store, retrying") == 1
    assert agent.log().count("storing works again; nothing was lost") == 1
    assert status(tmp_path)["counters"]["samples_not_stored"] == 0


def test_an_alarm_that_is_not_on_the_disk_has_no_number_in_any_status(
    tmp_path: Path, line: Line, disk: Disk, start_agent: StartAgent
) -> None:
    config = configure(tmp_path, line, 1)
    agent = start_agent(config, disk.program)
    socket = tmp_path / "data" / "control.sock"

    def told() -> list[int | None]:
        alarms = ask(socket, "state")["streams"]["pump"]["open_alarms"]
        return [one["number"] for one in alarms if one["kind"] == "anomaly"]

    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(11, [Fault("cavitation", 100.0, 1000.0)]).run(700)
    line.write(lines(rows[:300]))
    wait_until(lambda: scored(tmp_path) == 300, "the first part")
    disk.fails("full")
    line.write(lines(rows[300:], 300))
    wait_until(lambda: bool(told()), "the alarm in the state")
    assert told() == [None]
    called = [sys.executable, "-m", "agent", "state", "--config", str(config)]
    shown = subprocess.run(called, capture_output=True, text=True, timeout=60, check=True)
    assert "ALARM   pump (not stored yet) " in shown.stdout
    disk.works()
    wait_until(lambda: told() == [1], "its number")
    wait_until(lambda: scored(tmp_path) == 700, "all samples")
    wait_until(lambda: stored_numbers(tmp_path) == [1], "its number in the stored status")
    assert agent.stop() == 0, agent.log()


def stored_numbers(directory: Path) -> list[int | None]:
    return [one["number"] for one in status(directory)["streams"]["pump"]["open_alarms"]]


def test_a_number_that_was_told_of_an_alarm_is_of_no_other(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    ops: Ops,
    disk: Disk,
    start_agent: StartAgent,
) -> None:
    """The disk is full, central ops hears of an alarm, the agent is killed: nobody knows of it."""
    config = configure(tmp_path, line, broker.port)
    agent = start_agent(config, disk.program)
    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(11, [Fault("cavitation", at, 20.0) for at in (100.0, 220.0)]).run(1500)
    line.write(lines(rows[:300]))
    wait_until(lambda: scored(tmp_path) == 300, "the first part")
    disk.fails("full")
    line.write(lines(rows[300:700], 300))
    wait_until(lambda: bool((unstored(ops) or {}).get("alarms")), "the alarm in the status")
    agent.kill()
    disk.works()
    agent = start_agent(config, disk.program)
    wait_until(lambda: agent.log().count("ready:") == 2, "the second start")
    line.write(lines(rows[1000:], 1000))
    wait_until(lambda: len(alarm_numbers(ops)) >= 1, "another alarm")
    assert agent.stop() == 0, agent.log()
    heard = [
        alarm
        for one in ops.of_kind("status")
        for alarm in one["data"].get("unstored", {}).get("alarms", [])
    ]
    heard += [one["data"] for one in ops.of_kind("alarm")]
    assert len({alarm["onset"] for alarm in heard}) >= 2
    onsets: dict[int, set[str]] = {}
    for alarm in heard:
        if alarm["number"] is not None:
            onsets.setdefault(alarm["number"], set()).add(alarm["onset"])
    assert onsets
    assert all(len(of_number) == 1 for of_number in onsets.values()), onsets
    said = [text for text in agent.log().splitlines() if "alarm" in text]
    assert said
    assert not any(f"alarm {number}" in text for text in said for number in onsets)


def test_on_a_full_disk_the_agent_starts_and_scores(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    ops: Ops,
    disk: Disk,
    start_agent: StartAgent,
) -> None:
    config = configure(tmp_path, line, broker.port)
    agent = start_agent(config, disk.program)
    wait_until(lambda: agent.log().count("ready:") == 1, "the first start")
    agent.kill()
    disk.fails("full")
    agent = start_agent(config, disk.program)
    wait_until(lambda: agent.log().count("ready:") == 2, "the second start")
    line.write(lines(Pump(11, [Fault("cavitation", 60.0)]).run(500)))
    wait_until(lambda: bool((unstored(ops) or {}).get("alarms")), "the alarm in the status")
    disk.works()
    wait_until(lambda: scored(tmp_path) == 500, "all samples")
    wait_until(lambda: len(alarm_numbers(ops)) == 1, "the alarm itself")
    assert agent.stop() == 0, agent.log()


def damage(file: Path, pages: int) -> None:
    """Overwrite pages that have summaries in them, in a file that the agent has open."""
    moment = random.Random(3)
    data = file.read_bytes()
    head = 32 if file.name.endswith("-wal") else 0
    step = PAGE + 24 if head else PAGE
    starts = [
        start
        for start in range(head + step - PAGE, len(data), step)
        if data[start] == 13 and b'"share_anomalous":' in data[start : start + PAGE]
    ]
    assert len(starts) > pages
    with file.open("r+b") as opened:
        for start in starts[1 : 1 + pages]:
            opened.seek(start)
            opened.write(moment.randbytes(PAGE))


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_damage_while_it_runs_is_mended_and_told(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    start_agent: StartAgent,
    suffix: str,
) -> None:
    broker.kill()
    config = configure(tmp_path, line, broker.port)
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(11).run(1800)
    line.write(lines(rows[:1500]))
    wait_until(lambda: scored(tmp_path) == 1500, "the first part")
    if not suffix:  # a clean stop puts everything into the file itself
        assert agent.stop() == 0
        agent = start_agent(config)
        wait_until(lambda: running(tmp_path), "the agent")
    epoch = status(tmp_path)["store"]["epoch"]
    damage(tmp_path / "data" / f"{RECORDS}{suffix}", 2)
    broker.start()  # what is sent is read
    ops = Ops(broker.port)
    try:
        wait_until(lambda: status(tmp_path)["store"]["set_aside"] != [], "a new file")
        wait_until(lambda: ops.of_kind("health") != [], "a health message")
        wait_until(lambda: bool(ops.of_kind("health")[-1]["data"]["store"]["damage"]), "the news")
        (report,) = ops.of_kind("health")[-1]["data"]["store"]["damage"]
        assert report["file"] == status(tmp_path)["store"]["set_aside"][0]
        assert report["epoch"] == "kept"
        assert report["saved"]["outbox"] > 0 or ops.numbered()  # all that can be read is sent
        assert report["lost"]["outbox"] is None or report["lost"]["outbox"] > 0
        line.write(lines(rows[1500:], 1500))
        wait_until(lambda: kept_times(tmp_path) == 1800, "the second part")
        wait_until(lambda: status(tmp_path)["store"]["outbox_rows"] <= 1, "an empty outbox")
        assert {one["epoch"] for one in ops.numbered()} == {epoch}
        ids = {one["id"]: one for one in ops.numbered()}
        assert all(ids[one["id"]] == one for one in ops.numbered())
        assert "is damaged: recovering the readable rows" in agent.log()
        modes = {file.name: file.stat().st_mode & 0o027 for file in (tmp_path / "data").iterdir()}
        del modes["control.sock"]  # the group may write to it: that is how it asks
        assert set(modes) > {report["file"], f"{report['file']}.json"}
        assert not any(modes.values()), modes
    finally:
        ops.close()
    assert agent.stop() == 0, agent.log()


def kept_times(directory: Path) -> int:
    return len(kept_scores(directory))


def test_permission_that_is_lost_stops_no_agent_that_runs(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    agent = start_agent(configure(tmp_path, line, broker.port))
    wait_until(lambda: running(tmp_path), "the agent")
    for name in (RECORDS, READINGS):
        (tmp_path / "data" / name).chmod(0)
    (tmp_path / "data").chmod(0o500)
    line.write(lines(Pump(11).run(100)))
    (tmp_path / "data").chmod(0o700)
    for name in (RECORDS, READINGS):
        (tmp_path / "data" / name).chmod(0o600)
    wait_until(lambda: scored(tmp_path) == 100, "all samples")
    assert agent.stop() == 0, agent.log()
    assert "cannot write to the store" not in agent.log()
