"""What is saved of a damaged database, and how its numbers go on."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from agent.clock import Clock
from agent.store.batch import Batch
from agent.store.migrations import READINGS, RECORDS
from agent.store.reader import Reader
from agent.store.record import Outgoing
from agent.store.salvage import Numbers, mend
from agent.store.sqlite import log_of
from agent.store.writer import Store
from models.errors import StoreError
from models.messages import Samples
from tests.agent.store.test_writer import message, opened, queued, samples
from tests.database import asked
from tests.disk import Disk

PAGE = 4096


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    """A store with 300 messages, 20 alarms and a stream's memory; closed."""
    store = opened(tmp_path)
    for number in range(1, 21):
        alarm = {"stream": "pump", "number": number, "state": "closed", "text": "x" * 900}
        text = Outgoing("summary", "pump", 1.7e9, {"text": "x" * 900})
        batch = Batch(messages=[text] * 15, alarms=[alarm], samples=[samples(50, number * 50.0)])
        batch.state = {"pump": {"head": b"memory"}}
        store.commit(batch, "synced")
    store.commit(Batch(acked=list(range(1, 11))), "synced")
    store.close()
    return store


def overwrite(file: Path, marker: bytes, pages: int) -> None:
    """Overwrite leaf pages with ``marker`` in them."""
    moment = random.Random(5)
    data = bytearray(file.read_bytes())
    found = [
        start
        for start in range(PAGE, len(data), PAGE)
        if data[start] == 13 and marker in data[start : start + PAGE]
    ]
    for start in found[1 : 1 + pages]:
        data[start : start + PAGE] = moment.randbytes(PAGE)
    file.write_bytes(data)


def test_rows_beside_a_damaged_page_are_saved_and_the_numbers_go_on(filled: Store) -> None:
    directory, epoch = filled.directory, filled.origin.epoch
    overwrite(directory / RECORDS, b'{"text":"xxx', 2)
    store = opened(directory)
    (report,) = store.document()["damage"]
    assert report["epoch"] == "kept"
    assert report["saved"]["outbox"] + report["lost"]["outbox"] == 290
    assert 0 < report["lost"]["outbox"] <= 10  # two pages of them
    assert (report["saved"]["alarms"], report["lost"]["alarms"]) == (20, 0)
    assert store.records.state("pump") == {"head": b"memory"}
    assert store.origin.epoch == epoch
    store.commit(Batch(messages=[message()]), "synced")
    numbers = queued(directory)
    assert numbers[-1] == store.last_seq == 301
    assert len(numbers) == report["saved"]["outbox"] + 1
    assert min(numbers) > 10  # what was acknowledged is not back
    store.close()


def overwrite_alarms(file: Path, *numbers: int) -> None:
    """Overwrite the leaf pages with these alarms."""
    overwrite_each(file, *(f'"number": {number},'.encode() for number in numbers))


def overwrite_each(file: Path, *markers: bytes) -> None:
    """Overwrite the leaf page that has each marker."""
    data = bytearray(file.read_bytes())
    for marker in markers:
        (found,) = (
            start
            for start in range(PAGE, len(data), PAGE)
            if data[start] == 13 and marker in data[start : start + PAGE]
        )
        data[found : found + PAGE] = random.Random(5).randbytes(PAGE)
    file.write_bytes(data)


def test_rows_before_a_damaged_newest_page_are_saved(filled: Store) -> None:
    overwrite_alarms(filled.directory / RECORDS, 20)
    store = opened(filled.directory)
    (report,) = store.document()["damage"]
    assert report["saved"]["alarms"] + report["lost"]["alarms"] == 20
    assert 0 < report["lost"]["alarms"] <= 5
    store.close()


def test_rows_between_two_damaged_pages_are_saved_however_many_there_are(tmp_path: Path) -> None:
    store, count = opened(tmp_path), 10_000
    alarms = [
        {"stream": "pump", "number": number, "state": "closed", "text": "x" * 400}
        for number in range(1, count + 1)
    ]
    store.commit(Batch(alarms=alarms), "synced")
    store.close()
    overwrite_alarms(tmp_path / RECORDS, 100, count)
    store = opened(tmp_path)
    (report,) = store.document()["damage"]
    assert report["saved"]["alarms"] + report["lost"]["alarms"] == count
    assert 0 < report["lost"]["alarms"] <= 20
    store.close()


