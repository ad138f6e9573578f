"""The demo: the main job, as a new user runs it, with either broker."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.demo import broker as brokers
from agent.demo.run import Demo
from agent.demo.screen import CHART_HEIGHT, CHART_WIDTH, View, chart, screen
from models.bundle import Bundle
from tests.conftest import ROOT, mosquitto

KEYS = {
    "readings", "scored", "fault_at", "alarms", "detection_delay_s", "false_alarms", "published",
    "received_by_ops", "outbox_left", "reading_to_commit_ms_p50", "reading_to_commit_ms_p99",
    "rss_mb_max", "detector", "bundle_digest",
}  # fmt: skip


def test_the_demo_finds_its_fault_and_ops_receives_everything(zoo_bundle: Bundle) -> None:
    program, environment = mosquitto()
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "demo", "--json", "--seconds=30", "--fault=blocked_valve"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment | {"FIELDWATCH_MOSQUITTO": program},
    )
    assert ended.returncode == 0, ended.stderr
    outcome: dict[str, Any] = json.loads(ended.stdout)
    assert outcome.keys() >= KEYS
    assert outcome["readings"] > 8 * 100
    assert outcome["scored"] > 0
    assert outcome["false_alarms"] == 0
    assert outcome["detection_delay_s"] is not None
    assert outcome["alarms"][0]["kind"] == "anomaly"
    assert outcome["published"] == outcome["received_by_ops"] > 0
    assert outcome["outbox_left"] == 0
    assert outcome["broker"] == "mosquitto"
    assert outcome["bundle_digest"] == zoo_bundle.digest


def test_without_mosquitto_the_demo_takes_the_broker_from_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FIELDWATCH_MOSQUITTO", raising=False)
    monkeypatch.setattr(brokers, "_SBIN", "")
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


def test_the_screen_counts_down_to_the_fault_and_then_up() -> None:
    view = View(elapsed_s=10, seconds=60, fault="spike", fault_at_s=30)
    assert any("spike in 20 s" in line for line in screen(view, color=False))
    view.elapsed_s = 35
    assert any("spike since 5 s" in line for line in screen(view, color=False))
