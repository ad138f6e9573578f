"""The only door to SQLite: what the gateway saw, said and still has to say.

Two files in one directory. ``fieldwatch.db`` has what must survive a power cut (alarms, the
outbox, the streams' state): every commit is on the disk before it is over (synchronous=FULL).
``readings.db`` has the ring of samples and the status: consistent after a power cut, but the
last commits may be gone (NORMAL). One read-write connection per file, the loop's; everyone else
reads through ``Reader``, which can neither write nor checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from agent.envelope import Envelope, Outgoing
from models.errors import StoreError

if TYPE_CHECKING:
    from models.messages import Samples, Scores

_LOG = logging.getLogger(__name__)

RECORDS = "fieldwatch.db"
READINGS = "readings.db"
LOCK = "lock"
SCHEMA_VERSION = 1  # agent.schema.CURRENT, here so that a current file does not load it
WAL_BYTES_MAX = 4 * 2**20  # what stays of the log after a checkpoint
BUSY_MS = 5000

# evicted in this order when the outbox is full; alarms go only when nothing else is left
_EVICTION = ("health", "summary", "alarm")


@dataclass(slots=True)
class Batch:
    """What one commit holds; the loop fills it."""

    samples: list[tuple[str, Samples, Scores]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)
    state: dict[str, dict[str, bytes]] = field(default_factory=dict)  # stream -> part -> data
    acked: list[int] = field(default_factory=list)
    status: str | None = None

    def shed_samples(self, rows_max: int) -> int:
        """Drop the oldest samples beyond ``rows_max``; return how many. Nothing else is dropped."""
        rows, dropped = sum(len(samples.times) for _, samples, _ in self.samples), 0
        while rows - dropped > rows_max:
            dropped += len(self.samples.pop(0)[1].times)
        return dropped


class Store:
    """The read-write side; one thread of one process uses it."""

    def __init__(
        self, directory: Path, site: str, gateway: str, outbox_rows_max: int, ring_rows_max: int
    ) -> None:
        self.directory = directory
        self._site, self._gateway = site, gateway
        self._outbox_rows_max, self._ring_rows_max = outbox_rows_max, ring_rows_max
        self.set_aside: list[Path] = []  # corrupt files found at the opening

    def open(self) -> None:
        """Open both files, making or mending them as needed.

        Raises:
            StoreError: the directory cannot be used, or another agent uses it.

        """
        with contextlib.ExitStack() as opened:
            try:
                opened.enter_context(_lock(self.directory))
                self._records = opened.enter_context(
                    contextlib.closing(self._opened(RECORDS, "FULL"))
                )
                self._readings = opened.enter_context(
                    contextlib.closing(self._opened(READINGS, "NORMAL"))
                )
                self._read_totals()
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"{self.directory}: cannot be opened: {error}") from error
            self._opened_all = opened.pop_all()

    def _read_totals(self) -> None:
        """Read once what is then kept up to date in memory."""
        meta = dict(self._records.execute("SELECT key, value FROM meta").fetchall())
        self._last_seq = int(meta["last_seq"])
        self._evicted = {kind: int(meta.get(f"evicted_{kind}", 0)) for kind in _EVICTION}
        self.envelope = Envelope(self._site, self._gateway, str(meta["epoch"]))
        (self._outbox_rows,) = self._records.execute("SELECT count(*) FROM outbox").fetchone()
        (self._ring_rows,) = self._readings.execute(
            "SELECT coalesce(sum(rows), 0) FROM samples"
        ).fetchone()

    def _opened(self, name: str, synchronous: str) -> sqlite3.Connection:
        path = self.directory / name
        try:
            return _connect(path, synchronous)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            _LOG.error("%s is damaged (%s); it is set aside and a new one begun", path, error)
        self.set_aside.append(_set_aside(path))
        return _connect(path, synchronous)

    def commit(self, batch: Batch, clock: str) -> None:
        """Write the batch as a whole; nothing of it is written where this fails.

        ``clock`` is the quality of the gateway's clock, for the messages.

        Raises:
            StoreError: disk full, read-only, I/O error; the batch can be committed again.

        """
        before = self._outbox_rows, self._last_seq, dict(self._evicted)
        try:
            with _transaction(self._records):
                self._write_records(batch, clock)
        except sqlite3.Error as error:
            self._outbox_rows, self._last_seq, self._evicted = before
            raise StoreError(f"{self.directory / RECORDS}: {error}") from error
        batch.alarms, batch.messages, batch.state, batch.acked = [], [], {}, []
        ring_rows = self._ring_rows
        try:
            with _transaction(self._readings):
                self._write_readings(batch)
        except sqlite3.Error as error:
            self._ring_rows = ring_rows
            raise StoreError(f"{self.directory / READINGS}: {error}") from error
        batch.samples, batch.status = [], None

    def _write_records(self, batch: Batch, clock: str) -> None:
        execute, executemany = self._records.execute, self._records.executemany
        executemany(
            """INSERT INTO alarms (stream, number, state, document) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET state = excluded.state, document = excluded.document""",
            [(a["stream"], a["number"], a["state"], json.dumps(a)) for a in batch.alarms],
        )
        executemany(
            "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
            [
                (stream, part, data)
                for stream, parts in batch.state.items()
                for part, data in parts.items()
            ],
        )
        for seq in batch.acked:
            self._outbox_rows -= execute("DELETE FROM outbox WHERE seq = ?", [seq]).rowcount
        if batch.messages:
            executemany("INSERT INTO outbox VALUES (?, ?, ?, ?)", self._numbered(batch, clock))
            self._evict()
            execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", [self._last_seq])

    def _numbered(self, batch: Batch, clock: str) -> Iterator[tuple[int, str, str, bytes]]:
        for message in batch.messages:
            self._last_seq += 1
            self._outbox_rows += 1
            yield (
                self._last_seq,
                message.kind,
                self.envelope.topic(message.kind, message.stream),
                self.envelope.numbered(message, self._last_seq, clock),
            )

    def _evict(self) -> None:
        """Keep the outbox to its cap: health first, then summaries, oldest first; all counted."""
        for kind in _EVICTION:
            excess = self._outbox_rows - self._outbox_rows_max
            if excess <= 0:
                return
            gone = self._records.execute(
                """DELETE FROM outbox WHERE seq IN
                (SELECT seq FROM outbox WHERE kind = ? ORDER BY seq LIMIT ?)""",
                [kind, excess],
            ).rowcount
            if gone:
                self._outbox_rows -= gone
                self._evicted[kind] += gone
                self._records.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                    [f"evicted_{kind}", self._evicted[kind]],
                )

    def _write_readings(self, batch: Batch) -> None:
        self._readings.executemany(
            "INSERT INTO samples (stream, rows, times, readings, scores) VALUES (?, ?, ?, ?, ?)",
            [
                (
                    stream,
                    len(samples.times),
                    samples.times.tobytes(),
                    samples.values.tobytes(),
                    scores.score.tobytes(),
                )
                for stream, samples, scores in batch.samples
            ],
        )
        self._ring_rows += sum(len(samples.times) for _, samples, _ in batch.samples)
        while self._ring_rows > self._ring_rows_max:
            oldest, rows = self._readings.execute(
                "SELECT id, rows FROM samples ORDER BY id LIMIT 1"
            ).fetchone()
            self._readings.execute("DELETE FROM samples WHERE id = ?", [oldest])
            self._ring_rows -= rows
        if batch.status is not None:
            self._readings.execute("INSERT OR REPLACE INTO status VALUES (1, ?)", [batch.status])

    def state(self, stream: str) -> dict[str, bytes]:
        """Return the parts of a stream's state that were committed last."""
        rows = self._records.execute("SELECT part, data FROM state WHERE stream = ?", [stream])
        return dict(rows.fetchall())

    def forget_state(self, stream: str) -> None:
        """Drop a stream's state: it belongs to another bundle."""
        with _transaction(self._records):
            self._records.execute("DELETE FROM state WHERE stream = ?", [stream])

    def open_alarms(self, stream: str) -> list[dict[str, Any]]:
        """Return the stream's alarms that are open."""
        rows = self._records.execute(
            "SELECT document FROM alarms WHERE state = 'opened' AND stream = ? ORDER BY id",
            [stream],
        )
        return [json.loads(document) for (document,) in rows]

    def last_alarm_number(self, stream: str) -> int:
        """Return the number of the stream's newest alarm; 0 before the first."""
        (number,) = self._records.execute(
            "SELECT coalesce(max(number), 0) FROM alarms WHERE stream = ?", [stream]
        ).fetchone()
        return int(number)

    @property
    def last_seq(self) -> int:
        """Highest number given to a message so far."""
        return self._last_seq

    def document(self) -> dict[str, Any]:
        """Say how full it is, for ``status``."""
        return {
            "epoch": self.envelope.epoch,
            "last_seq": self._last_seq,
            "outbox_rows": self._outbox_rows,
            "ring_rows": self._ring_rows,
            "evicted": dict(self._evicted),
            "set_aside": [path.name for path in self.set_aside],
        }

    def close(self) -> None:
        """Close both files and let others in."""
        self._opened_all.close()


