"""What ``check`` says of secrets that are not kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.commands.check import check
from agent.commands.finding import Finding
from agent.commands.secrecy import Service, closed_to, readers
from models.errors import ConfigError
from models.keys import new_key
from tests.scripted_broker import ScriptedBroker

CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
[streams.baseline]
period_s = 0.2
channels = [{ name = "flow" }]
"""
UPLINK = """
[mqtt]
host = "192.0.2.1"
username = "gw-1"
password_file = "password"
backoff_max_s = 1
"""
INPUT = """
[[inputs]]
name = "bus"
stream = "pump"
type = "mqtt"
topics = ["plant/#"]
columns = ["flow"]
broker = { host = "HOST", username = "reader", password_file = "password" }
"""
NOBODYS = 54_321  # a group that nobody here has


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.mqtt.connection.CONNECT_TIMEOUT_S", 0.1)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """In a directory that everybody may enter."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    (tmp_path / "data").mkdir()
    made = tmp_path / "password"
    made.write_text("secret\n")
    made.chmod(0o600)
    return made


def findings(directory: Path, *parts: str) -> list[Finding]:
    config = directory / "agent.toml"
    config.write_text("".join([CONFIG, *parts]))
    return check(config)


def warnings(directory: Path, *parts: str) -> list[str]:
    found = [one for one in findings(directory, *parts) if one.mark == "warn"]
    assert all(one.ok and one.exit_code == 0 for one in found)
    return [f"{one.what}: {one.detail}" for one in found]


@pytest.mark.parametrize(
    ("host", "warned"),
    [("192.0.2.1", True), ("broker.invalid", True), ("localhost", False), ("127.0.0.1", False)],
)
def test_a_password_without_tls_is_warned_of_unless_it_stays_here(
    tmp_path: Path, password: Path, host: str, warned: bool
) -> None:
    told = warnings(tmp_path, INPUT.replace("HOST", host))
    assert [one.startswith("input bus: sends its user and password") for one in told] == (
        [True] if warned else []
    )


def test_the_uplinks_is_too(tmp_path: Path, password: Path) -> None:
    (told,) = warnings(tmp_path, UPLINK, INPUT.replace("HOST", "::1"))
    assert told == (
        "mqtt: sends its user and password without TLS: anyone on the path to 192.0.2.1 can read"
        " them. Set tls_ca_file"
    )


