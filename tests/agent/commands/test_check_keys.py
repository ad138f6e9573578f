"""What ``check`` says about keys, and about acknowledgements that anybody can send."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.commands.check import Finding, check
from models.keys import new_key, read_keys, revoke


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (directory := tmp_path / "keys").mkdir()
    new_key(tmp_path / "central.key", "collector", "central").rename(directory / "central.pub")
    return directory


def findings(tmp_path: Path, mqtt: str, keys: str = 'directory = "keys"') -> dict[str, Finding]:
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "."
[keys]
{keys}
[mqtt]
host = "127.0.0.1"
port = 1
{mqtt}
[[streams]]
name = "pump"
baseline = {{ period_s = 1.0, channels = [{{ name = "flow" }}] }}
[[inputs]]
name = "line"
port = "nowhere"
stream = "pump"
columns = ["time", "flow"]
"""
    )
    return {one.what.split()[0]: one for one in check(path)}


def test_the_key_that_signs_may_be_a_credential_of_systemd(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "signing" not in findings(tmp_path, "")
    new_key(tmp_path / "mqtt.sign", "gateway", "plant/gw-1")
    found = findings(tmp_path, "")["signing"]
    assert found.ok
    assert found.what == f"signing {tmp_path / 'mqtt.sign'}"
    assert found.detail.startswith("messages are signed with key")


def test_a_collector_with_a_key_is_named(tmp_path: Path, keys: Path) -> None:
    found = findings(tmp_path, 'acknowledgement = "central"')
    (key,) = read_keys(keys)
    assert found["keys"].ok
    assert "collector 1" in found["keys"].detail
    assert found["acknowledgements"].ok
    assert found["acknowledgements"].detail == (
        f"accepted if signed by {key.key_id.hex()} (central)"
    )


def test_a_collector_without_a_key_is_warned_of(tmp_path: Path, keys: Path) -> None:
    unsigned = 'acknowledgement = "central"\nunsigned_acknowledgements = true'
    for directory, useless in (('directory = "keys"', True), ("", False)):
        found = findings(tmp_path, unsigned, directory)["acknowledgements"]
        assert found.mark == "warn"
        assert found.detail.startswith("accepted without a signature")
        assert ("collectors' keys are not used" in found.detail) == useless


def test_a_gateway_that_would_believe_nobody_fails(tmp_path: Path, keys: Path) -> None:
    revoke(keys, read_keys(keys)[0].key_id.hex(), "lost")
    found = findings(tmp_path, 'acknowledgement = "central"')["acknowledgements"]
    assert (found.ok, found.exit_code) == (False, 78)
    assert "has no unrevoked key of a collector" in found.detail


def test_keys_that_cannot_be_read_fail(tmp_path: Path, keys: Path) -> None:
    (keys / "scribble.pub").write_text("scribble")
    found = findings(tmp_path, "")
    assert (found["keys"].ok, found["keys"].exit_code) == (False, 78)
    assert "scribble.pub: not a key" in found["keys"].detail
    assert "acknowledgements" not in found
