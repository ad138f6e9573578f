"""Files of every older schema are brought up to date with all that is in them.

``data/NAME-VERSION.sql`` was dumped from a file that the code of that version had made; a new
migration needs the dump of the version before it, and none is ever changed.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.collector.books import Collected
from agent.collector.reading import Source
from agent.dialects.cloudevents import CloudEvents
from agent.store.batch import Batch
from agent.store.maintenance import bring_up_to_date
from agent.store.migrations import COLLECTED, READINGS, RECORDS
from agent.store.reader import Reader
from agent.store.record import Origin, Record
from agent.store.sqlite import current_version, open_for_writing
from agent.store.wrapped import Wrapped
from agent.store.writer import Store
from tests.agent.store.test_writer import message, queued, samples
from tests.conftest import ROOT

DATA = Path(__file__).parents[1] / "data"
VERSIONS = [
    (name, version)
    for name in (RECORDS, READINGS, COLLECTED)
    for version in range(1, current_version(name) + 1)
]
CROWDED = (RECORDS, "1-crowded")  # with merged summaries, alarms, health, and times to the µs


# opens a database on a disk that is full from then on
ON_A_FULL_DISK = """
import sys
from pathlib import Path
from tests.disk import Layer
Layer(fault=lambda path: "full")
from agent.store.sqlite import open_for_writing
from models.errors import StoreError
try:
    open_for_writing(Path(sys.argv[1]), "FULL")
except StoreError as error:
    print(error)