def test_a_password_that_only_the_service_gets_is_told(
    tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the broker's refusal would look like a wrong password."""
    local = UPLINK.replace("192.0.2.1", "localhost").replace('password_file = "password"', "")
    source = INPUT.replace("HOST", "localhost")
    (told,) = warnings(tmp_path, local, source)
    assert told.startswith("mqtt: no password for user gw-1 is known here")
    assert "/etc/credstore/mqtt.password" in told
    assert "/etc/credstore.encrypted/mqtt.password" in told
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    password.with_name("mqtt.password").write_text("secret")
    assert warnings(tmp_path, local, source) == []


@pytest.mark.parametrize("code", [0x86, 0x87])
@pytest.mark.parametrize("known", [False, True])
def test_a_broker_that_wants_the_services_password_is_no_failure(
    tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch, code: int, known: bool
) -> None:
    """Unless that password is known here, and so wrong."""
    monkeypatch.setattr("agent.mqtt.connection.CONNECT_TIMEOUT_S", 60)
    with ScriptedBroker(lambda session: session.accept(code=code)) as scripted:
        local = UPLINK.replace("192.0.2.1", f'127.0.0.1"\nport = {scripted.port}\n#')
        if not known:
            local = local.replace('password_file = "password"', "")
        found = findings(tmp_path, local, INPUT.replace("HOST", "localhost"))
    (told,) = [one for one in found if one.what.startswith("broker ")]
    assert told.ok is not known
    assert told.mark == ("ok" if known else "unknown")


def test_a_file_that_every_user_can_read_is_named_with_the_remedy(
    tmp_path: Path, password: Path
) -> None:
    files = INPUT.replace("HOST", "localhost")
    (kept,) = [one for one in findings(tmp_path, files) if one.what == "secrets"]
    assert kept == Finding(True, "secrets", f"nobody else can read {password}")
    password.rename(tmp_path / "away")
    assert not [one for one in findings(tmp_path, files) if one.what == "secrets"]
    (tmp_path / "away").rename(password)
    password.chmod(0o604)
    (told,) = warnings(tmp_path, files)
    assert told == f"secrets: every user can read {password}; chmod o= {password} prevents that"


def test_so_is_a_key(tmp_path: Path, password: Path) -> None:
    for name in ("key", "certificate", "ca"):
        (tmp_path / name).touch(mode=0o644)
        (tmp_path / name).chmod(0o644)
    of_key = 'host = "localhost", tls_ca_file = "ca", tls_cert_file = "certificate"'
    head, _, _ = INPUT.partition("broker =")
    (told,) = warnings(tmp_path, f'{head}broker = {{ {of_key}, tls_key_file = "key" }}\n')
    assert f"can read {tmp_path / 'key'};" in told
    (told,) = warnings(tmp_path, f"{head}broker = {{ {of_key} }}\n")  # the key is in there
    assert f"can read {tmp_path / 'certificate'};" in told


def test_a_group_may_read_it_if_it_is_its_own(password: Path) -> None:
    group = password.stat().st_gid
    password.chmod(0o640)
    assert readers(password, frozenset({group})) is None
    told = readers(password, frozenset({NOBODYS}))
    assert told == (
        f"the group {password.group()}, which is not the service's, can read {password}; chmod g="
        f" {password} prevents that"
    )


def test_a_file_that_the_service_cannot_read_is_named(password: Path) -> None:
    service = Service(NOBODYS, NOBODYS)
    told = (
        f"the user {NOBODYS}, who owns the store, cannot read {password}; chown {NOBODYS}"
        f" {password} permits it"
    )
    for mode, group, said in (
        (0o600, NOBODYS, told),
        (0o640, NOBODYS, told),
        (0o640, password.stat().st_gid, None),
        (0o604, NOBODYS, None),
    ):
        password.chmod(mode)
        assert closed_to(password, service._replace(group=group)) == said
    password.chmod(0o200)
    assert closed_to(password, Service(os.geteuid(), NOBODYS)) is None  # we would see it ourselves
    assert closed_to(password.with_name("absent"), service) is None


def test_a_group_may_read_it_if_it_is_the_services(tmp_path: Path, password: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files to any group")
    files = INPUT.replace("HOST", "localhost")
    password.chmod(0o640)
    os.chown(password, -1, NOBODYS)
    (told,) = warnings(tmp_path, files)
    assert f"the group {NOBODYS}, which is not the service's, can read {password}" in told
    os.chown(tmp_path / "data", -1, NOBODYS)  # as systemd gives the store to the service
    assert warnings(tmp_path, files) == []


def test_a_file_of_roots_that_the_service_cannot_read_is_named(
    tmp_path: Path, password: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files to any user")
    files = INPUT.replace("HOST", "localhost")
    os.chown(tmp_path / "data", NOBODYS, NOBODYS)  # as systemd gives the store to the service
    _, told = warnings(tmp_path, files)
    assert f"the user {NOBODYS}, who owns the store, cannot read {password}; chown" in told
    for user, group, mode in ((NOBODYS, -1, 0o600), (0, NOBODYS, 0o640)):
        os.chown(password, user, group)
        password.chmod(mode)
        (told,) = warnings(tmp_path, files)
        assert told.startswith("user: ")


def test_root_is_told_to_test_as_the_user_of_the_agent(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = INPUT.partition("broker =")[0] + 'broker = { host = "localhost" }\n'
    assert warnings(tmp_path, source) == []
    if os.geteuid() != 0:  # nobody else can make it so
        return
    os.chown(tmp_path / "data", NOBODYS, NOBODYS)
    (told,) = warnings(tmp_path, source)
    assert told == (
        f"user: root has more permissions than {NOBODYS}, who owns the store, so the agent may"
        " fail where check reports ok."
        f" Run check as {NOBODYS}: sudo -u {NOBODYS} fieldwatch-agent check"
    )


def test_keys_that_others_can_change_are_named(tmp_path: Path, password: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o755)
    new_key(tmp_path / "central.key", "collector").rename(keys / "central.pub")
    (keys / "revoked").touch(mode=0o644)
    files = INPUT.replace("HOST", "localhost") + '[keys]\ndirectory = "keys"\n'
    assert warnings(tmp_path, files) == []
    for path in (keys, keys / "central.pub", keys / "revoked"):
        usual = path.stat().st_mode
        path.chmod(usual | 0o002)
        (told,) = warnings(tmp_path, files)
        assert f"other users can write to {path}, and so change" in told
        path.chmod(usual)


def test_a_directory_that_others_cannot_enter_protects_it(tmp_path: Path, password: Path) -> None:
    password.chmod(0o644)
    assert readers(password, frozenset()) is not None
    tmp_path.chmod(0o700)
    assert readers(password, frozenset()) is None


def test_a_link_does_not_hide_who_can_read_it(tmp_path: Path, password: Path) -> None:
    password.chmod(0o644)
    (tmp_path / "private").mkdir(mode=0o700)
    link = tmp_path / "private" / "link"
    link.symlink_to(password)
    assert readers(link, frozenset()) is not None


def test_a_file_that_is_not_there_has_no_readers(tmp_path: Path) -> None:
    assert readers(tmp_path / "absent", frozenset()) is None


def test_the_collector_warns_of_a_secret_that_others_can_read(
    tmp_path: Path, password: Path
) -> None:
    words = ["collect", str(tmp_path / "out"), "--site", "plant", "--host", "localhost"]
    words += ["--password-file", str(password), "--require-signatures"]  # which it refuses
    for mode, told in ((0o600, ""), (0o604, f"WARNING every user can read {password}; chmod")):
        password.chmod(mode)
        printed = CliRunner().invoke(commands, words)
        assert isinstance(printed.exception, ConfigError)
        assert printed.stderr.startswith(told)
        assert bool(printed.stderr) == bool(told)
