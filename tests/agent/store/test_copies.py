"""What an upgrade keeps of the databases, and how a former version gets the later rows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.store.batch import COUNTER, Batch
from agent.store.copies import (
    COPIES_MAX,
    DIRECTORY,
    GOING_BACK,
    carry_over,
    continue_numbers,
    copies,
    copy_for,
    keep_copy,
    versions,
)
from agent.store.maintenance import bring_up_to_date
from agent.store.migrations import READINGS, RECORDS
from agent.store.sqlite import bytes_on_disk, current_version, snapshot
from agent.store.switch import Move, as_owner, finish, switch
from agent.store.writer import Store
from models.errors import StoreError
from tests.agent.store.test_migrations import make, rows
from tests.agent.store.test_writer import message, queued, samples
from tests.database import asked

CURRENT = {name: current_version(name) for name in (RECORDS, READINGS)}


def old_files(directory: Path, records: int = 4, readings: int = 5) -> None:
    directory.mkdir(exist_ok=True)
    make(directory, RECORDS, records)
    make(directory, READINGS, readings)


def content(file: Path) -> dict[str, list[object]]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return rows(connection)


@pytest.mark.parametrize("records", [1, CURRENT[RECORDS] - 1])
def test_an_upgrade_keeps_both_files_as_they_were(tmp_path: Path, records: int) -> None:
    old_files(tmp_path, records)
    before = {name: content(tmp_path / name) for name in CURRENT}
    bring_up_to_date(tmp_path)
    assert versions(tmp_path) == CURRENT
    (copy,) = copies(tmp_path)
    assert copy.versions == {RECORDS: records, READINGS: 5}
    assert versions(copy.directory) == copy.versions
    assert {name: content(copy.directory / name) for name in CURRENT} == before


def test_a_new_store_and_one_of_this_version_need_no_copy(tmp_path: Path) -> None:
    bring_up_to_date(tmp_path)
    bring_up_to_date(tmp_path)
    assert copies(tmp_path) == []


def test_there_is_one_copy_of_each_version_and_only_the_newest_few(tmp_path: Path) -> None:
    for records in (2, 3, 3, 4, 5):
        (tmp_path / RECORDS).unlink(missing_ok=True)
        (tmp_path / READINGS).unlink(missing_ok=True)
        old_files(tmp_path, records)
        keep_copy(tmp_path)
    kept = [copy.versions[RECORDS] for copy in copies(tmp_path)]
    assert kept == [5, 4]
    assert len(kept) == COPIES_MAX
    fitting = copy_for(tmp_path, {RECORDS: 4, READINGS: 6})
    assert fitting is not None and fitting.versions[RECORDS] == 4
    assert copy_for(tmp_path, {RECORDS: 3, READINGS: 6}) is None


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("spare", "kept"), [("both", 2), ("records", 1), ("nothing", 0)])
def test_without_room_it_migrates_without_a_copy_and_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spare: str,
    kept: int,
) -> None:
    old_files(tmp_path)
    sizes = {name: bytes_on_disk(tmp_path / name) for name in CURRENT}
    more = {"both": sum(sizes.values()), "records": sizes[RECORDS], "nothing": 0}[spare]
    free = 2 * sum(sizes.values()) + 2**24 + more
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, free))
    copy = keep_copy(tmp_path)
    assert (0 if copy is None else sum(copy.has(name) for name in CURRENT)) == kept
    assert caplog.text.count("is migrated without a copy") == 2 - kept


def test_a_damaged_file_is_migrated_as_before_without_a_copy(tmp_path: Path) -> None:
    old_files(tmp_path)
    data = bytearray((tmp_path / READINGS).read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    (tmp_path / READINGS).write_bytes(data)
    bring_up_to_date(tmp_path)
    store = Store(tmp_path, "plant", "gw-1", 100, 1000)
    store.open()
    assert store.mended == 1
    store.close()


def test_the_former_version_gets_the_rows_that_came_after(tmp_path: Path) -> None:
    old_files(tmp_path)
    bring_up_to_date(tmp_path)
    store = Store(tmp_path, "plant", "gw-1", 100, 1000)
    store.open()
    store.commit(Batch(messages=[message()], samples=[samples(4)]), "synced")
    store.close()
    (copy,) = copies(tmp_path)
    former = tmp_path / "former"
    shutil.copytree(copy.directory, former)
    for name in CURRENT:
        assert carry_over(former / name, tmp_path / name) > 0
    assert versions(former) == copy.versions
    assert queued(former) == queued(tmp_path) == [3, 4, 5, 6, 7]
    assert asked(former / READINGS, "SELECT max(number) FROM samples") == asked(
        tmp_path / READINGS, "SELECT max(number) FROM samples"
    )


def test_rows_of_another_form_are_not_carried_and_nothing_changes(tmp_path: Path) -> None:
    old_files(tmp_path, 1)  # its outbox had other columns
    bring_up_to_date(tmp_path)
    (copy,) = copies(tmp_path)
    before = content(copy.directory / RECORDS)
    with pytest.raises(StoreError, match="the table outbox has no topic"):
        carry_over(copy.directory / RECORDS, tmp_path / RECORDS)
    assert content(copy.directory / RECORDS) == before


def meta(file: Path) -> dict[str, object]:
    return dict(asked(file, "SELECT key, value FROM meta"))


def test_numbers_go_on_where_a_later_state_of_the_same_epoch_was(tmp_path: Path) -> None:
    old_files(tmp_path, CURRENT[RECORDS], CURRENT[READINGS])
    snapshot(tmp_path / RECORDS, tmp_path / "early.db")
    asked_for = "INSERT INTO orders (id, expires, digest, answer) VALUES ('7', 9.0, 'd', '{}')"
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as later, later:
        later.execute("UPDATE meta SET value = 900 WHERE key = 'last_seq'")
        later.execute("INSERT OR REPLACE INTO meta VALUES (?, 5)", [COUNTER + "x"])
        later.execute(asked_for)
    epoch = meta(tmp_path / "early.db")["epoch"]
    assert continue_numbers(tmp_path / "early.db", tmp_path / RECORDS)
    after = meta(tmp_path / "early.db")
    assert (after["epoch"], after["last_seq"], after[COUNTER + "x"]) == (epoch, 900, 5)
    assert ("7",) in asked(tmp_path / "early.db", "SELECT id FROM orders")


@pytest.mark.parametrize("known", [False, True])
def test_without_that_state_a_new_epoch_begins(tmp_path: Path, known: bool) -> None:
    old_files(tmp_path, CURRENT[RECORDS], CURRENT[READINGS])
    old_files(tmp_path / "other", CURRENT[RECORDS], CURRENT[READINGS])
    with contextlib.closing(sqlite3.connect(tmp_path / "other" / RECORDS)) as other, other:
        other.execute("UPDATE meta SET value = 'another' WHERE key = 'epoch'")
        other.execute("UPDATE meta SET value = 900 WHERE key = 'last_seq'")
        other.execute("INSERT OR REPLACE INTO meta VALUES (?, 5)", [COUNTER + "x"])
    before = meta(tmp_path / RECORDS)["epoch"]
    waiting = len(queued(tmp_path))
    assert not continue_numbers(tmp_path / RECORDS, tmp_path / "other" / RECORDS if known else None)
    after = meta(tmp_path / RECORDS)
    assert after["epoch"] not in (before, "another")
    assert queued(tmp_path) == list(range(1, waiting + 1))
    assert after["last_seq"] == waiting
    # an order of central ops stays obeyed, whatever the epoch
    assert after.get(COUNTER + "x") == (5 if known else None)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_switch_is_completed_wherever_the_power_was_cut(tmp_path: Path) -> None:
    """After each step of it the power goes, and the next start completes it."""
    for steps in range(5):
        here = tmp_path / str(steps)
        here.mkdir()
        old = {name: written(here / name, f"old {name}") for name in ("a", "b", "b-wal")}
        moves = [
            Move(written(here / "a.new", "new a"), here / "a", here / "a.aside"),
            Move(None, here / "b-wal", here / "b.aside-wal"),
            Move(written(here / "b.new", "new b"), here / "b", here / "b.aside"),
        ]
        journal = here / "journal"
        journal.write_text(json.dumps([[*map(_text, move)] for move in moves]))
        renames = [
            (old["a"], here / "a.aside"),
            (here / "a.new", here / "a"),
            (old["b-wal"], here / "b.aside-wal"),
            (old["b"], here / "b.aside"),
            (here / "b.new", here / "b"),
        ]
        for source, place in renames[: steps + 1]:
            source.rename(place)
        assert finish(journal)
        assert not finish(journal)
        found = {path.name: path.read_text() for path in here.iterdir()}
        assert found == {
            "a": "new a",
            "a.aside": "old a",
            "b": "new b",
            "b.aside": "old b",
            "b.aside-wal": "old b-wal",
        }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def test_a_switch_that_cannot_begin_changes_nothing(tmp_path: Path) -> None:
    place = written(tmp_path / "a", "old")
    new = written(tmp_path / "a.new", "new")
    with pytest.raises(OSError):
        switch(tmp_path / "absent" / "journal", [Move(new, place, tmp_path / "a.aside")])
    assert place.read_text() == "old"


def test_the_next_start_completes_a_way_back(tmp_path: Path) -> None:
    bring_up_to_date(tmp_path)
    former = tmp_path / "former.db"
    snapshot(tmp_path / RECORDS, former)
    epoch = meta(former)["epoch"]
    aside = tmp_path / "newer.db"
    journal = tmp_path / GOING_BACK
    journal.write_text(json.dumps([[str(former), str(tmp_path / RECORDS), str(aside)]]))
    (tmp_path / RECORDS).rename(aside)  # and here the power was cut
    bring_up_to_date(tmp_path)
    assert meta(tmp_path / RECORDS)["epoch"] == epoch
    assert not journal.exists() and not former.exists()
    assert copies(tmp_path) == [] and not (tmp_path / DIRECTORY).exists()


@pytest.fixture
def of_another_user() -> Iterator[Path]:
    """A folder that anybody can reach; of another user, where we are root and can make one."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name, "store")
        Path(name).chmod(0o755)
        directory.mkdir()
        if os.geteuid() == 0:
            os.chown(directory, 65534, 65534)
        yield directory


def test_root_acts_as_the_owner_of_a_folder(of_another_user: Path) -> None:
    with as_owner(of_another_user):
        (of_another_user / "file").touch()
    assert (of_another_user / "file").stat().st_uid == of_another_user.stat().st_uid
    assert os.geteuid() == os.getuid()


def test_a_link_of_that_owner_leads_root_nowhere(of_another_user: Path) -> None:
    protected = of_another_user.parent / "protected"
    protected.mkdir(mode=0o755)
    protected.chmod(0o555)  # for those who are not root; root would write all the same
    with as_owner(of_another_user):
        (of_another_user / "bundles").symlink_to(protected)
    with pytest.raises(PermissionError), as_owner(of_another_user / "bundles"):
        (of_another_user / "bundles" / "file").touch()