def test_samples_between_two_damaged_pages_are_saved_although_no_index_has_their_numbers(
    tmp_path: Path,
) -> None:
    store, count = Store(tmp_path, "plant", "gw-1", 1000, 1_000_000), 12_000
    store.open()
    chunk = np.ones((5, 8), np.float32), np.ones(5, np.float32)
    rows = [
        ("pump", Samples(1e9 + 5 * number + np.arange(5.0), chunk[0]), chunk[1])
        for number in range(count)
    ]
    store.commit(Batch(samples=rows), "synced")
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / READINGS)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    places = [(1e9 + 5 * number + np.arange(5.0)).tobytes() for number in (50, count - 1)]
    overwrite_each(tmp_path / READINGS, *places)
    store = opened(tmp_path)
    (report,) = store.document()["damage"]
    assert count - 50 <= report["saved"]["samples"] < count
    store.close()


def test_where_the_highest_number_is_gone_a_new_epoch_begins(filled: Store) -> None:
    directory, epoch = filled.directory, filled.origin.epoch
    overwrite(directory / RECORDS, b'{"text":"xxx', 1)  # or it would not be looked at
    with sqlite3.connect(directory / RECORDS) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'last_seq'")
    connection.close()
    store = opened(directory)
    (report,) = store.document()["damage"]
    assert report["epoch"] == "new"
    assert store.origin.epoch != epoch
    assert queued(directory) == list(range(1, report["saved"]["outbox"] + 1))
    with Reader(directory) as reader:
        found = reader.outbox(["summary"], 0, 1000)
    assert found[0].read() == {"text": "x" * 900}
    store.close()


def test_numbers_that_the_agent_knows_go_on_in_any_case(filled: Store) -> None:
    path = filled.directory / RECORDS
    path.write_bytes(b"nothing" * 1000)
    assert mend(path, Numbers("e" * 16, 777))["epoch"] == "kept"
    store = opened(filled.directory)
    assert (store.origin.epoch, store.last_seq) == ("e" * 16, 777)
    store.close()


