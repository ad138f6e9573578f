"""The agent as a process, with a real serial line, a real broker and real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump
from agent.store.migrations import COLLECTED, READINGS, RECORDS
from agent.store.reader import Reader
from agent.store.sqlite import LOCK
from models.bundle import Bundle
from models.messages import Samples
from models.pipeline import Pipeline
from models.times import iso_time
from tests import forecast_rig
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
from tests.collector_process import CollectorProcess
from tests.conftest import ROOT, ZOO_BUNDLE, RealBroker, wait_until
from tests.serial_line import Line


def test_a_fault_becomes_an_alarm_at_ops_and_a_stop_leaves_nothing_behind(
    tmp_path: Path, line: Line, broker: RealBroker, ops: Ops, start_agent: StartAgent
) -> None:
    agent = start_agent(configure(tmp_path, line, broker.port))
    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(11, [Fault("cavitation", 100.0)]).run(700)
    line.write(lines(rows))
    wait_until(lambda: len(ops.of_kind("alarm")) >= 1, "the alarm")
    wait_until(lambda: len(ops.of_kind("health")) >= 1, "a health message")
    wait_until(lambda: scored(tmp_path) == 700, "all samples")
    assert agent.stop() == 0, agent.log()
    alarm = ops.of_kind("alarm")[0]
    assert alarm["data"]["kind"] == "anomaly"
    assert alarm["subject"] == "pump"
    wait_until(lambda: ops.of_kind("status")[-1]["data"]["state"] == "offline", "the goodbye")
    with Reader(tmp_path / "data") as reader:
        assert reader.outbox_rows() == 0
        assert reader.status()["running"] is False
        kept = reader.alarms(10)[0]
    assert (kept["number"], kept["onset"]) == (alarm["data"]["number"], alarm["data"]["onset"])
    assert kept["score"] > alarm["data"]["score"]  # the worst so far, as it got worse
    # summaries: 140 s of samples in intervals of 10 s
    assert len(ops.of_kind("summary")) >= 13
    assert sum(summary["data"]["n"] for summary in ops.of_kind("summary")) <= 700
    assert sorted(body["seq"] for body in ops.numbered()) == list(range(1, len(ops.numbered()) + 1))
    _check_against_asyncapi(ops)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_nobody_else_can_read_the_files_whatever_the_umask(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent, umask: int
) -> None:
    config = configure(tmp_path, line, broker.port)
    for file in (tmp_path / "data").iterdir():
        file.unlink()  # the agent is to make them
    was = os.umask(umask)
    try:
        collector = CollectorProcess(broker.port, tmp_path / "central")
        start_agent(config)
    finally:
        os.umask(was)
    wait_until(lambda: running(tmp_path), "the agent")
    wait_until(lambda: (tmp_path / "central" / COLLECTED).exists(), "the collector")
    modes = {
        file.name: file.stat().st_mode & 0o777
        for directory in ("data", "central")
        for file in (tmp_path / directory).rglob("[!m]*")  # "messages" is the test's
        if file.is_file()  # to the socket the group may write: that is how it asks
    }
    collector.end()
    assert {RECORDS, READINGS, f"{RECORDS}-wal", f"{READINGS}-shm", LOCK, COLLECTED} <= set(modes)
    most = 0o600 if umask == 0o077 else 0o640
    assert not any(mode & ~most for mode in modes.values()), modes


def test_a_stream_without_a_bundle_is_watched_by_the_baseline(
    tmp_path: Path, line: Line, broker: RealBroker, ops: Ops, start_agent: StartAgent
) -> None:
    config = configure(tmp_path, line, broker.port)
    tables = "[streams.baseline]\nperiod_s = 0.2\n" + "".join(
        f'[[streams.baseline.channels]]\nname = "{channel.name}"\nunit = "{channel.unit}"\n'
        for channel in CHANNELS
    )
    text = config.read_text().replace(f'bundle = "{ZOO_BUNDLE}"\n', "")
    config.write_text(text.replace("[[inputs]]", tables + "[[inputs]]"))
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(11, [Fault("blocked_valve", 80.0)]).run(500)
    line.write(lines(rows))
    wait_until(lambda: scored(tmp_path) == 500, "all samples")
    assert agent.stop() == 0, agent.log()
    with Reader(tmp_path / "data") as reader:
        alarm = reader.alarms(10)[0]
        stream = reader.status()["streams"]["pump"]
    assert (alarm["kind"], alarm["state"]) == ("anomaly", "opened")
    assert {channel["channel"] for channel in alarm["channels"]} & {"flow", "discharge_pressure"}
    assert (stream["detector"], stream["bundle"]) == ("novelty", "baseline version 1")
    wait_until(lambda: ops.of_kind("alarm"), "the alarm")
    assert ops.of_kind("alarm")[0]["detector"] == "novelty"
    assert ops.of_kind("alarm")[0]["data"]["probability"] is None


def test_a_drift_towards_a_limit_is_told_before_it_is_passed(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    ops: Ops,
    start_agent: StartAgent,
    forecasting_bundle: Callable[..., Bundle],
) -> None:
    bundle = forecast_rig.write(tmp_path, forecasting_bundle())
    config = configure(tmp_path, line, broker.port, bundle=str(bundle))
    config.write_text(config.read_text().replace("[[inputs]]", forecast_rig.LIMITS + "[[inputs]]"))
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent")
    steps = forecast_rig.RISE_STEPS + 6
    rows = forecast_rig.rising(steps + 30)
    first = forecast_rig.rising(steps)
    line.write(lines(first))
    wait_until(lambda: scored(tmp_path) == len(first), "all samples")
    wait_until(lambda: limit_alarms(ops), "the alarm")
    opened = limit_alarms(ops)[0]
    assert opened["detector"] == "transformer"
    assert (opened["data"]["state"], opened["data"]["severity"]) == ("opened", "high")
    assert opened["data"]["limit"]["value"] == forecast_rig.LIMIT
    stream = status(tmp_path)["streams"]["pump"]
    shown = [alarm for alarm in stream["open_alarms"] if alarm["kind"] == "limit"]
    assert [alarm["number"] for alarm in shown] == [opened["data"]["number"]]
    commanded = forecast_command(config)
    assert commanded["made"] == stream["forecast"]["last_forecast"]
    assert commanded["limits"] == stream["forecast"]["limits"]
    agent.kill()
    before = status(tmp_path)["started"]
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path) and status(tmp_path)["started"] != before, "the restart")
    after = status(tmp_path)["streams"]["pump"]
    assert [alarm for alarm in after["open_alarms"] if alarm["kind"] == "limit"] == shown
    assert after["forecast"] == stream["forecast"]
    line.write(lines(rows[len(first) :], len(first)))  # the rise has left the context
    wait_until(lambda: len(limit_alarms(ops)) == 2, "the alarm's end")
    closed = limit_alarms(ops)[1]["data"]
    assert (closed["number"], closed["state"]) == (shown[0]["number"], "closed")
    wait_until(lambda: scored(tmp_path) == len(rows) - len(first), "the rest")
    messages = len(ops.of_kind("health"))
    wait_until(lambda: len(ops.of_kind("health")) > messages, "a health message")
    wait_until(lambda: judged_last(ops) > 0, "the accuracy in it")
    assert agent.stop() == 0, agent.log()
    _check_against_asyncapi(ops)


def limit_alarms(ops: Ops) -> list[dict[str, Any]]:
    return [alarm for alarm in ops.of_kind("alarm") if alarm["data"]["kind"] == "limit"]


def judged_last(ops: Ops) -> int:
    """How many forecasts of the flow were judged, by the newest health message."""
    forecast = ops.of_kind("health")[-1]["data"]["streams"]["pump"]["forecast"]
    return int(forecast["accuracy"].get("flow", {}).get("judged", 0))


def forecast_command(config: Path) -> dict[str, Any]:
    words = ["forecast", "--stream", "pump", "--json", "--config", str(config)]
    ended = subprocess.run(
        [sys.executable, "-m", "agent", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    document: dict[str, Any] = json.loads(ended.stdout)["forecast"]
    return document


def _check_against_asyncapi(ops: Ops) -> None:
    """Every message that ops really got is as ``docs/asyncapi.yaml`` says."""
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    # the others need a collector
    for name in ("status", "summary", "alarm", "transition", "health"):
        channel = document["channels"][name]
        pattern = channel["address"].split("/")
        received = [
            (topic, body)
            for topic, body in ops.messages
            if len(topic.split("/")) == len(pattern) and topic.split("/")[4] == name
        ]
        assert received, f"no {name} message was received"
        reference = f"#/components/schemas/{name.capitalize()}"
        schema = {"$ref": reference, "components": document["components"]}
        for topic, body in received:
            for given, expected in zip(topic.split("/"), pattern, strict=True):
                assert given == expected or expected.startswith("{")
            jsonschema.Draft202012Validator(schema).validate(body)
    assert sum(topic.split("/")[4] in document["channels"] for topic, _ in ops.messages) == len(
        ops.messages
    )


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_restart_goes_on_as_if_nothing_had_happened(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    start_agent: StartAgent,
    zoo_bundle: Bundle,
    how: str,
) -> None:
    rows = Pump(12, [Fault("cavitation", 120.0, 20.0)]).run(900)
    config = configure(tmp_path, line, broker.port)
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(lines(rows[:500]))
    wait_until(lambda: scored(tmp_path) == 500, "the first part")
    agent.stop() if how == "SIGTERM" else agent.kill()
    before = status(tmp_path)["started"]
    start_agent(config)
    wait_until(lambda: running(tmp_path) and status(tmp_path)["started"] != before, "the restart")
    line.write(lines(rows[500:], 500))
    wait_until(lambda: scored(tmp_path) == 400, "the second part")
    pipeline = Pipeline(zoo_bundle)
    times = START_S + np.arange(900) * PERIOD_S
    # what the line carries is rounded as the sensors' converters do
    values = np.array(
        [[float(field) for field in text.split(b",")[1:]] for text in lines(rows).split()],
        np.float32,
    )
    uninterrupted = pipeline.step(pipeline.start(), Samples(times, values))
    assert np.array_equal(kept_scores(tmp_path), uninterrupted.scores.score, equal_nan=True)
    with Reader(tmp_path / "data") as reader:
        alarms = [(a["number"], a["kind"], a["state"]) for a in reader.alarms(100)]
    expected = {event.number: event for event in uninterrupted.events}
    assert alarms == [(number, e.kind, e.state) for number, e in expected.items()]


def test_bad_lines_are_counted_by_cause_and_the_good_ones_used(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    start_agent(configure(tmp_path, line, broker.port))
    wait_until(lambda: running(tmp_path), "the agent")
    good = lines(Pump(13).run(50)).splitlines(keepends=True)
    bad = [
        b"\xff\xfe\xfd\n",
        b"x" * 5000 + b"\n",
        b"1700000003.0,1.2\n",
        b"yesterday,1,2,3,4,5,6,7,8\n",
        good[20].replace(b",", b",nan,", 1)[: good[20].rfind(b",")] + b"\n",
        good[10],
    ]
    mixed = [*good[:25], *bad, *good[25:]]
    line.write(b"".join(mixed))
    wait_until(lambda: scored(tmp_path) == 50, "the good lines")
    rejected = status(tmp_path)["inputs"]["line"]["rejected"]
    assert rejected["not_utf8"] == 1
    assert rejected["too_long"] == 1
    assert rejected["truncated"] == 1
    assert rejected["bad_time"] == 1
    assert status(tmp_path)["inputs"]["line"]["rejects"]
    assert status(tmp_path)["streams"]["pump"]["counters"]["late"] >= 1


def test_lines_that_come_while_the_agent_is_down_are_read(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    """Before the first start, after a kill, and after a stop; as far as the kernel keeps them."""
    config, rows = configure(tmp_path, line, broker.port), Pump(14).run(150)
    for number, ending in enumerate(("kill", "stop", "stop")):
        line.write(lines(rows[50 * number : 50 * number + 30], 50 * number))
        agent = start_agent(config)
        wait_until(lambda: running(tmp_path), "the agent")
        wait_until(lambda part=number: len(kept_scores(tmp_path)) == 50 * part + 30, "what waited")
        line.write(lines(rows[50 * number + 30 : 50 * number + 50], 50 * number + 30))
        wait_until(lambda part=number: len(kept_scores(tmp_path)) == 50 * part + 50, "what came")
        agent.kill() if ending == "kill" else agent.stop()
    assert status(tmp_path)["inputs"]["line"]["rejected"] == {}


def test_a_restart_is_one_gap_at_ops_and_calls_nobody(
    tmp_path: Path, line: Line, broker: RealBroker, ops: Ops, start_agent: StartAgent
) -> None:
    """Of so many samples that each channel has been missing for long enough to say so."""
    config, rows = configure(tmp_path, line, broker.port), Pump(13).run(200)
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(lines(rows[:100]))
    wait_until(lambda: scored(tmp_path) == 100, "the first part")
    assert agent.stop() == 0
    start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent again")
    line.write(lines(rows[140:], 140))
    wait_until(lambda: scored(tmp_path) == 100, "the second part")  # and 40 slots before it
    wait_until(lambda: bool(ops.of_kind("alarm")), "the gap")
    agent.stop()
    (told,) = [message["data"] for message in ops.of_kind("alarm")]
    assert (told["kind"], told["state"], told["cause"]) == ("gap", "closed", "agent")
    begin, end = START_S + 99 * PERIOD_S, START_S + 140 * PERIOD_S
    assert (told["onset"], told["closed"]) == (iso_time(begin), iso_time(end))
    with Reader(tmp_path / "data") as reader:
        assert reader.alarms(10) == [told]
    assert not {"missing", "silent"} & {word for word in agent.log().split()}


def test_an_agent_that_was_stopped_for_a_while_blames_no_device(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    """Of more seconds than the bundle allows a channel to be missing."""
    config, rows = configure(tmp_path, line, broker.port), Pump(13).run(200)
    agent = start_agent(config)
    wait_until(lambda: running(tmp_path), "the agent")
    line.write(lines(rows[:100]))
    wait_until(lambda: scored(tmp_path) == 100, "the first part")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 6.0
    wait_until(lambda: time.monotonic() > until, "the pause")
    agent.process.send_signal(signal.SIGCONT)
    line.write(lines(rows[140:], 140))
    wait_until(lambda: scored(tmp_path) >= 160, "the second part")
    with Reader(tmp_path / "data") as reader:
        (told,) = reader.alarms(10)
    assert (told["kind"], told["cause"]) == ("gap", "agent")
    assert "the agent stood still" in told["action"]


def test_an_unplugged_port_is_found_again_and_the_gap_stays_a_gap(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    agent = start_agent(configure(tmp_path, line, broker.port, silent_after_s="0.5"))
    wait_until(lambda: running(tmp_path), "the agent")
    rows = Pump(14).run(2000)
    line.write(lines(rows[:200]))
    wait_until(lambda: scored(tmp_path) == 200, "the first part")
    line.unplug()
    wait_until(lambda: not running(tmp_path), "the loss")
    wait_until(
        lambda: (
            [
                (alarm["kind"], alarm["cause"])
                for alarm in status(tmp_path)["streams"]["pump"]["open_alarms"]
            ]
            == [("silent", "link")]
        ),
        "the silent alarm",
    )
    (silent,) = status(tmp_path)["streams"]["pump"]["open_alarms"]
    assert silent["action"].startswith("check what the input reads from: input line: ")
    line.plug_in()
    wait_until(lambda: running(tmp_path), "the port")
    line.write(lines(rows[1500:1600], 1500))
    wait_until(lambda: scored(tmp_path) == 300, "the second part")
    with Reader(tmp_path / "data") as reader:
        chunks = reader.newest_samples("pump", 10**6)
        # the first one; on a slow machine the line may be silent again by now
        assert reader.alarms(10)[-1]["state"] == "closed"
    times = np.concatenate([np.frombuffer(times) for times, *_ in chunks])
    assert np.diff(times).max() == pytest.approx(1300 * PERIOD_S + PERIOD_S, abs=0.01)
    assert agent.log().count("retrying until it is back") == 1


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"bundle": "/nowhere/pump.fieldwatch"}, 65, "no such bundle"),
        ({"flush_interval_s": "-1"}, 78, "store.flush_interval_s"),
    ],
)
def test_what_a_restart_cannot_mend_ends_with_a_code_of_its_own(
    tmp_path: Path, line: Line, change: dict[str, str], code: int, says: str
) -> None:
    config = configure(tmp_path, line, 1, **change)
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == code
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_interval_that_starves_the_watchdog_is_refused(tmp_path: Path, line: Line) -> None:
    config = configure(tmp_path, line, 1, flush_interval_s="40")
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=os.environ | {"WATCHDOG_USEC": "60000000"},
    )
    assert ended.returncode == 78
    assert "half of the unit's WatchdogSec" in ended.stderr


def test_an_altered_bundle_is_refused(tmp_path: Path, line: Line) -> None:
    altered = bytearray(ZOO_BUNDLE.read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / "altered.fieldwatch").write_bytes(altered)
    config = configure(tmp_path, line, 1, bundle=str(tmp_path / "altered.fieldwatch"))
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 65
    assert "altered" in ended.stderr
