"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.rescue.interrupted import journal_of
from models.errors import StoreError
from tests.agent.rescue.conftest import Gateway
from tests.agent.store.test_writer import queued
from tests.conftest import AGENT


def call(gateway: Gateway, *words: object) -> Result:
    name, *rest = map(str, words)
    return CliRunner().invoke(commands, [name, "--config", str(gateway.config), *rest])


def start(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    """Start an agent that ends at once."""
    return subprocess.run(
        [*AGENT, "run", "--config", gateway.config], capture_output=True, text=True, check=False
    )


@pytest.fixture
def file(gateway: Gateway, tmp_path: Path) -> Path:
    path = tmp_path / "backup.tar.gz"
    ended = call(gateway, "backup", path)
    assert ended.exit_code == 0, ended.output
    assert "To restore it: sudo systemctl stop fieldwatch-agent" in ended.output
    return path


def test_a_backup_is_restored_after_it_was_shown(gateway: Gateway, file: Path) -> None:
    gateway.commit()
    shown = call(gateway, "restore", file, "--dry-run")
    assert shown.exit_code == 0 and f"replaced  {gateway.store}" in shown.output
    assert queued(gateway.store) == [1, 2]
    unasked = call(gateway, "restore", file)
    assert unasked.exit_code == 2 and "add --yes" in unasked.output
    assert queued(gateway.store) == [1, 2]
    done = call(gateway, "restore", file, "--yes", "--json")
    assert done.exit_code == 0
    document = json.loads(done.output)
    assert document["restored"] and document["epoch_goes_on"]
    assert all(Path(one).exists() for one in document["kept"])
    assert queued(gateway.store) == [1]


def test_restore_needs_an_archive_or_complete(gateway: Gateway, file: Path) -> None:
    assert call(gateway, "restore").exit_code == 2
    assert call(gateway, "restore", file, "--complete").exit_code == 2
    assert "no restore was interrupted" in call(gateway, "restore", "--complete").output


def test_a_start_completes_an_interrupted_restore_before_it_reads_the_configuration(
    gateway: Gateway,
) -> None:
    new = gateway.write(".agent.toml.restoring", "new = true\n")
    aside = gateway.config.with_name("agent.toml.before")
    journal = journal_of(gateway.config)
    journal.write_text(json.dumps([[str(new), str(gateway.config), str(aside)]]))
    ended = start(gateway)
    assert ended.returncode == 78 and "new" in ended.stderr  # it has read the new one
    assert gateway.config.read_text() == "new = true\n"
    assert aside.exists() and not journal.exists()


def test_a_start_that_cannot_complete_it_says_who_can(gateway: Gateway) -> None:
    journal_of(gateway.config).write_text("no journal")
    ended = start(gateway)
    assert ended.returncode == StoreError.exit_code
    assert "fieldwatch-agent restore --complete" in ended.stderr


def test_support_and_backup_tell_programs_what_they_wrote(gateway: Gateway, tmp_path: Path) -> None:
    for name in ("support", "backup"):
        path = tmp_path / f"{name}.tar.gz"
        document = json.loads(call(gateway, name, path, "--json").output)
        assert document["file"] == str(path) and path.exists()
        assert all(len(one["sha256"]) == 64 for one in document["files"])
