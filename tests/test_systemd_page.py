"""The units of the page: they verify, they are locked down, and they agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.commands.options import DEFAULT_CONFIG
from agent.config import load as config
from agent.config.page import PageTable
from models.errors import ConfigError
from tests.systemd_rig import Analyze, analyzer

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "systemd" / "fieldwatch-page.service"
SOCKET = ROOT / "systemd" / "fieldwatch-page.socket"
EXPOSURE_MAX = "5"  # tenths


@pytest.fixture
def analyze(tmp_path: Path) -> Analyze:
    return analyzer(tmp_path)


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with a program that is there; the real one is not installed on a build machine."""
    text, replaced = re.subn("(?m)^ExecStart=.*$", "ExecStart=/bin/true", SERVICE.read_text())
    assert replaced == 1
    (tmp_path / SERVICE.name).write_text(text)
    (tmp_path / SOCKET.name).write_text(SOCKET.read_text())
    return [tmp_path / SERVICE.name, tmp_path / SOCKET.name]


def setting(name: str, unit: Path = SERVICE) -> str:
    found = re.findall(f"(?m)^{name}=(.*)$", unit.read_text())
    assert len(found) == 1, f"{name}: {found}"
    return str(found[0])


def test_the_units_verify(units: list[Path], analyze: Analyze) -> None:
    outcome = analyze("verify", "--man=no", *map(str, units))
    assert outcome.returncode == 0, outcome.stderr
    assert "fieldwatch-page" not in outcome.stderr


def test_verify_would_notice_a_mistake(units: list[Path], analyze: Analyze) -> None:
    units[1].write_text(units[1].read_text().replace("NoDelay=yes", "NoDelay=perhaps"))
    assert "perhaps" in analyze("verify", "--man=no", *map(str, units)).stderr


def test_the_service_is_locked_down(units: list[Path], analyze: Analyze) -> None:
    asked = ("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(units[0]))
    outcome = analyze(*asked)
    assert outcome.returncode == 0, outcome.stdout[-200:] + outcome.stderr
    units[0].write_text(units[0].read_text().replace("PrivateNetwork=yes", "PrivateNetwork=no"))
    assert analyze(*asked).returncode != 0


def test_the_socket_is_where_the_page_would_listen_itself() -> None:
    assert setting("ListenStream", SOCKET) == PageTable().listen
    assert PageTable().address.is_local
    assert setting("WantedBy", SOCKET) == "sockets.target"
    assert setting("Requires") == SOCKET.name  # it has no other network


def test_the_user_of_the_page_is_the_one_that_the_agent_lets_speak_for_others() -> None:
    user = setting("User")
    example = config.load(ROOT / "systemd" / "agent.toml")
    assert user == setting("Group") == example.control.page_user
    agent = (ROOT / "systemd" / "fieldwatch-agent.service").read_text()
    assert user not in agent  # another user than the agent's
    users = (ROOT / "systemd" / "fieldwatch.sysusers.conf").read_text()
    assert re.search(rf"(?m)^u\s+{user}\s", users)


def test_it_may_read_what_the_agent_stores_and_handle_nothing_itself() -> None:
    users = (ROOT / "systemd" / "fieldwatch.sysusers.conf").read_text()
    assert setting("SupplementaryGroups") == "fieldwatch"
    assert re.findall(rf"(?m)^m\s+{setting('User')}\s+(\S+)$", users) == ["fieldwatch"]
    assert "Directory=" not in SERVICE.read_text()  # of state, cache, logs: none
    assert "ReadWritePaths" not in SERVICE.read_text()


def test_the_example_is_closed_until_there_is_a_user() -> None:
    example = config.load(ROOT / "systemd" / "agent.toml")
    assert example.page.users_file == ROOT / "systemd" / "page-users"  # beside it


def test_the_worker_may_make_itself_nicer() -> None:
    filters = re.findall("(?m)^SystemCallFilter=(.*)$", SERVICE.read_text())
    assert filters[-2:] == ["~@privileged @resources", "setpriority"]


def test_a_wrong_configuration_ends_it_and_a_crash_does_not() -> None:
    assert setting("RestartPreventExitStatus") == str(ConfigError.exit_code)
    assert setting("Restart") == "on-failure"
    assert setting("ExecStart").endswith(f" page --config {DEFAULT_CONFIG}")
    assert setting("LimitCORE") == "0"


def test_the_installer_brings_and_removes_the_units_and_the_user() -> None:
    script = (ROOT / "scripts" / "install-gateway").read_text()
    assert script.count('"$units/$page.service" "$units/$page.socket"') == 1
    assert "$page.service $page.socket; do" in script
    assert 'for one in "$page" "$user"; do' in script
