"""The commands ``keys new``, ``keys list`` and ``keys revoke``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from models.errors import ConfigError
from models.keys import read_secret
from trainer.cli import commands as trainer_commands


def call(*words: object) -> Result:
    return CliRunner().invoke(commands, ["keys", *map(str, words)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A gateway whose directory of keys has one of the trainer and one of the collector."""
    (tmp_path / "keys").mkdir()
    assert (
        CliRunner().invoke(trainer_commands, ["keygen", str(tmp_path / "ops.key")]).exit_code == 0
    )
    made = call("new", "collector", tmp_path / "central.key", "--name", "central")
    assert made.output.startswith(f"{tmp_path}/central.key is secret: keep it here")
    for name in ("ops.pub", "central.pub"):
        (tmp_path / name).rename(tmp_path / "keys" / name)
    file = tmp_path / "agent.toml"
    file.write_text(
        '[gateway]\nsite = "plant"\nname = "gw-1"\n[keys]\ndirectory = "keys"\n'
        '[[streams]]\nname = "pump"\n'
        'baseline = { period_s = 1.0, channels = [{ name = "flow" }] }\n'
        '[[inputs]]\nname = "line"\nport = "/dev/ttyUSB0"\nstream = "pump"\n'
        'columns = ["time", "flow"]\n'
    )
    return file


def test_the_list_has_a_row_for_each_key(config: Path, tmp_path: Path) -> None:
    assert call("list", "--config", config).exit_code == 0
    header, bundle, collector = call("list", "--config", config).output.splitlines()
    assert header.split() == ["role", "key", "name", "file"]
    key_id = read_secret(tmp_path / "central.key", "collector").key_id.hex()
    file = f"{tmp_path}/keys/central.pub"
    assert collector.split() == ["collector", key_id, "central", file]
    assert bundle.split()[::2] == ["bundle", "–"]
    rows = json.loads(call("list", "--keys", tmp_path / "keys", "--json").output)["keys"]
    assert rows[1] == {
        "role": "collector",
        "key_id": key_id,
        "name": "central",
        "file": file,
        "revoked": False,
        "why": None,
    }


def test_a_revoked_key_is_shown_with_the_reason(config: Path, tmp_path: Path) -> None:
    key_id = read_secret(tmp_path / "central.key", "collector").key_id.hex()
    revoked = call("revoke", key_id, "--why", "lost with the notebook", "--config", config)
    assert f"({tmp_path}/keys/central.pub)" in revoked.output
    row = call("list", "--config", config).output.splitlines()[2]
    assert row.endswith("central.pub  REVOKED: lost with the notebook")
    unknown = call("revoke", "0" * 16, "--why", "", "--keys", tmp_path / "keys")
    assert "no key in " in unknown.output
    (key,) = [
        row
        for row in json.loads(call("list", "--config", config, "--json").output)["keys"]
        if row["revoked"]
    ]
    assert (key["key_id"], key["why"]) == (key_id, "lost with the notebook")


def test_without_a_directory_it_says_which_setting_is_missing(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace('[keys]\ndirectory = "keys"\n', ""))
    refused = call("list", "--config", config)
    assert isinstance(refused.exception, ConfigError)
    assert "keys.directory is not set" in str(refused.exception)
    elsewhere = call("list", "--config", tmp_path / "nowhere.toml")
    assert str(elsewhere.exception).endswith("; or give --keys DIRECTORY")
    (tmp_path / "none").mkdir()
    assert call("list", "--keys", tmp_path / "none").output == f"{tmp_path}/none: no keys\n"
