"""The trial of a new version: when it goes back, and when it leaves that version alone."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from agent.rescue.interrupted import journal_of
from agent.rescue.rollback import TRIAL
from tests.conftest import ROOT
from tests.systemd_rig import analyzer

SCRIPT = ROOT / "systemd" / "fieldwatch-trial"
MINUTES = 60_000_000  # microseconds


class Machine:
    """A gateway with two environments, whose Python writes down what it is asked to do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.link = directory / "fieldwatch"
        self.trial = directory / "fieldwatch.trial"
        self.asked = directory / "asked"
        self.asked.touch()
        for name in ("fieldwatch", "fieldwatch.previous"):
            (directory / name / "bin").mkdir(parents=True)
            self.python(name, "exit 0")
        self.ran_us = 1_000_000
        (directory / "bin").mkdir()

    def python(self, environment: str, end: str) -> None:
        """Let the Python of an environment end like this."""
        self.program(self.directory / environment / "bin" / "python", environment, end)

    def program(self, path: Path, name: str, end: str) -> None:
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.asked}\n{end}\n')
        path.chmod(0o755)

    def ends(self, result: str = "exit-code", status: str = "70") -> str:
        """Let the agent end like this."""
        shown = (
            f"case $* in *Start*) echo 5000000 ;; *Exit*) echo {5_000_000 + self.ran_us} ;; esac"
        )
        self.program(self.directory / "bin" / "systemctl", "systemctl", shown)
        ended = self.call("ended", SERVICE_RESULT=result, EXIT_STATUS=status)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def call(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        action, *rest = words
        return subprocess.run(
            [SCRIPT, action, self.link, *rest],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}"} | environment,
        )

    def goes_back(self) -> bool:
        """Whether the unit that goes back was started."""
        start = "systemctl --no-block start fieldwatch-rollback.service"
        return start in self.asked.read_text()

    def back(self) -> subprocess.CompletedProcess[str]:
        """Do what that unit does."""
        self.program(self.directory / "bin" / "systemctl", "systemctl", "exit 0")
        return self.call("back", "/etc/fieldwatch/agent.toml")

    def tried(self) -> list[str]:
        """Return which environments were asked to go back."""
        lines = self.asked.read_text().splitlines()
        return [line.split()[0] for line in lines if " rollback " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.trial.write_text("0\n")
    return made


def test_the_third_failure_of_a_new_version_goes_back(machine: Machine) -> None:
    assert "1 of 3" in machine.ends()
    assert "2 of 3" in machine.ends(result="watchdog")
    assert not machine.goes_back()
    machine.ends(result="signal", status="SEGV")
    assert machine.goes_back()


@pytest.mark.parametrize("status", ["65", "78"])
def test_the_first_failure_that_systemd_does_not_retry_goes_back(
    machine: Machine, status: str
) -> None:
    machine.ends(status=status)
    assert machine.goes_back()


def test_a_version_that_is_not_new_is_left_alone(machine: Machine) -> None:
    machine.trial.unlink()
    for _ in range(4):
        machine.ends(status="78")
    assert not machine.goes_back()


def test_a_stop_is_no_failure(machine: Machine) -> None:
    for _ in range(4):
        machine.ends(result="success", status="0")
    assert not machine.goes_back()
    assert machine.trial.read_text() == "0\n"


def test_a_run_of_ten_minutes_ends_the_trial(machine: Machine) -> None:
    machine.ran_us = 10 * MINUTES
    machine.ends()
    assert not machine.trial.exists()
    assert not machine.goes_back()


def test_a_trial_ends_after_a_day_also_if_it_has_failures(machine: Machine) -> None:
    machine.ends()
    machine.ends()
    before = time.time() - 25 * 3600
    os.utime(machine.trial, (before, before))
    machine.ends()
    assert not machine.trial.exists()
    assert not machine.goes_back()


def test_a_failure_does_not_prolong_the_trial(machine: Machine) -> None:
    before = int(time.time()) - 3600
    os.utime(machine.trial, (before, before))
    machine.ends()
    assert machine.trial.stat().st_mtime == before


def test_the_former_version_goes_back(machine: Machine) -> None:
    assert machine.back().returncode == 0
    assert machine.tried() == ["fieldwatch.previous"]
    config = "/etc/fieldwatch/agent.toml"
    expected = f"-I -m agent rollback --config {config} --environment {machine.link}"
    assert expected in machine.asked.read_text()


def test_a_former_version_that_cannot_do_it_leaves_it_to_the_new_one(machine: Machine) -> None:
    machine.python("fieldwatch.previous", "exit 2")
    assert machine.back().returncode == 0
    assert machine.tried() == ["fieldwatch.previous", "fieldwatch"]


def test_if_neither_can_it_is_not_tried_for_ever(machine: Machine) -> None:
    machine.python("fieldwatch.previous", "exit 2")
    machine.python("fieldwatch", "exit 1")
    ended = machine.back()
    assert ended.returncode == 1
    assert "docs/upgrades.md" in ended.stderr
    assert not machine.trial.exists()


def test_the_units_agree_with_the_code() -> None:
    agent = (ROOT / "systemd" / "fieldwatch-agent.service").read_text()
    back = (ROOT / "systemd" / "fieldwatch-rollback.service").read_text()
    assert f"[ ! -e /opt/fieldwatch{TRIAL} ] ||" in agent
    journal = journal_of(Path("/etc/fieldwatch/agent.toml"))
    assert f"[ ! -e {journal} ] ||" in agent
    (codes,) = re.findall("(?m)^RestartPreventExitStatus=(.*)$", agent)
    assert f"{codes.replace(' ', ' | ')})" in SCRIPT.read_text()
    assert "Conflicts=fieldwatch-agent.service\nAfter=fieldwatch-agent.service" in back
    script = "/usr/local/lib/fieldwatch/fieldwatch-trial"
    assert f"{script} ended /opt/fieldwatch" in agent
    assert f"{script} back /opt/fieldwatch /etc/fieldwatch/agent.toml" in back


def test_the_unit_verifies(tmp_path: Path) -> None:
    copy = tmp_path / "fieldwatch-rollback.service"
    text = (ROOT / "systemd" / copy.name).read_text()
    copy.write_text(re.sub("(?m)^(Exec[A-Za-z]+)=.*$", r"\1=/bin/true", text))
    outcome = analyzer(tmp_path)("verify", "--man=no", str(copy))
    assert outcome.returncode == 0, outcome.stderr
    assert str(copy) not in outcome.stderr
