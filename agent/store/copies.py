"""Copies of the databases from before an upgrade, and the way back to them.

``before-upgrade/5-6`` beside the databases has a ``fieldwatch.db`` with tables of version 5, and a
``readings.db`` with tables of version 6. There is one copy of each pair of versions, and the newest
``COPIES_MAX`` are kept.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent.store.batch import COUNTER
from agent.store.migrations import READINGS, RECORDS
from agent.store.salvage import begin_epoch
from agent.store.sqlite import (
    Connection,
    beside,
    bytes_on_disk,
    check,
    current_version,
    errors_of,
    open_for_reading,
    snapshot,
    transaction,
    version_of,
)
from models.errors import StoreError
from models.files import PARTIAL, sync_directory

_LOG = logging.getLogger(__name__)

DIRECTORY: Final = "before-upgrade"
GOING_BACK: Final = "going-back.json"  # the journal of a way back, beside the databases
COPIES_MAX: Final = 2
NAMES: Final = (RECORDS, READINGS)
_RESERVE_BYTES: Final = 2**24  # must stay free, besides what a migration takes
_MB: Final = 1e6

Versions = Mapping[str, int]  # of a database's tables, by the file's name


class Copy(NamedTuple):
    """A copy of both databases, or of ``fieldwatch.db`` alone if there was no room for both."""

    directory: Path
    versions: Versions

    def has(self, name: str) -> bool:
        """Whether it has this database."""
        return (self.directory / name).exists()


def versions(directory: Path) -> dict[str, int]:
    """Return the versions of the tables of the databases that exist and can be read."""
    found = {name: version_of(directory / name) for name in NAMES}
    return {name: version for name, version in found.items() if version is not None}


def copies(directory: Path) -> list[Copy]:
    """Return the complete copies, the newest first."""
    found = [
        Copy(folder, dict(zip(NAMES, map(int, folder.name.split("-")), strict=True)))
        for folder in (directory / DIRECTORY).glob("[0-9]*-[0-9]*")
        if PARTIAL not in folder.name
    ]
    return sorted(found, key=lambda copy: [*copy.versions.values()], reverse=True)


def copy_for(directory: Path, supported: Versions) -> Copy | None:
    """Return the newest copy that a software with these versions of tables can use."""
    for copy in copies(directory):
        if all(copy.versions[name] <= supported[name] for name in NAMES):
            return copy
    return None


def keep_copy(directory: Path) -> Copy | None:
    """Copy the databases if this software is about to migrate them; nobody uses them.

    A full disk must not keep the agent from watching. So without room for both copies it copies
    ``fieldwatch.db`` alone, or nothing, and logs what that means. It does the same if a database is
    damaged, which is repaired later.
    """
    found = versions(directory)
    if not any(found[name] < current_version(name) for name in found):
        return None
    folder = directory / DIRECTORY / "-".join(str(found.get(name, 0)) for name in NAMES)
    try:
        with errors_of(folder):
            chosen = _with_room(directory, [name for name in NAMES if name in found])
            return Copy(folder, found) if _written(directory, folder, chosen) else None
    except StoreError as error:
        _LOG.warning("there is no copy of the databases from before this upgrade: %s", error)
        return None


def _written(directory: Path, folder: Path, names: list[str]) -> bool:
    """Write the copy of these databases as a whole; return whether there is one."""
    parent, partial = folder.parent, folder.with_name(folder.name + PARTIAL)
    parent.mkdir(mode=0o750, exist_ok=True)
    for left in parent.glob(f"*{PARTIAL}"):
        shutil.rmtree(left)
    if not names:
        return False
    partial.mkdir(mode=0o750)
    for name in names:
        snapshot(directory / name, partial / name)
    sync_directory(partial)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    sync_directory(parent)
    for old in copies(directory)[COPIES_MAX:]:
        shutil.rmtree(old.directory)
    return True


def _with_room(directory: Path, names: list[str]) -> list[str]:
    """Return which databases can be copied, so that there is still room to migrate them."""
    sizes = {name: bytes_on_disk(directory / name) for name in names}
    free = shutil.disk_usage(directory).free - 2 * sum(sizes.values()) - _RESERVE_BYTES
    for chosen in (names, [name for name in names if name == RECORDS], []):
        if sum(sizes[name] for name in chosen) <= free or not chosen:
            break
    for name in names:
        if name not in chosen:
            _LOG.warning(
                "%s is migrated without a copy: a copy takes %.0f MB, and the disk has too little"
                " room. If this version fails, the former one gets the rows that it can still read",
                directory / name,
                sizes[name] / _MB,
            )
    return chosen


def carry_over(into: Path, newer: Path) -> int:
    """Replace the rows of a database by those of a newer version of it; return their number.

    The newer version may have more tables and columns, which are left out.

    Raises:
        StoreError: a table or a column is missing in the newer version, or a row does not fit;
            nothing was changed.

    """
    carried = 0
    with beside(into, newer) as connection, transaction(connection, into):
        for table in _tables(connection, "main"):
            columns = _columns(connection, "main", table)
            absent = [one for one in columns if one not in _columns(connection, "other", table)]
            if absent:
                raise StoreError(f"{newer}: the table {table} has no {', '.join(absent)}")
            listed = ", ".join(f'"{one}"' for one in columns)
            connection.execute(f'DELETE FROM main."{table}"')  # noqa: S608 - of our own schema
            carried += connection.execute(
                f'INSERT INTO main."{table}" ({listed}) SELECT {listed} FROM other."{table}"'  # noqa: S608
            ).rowcount
        if _columns(connection, "main", "sqlite_sequence"):  # numbers that are used once
            connection.execute("DELETE FROM main.sqlite_sequence")
            connection.execute(
                "INSERT INTO main.sqlite_sequence SELECT * FROM other.sqlite_sequence"
            )
    return carried


def continue_numbers(records: Path, known: Path | None) -> bool:
    """Make an older state of ``fieldwatch.db`` fit to go on; return whether its epoch goes on.

    A number of a message is never used twice, and a command of central ops is never obeyed twice.
    ``known`` is the state that came after it: numbers, counters and commands continue from there.
    Without it, or if it is of another epoch, a new epoch begins.

    Raises:
        StoreError: one of them cannot be read, or the disk fails.

    """
    with beside(records, known) as connection, transaction(connection, records):
        goes_on = known is not None and _continue(connection)
        if not goes_on:
            begin_epoch(connection)
    return goes_on


def begin_ring(readings: Path) -> None:
    """Make an older state of ``readings.db`` fit to go on: its numbers may be given again.

    Raises:
        StoreError: it cannot be opened, or the disk fails.

    """
    with beside(readings, None) as connection:
        connection.execute("PRAGMA application_id = 0")  # see ``ReadingsFile.ring_epoch``


def _continue(connection: Connection) -> bool:
    """Take over what only increases; return whether both are of the same epoch."""
    before, after = (
        connection.execute(f"SELECT value FROM {of}.meta WHERE key = 'epoch'").fetchone()  # noqa: S608 - no input
        for of in ("main", "other")
    )
    connection.execute(
        "INSERT INTO main.meta SELECT key, value FROM other.meta"
        " WHERE typeof(value) = 'integer' AND (? OR substr(key, 1, ?) = ?)"
        " ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        [before == after, len(COUNTER), COUNTER],
    )
    if all(_columns(connection, of, "orders") for of in ("main", "other")):
        connection.execute(
            "INSERT OR IGNORE INTO main.orders (id, expires, digest, answer)"
            " SELECT id, expires, digest, answer FROM other.orders"
        )
    return bool(before == after)


def check_copy(path: Path) -> None:
    """Read all pages of a database that nobody uses.

    Raises:
        StoreError: it is damaged.

    """
    with errors_of(path), contextlib.closing(open_for_reading(path)[0]) as connection:
        check(connection, path)


def _tables(connection: Connection, of: str) -> Iterator[str]:
    found = connection.execute(
        f"SELECT name FROM {of}.sqlite_master WHERE type = 'table' AND name NOT LIKE '%sqlite%'"  # noqa: S608
    )
    yield from (name for (name,) in found.fetchall())


def _columns(connection: Connection, of: str, table: str) -> list[str]:
    found = connection.execute("SELECT name FROM pragma_table_info(?, ?)", [table, of])
    return [name for (name,) in found.fetchall()]