"""


def make(directory: Path, name: str, version: int | str) -> dict[str, list[Any]]:
    """Make the file of a version; return its rows by table."""
    script = (DATA / f"{name.removesuffix('.db')}-{version}.sql").read_text()
    with contextlib.closing(sqlite3.connect(directory / name)) as connection:
        connection.executescript(script)
        return rows(connection)


def rows(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%sqlite%'"
    ).fetchall()
    found = {
        name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall()) for (name,) in tables
    }
    if "status" in found:  # text once, now compressed
        found["status"] = [
            (number, document if isinstance(document, str) else zlib.decompress(document).decode())
            for number, document in found["status"]
        ]
    if found.get("outbox") and len(found["outbox"][0]) > len(Wrapped._fields):
        # as they were kept once: as they are sent
        dialect = CloudEvents(Origin("plant", "gw-1", dict(found["meta"])["epoch"]))
        sent = [(row, *dialect.record(row)) for row in map(Record._make, found["outbox"])]
        found["outbox"] = [Wrapped(row[0], row[1], topic, body) for row, topic, body in sent]
    found = {table: content for table, content in found.items() if content}  # some were added
    for table in {"samples", "messages", "books"} & found.keys():
        # columns were added, which have nothing in old rows
        found[table] = [_without_empty_end(row) for row in found[table]]
    return found


def _without_empty_end(row: tuple[Any, ...]) -> tuple[Any, ...]:
    while row[-1] is None:
        row = row[:-1]
    return row


@pytest.mark.parametrize(("name", "version"), [*VERSIONS, CROWDED])
def test_every_version_is_brought_up_to_date(tmp_path: Path, name: str, version: int | str) -> None:
    before = make(tmp_path, name, version)
    with contextlib.closing(open_for_writing(tmp_path / name, "FULL")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (current_version(name),)
        assert rows(connection) == before
        schema = "SELECT sql FROM sqlite_master WHERE name NOT LIKE '%sqlite%' ORDER BY name"
        migrated = connection.execute(schema).fetchall()
    (tmp_path / "new").mkdir()
    with contextlib.closing(open_for_writing(tmp_path / "new" / name, "FULL")) as connection:
        assert connection.execute(schema).fetchall() == migrated


@pytest.mark.parametrize("version", range(1, current_version(READINGS) + 1))
def test_the_store_goes_on_with_old_files(tmp_path: Path, version: int) -> None:
    make(tmp_path, RECORDS, min(version, current_version(RECORDS)))
    make(tmp_path, READINGS, version)
    store = Store(tmp_path, "plant", "gw-1", 100, 1000)
    store.open()
    assert (store.last_seq, store.readings.next_sample) == (6, 16)
    assert [alarm["number"] for alarm in store.records.open_alarms("pump")] == [3]
    assert store.records.state("pump") == {"head": b"head 3", "through": b"16"}
    assert bool(store.readings.clock()) == (version >= 4)
    with Reader(tmp_path) as reader:
        assert reader.status() == {"running": True}
    times = [np.frombuffer(times).tolist() for times, *_ in store.readings.samples_from("pump", 11)]
    assert times == [[1.7e9 + 15 + n for n in range(5)]]
    store.commit(Batch(messages=[message()], samples=[samples(4)]), "synced")
    assert queued(tmp_path) == [3, 4, 5, 6, 7]
    with Reader(tmp_path) as reader:
        assert len(reader.newest_samples("pump", 100)) == 4
    store.close()


def test_a_crowded_outbox_goes_on_and_is_merged_further(tmp_path: Path) -> None:
    make(tmp_path, *CROWDED)
    store = Store(tmp_path, "plant", "gw-1", 10, 1000)
    store.open()
    before = store.document()
    assert (before["last_seq"], before["outbox_rows"], before["merged"]) == (35, 18, 14)
    store.commit(Batch(messages=[message()]), "synced")
    after = store.document()
    assert after["merged"] > 14
    assert sum(after["evicted"].values()) + after["merged"] - 14 == 18 + 1 - after["outbox_rows"]
    store.close()


def test_what_waits_goes_by_the_name_that_the_gateway_has_now(tmp_path: Path) -> None:
    """The collector of the new name is told of these numbers, and can acknowledge them."""
    make(tmp_path, *CROWDED)
    store = Store(tmp_path, "plant", "gw-renamed", 100, 1000)
    store.open()
    with Reader(tmp_path) as reader:
        topic, body = CloudEvents(store.origin).record(reader.outbox(["alarm"], 0, 1)[0])
    assert topic == "fieldwatch/v1/plant/gw-renamed/alarm/pump"
    assert json.loads(body)["id"] == f"gw-renamed/{store.origin.epoch}/3"
    store.close()


BROKEN = [
    b"",
    b"{",
    b"[1]",
    b"\xff",
    b"[" * 100_000,
    b'{"seq":4}',
    b'{"seq":5,"stream":"pump","time":"2026","clock":1,"bundle":null,"detector":null,"data":{}}',
    b'{"seq":6,"stream":"pump","time":"?","clock":"synced","bundle":null,"detector":null,"data":{}}',
    b'{"seq":9,"stream":"pump","time":"2026-01-01","clock":"synced","bundle":null,'
    b'"detector":null,"data":[]}',
]


def test_a_message_that_cannot_be_read_is_dropped_and_counted_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, *CROWDED)
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as connection:
        connection.executemany(
            "INSERT INTO outbox VALUES (?, 'health', 'topic', ?)", enumerate(BROKEN, 100)
        )
        # readable, and not as this gateway writes it
        connection.execute(
            "UPDATE outbox SET body = CAST(replace(body, ',', ', ') AS BLOB) WHERE seq = 3"
        )
        connection.commit()
    store = Store(tmp_path, "plant", "gw-1", 100, 1000)
    store.open()
    document = store.document()
    assert (document["outbox_rows"], document["evicted"]["health"]) == (18, len(BROKEN))
    assert sum("cannot be read" in text for text in caplog.messages) >= 5
    assert "1 messages change their form" in caplog.text
    store.close()


def test_what_a_migration_warns_of_is_logged_though_another_process_migrates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, *CROWDED)
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as connection:
        connection.execute("INSERT INTO outbox VALUES (99, 'health', 'topic', x'00')")
        connection.commit()
    bring_up_to_date(tmp_path)
    assert "message 99 cannot be read" in caplog.text


def test_samples_of_an_older_version_are_read_without_their_quality(tmp_path: Path) -> None:
    make(tmp_path, READINGS, 3)  # as beside an agent that was not started again
    with Reader(tmp_path) as reader:
        chunks = reader.newest_samples("pump", 100)
    assert [chunk.quality for chunk in chunks] == [None] * 3


@pytest.mark.parametrize("version", range(1, current_version(COLLECTED) + 1))
def test_a_collector_goes_on_with_its_old_file(tmp_path: Path, version: int) -> None:
    make(tmp_path, COLLECTED, version)
    with Collected(tmp_path, "plant") as collected:
        said = json.loads(collected.acknowledgement(Source("gw-1", "e" * 16)))
    assert (said["through_seq"], said["also"]) == (2, [[4, 4]])


@pytest.mark.parametrize("name", [RECORDS, READINGS])
def test_a_full_disk_is_told_with_what_a_migration_needs(tmp_path: Path, name: str) -> None:
    before = make(tmp_path, name, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    told = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path / name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.startswith(f"{tmp_path / name}: the disk is full, and the tables must be updated")
    assert re.search(rf"takes up to \d+ MB in {tmp_path}, where \d+ MB are free", told)
    assert "Free some space, then start again; nothing is lost" in told
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
        assert rows(connection) == before
    open_for_writing(tmp_path / name, "FULL").close()
