"""Hooks of a real agent: alarms reach a program, also over a kill and a reload."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.commands.check import check
from agent.health import prometheus
from agent.health.status import describe
from tests.agent.onsite.test_panel import BASE, Listener
from tests.agent.test_daemon import CALM, StartAgent, configured, send, started, status
from tests.conftest import RealBroker, wait_until
from tests.fleet_rig import FAR, rows
from tests.serial_line import Line


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "ttyPUMP")
    yield made
    made.close()


def hook(directory: Path, code: int = 0) -> str:
    program = directory / "tell"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$(cat)\" >>{directory}/told; exit {code}\n")
    program.chmod(0o755)
    return f"""
[[on_site.hooks]]
name = "light"
command = ["{program}"]
backoff_min_s = 0.1
backoff_max_s = 0.2
"""


def told(directory: Path) -> list[dict[str, Any]]:
    file = directory / "told"
    return [json.loads(row) for row in file.read_text().splitlines()] if file.exists() else []


def test_an_alarm_is_told_although_the_agent_is_killed_and_the_hook_fails(
    start_agent: StartAgent, line: Line, tmp_path: Path
) -> None:
    config = configured(line, hook(tmp_path, code=1))
    agent = started(start_agent, config)
    send(line, rows(CALM))
    send(line, rows(20, about=FAR), CALM)
    wait_until(lambda: len(told(tmp_path)) >= 2, "two attempts")
    agent.kill()
    known = {one["id"] for one in told(tmp_path)}
    assert len(known) == 1
    assert "hook light failed, and is tried again" in agent.log()
    (tmp_path / "told").unlink()
    hook(tmp_path)
    agent = started(start_agent, config)
    wait_until(lambda: bool(told(tmp_path)), "the notice that waited")
    assert {one["id"] for one in told(tmp_path)} == known
    assert agent.stop() == 0
    document = status(config)
    assert document["hooks"]["light"]["sent"] >= 1
    assert any("light: " in text for text in describe(document))
    loud = {"failing": True, "last_error": "x" * 500}
    document["hooks"]["light"] |= loud
    assert max(len(text) for text in describe(document) if "light: " in text) < 300
    assert 'fieldwatch_hook_sent_total{hook="light"} 1' in prometheus.text(document)


def test_a_reload_adds_a_hook(start_agent: StartAgent, line: Line, tmp_path: Path) -> None:
    config = configured(line)
    agent = started(start_agent, config)
    config.write_text(config.read_text() + hook(tmp_path))
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration loaded; changed: on_site" in agent.log(), "the reload")
    send(line, rows(CALM))
    send(line, rows(20, about=FAR), CALM)
    wait_until(lambda: bool(told(tmp_path)), "the alarm")
    assert agent.stop() == 0


def test_check_says_whether_a_hook_can_work(line: Line, tmp_path: Path) -> None:
    more = '[[on_site.hooks]]\nname = "web"\nurl = "http://127.0.0.1:9/"\n'
    found = {one.what: one for one in check(configured(line, hook(tmp_path) + more))}
    assert found["hook light"].ok
    assert (found["hook web"].ok, found["hook web"].exit_code) == (False, 69)
    (tmp_path / "tell").chmod(0o644)
    found = {one.what: one for one in check(configured(line, hook_of(tmp_path)))}
    assert not found["hook light"].ok
    assert "chmod +x" in found["hook light"].detail


def hook_of(directory: Path) -> str:
    return f'[[on_site.hooks]]\nname = "light"\ncommand = ["{directory}/tell"]\n'


def test_a_panel_shows_the_alarm_of_an_agent_and_its_end(
    start_agent: StartAgent, line: Line, tmp_path: Path, broker: RealBroker
) -> None:
    listener = Listener(broker.port)
    more = f'[on_site.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
    config = configured(line, more)
    config.write_text(
        config.read_text().replace("flush_interval_s = 600", "flush_interval_s = 0.2")
    )
    agent = started(start_agent, config)
    send(line, rows(CALM))
    listener.until(f"{BASE}/worst", b"none")
    send(line, rows(20, about=FAR), CALM)
    wait_until(lambda: listener.last(f"{BASE}/worst") in (b"medium", b"high"), "the alarm")
    shown = json.loads(listener.last(f"{BASE}/stream/pump") or b"")
    assert shown["problem"] == "ON"
    assert shown["score"] > 1
    state = status(config)
    assert any("panel     127.0.0.1" in text for text in describe(state))
    assert "fieldwatch_panel_up 1" in prometheus.text(state)
    agent.kill()
    listener.until(f"{BASE}/status", b"offline")
    listener.close()
