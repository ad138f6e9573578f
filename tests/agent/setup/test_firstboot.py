"""The first boot: a file on the boot partition sets the gateway up, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.load import load
from tests.conftest import ROOT
from tests.secured_broker import SecuredBroker
from tests.systemd_rig import analyzer

SCRIPT = ROOT / "systemd" / "fieldwatch-firstboot"
UNIT = ROOT / "systemd" / "fieldwatch-firstboot.service"
STICK = ROOT / "systemd" / "fieldwatch-stick.service"
PASSWORD = "of plant/gw-1"
ANSWERS = """
[gateway]
site = "plant"
name = "gw-1"
[mqtt]
host = "127.0.0.1"
port = {port}
username = "plant/gw-1"
password = "{password}"
tls_ca_file = "ca.pem"
[[streams]]
name = "pump"
baseline = {{ period_s = 1.0, channels = [{{ name = "flow" }}] }}
[[inputs]]
name = "pump"
stream = "pump"
port = "/dev/ttyUSB0"
columns = ["flow"]
"""


class Card:
    """An SD card with a boot partition, as a folder."""

    def __init__(self, directory: Path, broker: SecuredBroker, boot: str) -> None:
        self.root, self.boot = directory / "card", directory / "card" / boot
        self.boot.mkdir(parents=True)
        self.answers = self.boot / "fieldwatch.toml"
        self.config = self.root / "etc" / "fieldwatch" / "agent.toml"
        shutil.copy(broker.authority.file, self.boot / "ca.pem")
        self.answers.write_text(ANSWERS.format(port=broker.gateways_port, password=PASSWORD))
        self._programs = directory / "bin"
        self._programs.mkdir()
        agent = self._programs / "fieldwatch-agent"
        agent.write_text(f'#!/bin/sh\nexec {sys.executable} -m agent "$@"\n')
        agent.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{self._programs}:{os.environ['PATH']}"
        variables = {"PATH": path, "FIRSTBOOT_ROOT": str(self.root), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [SCRIPT, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=os.environ | variables,
        )


@pytest.mark.parametrize("boot", ["boot/firmware", "boot"])
def test_a_first_boot_sets_up_once(tmp_path: Path, secured: SecuredBroker, boot: str) -> None:
    card = Card(tmp_path, secured, boot)
    ended = card.start()
    assert ended.returncode == 0, ended.stderr
    assert "accepts this gateway" in ended.stdout and PASSWORD not in ended.stdout + ended.stderr
    assert load(card.config).gateway.name == "gw-1"
    assert (card.root / "etc/credstore/mqtt.password").read_text() == PASSWORD
    assert "accepts this gateway" in (card.boot / "fieldwatch.toml.log").read_text()
    for file in card.boot.iterdir():
        assert PASSWORD.encode() not in file.read_bytes(), file

    second = card.start()
    assert second.returncode == 0 and "there is no fieldwatch.toml" in second.stdout


def test_without_its_broker_the_gateway_is_set_up_all_the_same(
    tmp_path: Path, secured: SecuredBroker
) -> None:
    card = Card(tmp_path, secured, "boot")
    card.answers.write_text(card.answers.read_text().replace("127.0.0.1", "no-such-host.invalid"))
    ended = card.start()
    assert ended.returncode == 69
    assert "SuccessExitStatus=69" in UNIT.read_text()
    assert load(card.config) and not card.answers.exists()
    assert "dns: " in (card.boot / "fieldwatch.toml.log").read_text()


def test_a_mistake_stays_for_a_second_try(tmp_path: Path, secured: SecuredBroker) -> None:
    card = Card(tmp_path, secured, "boot")
    right = card.answers.read_text()
    card.answers.write_text(right.replace("period_s = 1.0", "period_s = -1.0"))
    ended = card.start()
    assert ended.returncode == 78
    assert f"{card.answers} was not applied; {card.answers}.log says why" in ended.stderr
    assert "period_s = -1.0" in (card.boot / "fieldwatch.toml.log").read_text()
    assert not card.config.exists()
    card.answers.write_text(right)
    assert card.start().returncode == 0


@pytest.mark.parametrize(("since_s", "code"), [(0, 0), (59, 0), (60, 1), (10**6, 1)])
def test_a_stick_that_is_named_late_counts_for_a_minute(
    tmp_path: Path, secured: SecuredBroker, since_s: int, code: int
) -> None:
    """``systemctl`` stands for a machine that has come up 5.5 s after its kernel."""
    card = Card(tmp_path, secured, "boot")
    (card.root / "proc").mkdir()
    (card.root / "proc" / "uptime").write_text(f"{5 + since_s}.61 17.20\n")
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text("#!/bin/sh\n[ $5 = basic.target ] && echo 5500000\n")
    systemctl.chmod(0o755)
    assert card.start("--starting").returncode == code
    assert card.answers.exists() and not card.config.exists()


def test_a_stick_that_is_named_late_starts_the_reader() -> None:
    text = STICK.read_text()
    assert f"ExecCondition=/usr/local/lib/fieldwatch/{SCRIPT.name} --starting\n" in text
    assert f"ExecStart=systemctl --no-block start {UNIT.name}\n" in text
    assert f"Also={STICK.name}\n" in UNIT.read_text()
    device = r"dev-disk-by\x2dlabel-FIELDWATCH.device"  # as systemd-escape --path writes it
    assert f"WantedBy={device}\n" in text


def test_the_unit_verifies_and_runs_the_script_before_the_agent(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert f"ExecStart=/usr/local/lib/fieldwatch/{SCRIPT.name}\n" in text
    assert "Before=fieldwatch-agent.service\n" in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(f"/usr/local/lib/fieldwatch/{SCRIPT.name}", "/bin/true"))
    outcome = analyzer(tmp_path)("verify", "--man=no", str(copy))
    assert outcome.returncode == 0, outcome.stderr
    assert str(copy) not in outcome.stderr
