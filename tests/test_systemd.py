"""The systemd unit: it verifies, it is locked down, and it agrees with the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import config
from models.errors import BundleError, ConfigError

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "fieldwatch-agent.service"
EXPOSURE_MAX = "15"  # tenths: systemd calls up to 2.0 OK


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    parts = ROOT / ".parts"
    found = shutil.which("systemd-analyze", path=f"{os.environ['PATH']}:{parts}/usr/bin")
    assert found, "the tests need systemd-analyze; get it with: make test"
    libraries = [*parts.glob("usr/lib/*-linux-*"), *parts.glob("usr/lib/*-linux-*/systemd")]
    environment = dict(os.environ)
    if found.startswith(str(parts)):
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    return subprocess.run(
        [found, *arguments], capture_output=True, text=True, check=False, env=environment
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there; the real one is not installed on a build machine."""
    copy = tmp_path / UNIT.name
    text, replaced = re.subn("(?m)^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text())
    assert replaced == 1
    copy.write_text(text)
    return copy


def test_the_unit_verifies(unit: Path) -> None:
    outcome = analyze("verify", "--man=no", str(unit))
    assert outcome.returncode == 0, outcome.stderr
    assert str(unit) not in outcome.stderr


def test_verify_would_notice_a_mistake(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSec=often"))
    assert "often" in analyze("verify", "--man=no", str(unit)).stderr


def test_the_unit_is_locked_down(unit: Path) -> None:
    outcome = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert outcome.returncode == 0, outcome.stdout[-200:] + outcome.stderr


def test_no_restart_where_a_restart_mends_nothing() -> None:
    codes = re.search("(?m)^RestartPreventExitStatus=(.*)$", UNIT.read_text())
    assert codes is not None
    assert {int(code) for code in codes[1].split()} == {
        BundleError.exit_code,
        ConfigError.exit_code,
    }


def test_the_unit_agrees_with_the_example_configuration() -> None:
    text = UNIT.read_text()
    example = config.load(ROOT / "systemd" / "agent.toml")
    state = re.search("(?m)^StateDirectory=(.*)$", text)
    assert state is not None
    assert example.store.directory == Path("/var/lib") / state[1]
    assert "--config /etc/fieldwatch/agent.toml" in text
    assert "ConfigurationDirectory=fieldwatch\n" in text
    assert "LoadCredential=mqtt.password\n" in text


def test_the_user_of_the_unit_is_made_and_may_use_serial_ports() -> None:
    users = (ROOT / "systemd" / "fieldwatch.sysusers.conf").read_text()
    user = re.search("(?m)^User=(.*)$", UNIT.read_text())
    assert user is not None
    assert re.search(rf"(?m)^u\s+{user[1]}\s", users)
    assert re.search(rf"(?m)^m\s+{user[1]}\s+dialout$", users)
