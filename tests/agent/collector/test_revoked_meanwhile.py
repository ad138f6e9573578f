"""Keys that are revoked while a collector runs, and a file ``revoked`` that is broken."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.collector import enrolled as enrolled_keys
from agent.collector import reminder
from agent.collector.enrolled import Enrolled
from agent.mqtt.signer import read_signer
from models.keys import new_key, read_secret, revoke, understood_revoked
from tests.agent.collector.test_hostile import Central, numbered, topic
from tests.conftest import RealBroker, wait_until
from tests.uplink_rig import Collecting


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolled_keys, "LOOK_S", 0.0)


def directory_with(tmp_path: Path, role: str, name: str) -> tuple[Path, Path]:
    """Return a directory with a public key, and the secret one."""
    directory, secret = tmp_path / "keys", tmp_path / f"{role}.key"
    directory.mkdir(exist_ok=True)
    public = new_key(secret, role, name)  # type: ignore[arg-type]
    public.rename(directory / public.name)
    return directory, secret


def collected(store: Path) -> str:
    """Return what the command ``collected`` prints."""
    return CliRunner().invoke(commands, ["collected", str(store)]).output


def test_a_collector_notices_that_its_own_key_is_revoked(
    tmp_path: Path,
    broker: RealBroker,
    collecting: Callable[..., Collecting],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    directory, secret = directory_with(tmp_path, "collector", "central")
    key = read_secret(secret, "collector")
    collecting(broker.port, key=key, enrolled=Enrolled(directory, "plant"))
    wait_until(lambda: "collecting from plant" in caplog.text, "the collector")
    assert "is revoked" not in caplog.text
    told = f"this collector's key {key.key_id.hex()} is revoked: lost with the notebook"
    revoke(directory, key.key_id.hex(), "lost with the notebook")
    wait_until(lambda: told in caplog.text, "the log")
    assert caplog.text.count(told) == 1
    monkeypatch.setattr(reminder, "AGAIN_S", 0.0)  # each minute, here at once
    (directory / "revoked").write_text(f"key {key.key_id.hex()} for another reason\n")
    wait_until(lambda: caplog.text.count("for another reason") > 2, "it to be repeated")
    store = tmp_path / "central"
    wait_until(lambda: "for another reason" in collected(store), "collected to say so")
    (directory / "revoked").unlink()
    wait_until(lambda: "key is no longer revoked" in caplog.text, "the end")
    assert "is revoked" not in collected(store)


def test_a_broken_file_revokes_what_its_other_lines_say_and_is_told_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, secret = directory_with(tmp_path, "gateway", "plant/gw-1")
    ours = read_signer(secret, "plant", "gw-1")
    file = directory / "revoked"
    with contextlib.closing(
        Central(tmp_path / "c", enrolled=Enrolled(directory, "plant"))
    ) as central:
        central.hear(topic(), ours.signed(topic(), numbered(1)))
        assert central.here() == [1]
        file.write_text(f"something else\nkey {ours.key_id} lost\n")
        central.collector.renew()
        central.hear(topic(), ours.signed(topic(), numbered(2)))
        assert central.here() == [1]
        assert central.collector.rejected == {"revoked_key": 1}
        assert caplog.text.count("the keys of gateways stay as before") == 1
        monkeypatch.setattr(reminder, "AGAIN_S", 0.0)
        file.write_text(f"something more\nkey {ours.key_id} lost\n")
        for _ in range(3):
            central.collector.renew()
        assert caplog.text.count("the keys of gateways stay as before") == 4
        assert "line 1: 'something more' is neither" in caplog.text
        file.write_text("# nobody\n")
        central.collector.renew()
        assert "the keys of gateways can be read again" in caplog.text
        central.hear(topic(), ours.signed(topic(), numbered(3)))
        assert central.here() == [1, 3]


def test_what_cannot_be_read_revokes_nothing_more(tmp_path: Path) -> None:
    assert understood_revoked(tmp_path / "absent") == {}
    assert understood_revoked(tmp_path) == {}  # a directory
    (tmp_path / "revoked").write_text(f"# all\nkey {'0' * 16} lost\nbundle x\nkey {'1' * 16}\n")
    assert understood_revoked(tmp_path / "revoked") == {
        f"key {'0' * 16}": "lost",
        f"key {'1' * 16}": "",
    }
