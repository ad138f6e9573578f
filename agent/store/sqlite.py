"""Opens and checks the database files, creates their tables, and allows only one writer each.

All access to SQLite goes through here: ``agent.store.file``, which holds the writer's tables, and
``agent.store.salvage``, which reads damaged files, use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection as Connection
from typing import IO, TYPE_CHECKING, Literal

from agent.store.migrations import MIGRATIONS, migrate
from agent.store.obstacles import BESIDE, refuse_obstacle, refuse_obstacles
from agent.store.wal import Log, read_log
from models.errors import StoreError
from models.files import sync_directory

if TYPE_CHECKING:
    pass

LOCK = "lock"
WAL_BYTES_MAX = 4 * 2**20  # size of the log after a checkpoint
BUSY_MS = 5000
_CACHE_KIB = 256  # page cache per connection; the system also caches the file
CHECKED_BYTES_MAX = 128 * 2**20  # when a file is opened; reading more would delay the start
ASIDE = ".corrupt-"  # in the names of damaged files, before the time
_SUFFIXES = ("", *BESIDE)
_FREE_PAGES_KEPT = 256  # to be used again: 1 MB
_PAGES_GIVEN_BACK = 64  # in a commit
_LOCK_LOOK_S = 0.01  # between attempts
_LOCK_WAIT_S_MAX = 30.0  # for commands that hold the lock briefly; on a busy gateway one may stall

Synchronous = Literal["FULL", "NORMAL"]

# errors not caused by the file's content: it stays in place, and may be intact
_OUTSIDE = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_CUT_OFF = sqlite3.SQLITE_IOERR_SHORT_READ  # but this one is damage: the file ends too early


# what SQLite reports for unreadable pages in a file that was intact when it was opened
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Damaged(StoreError):
    """The file is not, or is no longer, one of our databases."""

    def __init__(self, path: Path, why: object, commits_lost: int = 0) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.commits_lost = commits_lost  # newer than all readable ones


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Raise SQLite's and the system's errors as ``StoreError`` that names ``path``.

    Raises:
        Damaged: the file is damaged; any other error is a disk error or a programming error.

    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            raise Damaged(path, error) from error
        why = getattr(error, "strerror", None) or error  # without its number
        raise StoreError(f"{getattr(error, 'filename', None) or path}: {why}") from error


@contextlib.contextmanager
def transaction(connection: Connection, path: Path) -> Iterator[None]:
    """Commit everything in the block, or nothing.

    Raises:
        StoreError: nothing was written.

    """
    with errors_of(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # on a full disk SQLite has rolled back by itself
                connection.execute("ROLLBACK")
            raise


def touch(connection: Connection) -> None:
    """Write something in this transaction: SQLite does not sync a transaction without writes."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def open_for_writing(path: Path, synchronous: Synchronous, name: str = "") -> Connection:
    """Open a database for its only writer; create or migrate it if needed.

    Args:
        path: of the file.
        synchronous: SQLite's setting; with FULL each commit is on the disk when it returns.
        name: which of our databases it is, if its file has another name.

    Raises:
        Damaged: the file is not one of our databases, or is incomplete.
        StoreError: it cannot be opened, or a newer version of this software wrote it.

    """
    with errors_of(path):
        refuse_obstacles(path, writing=True)
        finish_mending(path)
        log = read_log(log_of(path))
        connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_MS / 1000)
        try:
            if synchronous == "FULL":  # otherwise a power cut may take several commits
                _check_log(connection, path, log)
            _prepare(connection, path, synchronous, name or path.name)
        except BaseException as error:
            connection.close()
            if _is_damage(error):
                raise Damaged(path, error) from error
            raise
        return connection


def _check_log(connection: Connection, path: Path, log: Log) -> None:
    try:
        (_, frames, _) = connection.execute("PRAGMA wal_checkpoint").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return  # the agent must start even if the disk cannot be written
        raise
    # negative: another process runs a checkpoint, so it is unknown how much SQLite read
    if frames >= 0 and (lost := log.lost(frames)):
        raise Damaged(path, f"{lost} commits are lost because the log is damaged", lost)


def _is_damage(error: BaseException) -> bool:
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes the broken part of the file
        return True
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF not in _OUTSIDE or code == _CUT_OFF)


def _prepare(connection: Connection, path: Path, synchronous: Synchronous, name: str) -> None:
    if path.stat().st_size <= CHECKED_BYTES_MAX:
        check(connection, path)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    if not pages:  # in an older file freed pages stay, and SQLite uses them again
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    current = len(MIGRATIONS[name])
    if version > current:
        raise StoreError(
            f"{path}: a newer version of this software wrote it: its tables have version"
            f" {version}, and this version supports up to {current}. Reinstall the newer version,"
            f" or move the files of {path.parent} away so that the agent creates new ones"
        )
    if version < current:
        with _room_named(path):
            migrate(connection, name)