def test_commits_lost_with_the_log_make_a_new_epoch(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    store = opened(tmp_path / "live")
    for _ in range(10):
        store.commit(Batch(messages=[message()]), "synced")
    (tmp_path / "copy").mkdir()
    for file in (tmp_path / "live").iterdir():
        shutil.copy(file, tmp_path / "copy" / file.name)
    epoch = store.origin.epoch
    store.close()
    log = log_of(tmp_path / "copy" / RECORDS)
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1  # one bit, which SQLite takes for the end of the log
    log.write_bytes(data)
    store = opened(tmp_path / "copy")
    (report,) = store.document()["damage"]
    assert report["epoch"] == "new"
    assert store.origin.epoch != epoch
    assert store.last_seq < 10
    store.close()


def test_the_ring_is_saved_too(filled: Store) -> None:
    overwrite(filled.directory / READINGS, b"pump", 1)
    store = opened(filled.directory)
    (report,) = store.document()["damage"]
    assert report["file"].startswith(READINGS)
    assert 0 < report["saved"]["samples"] < 20
    assert store.readings.next_sample == 1001
    store.close()


def test_a_mending_that_a_crash_ended_is_finished(filled: Store) -> None:
    directory = filled.directory
    (directory / "new").mkdir()
    new = opened(directory / "new")
    new.close()
    (directory / "new" / RECORDS).rename(directory / f"{RECORDS}.mended")
    log_of(directory / RECORDS).write_bytes(b"the old log")
    store = opened(directory)
    assert store.origin.epoch == new.origin.epoch
    (aside,) = [file for file in directory.glob("*.corrupt-*") if not file.name.endswith("-wal")]
    assert log_of(aside).read_bytes() == b"the old log"
    store.close()


def test_only_the_newest_damaged_files_are_kept(filled: Store) -> None:
    for _ in range(5):
        (filled.directory / READINGS).write_bytes(b"nothing" * 1000)
        opened(filled.directory).close()
    asides = [file for file in filled.directory.glob("*.corrupt-*") if file.suffix != ".json"]
    assert len(asides) == 3


def test_damage_while_it_runs_is_mended_beside_the_loop(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(60):
        store.commit(Batch(samples=[samples(1000, number * 1000.0)]), "synced")
    # another writes into it: so the store has nothing of it in its memory
    asked(tmp_path / READINGS, "PRAGMA application_id = 1")
    asked(tmp_path / READINGS, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((tmp_path / READINGS).read_bytes())
    moment = random.Random(1)
    for page in range(2, len(data) // PAGE):
        data[page * PAGE : page * PAGE + PAGE] = moment.randbytes(PAGE)
    (tmp_path / READINGS).write_bytes(data)
    batch = Batch(samples=[samples(1000, 1e6)], messages=[message("alarm")])
    with pytest.raises(StoreError, match=r"readings\.db.*(malformed|mended)"):
        store.commit(batch, "synced")
    assert queued(tmp_path) == [1]  # the other file is as it was
    deadline = time.monotonic() + 30
    while batch.samples and time.monotonic() < deadline:
        try:
            store.commit(batch, "synced")
        except StoreError as error:
            assert "is being repaired" in str(error)
            time.sleep(0.05)
    assert not batch.samples
    assert [path.name.split(".corrupt")[0] for path in store.set_aside] == [READINGS]
    assert store.readings.next_sample == 61_001
    store.close()


def test_a_reader_goes_on_with_the_new_file(filled: Store) -> None:
    with Reader(filled.directory) as reader:
        before = reader.outbox_rows()
        overwrite(filled.directory / RECORDS, b'{"text":"xxx', 2)
        store = opened(filled.directory)
        assert reader.outbox_rows() == store.document()["outbox_rows"] < before
        store.commit(Batch(messages=[message()]), "synced")
        assert reader.outbox_rows() == store.document()["outbox_rows"]
        store.close()


def test_where_there_is_no_room_nothing_is_changed(filled: Store, disk: Disk) -> None:
    path = filled.directory / RECORDS
    before = path.read_bytes()
    with disk.here():
        disk.fails("full")
        with pytest.raises(StoreError, match="full"):
            mend(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [3, 4, 5])
def test_what_was_held_is_saved_where_the_file_knows_it(tmp_path: Path, version: int) -> None:
    script = (Path(__file__).parents[1] / "data" / f"readings-{version}.sql").read_text()
    path = tmp_path / READINGS
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    assert mend(path)["saved"] == {"samples": 3}
    with Reader(tmp_path) as reader:
        found = [chunk.quality for chunk in reader.newest_samples("pump", 100)]
    saved = asked(path, "SELECT clock FROM samples")
    assert {len(clock or b"") for (clock,) in saved} == {
        len(Clock().packed()) if version >= 4 else 0
    }
    assert found == [None, None, bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 3]) if version == 5 else None]


def test_a_quality_of_another_length_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / READINGS
    with contextlib.closing(sqlite3.connect(path)) as connection:
        script = (Path(__file__).parents[1] / "data" / "readings-5.sql").read_text()
        connection.executescript(script)
        connection.execute("UPDATE samples SET quality = x'00' WHERE number = 6")
        connection.commit()
    assert mend(path)["saved"] == {"samples": 2}


@pytest.mark.parametrize("version", ["1", "1-crowded", "2"])
def test_messages_of_every_version_are_saved(tmp_path: Path, version: str) -> None:
    script = (Path(__file__).parents[1] / "data" / f"fieldwatch-{version}.sql").read_text()
    path = tmp_path / RECORDS
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        (count,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    (tmp_path / "whole").mkdir()
    shutil.copy(path, tmp_path / "whole" / RECORDS)
    report = mend(path)
    assert (report["saved"]["outbox"], report["lost"]["outbox"]) == (count, 0)
    opened(tmp_path / "whole").close()  # migrated
    kinds = ("alarm", "summary", "health")
    with Reader(tmp_path) as reader, Reader(tmp_path / "whole") as whole:
        assert reader.outbox(kinds, 0, 1000) == whole.outbox(kinds, 0, 1000)


@pytest.mark.parametrize(
    "wrong",
    [
        "data = x'7b'",
        "data = CAST('[1]' AS BLOB)",
        "data = x'ff'",
        "kind = 'sumnary'",
        "stream = 'pu+mp'",
        "time = '2026'",
    ],
)
def test_a_message_that_is_not_one_is_not_saved(tmp_path: Path, wrong: str) -> None:
    store = opened(tmp_path)
    store.commit(Batch(messages=[message()] * 3), "synced")
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as connection:
        connection.execute(f"UPDATE outbox SET {wrong} WHERE seq = 2")
        connection.commit()
    assert mend(tmp_path / RECORDS)["saved"]["outbox"] == 2
    assert queued(tmp_path) == [1, 3]


def test_a_new_epoch_forgets_what_was_merged_in_the_old_one(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = {"n": 3, "merged": [[1, 2]]}
    store.commit(Batch(messages=[Outgoing("summary", "pump", 0.0, data)]), "synced")
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'last_seq'")
        connection.commit()
    assert mend(tmp_path / RECORDS)["epoch"] == "new"
    with Reader(tmp_path) as reader:
        assert reader.outbox(("summary",), 0, 9)[0].read() == {"n": 3}
