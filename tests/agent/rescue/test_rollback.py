"""After an upgrade that fails, the former environment runs again, and can use its databases."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.rescue.rollback import NoWayBack, lines, rollback
from agent.store.copies import DIRECTORY, GOING_BACK, copies, keep_copy, versions
from agent.store.maintenance import bring_up_to_date
from agent.store.migrations import READINGS, RECORDS
from agent.store.sqlite import current_version, open_for_writing
from models.errors import StoreError
from tests.agent.rescue.conftest import Gateway
from tests.agent.rescue.environments import environment, link
from tests.agent.store.test_migrations import make
from tests.agent.store.test_writer import queued
from tests.database import asked

FORMER = {RECORDS: current_version(RECORDS) - 1, READINGS: current_version(READINGS)}


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    directory = tmp_path_factory.mktemp("environments")
    yield {
        "former": environment(directory / "1", former=True),
        "same": environment(directory / "2"),
        "none": directory / "3",
    }


class Upgraded:
    """A gateway that was upgraded: its databases are migrated, and its link is at the new one."""

    def __init__(self, gateway: Gateway, former: Path, new: Path) -> None:
        self.gateway = gateway
        for name, version in FORMER.items():
            (gateway.store / name).unlink()
            make(gateway.store, name, version)
        self.link = link(gateway.directory / "fieldwatch", new)
        self.former = former
        link(gateway.directory / "fieldwatch.previous", former)
        (gateway.directory / "fieldwatch.trial").touch()

    def migrate(self) -> None:
        """Do what the first start of the new version does, in this process."""
        keep_copy(self.gateway.store)
        for name in FORMER:
            open_for_writing(self.gateway.store / name, "FULL").close()


@pytest.fixture
def upgraded(gateway: Gateway, environments: dict[str, Path]) -> Upgraded:
    return Upgraded(gateway, environments["former"], environments["same"])


def is_back(upgraded: Upgraded) -> bool:
    directory = upgraded.gateway.directory
    left = [directory / f"fieldwatch.{name}" for name in ("previous", "trial", "new")]
    return upgraded.link.resolve() == upgraded.former and not any(one.is_symlink() for one in left)


def test_what_came_meanwhile_is_imported(upgraded: Upgraded) -> None:
    upgraded.migrate()
    store = upgraded.gateway.store
    upgraded.gateway.commit()
    waiting = queued(store)
    (samples,) = asked(store / READINGS, "SELECT sum(rows) FROM samples")
    failed = upgraded.link.resolve()
    outcome = rollback(upgraded.gateway.config, upgraded.link)
    assert (outcome.databases, outcome.why_not_imported) == ("imported", None)
    assert is_back(upgraded)
    assert (upgraded.gateway.directory / "fieldwatch.failed").resolve() == failed
    assert versions(store) == FORMER
    assert queued(store) == waiting and len(waiting) == 5
    assert asked(store / READINGS, "SELECT sum(rows) FROM samples") == [samples]
    assert outcome.aside is not None
    assert versions(Path(outcome.aside))[RECORDS] == current_version(RECORDS)
    assert "nothing is lost but what only the newer version stores" in "\n".join(lines(outcome))
    upgraded.migrate()  # by the next upgrade
    assert queued(store) == waiting


def test_the_same_tables_stay_as_they_are(gateway: Gateway, environments: dict[str, Path]) -> None:
    upgraded = Upgraded(gateway, environments["same"], environments["former"])
    upgraded.migrate()
    upgraded.gateway.commit()
    before = upgraded.gateway.files()
    outcome = rollback(gateway.config, upgraded.link)
    assert (outcome.databases, outcome.aside) == ("kept", None)
    assert is_back(upgraded)
    databases = {name: data for name, data in gateway.files().items() if "/data/" in name}
    assert databases.items() <= before.items()


def test_rows_that_do_not_fit_stay_aside_and_the_copy_comes_back(upgraded: Upgraded) -> None:
    upgraded.migrate()
    upgraded.gateway.commit()
    store = upgraded.gateway.store
    last = asked(store / RECORDS, "SELECT value FROM meta WHERE key = 'last_seq'")
    asked(store / RECORDS, "ALTER TABLE points RENAME COLUMN document TO another")
    outcome = rollback(upgraded.gateway.config, upgraded.link)
    assert outcome.databases == "copy"
    assert outcome.why_not_imported is not None
    assert "the table points has no document" in outcome.why_not_imported
    told = "\n".join(lines(outcome))
    assert "came after it are not in it" in told and f"kept in {outcome.aside}" in told
    assert is_back(upgraded)
    assert queued(store) == [3, 4, 5, 6]
    # but no number is used twice
    assert asked(store / RECORDS, "SELECT value FROM meta WHERE key = 'last_seq'") == last == [(7,)]


def test_without_a_copy_the_former_version_makes_new_files_and_imports(upgraded: Upgraded) -> None:
    upgraded.migrate()
    store = upgraded.gateway.store
    shutil.rmtree(store / DIRECTORY)
    outcome = rollback(upgraded.gateway.config, upgraded.link)
    assert outcome.databases == "imported"
    assert versions(store) == FORMER
    assert queued(store) == [3, 4, 5, 6]


def test_a_copy_of_fieldwatch_db_alone_will_do(upgraded: Upgraded) -> None:
    upgraded.migrate()
    store = upgraded.gateway.store
    (copy,) = copies(store)
    (copy.directory / READINGS).unlink()
    assert rollback(upgraded.gateway.config, upgraded.link).databases == "imported"
    assert asked(store / READINGS, "SELECT count(*) FROM samples") != [(0,)]


def test_a_damaged_newer_file_is_kept_and_the_copy_comes_back(upgraded: Upgraded) -> None:
    upgraded.migrate()
    store = upgraded.gateway.store
    data = bytearray((store / READINGS).read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    (store / READINGS).write_bytes(data)
    outcome = rollback(upgraded.gateway.config, upgraded.link)
    assert outcome.databases == "copy"
    assert outcome.aside is not None and (Path(outcome.aside) / READINGS).read_bytes() == data
    assert versions(store) == FORMER


def test_a_dry_run_changes_nothing(upgraded: Upgraded) -> None:
    upgraded.migrate()
    before, target = upgraded.gateway.files(), upgraded.link.resolve()
    outcome = rollback(upgraded.gateway.config, upgraded.link, dry_run=True)
    assert outcome.databases == "copy"
    assert "would go back" in "\n".join(lines(outcome))
    assert (upgraded.gateway.files(), upgraded.link.resolve()) == (before, target)


def test_nothing_changes_while_an_agent_runs(upgraded: Upgraded) -> None:
    upgraded.migrate()
    store = upgraded.gateway.open()
    before, target = upgraded.gateway.files(), upgraded.link.resolve()
    with pytest.raises(StoreError, match="in use by another agent"):
        rollback(upgraded.gateway.config, upgraded.link)
    store.close()
    assert (upgraded.gateway.files(), upgraded.link.resolve()) == (before, target)


def test_without_a_former_environment_it_says_what_to_do(upgraded: Upgraded) -> None:
    (upgraded.gateway.directory / "fieldwatch.previous").unlink()
    with pytest.raises(NoWayBack, match="Install the former version"):
        rollback(upgraded.gateway.config, upgraded.link)


def test_a_former_environment_that_does_not_run_is_refused(
    upgraded: Upgraded, environments: dict[str, Path]
) -> None:
    previous = upgraded.gateway.directory / "fieldwatch.previous"
    previous.unlink()
    environments["none"].mkdir(exist_ok=True)
    previous.symlink_to(environments["none"])
    target = upgraded.link.resolve()
    with pytest.raises(NoWayBack, match="does not run"):
        rollback(upgraded.gateway.config, upgraded.link)
    assert upgraded.link.resolve() == target


class Cut(BaseException):
    """The power goes."""


def test_a_power_cut_on_the_way_back_is_completed_by_the_next_start(
    upgraded: Upgraded, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded.migrate()
    store = upgraded.gateway.store
    real: Callable[[Path, Path], Path] = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == READINGS:  # the other database is in place
            raise Cut
        return real(self, target)

    with monkeypatch.context() as cutting:
        cutting.setattr(Path, "rename", rename)
        with pytest.raises(Cut):
            rollback(upgraded.gateway.config, upgraded.link)
    assert (store / GOING_BACK).exists()
    assert not is_back(upgraded)  # so the new version starts again, and completes it
    bring_up_to_date(store)
    assert not (store / GOING_BACK).exists()
    assert queued(store) == [3, 4, 5, 6]
    assert rollback(upgraded.gateway.config, upgraded.link).databases == "imported"
    assert is_back(upgraded) and versions(store) == FORMER


def test_the_former_environment_itself_can_do_it(upgraded: Upgraded) -> None:
    """As systemd's hook calls it: the code that is known to run."""
    upgraded.migrate()
    program = upgraded.former / "bin" / "fieldwatch-agent"
    words = ["rollback", "--config", upgraded.gateway.config, "--environment", upgraded.link]
    ended = subprocess.run([program, *words, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["databases"] == "imported"
    assert is_back(upgraded)
