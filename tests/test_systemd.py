"""The systemd unit: it verifies, it is locked down, and it agrees with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.commands.options import DEFAULT_CONFIG
from agent.config import load as config
from agent.control.clients import CLIENTS_MAX
from agent.control.door import MODE
from agent.mqtt.credentials import CERTIFICATE, KEY, PASSWORD, SIGN
from models.errors import BundleError, ConfigError, Defect
from tests.systemd_rig import Analyze, analyzer

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "fieldwatch-agent.service"
FROM_254 = ROOT / "systemd" / f"{UNIT.name}.d-254" / "00-fieldwatch.conf"
# tenths; 4 of them are ProtectClock=no, 2 PrivateUsers=no, see the unit
EXPOSURE_MAX = "19"


@pytest.fixture
def analyze(tmp_path: Path) -> Analyze:
    return analyzer(tmp_path)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there; the real one is not installed on a build machine."""
    copy = tmp_path / UNIT.name
    text, replaced = re.subn("(?m)^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text())
    assert replaced == 1
    copy.write_text(text)
    return copy


def test_the_unit_verifies(unit: Path, analyze: Analyze) -> None:
    outcome = analyze("verify", "--man=no", str(unit))
    assert outcome.returncode == 0, outcome.stderr
    assert str(unit) not in outcome.stderr


def test_verify_would_notice_a_mistake(unit: Path, analyze: Analyze) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSec=often"))
    assert "often" in analyze("verify", "--man=no", str(unit)).stderr


def test_the_unit_is_locked_down(unit: Path, analyze: Analyze) -> None:
    outcome = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert outcome.returncode == 0, outcome.stdout[-200:] + outcome.stderr


def test_a_looser_unit_would_be_noticed(unit: Path, analyze: Analyze) -> None:
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHome=no"))
    outcome = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert outcome.returncode != 0


def test_each_point_of_the_exposure_is_explained(unit: Path, analyze: Analyze) -> None:
    points = json.loads(analyze("security", "--offline=yes", "--json=short", str(unit)).stdout)
    exposed = sum(float(point["exposure"]) for point in points if point["exposure"] is not None)
    comments = "".join(re.findall("(?m)^#.*$", UNIT.read_text()))
    explained = sum(map(float, re.findall(r"(?<![.\d])0\.\d(?!\.?\d)", comments)))
    assert exposed == pytest.approx(explained)


def test_what_only_newer_versions_know_is_in_a_file_of_its_own(
    unit: Path, analyze: Analyze
) -> None:
    directory = unit.with_name(f"{unit.name}.d")
    directory.mkdir()
    (directory / FROM_254.name).write_text(FROM_254.read_text())
    outcome = analyze("verify", "--man=no", str(unit))
    complaints = [line for line in outcome.stderr.splitlines() if str(directory) in line]
    version = int(analyze("--version").stdout.split()[1])
    known_later = re.findall(r"(?m)^(\w+)=.", FROM_254.read_text())
    assert known_later == [*["ImportCredential"] * 4, "RestartSteps", "RestartMaxDelaySec"]
    unknown = re.findall("Unknown key '(.*?)'", "".join(complaints))
    assert len(complaints) == len(unknown)
    assert unknown == (known_later if version < 254 else [])
    assert not re.search(f"(?m)^({'|'.join(known_later)})=", UNIT.read_text())


def test_newer_versions_import_the_same_credentials_also_encrypted_ones() -> None:
    # systemd would find an encrypted one for LoadCredential= too, and not decrypt it
    load, *imported = re.findall("(?m)^(?:Load|Import)Credential=(.*)$", FROM_254.read_text())
    assert load == ""
    assert sorted(imported) == sorted((PASSWORD, CERTIFICATE, KEY, SIGN))


def test_newer_versions_wait_longer_each_time_but_not_for_long() -> None:
    longest_s = int(setting("RestartMaxDelaySec", FROM_254))
    assert int(setting("RestartSec")) < longest_s <= 300
    assert int(setting("RestartSteps", FROM_254)) > 1


def test_the_settings_of_newer_versions_are_installed_and_removed() -> None:
    script = (ROOT / "scripts" / "install-gateway").read_text()
    assert f"settings_254=$unit.d-254/{FROM_254.name}" in script
    assert '"$(version_of_systemd)" -ge 254' in script
    assert 'rm -f "$unit_file" "$drop_in"' in script
    assert f"systemd/{FROM_254.parent.name}/*" in (ROOT / "scripts" / "build-deb").read_text()


def setting(name: str, file: Path = UNIT) -> str:
    found = re.findall(f"(?m)^{name}=(.*)$", file.read_text())
    assert len(found) == 1, f"{name}: {found}"
    return str(found[0])


def test_no_restart_where_a_restart_mends_nothing() -> None:
    codes = {int(code) for code in setting("RestartPreventExitStatus").split()}
    assert codes == {BundleError.exit_code, ConfigError.exit_code}
    assert Defect.exit_code not in codes


def test_a_crash_leaves_no_password_in_a_dump() -> None:
    assert setting("LimitCORE") == "0"


def test_whatever_else_ends_it_is_tried_again_for_ever_but_slowly() -> None:
    assert setting("Restart") == "on-failure"
    assert setting("StartLimitIntervalSec") == "0"
    assert 5 <= int(setting("RestartSec")) <= 60


def test_it_may_have_files_open_for_as_many_inputs_as_it_may_have_threads() -> None:
    files_of_a_serial_input, of_the_agent = 5, 19  # measured, see the unit
    most = of_the_agent + files_of_a_serial_input * int(setting("TasksMax")) + CLIENTS_MAX
    assert most < int(setting("LimitNOFILE"))


def test_a_reload_is_the_signal_that_the_agent_takes() -> None:
    assert setting("ExecReload") == "/bin/sh -c 'kill -HUP ${MAINPID}'"


def test_the_interpreter_keeps_its_fast_kernels() -> None:
    assert "\nProcSubset=" not in UNIT.read_text()


def test_the_agent_may_ask_for_the_clocks_quality() -> None:
    assert setting("ProtectClock") == "no"
    assert "\nSystemCallFilter=adjtimex clock_adjtime clock_adjtime64\n" in UNIT.read_text()
    assert setting("CapabilityBoundingSet") == ""


def test_the_group_may_send_commands_and_the_agent_knows_who_does() -> None:
    assert setting("RuntimeDirectoryMode") == "0750"
    assert setting("Group") == setting("User")
    assert MODE == 0o660
    assert setting("PrivateUsers") == "no"  # else SO_PEERCRED says "nobody" of all other users
    assert "AF_UNIX" in setting("RestrictAddressFamilies").split()


def test_the_group_may_read_what_is_stored_and_nobody_else_may() -> None:
    assert int(setting("UMask"), 8) == 0o027
    assert setting("StateDirectoryMode") == "0750"


def test_the_unit_agrees_with_the_example_configuration() -> None:
    example = config.load(ROOT / "systemd" / "agent.toml")
    configuration = Path("/etc") / setting("ConfigurationDirectory")
    assert example.store.directory == Path("/var/lib") / setting("StateDirectory")
    socket = example.control_socket
    assert socket is not None and socket.parent == Path("/run") / setting("RuntimeDirectory")
    assert {stream.bundle.parent for stream in example.streams} == {configuration}
    assert setting("ExecStart").endswith(f" run --config {DEFAULT_CONFIG}")
    assert DEFAULT_CONFIG.parent == configuration
    credentials = re.findall("(?m)^LoadCredential=(.*)$", UNIT.read_text())
    assert credentials == [PASSWORD, CERTIFICATE, KEY, SIGN]
    # systemd 256 and later complain of a credential that is not there and has no default
    assert re.findall("(?m)^SetCredential=(.*)$", UNIT.read_text()) == [
        rf"{name}:\n" for name in credentials
    ]


def test_the_loop_feeds_the_watchdog_long_before_it_bites() -> None:
    example = config.load(ROOT / "systemd" / "agent.toml")
    assert example.store.flush_interval_s < int(setting("WatchdogSec")) / 4


def test_the_user_of_the_unit_is_made_and_may_use_serial_ports() -> None:
    users = (ROOT / "systemd" / "fieldwatch.sysusers.conf").read_text()
    user = setting("User")
    assert re.search(rf"(?m)^u\s+{user}\s.*/{setting('StateDirectory')}$", users)
    assert re.search(rf"(?m)^m\s+{user}\s+{setting('SupplementaryGroups')}$", users)


def test_the_groups_that_may_handle_alarms_are_made_and_removed_with_the_agent() -> None:
    users = (ROOT / "systemd" / "fieldwatch.sysusers.conf").read_text()
    script = (ROOT / "scripts" / "install-gateway").read_text()
    control = config.load(ROOT / "systemd" / "agent.toml").control
    for group in (control.operators, control.maintainers):
        assert re.search(rf"(?m)^g\s+{group}\s+-$", users)
        assert f'"$user-{group.removeprefix("fieldwatch-")}"' in script
