"""The demo: the main job, as a new user runs it, with either broker."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.demo import broker as brokers
from agent.demo.fan import AHEAD_COLUMNS, HEIGHT, PAST_COLUMNS
from agent.demo.line import PumpLine
from agent.demo.run import Demo, FaultNotFound, check_found, conclusion
from agent.demo.screen import CHART_HEIGHT, CHART_WIDTH, View, chart, screen
from agent.inputs.plant import PERIOD_S, Pump
from models.bundle import Bundle
from tests.conftest import ROOT, WAIT_S_MAX, mosquitto, wait_until

DEMO = [sys.executable, "-m", "agent", "demo", "--json"]
KEYS = {
    "readings", "scored", "fault_at", "alarms", "detection_delay_s", "false_alarms", "published",
    "received_by_ops", "outbox_left", "reading_to_commit_ms_p50", "reading_to_commit_ms_p99",
    "rss_mb_max", "detector", "bundle_digest",
}  # fmt: skip


def test_the_demo_finds_its_fault_and_ops_receives_everything(zoo_bundle: Bundle) -> None:
    program, environment = mosquitto()
    ended = subprocess.run(
        [*DEMO, "--seconds=20", "--fault=blocked_valve"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment | {"FIELDWATCH_MOSQUITTO": program},
    )
    assert ended.returncode == 0, ended.stderr
    outcome: dict[str, Any] = json.loads(ended.stdout)
    assert outcome.keys() >= KEYS
    # on any machine: the pump waits for the agent, and the demo for what the agent has not read
    assert outcome["readings"] == 8 * 20 / PERIOD_S
    assert outcome["scored"] > 0
    assert outcome["false_alarms"] == 0
    assert outcome["detection_delay_s"] is not None
    assert outcome["alarms"][0]["kind"] == "anomaly"
    assert outcome["published"] == outcome["received_by_ops"] > 0
    assert outcome["outbox_left"] == 0
    assert outcome["broker"] == "mosquitto"
    assert outcome["bundle_digest"] == zoo_bundle.digest


def test_a_demo_without_its_alarm_fails_and_says_why() -> None:
    program, environment = mosquitto()
    ended = subprocess.run(
        [*DEMO, "--seconds=20", "--fault=bearing_wear"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment | {"FIELDWATCH_MOSQUITTO": program},
    )
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["alarms"] == []
    assert "the fault (bearing_wear) was not found within 10 s after it began" in ended.stderr
    assert "needs more --seconds" in ended.stderr


def test_a_demo_too_short_for_any_score_says_so() -> None:
    outcome = {"fault": "spike", "detection_delay_s": None, "scored": 0, "readings": 80}
    with pytest.raises(FaultNotFound, match="none of 80 readings was scored"):
        check_found(outcome)


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (1.0, "was found 2.4 s after it began; 0 false"),
        (90.0, "was found 2.4 s after it began by the pump's clock, which runs 90 times as fast;"),
    ],
)
def test_the_demo_says_whose_seconds_they_are(speed: float, said: str) -> None:
    outcome = defaultdict(int) | {"detection_delay_s": 2.4, "speed": speed, "fan": []}
    assert said in "\n".join(conclusion(outcome))


def test_with_page_the_demo_stays_and_its_user_sees_the_alarm(zoo_bundle: Bundle) -> None:
    _, environment = mosquitto()
    demo = subprocess.Popen(
        [*DEMO[:-1], "--seconds=20", "--fault=blocked_valve", "--page"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert demo.stdout is not None
        told = next(line for line in demo.stdout if line.startswith("The page: "))
        found = re.search(r"http://127\.0\.0\.1:(\d+)/ \(user demo, password (\S+)\)", told)
        assert found is not None
        browser = http.client.HTTPConnection("127.0.0.1", int(found[1]))
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"http://127.0.0.1:{found[1]}",
        }
        body = urlencode({"name": "demo", "password": found[2]})
        browser.request("POST", "/login", body, headers)
        answer = browser.getresponse()
        answer.read()
        assert answer.status == 303
        cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]
        browser.request("GET", "/alarms", headers={"Cookie": cookie})
        assert "/alarms/pump-1/1" in browser.getresponse().read().decode()
        browser.close()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(WAIT_S_MAX) == 0
    finally:
        demo.kill()
        demo.communicate()


@pytest.mark.parametrize("seconds", [15, 19])
def test_a_demo_that_ends_before_its_alarm_can_come_is_refused(seconds: int) -> None:
    ended = CliRunner().invoke(commands, ["demo", "--seconds", str(seconds)])
    assert ended.exit_code == 2
    assert "x>=20" in ended.output


def test_the_pump_writes_its_samples_once_started_and_is_over_when_they_are_read() -> None:
    with PumpLine(Pump(1, []), speed=100.0, samples=20) as line:
        terminal = os.open(line.port, os.O_RDONLY | os.O_NOCTTY)
        try:
            assert (line.lines, line.over) == (0, False)
            line.start()
            wait_until(lambda: line.lines == 20, "all samples")
            assert not line.over
            text = b""
            while text.count(b"\n") < 20:
                text += os.read(terminal, 4096)
            assert line.over
            assert line.lines == 20
        finally:
            os.close(terminal)


def test_without_mosquitto_the_demo_takes_the_broker_from_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FIELDWATCH_MOSQUITTO", raising=False)
    monkeypatch.setattr(brokers, "SBIN", "")
    outcome = Demo(tmp_path, 12, "cavitation", 1).run(show=False)
    assert outcome["broker"] == "amqtt"
    assert outcome["published"] == outcome["received_by_ops"] > 0
    assert outcome["outbox_left"] == 0


def test_an_agent_that_ends_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.demo import run

    program, _ = mosquitto()
    monkeypatch.setenv("FIELDWATCH_MOSQUITTO", program)
    monkeypatch.setattr(run, "ZOO_BUNDLE", tmp_path / "gone.fieldwatch")
    with pytest.raises(run.AgentFailed, match="code 65"):
        Demo(tmp_path, 10, "cavitation", 1).run(show=False)


def test_the_chart_shows_scores_against_the_threshold() -> None:
    plain = chart([0.0, 0.5, 1.5, math.nan], color=False)
    assert len(plain) == CHART_HEIGHT
    assert all(len(line) == CHART_WIDTH + 14 for line in plain)
    columns = ["".join(line[13:-1][column] for line in plain) for column in range(-4, 0)]
    filled = [sum(cell not in " -" for cell in column) for column in columns]
    assert filled == [0, 2, 6, 0]
    assert sum("threshold" in line for line in plain) == 1
    assert "\x1b[31m" in "".join(chart([1.5], color=True))
    assert "\x1b" not in "".join(chart([0.5], color=True))


ALARM = (
    "pump-1 #1 high anomaly (score 6.9) since 2026-11-23T13:00:28.694Z, still open: "
    + "; ".join(f"bearing_temperature {n}5.31 degC, expected 81.65" for n in range(5))
    + ". To do: look at the machine: the channels named moved as they did not in normal operation"
)
FAN = [
    *(
        f"  {at:8.1f} {' ' * PAST_COLUMNS}|{'░' * AHEAD_COLUMNS} critical 45"
        for at in range(HEIGHT)
    ),
    "  fluid_temperature will pass 45 degC (high critical) in 3.2 h (80 %: 2.1-5.5 h), chance 93 %"
    " within 8.0 h",
    "  fluid_temperature has passed 40 degC (high warning)",
]


LIMIT = (
    "pump-1 #7 high limit since 2026-11-23T15:00:00.000Z, still open: fluid_temperature will pass"
    " 45 degC (high critical) in 3.2 h (80 %: 2.1-5.5 h), chance 93 % within 8.0 h. To do:"
    " take load off the machine, and plan the work that it needs"
)


@pytest.mark.parametrize(("speed", "alarm"), [(1.0, ALARM), (90.0, LIMIT)])
def test_the_screen_fits_an_old_terminal_with_the_whole_of_the_newest_alarm(
    speed: float, alarm: str
) -> None:
    ops = [f"fieldwatch/v1/demo/gateway-1/summary/pump-1 {n} samples" for n in range(9)]
    alarms = ["pump-1 #0 an older one", alarm]
    view = View(fault="spike", scores=[1.5] * 64, alarms=alarms, ops=ops, speed=speed, fan=FAN)
    lines = screen(view, color=False, columns=80, rows=24)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert alarm in text
    assert ops[-1] in text


def test_a_higher_terminal_shows_more_and_sets_its_parts_apart() -> None:
    view = View(fault="spike", alarms=["pump-1 #0 an older one", ALARM], ops=["one", "two"])
    low, high = screen(view, color=False), screen(view, color=False, columns=120, rows=50)
    assert "    pump-1 #0 an older one" in high
    assert high.count("") == 3
    assert "" not in low


def test_the_screen_counts_down_to_the_fault_and_then_up() -> None:
    view = View(elapsed_s=10, seconds=60, fault="spike", fault_at_s=30)
    assert any("spike in 20 s" in line for line in screen(view, color=False))
    view.elapsed_s = 35
    assert any("spike since 5 s" in line for line in screen(view, color=False))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_whose_terminal_is_closed_leaves_nothing(
    tmp_path: Path, ending: signal.Signals
) -> None:
    program, environment = mosquitto()
    with (tmp_path / "told").open("wb") as told:
        demo = subprocess.Popen(
            [sys.executable, "-m", "agent", "demo", "--page", "--seconds=20"],
            stdout=told,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment | {"FIELDWATCH_MOSQUITTO": program, "TMPDIR": str(tmp_path)},
        )
    wait_until(lambda: "serial line" in (tmp_path / "told").read_text(), "the agent reads")
    demo.send_signal(ending)
    demo.wait(WAIT_S_MAX)
    assert list(tmp_path.glob("fieldwatch-demo-*")) == []
    assert _processes_of(tmp_path) == []


def _processes_of(directory: Path) -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes())
    return [line for line in found if os.fsencode(directory) in line]