class Reader:
    """The read-only side: for ``status``, ``alarms``, the uplink and the demo."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connections: dict[str, sqlite3.Connection] = {}

    def __enter__(self) -> Self:
        """Return itself; files are opened when first asked."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened."""
        for connection in self._connections.values():
            connection.close()

    def alarms(self, limit: int, open_only: bool = False) -> list[dict[str, Any]]:
        """Return the newest alarms, oldest of them first."""
        rows = self._query(
            RECORDS,
            f"""SELECT document FROM alarms {"WHERE state = 'opened'" if open_only else ""}
            ORDER BY id DESC LIMIT ?""",  # noqa: S608 - no input in it
            [limit],
        )
        return [json.loads(document) for (document,) in reversed(rows)]

    def status(self) -> dict[str, Any]:
        """Return the agent's last status.

        Raises:
            StoreError: there is no database, or it has no status yet.

        """
        rows = self._query(READINGS, "SELECT document FROM status", [])
        if not rows:
            raise StoreError(f"{self._directory}: no status yet; is the agent running?")
        document: dict[str, Any] = json.loads(rows[0][0])
        return document

    def newest_samples(self, stream: str, chunks: int) -> list[tuple[bytes, bytes, bytes]]:
        """Return times (f8), values (f4) and scores (f4) of the newest chunks, oldest first."""
        rows = self._query(
            READINGS,
            "SELECT times, readings, scores FROM samples WHERE stream = ? ORDER BY id DESC LIMIT ?",
            [stream, chunks],
        )
        return rows[::-1]

    def outbox(self, kinds: Sequence[str], after: int, limit: int) -> list[tuple[int, str, bytes]]:
        """Return seq, topic and body of the next messages of these kinds, in order."""
        marks = ",".join("?" * len(kinds))
        return self._query(
            RECORDS,
            f"SELECT seq, topic, body FROM outbox WHERE kind IN ({marks}) AND seq > ?"  # noqa: S608
            " ORDER BY seq LIMIT ?",
            [*kinds, after, limit],
        )

    def meta(self, key: str) -> Any:
        """Return the epoch, or another value that belongs to the whole database."""
        ((value,),) = self._query(RECORDS, "SELECT value FROM meta WHERE key = ?", [key])
        return value

    def outbox_rows(self) -> int:
        """Return how many messages wait."""
        ((count,),) = self._query(RECORDS, "SELECT count(*) FROM outbox", [])
        return int(count)

    def _query(self, name: str, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            if name not in self._connections:
                self._connections[name] = _read_only(self._directory / name)
            return self._connections[name].execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self._directory / name}: cannot be read: {error}") from error


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_MS / 1000)
    try:
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise sqlite3.DatabaseError(finding)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(f"{path}: written by a newer version of this software")
        if version < SCHEMA_VERSION:
            from agent import schema

            schema.migrate(connection, schema.records if path.name == RECORDS else schema.readings)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_only(path: Path) -> sqlite3.Connection:
    """Open for reading beside a writer; or, after a clean stop, as the file stands."""
    if not path.exists():
        raise StoreError(f"{path}: no such database; has the agent run with this configuration?")
    uri = f"file:{path}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # no -shm file and no right to make one: nobody writes, the file is all there is
        connection.close()
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, check_same_thread=False)
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself where the disk is full
            connection.execute("ROLLBACK")
        raise


def _lock(directory: Path) -> IO[str]:
    """Keep other agents out: two would number their messages alike."""
    path = directory / LOCK
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise StoreError(f"{directory} is in use by another agent (process {holder})") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _set_aside(path: Path) -> Path:
    """Rename a damaged file and its log; nothing is thrown away."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
