"""The tables of each database file, and the migrations of older files.

No migration is ever removed: a gateway may be updated from any version.
"""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Callable
from sqlite3 import Connection as Connection
from typing import TYPE_CHECKING, Final, Literal

from agent.store.wrapped import Wrapped

if TYPE_CHECKING:
    from sqlite_utils import Database

_LOG = logging.getLogger(__name__)

RECORDS = "fieldwatch.db"
READINGS = "readings.db"
COLLECTED = "collected.db"  # the database of a collector, not of a gateway

# the tables of the history; a key is the stream's number and that of a sample
Level = Literal["minutes", "hours"]
LEVELS: Final[tuple[Level, Level]] = ("minutes", "hours")
NUMBER_BITS: Final = 40  # of a sample, in a key


def migrate(connection: Connection, name: str) -> None:
    """Update a file's tables; each migration happens as a whole or not at all."""
    # imported only for a new or outdated file: the import takes 15 MB and 0.15 s on a small gateway
    from sqlite_utils import Database, Migrations

    migrations = Migrations(name)
    for migration in MIGRATIONS[name]:
        migrations()(migration)
    migrations.apply(Database(connection))
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS[name])}")


def _m001_records(database: Database) -> None:
    """Alarms, the outbox, the streams' state: what must survive a power cut."""
    _execute(
        database,
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
        """CREATE TABLE alarms (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL,
            state TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (stream, number)
        ) STRICT""",
        "CREATE INDEX alarms_open ON alarms (id) WHERE state = 'opened'",
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, topic TEXT NOT NULL, body BLOB NOT NULL
        ) STRICT""",
        # includes the topic, so that held topics are skipped without reading their messages
        "CREATE INDEX outbox_kind ON outbox (kind, seq, topic)",
        """CREATE TABLE state (
            stream TEXT NOT NULL, part TEXT NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (stream, part)
        ) STRICT, WITHOUT ROWID""",
    )
    database.conn.execute(
        "INSERT INTO meta VALUES ('epoch', ?), ('last_seq', 0)", [secrets.token_hex(8)]
    )


_ROWS_SPLIT: Final = 1000  # per step, because a full outbox may not fit into memory


def _m002_records(database: Database) -> None:
    """Store neutral records in the outbox. Before, it held ready-to-send messages with topics.

    An unreadable message counts as evicted: the agent reports its number to the collector as lost.
    """
    _execute(
        database,
        "ALTER TABLE outbox RENAME TO wrapped",
        "DROP INDEX outbox_kind",
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, stream TEXT, time TEXT NOT NULL,
            clock TEXT NOT NULL, bundle TEXT, detector TEXT, data BLOB NOT NULL
        ) STRICT""",
    )
    connection = database.conn
    altered = 0
    while rows := connection.execute(
        "SELECT seq, kind, topic, body FROM wrapped ORDER BY seq LIMIT ?", [_ROWS_SPLIT]
    ).fetchall():
        for row in map(Wrapped._make, rows):
            try:
                record = row.record()
            except ValueError as error:
                _LOG.warning("outbox of an older version: %s; this message is dropped", error)
                _count_evicted(connection, row.kind)
                continue
            altered += not row.is_all_in(record)
            connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)", record)
        # immediately, so that the file does not grow
        connection.execute("DELETE FROM wrapped WHERE seq <= ?", [rows[-1][0]])
    if altered:
        _LOG.warning("outbox of an older version: %d messages change their form", altered)
    _execute(
        database,
        "DROP TABLE wrapped",
        # includes the stream, so that held streams are skipped without reading their messages
        "CREATE INDEX outbox_kind ON outbox (kind, seq, stream)",
    )