@contextlib.contextmanager
def _room_named(path: Path) -> Iterator[None]:
    """If the disk is full, report how much space a migration needs, and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
            raise
        needed_mb = 2 * path.stat().st_size / 1e6 + 1  # the rewritten pages, and their log
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        raise StoreError(
            f"{path}: the disk is full, and the tables must be updated to this version. That takes"
            f" up to {needed_mb:.0f} MB in {path.parent}, where {free_mb:.0f} MB are free."
            " Free some space, then start again; nothing is lost"
        ) from error


def check(connection: Connection, path: Path) -> None:
    """Read all pages of a file (``PRAGMA quick_check``); a larger file takes longer.

    Raises:
        Damaged: the file is damaged.

    """
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise Damaged(path, finding)


def log_of(path: Path) -> Path:
    """Return where the log (WAL) of a database lies."""
    return path.with_name(f"{path.name}-wal")


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its log; nothing is deleted."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}{ASIDE}{stamp}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-1")
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def remove(path: Path) -> None:
    """Delete a database with its log."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def take_the_place(new: Path, path: Path) -> Path:
    """Replace a damaged database by a new one, closed and complete; return where the old one is.

    After a crash in between, the next opening finishes the work. There is always a file, and never
    the old log beside the new file.
    """
    new.rename(_mended(path))
    sync_directory(path.parent)
    return _swap(path)


def finish_mending(path: Path) -> None:
    """Finish ``take_the_place`` after a crash."""
    if _mended(path).exists():
        _swap(path)


def _swap(path: Path) -> Path:
    aside = set_aside(path)
    _mended(path).rename(path)
    sync_directory(path.parent)
    return aside


def _mended(path: Path) -> Path:
    return path.with_name(f"{path.name}.mended")


def bytes_used(connection: Connection) -> int:
    """Return the size of a file's content in bytes, without its log and its free pages."""
    pages, free, size = (
        connection.execute(f"PRAGMA {what}").fetchone()[0]
        for what in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def give_back(connection: Connection) -> None:
    """Return a few free pages to the file system, so that the commit stays short."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free > _FREE_PAGES_KEPT:
        # execute() would step only once and free one page
        connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK})")


def current_version(name: str) -> int:
    """Return the version of the tables that this software creates."""
    return len(MIGRATIONS[name])


def outdated(path: Path) -> bool:
    """Return whether a file is absent, or its tables have an older version.

    A damaged file is not outdated: the agent repairs it when it opens it.

    Raises:
        StoreError: the file cannot be read.

    """
    refuse_obstacles(path, writing=True)
    if not path.exists():
        return True
    version = version_of(path)
    return version is not None and version < current_version(path.name)


def version_of(path: Path) -> int | None:
    """Return the version of a file's tables; None if the file is absent or damaged."""
    if not path.exists():
        return None
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with contextlib.closing(connection):
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error:
            return None
    return int(version)


def bytes_on_disk(path: Path) -> int:
    """Return the size of a database with its log; 0 if it is absent."""
    parts = (path, log_of(path))
    return sum(part.stat().st_size for part in parts if part.exists())


def snapshot(path: Path, into: Path) -> None:
    """Write a copy of a database to a new file: as of one moment, also while its writer commits.

    Raises:
        StoreError: the database cannot be read, or the copy cannot be written.

    """
    with errors_of(path), contextlib.closing(open_for_reading(path)[0]) as source:
        with contextlib.closing(sqlite3.connect(into, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
            source.backup(copy)
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _sync(into)


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


@contextlib.contextmanager
def beside(path: Path, other: Path | None) -> Iterator[Connection]:
    """Open a database that nobody uses, with another one attached as ``other``, to be read only.

    What is written is on the disk at the end.

    Raises:
        StoreError: one of them cannot be opened, or the disk fails.

    """
    with errors_of(path):
        uri = path.absolute().as_uri()
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        with contextlib.closing(connection):
            if other is not None:
                connection.execute("ATTACH ? AS other", [f"{other.absolute().as_uri()}?mode=ro"])
            yield connection


def open_for_reading(path: Path) -> tuple[Connection, bool]:
    """Open a file that another connection may write; also return whether you may keep it open.

    Raises:
        StoreError: there is no such file, or it cannot be read.

    """
    refuse_obstacles(path, writing=False)
    if not path.exists():
        raise StoreError(f"{path}: no such database; has the agent run with this configuration?")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000)
    try:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # no -shm file and no permission to create one: nobody writes now, so the file is complete.
        # A writer may start at any time, and this connection would not notice it
        connection.close()
        return sqlite3.connect(f"{uri}&immutable=1", uri=True), False
    return connection, True


def lock_of(database: Path) -> Path:
    """Return the path of the lock of a database that has its own lock."""
    return database.with_name(f"{database.name}.lock")


def lock(path: Path) -> IO[str]:
    """Keep other agents out for as long as the returned file is open.

    Two agents would assign the same numbers to different messages.

    Raises:
        StoreError: another process has the lock, or the path is not a file.
        OSError: the file cannot be created.

    """
    refuse_obstacle(path, writing=True)
    file = path.open("a+")
    deadline = time.monotonic() + _LOCK_WAIT_S_MAX
    while not _flock(file.fileno(), fcntl.LOCK_EX):
        # a command that calls ``locked`` briefly takes a shared lock; an agent's lock is exclusive
        if time.monotonic() < deadline and _flock(file.fileno(), fcntl.LOCK_SH):
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(_LOCK_LOOK_S)
            continue
        with file:
            file.seek(0)
            holder = file.read().strip()
        raise StoreError(f"{path.parent} is in use by another agent (process {holder})")
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def locked(path: Path) -> bool | None:
    """Whether a process holds a ``lock``; None if unknown."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it may be a pipe
    except FileNotFoundError:
        return False
    except OSError:  # no permission to read it
        return None
    try:
        return not _flock(file, fcntl.LOCK_SH)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(file)


def _flock(file: int, kind: int) -> bool:
    """Try to lock a file without waiting; return whether it succeeded."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
