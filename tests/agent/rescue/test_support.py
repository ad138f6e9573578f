"""The archive for a bug report has what helps, and none of the secrets that were planted."""

from __future__ import annotations

import base64
import gzip
import json
import os
import stat
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.rescue.backup import default_name
from agent.rescue.redaction import REMOVED, Secrets, is_telling
from agent.rescue.support import lines, support
from tests.agent.rescue.conftest import Gateway
from tests.agent.rescue.test_backup import unpacked

# in the configuration, where none belongs; some in comments and in tables of other packages
PLANTED = """
# the old password was Comment-Secret-1
[mqtt]
password = "Setting-Secret-2"
[[on_site.hooks]]
name = "pager"
command = ["/usr/bin/pager", "--login", "Argument-Secret-3"]
[[on_site.hooks]]
name = "web"
url = "https://chat.example/services/T0/B0/Path-Secret-4"
[[inputs]]
name = "other"
type = "load"
stream = "pump"
api_token = "Token-Secret-5"
address = "rtsp://camera:Url-Secret-6%21@camera.plant/stream"
database = "postgres://u:Url-Secret-7@db/x?sslmode=require&api_key=Query-Secret-8"
nested = { login = { passphrase = "Nested-Secret-9" } }
"""
IN_CONFIGURATION = [
    "Comment-Secret-1",
    "Setting-Secret-2",
    "Argument-Secret-3",
    "Path-Secret-4",
    "Token-Secret-5",
    "Url-Secret-6",
    "Url-Secret-7",
    "Query-Secret-8",
    "Nested-Secret-9",
]
IN_ENVIRONMENT = {
    "FIELDWATCH_MQTT__PASSWORD": "Variable-Secret-10",
    "FIELDWATCH_INPUT__URL": "mqtt://u:Variable-Secret-11@broker",
    "HTTPS_PROXY": "http://u:Variable-Secret-12@proxy:3128",
}
JOURNAL = """2026-01-01 agent: {secrets}
2026-01-01 agent: Authorization: Bearer Unknown-Secret-13
2026-01-01 agent: connecting to https://u:Unknown-Secret-14@host/ with password=Unknown-Secret-15
2026-01-01 agent: -----BEGIN PRIVATE KEY-----
Unknown-Secret-16
-----END PRIVATE KEY-----
2026-01-01 agent: ready: 1 streams, 1 inputs
"""


def program(directory: Path, name: str, text: str) -> None:
    """Put a program of the system into a directory: it prints a text."""
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.txt").write_text(text)
    file = directory / name
    file.write_text(f"#!/bin/sh\ncat {directory / name}.txt\n")
    file.chmod(0o755)


@pytest.fixture
def planted(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Plant secrets wherever one may be; return them."""
    gateway.write("conf.d/50-planted.toml", PLANTED)
    systemd = tmp_path / "credentials"
    systemd.mkdir()
    (systemd / "mqtt.password").write_text("Systemd-Secret-17\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(systemd))
    for name, value in IN_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    files = list(gateway.secrets.values())
    given = [f"Variable-Secret-{number}" for number in range(10, 13)]
    known = [*files, *given, "Systemd-Secret-17", "Setting-Secret-2", "Url-Secret-7"]
    forms = [known, map(quote, known), (base64.b64encode(one.encode()).decode() for one in known)]
    journal = JOURNAL.format(secrets=" ".join(one for form in forms for one in form))
    program(tmp_path / "bin", "journalctl", journal)
    program(tmp_path / "bin", "systemctl", "ActiveState=active\nNRestarts=3\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    unknown = [f"Unknown-Secret-{number}" for number in range(13, 17)]
    return [*known, *IN_CONFIGURATION, *unknown]


def test_no_secret_that_was_planted_is_in_it(
    gateway: Gateway, tmp_path: Path, planted: list[str]
) -> None:
    path = tmp_path / "support.tar.gz"
    manifest = support(gateway.config, path, gateway.credentials)
    found = unpacked(path)
    whole = gzip.decompress(path.read_bytes()) + "\n".join(lines(path, manifest)).encode()
    leaked = [one for one in planted if one.encode() in whole]
    leaked += [one for one in planted if base64.b64encode(one.encode()).rstrip(b"=") in whole]
    assert leaked == []
    assert whole.count(REMOVED.encode()) > 20
    # and what helps is there
    assert b"ready: 1 streams, 1 inputs" in found["journal.txt"]
    assert b"NRestarts=3" in found["unit.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_helps_stays_in_it(gateway: Gateway, tmp_path: Path, planted: list[str]) -> None:
    path = tmp_path / "support.tar.gz"
    support(gateway.config, path, gateway.credentials)
    found = unpacked(path)
    configuration = json.loads(found["configuration.json"])
    main = configuration[str(gateway.config)]
    assert main["mqtt"]["password_file"] == "mqtt.password"  # where it is, is no secret
    assert main["gateway"] == {"site": "plant", "name": "gw-1"}
    hooks = configuration[str(gateway.config.parent / "conf.d/50-planted.toml")]["on_site"]["hooks"]
    assert hooks[0]["command"] == ["/usr/bin/pager", REMOVED, REMOVED]
    assert hooks[1]["url"] == f"https://chat.example/{REMOVED}"
    databases = json.loads(found["databases.json"])
    assert databases["tables"] == databases["supported"]
    assert b"numpy==" in found["packages.txt"]
    assert json.loads(found["machine.json"])["disk"]["free"] > 0
    assert json.loads(found["alarms.json"]) == []
    assert str(gateway.config.parent / "page-users") in json.loads(found["files.json"])["files"]


@pytest.mark.parametrize("text", ["not = [toml", None])
def test_a_wrong_or_absent_configuration_is_no_reason_to_fail(
    gateway: Gateway, tmp_path: Path, text: str | None
) -> None:
    gateway.config.unlink()
    if text is not None:
        gateway.write("agent.toml", f"password = 'Plain-Secret'\n{text}")
    path = tmp_path / "support.tar.gz"
    manifest = support(gateway.config, path, gateway.credentials)
    assert "configuration.json" in manifest["not_had"]
    assert "packages.txt" in unpacked(path)
    assert b"Plain-Secret" not in gzip.decompress(path.read_bytes())
    assert default_name(gateway.config, "support-").startswith("fieldwatch-support-")


def test_an_absent_database_is_told(gateway: Gateway, tmp_path: Path) -> None:
    (gateway.store / "readings.db").unlink()
    path = tmp_path / "support.tar.gz"
    manifest = support(gateway.config, path, gateway.credentials)
    assert "no such database" in manifest["not_had"]["status.json"]
    assert "absent  status.json" in "\n".join(lines(path, manifest))


@pytest.mark.parametrize("key", ["password", "api_key", "token", "X-Auth", "passphrase", "secret"])
def test_a_telling_key_has_a_secret(key: str) -> None:
    assert is_telling(key)
    assert Secrets(()).redacted({key: "abc", "list": [{key: "abc"}]}) == {
        key: REMOVED,
        "list": [{key: REMOVED}],
    }


@pytest.mark.parametrize(
    "key", ["password_file", "tls_key_file", "sign", "keepalive_s", "host", "session_hours", "keys"]
)
def test_a_place_or_a_time_is_none(key: str) -> None:
    assert Secrets(()).redacted({key: "etc/x"}) == {key: "etc/x"}


def test_a_short_secret_does_not_blank_everything() -> None:
    assert Secrets(["a", "1"]).removed_from("a 1 banana") == "a 1 banana"