def _m003_records(database: Database) -> None:
    """Add the handling of alarms: the standing of each point, and the logbook of transitions."""
    _execute(
        database,
        """CREATE TABLE points (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, point TEXT NOT NULL,
            document TEXT NOT NULL, UNIQUE (stream, point)
        ) STRICT""",
        """CREATE TABLE logbook (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, point TEXT NOT NULL,
            number INTEGER NOT NULL, revision INTEGER NOT NULL, at REAL NOT NULL,
            what TEXT NOT NULL, document TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX logbook_point ON logbook (stream, point, revision)",
    )


def _m004_records(database: Database) -> None:
    """Add the queue of what hooks on site must be told; see ``agent.store.notices``."""
    _execute(
        database,
        """CREATE TABLE notices (
            id INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, notice TEXT NOT NULL,
            at REAL NOT NULL, clock TEXT NOT NULL, document BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX notices_hook ON notices (hook, id)",
    )


def _count_evicted(connection: Connection, kind: str) -> None:
    connection.execute(
        "INSERT INTO meta VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1",
        [f"evicted_{kind}"],
    )


def _m001_readings(database: Database) -> None:
    """The ring of samples with their scores, and the status snapshot.

    A row is a chunk of one stream's samples; its ``number`` is that of its first sample, counted
    over all streams, so that the ring's length is known without counting rows.
    """
    _execute(
        database,
        """CREATE TABLE samples (
            number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, stream TEXT NOT NULL,
            times BLOB NOT NULL, readings BLOB NOT NULL, scores BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX samples_stream ON samples (stream, number)",
        "CREATE TABLE status (id INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT",
    )


def _m001_collected(database: Database) -> None:
    """Store every message of every gateway once, and the books of received numbers."""
    _execute(
        database,
        """CREATE TABLE messages (
            site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
            topic TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (site, gateway, epoch, seq)
        ) STRICT""",
        """CREATE TABLE books (
            site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL,
            through_seq INTEGER NOT NULL, gone TEXT NOT NULL, PRIMARY KEY (site, gateway, epoch)
        ) STRICT, WITHOUT ROWID""",
    )


def _m002_collected(database: Database) -> None:
    """Add what retention needs; NULL in rows that are older.

    A message has its time of arrival. A book has the time of its last use, and the numbers beyond
    ``through_seq`` whose messages were received and later dropped.
    """
    _execute(
        database,
        "ALTER TABLE messages ADD COLUMN received REAL",
        "ALTER TABLE books ADD COLUMN dropped TEXT",
        "ALTER TABLE books ADD COLUMN used REAL",
    )


def _m003_collected(database: Database) -> None:
    """Add the highest counter that is reserved for the collector's messages."""
    _execute(
        database, "CREATE TABLE counters (id INTEGER PRIMARY KEY, reserved INTEGER NOT NULL) STRICT"
    )


def _m004_collected(database: Database) -> None:
    """Keep everything received: replaced and refused messages, and those with a reused number.

    ``superseded`` is the number of the message that replaced this one, or NULL. ``merges`` are the
    ranges that message ``seq`` replaces. Up to ``unsure``, a book no longer knows which numbers
    were missing. ``quarantine`` is for review by a person; if ``epoch`` and ``seq`` are set, a
    message with that number had already been received.
    """
    _execute(
        database,
        "ALTER TABLE messages ADD COLUMN superseded INTEGER",
        "ALTER TABLE books ADD COLUMN unsure INTEGER",
        "CREATE INDEX messages_superseded ON messages (site, gateway, epoch)"
        " WHERE superseded IS NOT NULL",
        """CREATE TABLE merges (
            site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL, last INTEGER NOT NULL,
            first INTEGER NOT NULL, seq INTEGER NOT NULL,
            PRIMARY KEY (site, gateway, epoch, last, first, seq)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX merges_seq ON merges (site, gateway, epoch, seq)",
        """CREATE TABLE quarantine (
            id INTEGER PRIMARY KEY, site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT,
            seq INTEGER, cause TEXT NOT NULL, reason TEXT NOT NULL, topic TEXT NOT NULL,
            body BLOB NOT NULL, received REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX quarantine_cause ON quarantine (site, gateway, cause, id)",
        "CREATE INDEX quarantine_seq ON quarantine (site, gateway, epoch, seq)",
        """CREATE TABLE refused (
            site TEXT NOT NULL, cause TEXT NOT NULL, count INTEGER NOT NULL, last REAL NOT NULL,
            PRIMARY KEY (site, cause)
        ) STRICT, WITHOUT ROWID""",
    )


def _m005_collected(database: Database) -> None:
    """Add chunks of samples that are in no file yet, and how far each stream's are stored."""
    _execute(
        database,
        """CREATE TABLE chunks (
            id INTEGER PRIMARY KEY, site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL,
            stream TEXT NOT NULL, about TEXT NOT NULL, data BLOB NOT NULL, received REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX chunks_stream ON chunks (site, gateway, epoch, stream, id)",
        """CREATE TABLE sampled (
            site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL, stream TEXT NOT NULL,
            through INTEGER NOT NULL, newest REAL NOT NULL, samples INTEGER NOT NULL,
            missed INTEGER NOT NULL, received REAL NOT NULL,
            PRIMARY KEY (site, gateway, epoch, stream)
        ) STRICT, WITHOUT ROWID""",
    )


def _m002_readings(database: Database) -> None:
    """Drop the index by stream: each commit wrote one index page per stream."""
    _execute(database, "DROP INDEX samples_stream")


def _m003_readings(database: Database) -> None:
    """Compress the status: each commit writes it, now in one page instead of five."""
    found = database.conn.execute("SELECT id, document FROM status").fetchall()
    _execute(
        database,
        "DROP TABLE status",
        "CREATE TABLE status (id INTEGER PRIMARY KEY, document BLOB NOT NULL) STRICT",
    )
    packed = [(number, zlib.compress(document.encode())) for number, document in found]
    database.conn.executemany("INSERT INTO status VALUES (?, ?)", packed)


def _m004_readings(database: Database) -> None:
    """Add the clock's state to each commit's last row, so that no arrival time is used twice."""
    _execute(database, "ALTER TABLE samples ADD COLUMN clock BLOB")


def _m005_readings(database: Database) -> None:
    """Add the samples' quality; NULL: all measured, or an older version did not store it."""
    _execute(database, "ALTER TABLE samples ADD COLUMN quality BLOB")


def _m006_readings(database: Database) -> None:
    """Add minutes and hours of the past; see ``agent.store.history``.

    A key is ``stream << 40 | number of the first sample``. All samples below ``settled`` are in a
    row of ``minutes``.
    """
    level = """CREATE TABLE {} (
        key INTEGER PRIMARY KEY, next INTEGER NOT NULL, start REAL NOT NULL, data BLOB NOT NULL
    ) STRICT"""
    _execute(
        database,
        """CREATE TABLE history_streams (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, channels TEXT NOT NULL,
            since INTEGER NOT NULL
        ) STRICT""",
        level.format("minutes"),
        level.format("hours"),
        """CREATE TABLE history (
            id INTEGER PRIMARY KEY, settled INTEGER NOT NULL, bytes INTEGER NOT NULL
        ) STRICT""",
    )


def _m005_records(database: Database) -> None:
    """Add the commands of central ops that have an answer; see ``agent.store.orders``."""
    _execute(
        database,
        """CREATE TABLE orders (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, expires REAL NOT NULL,
            digest TEXT NOT NULL, answer TEXT NOT NULL
        ) STRICT""",
    )


def _m006_records(database: Database) -> None:
    """Add the samples around alarms, with what was expected; see ``agent.store.window``."""
    _execute(
        database,
        """CREATE TABLE windows (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL,
            last INTEGER NOT NULL, labelled INTEGER NOT NULL, to_come INTEGER NOT NULL,
            channels TEXT NOT NULL, times BLOB NOT NULL, data BLOB NOT NULL,
            UNIQUE (stream, number)
        ) STRICT""",
    )


def _execute(database: Database, *statements: str) -> None:
    for statement in statements:
        database.conn.execute(statement)


# in order; PRAGMA user_version counts those applied to a file; none is ever changed or removed
MIGRATIONS: Final[dict[str, list[Callable[[Database], None]]]] = {
    RECORDS: [
        _m001_records,
        _m002_records,
        _m003_records,
        _m004_records,
        _m005_records,
        _m006_records,
    ],
    READINGS: [
        _m001_readings,
        _m002_readings,
        _m003_readings,
        _m004_readings,
        _m005_readings,
        _m006_readings,
    ],
    COLLECTED: [
        _m001_collected,
        _m002_collected,
        _m003_collected,
        _m004_collected,
        _m005_collected,
    ],
}
