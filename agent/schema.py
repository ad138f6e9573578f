"""The tables of the two database files, as ordered migrations.

Loaded only where a file is new or old: sqlite-utils costs a small gateway 15 MB and 0.15 s.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Final

from sqlite_utils import Database, Migrations

CURRENT: Final = 1  # PRAGMA user_version of an up-to-date file: the number of migrations

records = Migrations("records")
readings = Migrations("readings")


@records()
def m001_records(database: Database) -> None:
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
        "CREATE INDEX outbox_kind ON outbox (kind, seq)",
        """CREATE TABLE state (
            stream TEXT NOT NULL, part TEXT NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (stream, part)
        ) STRICT, WITHOUT ROWID""",
    )
    database.conn.execute("INSERT INTO meta VALUES ('epoch', ?)", [secrets.token_hex(8)])
    database.conn.execute("INSERT INTO meta VALUES ('last_seq', 0)")


@readings()
def m001_readings(database: Database) -> None:
    """The ring of samples with their scores, and the status snapshot."""
    _execute(
        database,
        """CREATE TABLE samples (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, rows INTEGER NOT NULL,
            times BLOB NOT NULL, readings BLOB NOT NULL, scores BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX samples_stream ON samples (stream, id)",
        "CREATE TABLE status (id INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT",
    )


def _execute(database: Database, *statements: str) -> None:
    for statement in statements:
        database.conn.execute(statement)


def migrate(connection: sqlite3.Connection, migrations: Migrations) -> None:
    """Bring a file's tables up to date; each migration as a whole or not at all."""
    migrations.apply(Database(connection))
    connection.execute(f"PRAGMA user_version = {CURRENT}")
