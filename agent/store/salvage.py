"""Replaces a damaged database by a new one with every row that can still be read.

SQLite reads a table page by page. A page that it cannot read hides a range of row numbers; a binary
search narrows that range down. All other rows are copied one by one if they are valid. The damaged
file is set aside with a report beside it (``.json``); the newest few are kept.

Numbers of messages are never used twice. They continue if the highest number is known: the running
agent knows it, or the file has it and has lost no commit. Otherwise a new epoch begins, in which
the waiting messages get new numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.handling.states import Standing
from agent.store.migrations import LEVELS, NUMBER_BITS, READINGS, RECORDS
from agent.store.record import COLUMNS, INSERT, Record, packed
from agent.store.sqlite import (
    ASIDE,
    Connection,
    errors_of,
    open_for_reading,
    open_for_writing,
    remove,
    take_the_place,
    transaction,
)
from agent.store.windows import COLUMNS as WINDOW_COLUMNS
from agent.store.windows import window_of
from agent.store.wrapped import Wrapped, is_record
from models.times import iso_time

_ROWS_READ = 1000  # at a time
_QUERIES_MAX = 20_000  # per table, to narrow down the unreadable ranges
_IN_VAIN_MAX = 500  # of these queries, until the first row is read
_BEYOND_MIN = 4096  # numbers that may follow the first damaged page, if the newest one is damaged
_SAMPLE_ROWS_MAX = 200_000  # of the ring; the newest are copied
_ASIDE_MAX = 3  # files, of the directory
_ASIDE_BYTES_MAX = 2**30
_CLOCK_BYTES = 24  # of ``Clock.packed``

Row = tuple[Any, ...]
Report = dict[str, Any]


class Numbers(NamedTuple):
    """The numbers of messages as the running agent knows them."""

    epoch: str
    last_seq: int


class _Table(NamedTuple):
    name: str
    columns: str
    key: str  # the row's number
    good: Callable[[Row], bool]  # whether a row is valid
    rows_max: int | None = None  # copy at most this many of the newest rows
    record_of: Callable[[Row], Row] | None = None  # converts a row of an older version


def mend(path: Path, numbers: Numbers | None = None, commits_lost: int = 0) -> Report:
    """Replace a damaged file by a new one with the readable rows, keep it, and return a report.

    Args:
        path: the damaged file; nobody writes to it.
        numbers: the numbers to continue; None if they must be read from the file.
        commits_lost: number of lost commits, newer than all readable ones.

    Raises:
        StoreError: no space for the new file, or disk failure; nothing has changed.

    """
    deleted = _prune(path.parent)
    new = path.with_name(f"{path.name}.mending")
    with errors_of(new):
        remove(new)
        with contextlib.closing(open_for_writing(new, "FULL", path.name)) as mended:
            mended.execute("PRAGMA synchronous = OFF")  # an incomplete copy is discarded anyway
            report = _fill(mended, path, numbers, commits_lost)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        aside = take_the_place(new, path)
    report = {"file": aside.name, "time": iso_time(time.time())} | report | {"deleted": deleted}
    with contextlib.suppress(OSError):  # a full disk; the agent logs the report in any case
        aside.with_name(f"{aside.name}.json").write_text(json.dumps(report) + "\n")
    return report


def _fill(new: Connection, path: Path, numbers: Numbers | None, commits_lost: int) -> Report:
    try:
        old, _ = open_for_reading(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # not even its header can be read
        old = sqlite3.connect(":memory:")
    with contextlib.closing(old):
        if path.name == READINGS:
            return _report([_copy(old, new, _samples_table(old)), *_history(old, new)])
        found = [_copy(old, new, _ALARMS), _copy(old, new, _outbox_table(old)), *_handled(old, new)]
        with transaction(new, path):
            meta = _meta(old, new)
            state = _state(old, new)
            epoch = _number(new, meta, numbers, commits_lost)
        return _report([*found, state]) | {"epoch": epoch}


class _Copied(NamedTuple):
    table: str
    saved: int
    lost: int | None  # None: unknown


def _report(copied: list[_Copied]) -> Report:
    return {
        "saved": {one.table: one.saved for one in copied},
        "lost": {one.table: one.lost for one in copied},
    }


def _copy(old: Connection, new: Connection, table: _Table) -> _Copied:
    """Copy the readable rows of a table."""
    reading = _Reading(old, table)
    columns = table.columns if table.record_of is None else COLUMNS
    marks = ", ".join("?" * (columns.count(",") + 1))
    statement = f"INSERT OR IGNORE INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608
    saved = 0
    for rows in reading.rows():
        new.execute("BEGIN")
        for row in map(table.record_of or _as_it_is, filter(table.good, rows)):
            with contextlib.suppress(sqlite3.IntegrityError):  # wrong type for the column
                saved += new.execute(statement, row).rowcount
        new.execute("COMMIT")
    return _Copied(table.name, saved, reading.lost(saved))


def _as_it_is(row: Row) -> Row:
    return row


class _Reading:
    """Reads the readable rows of a table."""

    def __init__(self, old: Connection, table: _Table) -> None:
        self._old, self._table = old, table
        self._failed = False

    def rows(self) -> Iterator[list[Row]]:
        """Yield the readable rows, up to ``_ROWS_READ`` at a time."""
        ranges = deque(self._ranges())
        any_read = False
        for number in range(_QUERIES_MAX):
            if not ranges:
                return
            if number == _IN_VAIN_MAX and not any_read:
                break
            low, high = ranges.popleft()
            found = self._between(low, high)
            if found is None:
                if low < high:
                    middle = (low + high) // 2
                    ranges += [(low, middle), (middle + 1, high)]
                continue
            any_read = any_read or bool(found)
            yield found
            if len(found) == _ROWS_READ:
                ranges.appendleft((found[-1][0] + 1, high))
        self._failed = True

    def lost(self, saved: int) -> int | None:
        """Return how many rows are missing; an index may contain rows that the table lacks."""
        if not self._failed:
            return 0
        counted = self._one(f"SELECT count(*) FROM {self._table.name}")  # noqa: S608
        return None if counted is None else max(0, counted - saved)

    def _between(self, low: int, high: int) -> list[Row] | None:
        table = self._table
        try:
            return self._old.execute(
                f"SELECT {table.columns} FROM {table.name}"  # noqa: S608 - no input in it
                f" WHERE {table.key} BETWEEN ? AND ? ORDER BY {table.key} LIMIT ?",
                [low, high, _ROWS_READ],
            ).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            self._failed = True
            return None

    def _ranges(self) -> list[tuple[int, int]]:
        """Return the ranges of numbers to read; ranges that are surely readable come first."""
        table = self._table
        low, high = (
            self._one(f"SELECT {which}({table.key}) FROM {table.name}")  # noqa: S608
            for which in ("min", "max")
        )
        low = 1 if low is None else low
        if table.rows_max is not None:
            low = max(low, self._newest(table.rows_max) or low)
        if high is not None or (last := self._last_before_damage(low)) is None:
            return [(low, _FAR if high is None else high)]
        # the newest page is damaged; an index may say how far the numbers go
        high = self._one(f"SELECT max(+{table.key}) FROM {table.name}")  # noqa: S608
        return [(low, last), (last + 1, high or self._beyond(last))]

    def _beyond(self, last: int) -> int:
        """Return a number that no row exceeds, as far as rows after the first damage tell.

        It looks farther and farther. What is not found is on a damaged page, or was never there.
        """
        table, reach, ahead = self._table, last, _BEYOND_MIN
        while ahead < _FAR:
            found = self._one(
                f"SELECT {table.key} FROM {table.name} NOT INDEXED"  # noqa: S608 - no input in it
                f" WHERE {table.key} >= {last + ahead} ORDER BY {table.key} LIMIT 1"
            )
            reach, ahead = found or reach, 2 * ahead
        return last + 2 * (reach - last) + _BEYOND_MIN

    def _last_before_damage(self, low: int) -> int | None:
        table, last = self._table, None
        try:
            for (number,) in self._old.execute(
                f"SELECT {table.key} FROM {table.name} NOT INDEXED"  # noqa: S608 - no input in it
                f" WHERE {table.key} >= ? ORDER BY {table.key}",
                [low],
            ):
                last = number
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            self._failed = True
        return last

    def _newest(self, rows: int) -> int | None:
        table = self._table
        return self._one(
            f"SELECT {table.key} FROM {table.name}"  # noqa: S608
            f" ORDER BY {table.key} DESC LIMIT 1 OFFSET {rows}"
        )

    def _one(self, statement: str) -> int | None:
        try:
            row = self._old.execute(statement).fetchone()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            self._failed = True
            return None
        return row[0] if row and isinstance(row[0], int) else None


def _is_alarm(row: Row) -> bool:
    _, stream, number, state, document = row
    said = _read(document)
    return (said.get("stream"), said.get("number"), said.get("state")) == (stream, number, state)


def _is_point(row: Row) -> bool:
    _, stream, point, document = row
    if not isinstance(stream, str) or not isinstance(point, str):
        return False
    try:
        Standing.of(_read(document))
    except (KeyError, TypeError):
        return False
    return True


def _is_transition(row: Row) -> bool:
    _, stream, point, number, revision, _, what, document = row
    said = _read(document)
    found = tuple(said.get(key) for key in ("stream", "point", "number", "revision", "what"))
    return found == (stream, point, number, revision, what)


def _is_notice(row: Row) -> bool:
    _, hook, notice, at, clock, document = row
    texts = (hook, notice, clock)
    if not all(isinstance(one, str) for one in texts) or not isinstance(at, float):
        return False
    return isinstance(_read(document).get("transition"), dict)


def _is_order(row: Row) -> bool:
    _, name, expires, digest, answer = row
    texts = all(isinstance(one, str) for one in (name, digest, answer))
    return texts and isinstance(expires, float) and bool(_read(answer))


def _is_window(row: Row) -> bool:
    _, labelled, *window = row
    return labelled in (0, 1) and window_of(window) is not None


def _is_wrapped(row: Row) -> bool:
    try:
        Wrapped._make(row).record()
    except ValueError:
        return False
    return True


def _record_of(row: Row) -> Row:
    return Wrapped._make(row).record()


def _is_chunk(row: Row) -> bool:
    _, rows, _, times, readings, scores, *later = row
    clock, quality = (*later, None, None)[:2]
    blobs = isinstance(times, bytes) and isinstance(readings, bytes) and isinstance(scores, bytes)
    return bool(
        blobs
        and isinstance(rows, int)
        and rows > 0
        and (len(times), len(scores)) == (8 * rows, 4 * rows)
        and len(readings) % (4 * rows) == 0
        and _is_blob_or_none(clock, _CLOCK_BYTES)
        and _is_blob_or_none(quality, len(readings) // 4)
    )


def _is_stream(row: Row) -> bool:
    _, stream, channels, since = row
    names = _listed(channels)
    return isinstance(stream, str) and bool(names) and isinstance(since, int) and since > 0


def _is_block(row: Row) -> bool:
    from agent.store.aggregates import is_block  # loads numpy, which nothing else here needs

    key, next_number, start_s, data = row
    number = key & (1 << NUMBER_BITS) - 1
    return isinstance(next_number, int) and number < next_number and is_block(start_s, data)


def _listed(text: Any) -> list[str]:
    try:
        said = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return []
    return said if isinstance(said, list) and all(isinstance(one, str) for one in said) else []


def _is_blob_or_none(data: Any, size: int) -> bool:
    return data is None or (isinstance(data, bytes) and len(data) == size)


def _read(document: Any) -> dict[str, Any]:
    try:
        said = json.loads(document)
    except (TypeError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


_FAR: Final = 2**40  # higher than any number that will ever be used
_ALARMS: Final = _Table("alarms", "id, stream, number, state, document", "id", _is_alarm)
_POINTS: Final = _Table("points", "id, stream, point, document", "id", _is_point)
_LOGBOOK: Final = _Table(
    "logbook", "id, stream, point, number, revision, at, what, document", "id", _is_transition
)
_NOTICES: Final = _Table("notices", "id, hook, notice, at, clock, document", "id", _is_notice)
_ORDERS: Final = _Table("orders", "number, id, expires, digest, answer", "number", _is_order)
_WINDOWS: Final = _Table("windows", f"id, labelled, {WINDOW_COLUMNS}", "id", _is_window)
_OUTBOX: Final = _Table("outbox", COLUMNS, "seq", is_record)
_WRAPPED: Final = _Table(
    "outbox", "seq, kind, topic, body", "seq", _is_wrapped, record_of=_record_of
)
_STREAMS: Final = _Table("history_streams", "id, stream, channels, since", "id", _is_stream)
_MINUTES, _HOURS = (_Table(level, "key, next, start, data", "key", _is_block) for level in LEVELS)
_SAMPLES: Final = _Table(
    "samples",
    "number, rows, stream, times, readings, scores, clock, quality",
    "number",
    _is_chunk,
    _SAMPLE_ROWS_MAX,
)


def _columns(old: Connection, table: str) -> set[str]:
    """Return the columns that exist: the file may be of an older version. None if unreadable."""
    try:
        return {name for _, name, *_ in old.execute(f"PRAGMA table_info({table})")}
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return set()


def _outbox_table(old: Connection) -> _Table:
    return _WRAPPED if "body" in _columns(old, "outbox") else _OUTBOX


def _samples_table(old: Connection) -> _Table:
    found = _columns(old, "samples")
    columns = [name for name in _SAMPLES.columns.split(", ") if name in found]
    return _SAMPLES._replace(columns=", ".join(columns)) if columns else _SAMPLES


def _history(old: Connection, new: Connection) -> list[_Copied]:
    """Copy minutes and hours; drop those of streams that are no longer known."""
    if not _has_history(old):
        return []
    copied = [_copy(old, new, table) for table in (_STREAMS, _MINUTES, _HOURS)]
    for level in LEVELS:
        new.execute(
            f"DELETE FROM {level} WHERE key >> {NUMBER_BITS} NOT IN"  # noqa: S608
            " (SELECT id FROM history_streams)"
        )
    (size,) = new.execute(
        """SELECT ifnull(sum(length(data)), 0) FROM
        (SELECT data FROM minutes UNION ALL SELECT data FROM hours)"""
    ).fetchone()
    # samples from this number on are in no row yet; the agent aggregates them from the ring
    (settled,) = new.execute(
        f"""SELECT ifnull(min(ends), 1) FROM (
            SELECT max(since, ifnull((SELECT max(next) FROM minutes
                WHERE key >> {NUMBER_BITS} = one.id), 1)) AS ends FROM history_streams AS one)"""  # noqa: S608
    ).fetchone()
    new.execute("INSERT INTO history VALUES (1, ?, ?)", [settled, size])
    return copied


def _handled(old: Connection, new: Connection) -> list[_Copied]:
    """Copy handling and windows of alarms, and the notices; files of older versions have none."""
    return [
        _copy(old, new, one)
        for one in (_POINTS, _LOGBOOK, _NOTICES, _ORDERS, _WINDOWS)
        if _columns(old, one.name)
    ]


def _has_history(old: Connection) -> bool:
    """Whether the file's version has a history; false if its header cannot be read."""
    return bool(_columns(old, "minutes"))


def _both_ways(old: Connection, statement: str, key: str) -> tuple[dict[Any, Row], bool]:
    """Read a table without row numbers from both ends; return rows, and whether all were read."""
    found: dict[Any, Row] = {}
    whole = True
    for order in ("ASC", "DESC"):
        try:
            for row in old.execute(f"{statement} ORDER BY {key} {order}"):
                found[row[:-1]] = row
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            whole = False
        if whole:
            break
    return found, whole


def _state(old: Connection, new: Connection) -> _Copied:
    """Copy the streams' memory; its parts have checksums, so damage is detected later."""
    found, whole = _both_ways(old, "SELECT stream, part, data FROM state", "stream, part")
    saved = 0
    for row in found.values():
        with contextlib.suppress(sqlite3.IntegrityError):
            saved += new.execute("INSERT INTO state VALUES (?, ?, ?)", row).rowcount
    return _Copied("state", saved, 0 if whole else None)


def _meta(old: Connection, new: Connection) -> dict[str, Any]:
    """Copy the counters; return the whole table if it can be trusted, else an empty one."""
    found, whole = _both_ways(old, "SELECT key, value FROM meta", "key")
    meta = {key: value for key, value in found.values() if isinstance(key, str)}
    for key, value in meta.items():
        if isinstance(value, int) and key != "last_seq":
            new.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value])
    return meta if whole else {}


def _number(
    new: Connection, meta: dict[str, Any], numbers: Numbers | None, commits_lost: int
) -> str:
    """Continue the numbers, or begin a new epoch; return which was done."""
    (highest,) = new.execute("SELECT max(seq) FROM outbox").fetchone()
    if numbers is None and not commits_lost:
        epoch, last_seq = meta.get("epoch"), meta.get("last_seq")
        if isinstance(epoch, str) and isinstance(last_seq, int) and last_seq >= (highest or 0):
            numbers = Numbers(epoch, last_seq)
    if numbers is None:
        begin_epoch(new)
        return "new"
    new.executemany(
        "UPDATE meta SET value = ? WHERE key = ?",
        [(numbers.epoch, "epoch"), (numbers.last_seq, "last_seq")],
    )
    return "kept"


def begin_epoch(new: Connection) -> None:
    """Begin a new epoch: number the waiting messages from 1, in their order."""
    rows = new.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY seq").fetchall()  # noqa: S608
    new.execute("DELETE FROM outbox")
    for seq, record in enumerate(map(Record._make, rows), 1):
        data = record.data
        if b'"merged":' in data:  # numbers of the old epoch
            data = packed({key: v for key, v in record.read().items() if key != "merged"})
        new.execute(INSERT, record._replace(seq=seq, data=data))
    new.executemany(
        "UPDATE meta SET value = ? WHERE key = ?",
        [(secrets.token_hex(8), "epoch"), (len(rows), "last_seq")],
    )


def reports(path: Path) -> list[Report]:
    """Return the reports of the damaged files beside a database, the oldest first."""
    found = []
    for file in sorted(path.parent.glob(f"{path.name}{ASIDE}*.json"), key=_age):
        with contextlib.suppress(ValueError):  # cut off by a crash
            found.append(json.loads(file.read_text()))
    return found


def _prune(directory: Path) -> list[str]:
    """Delete the oldest damaged files to make room for one more; return their names."""
    files = [file for name in (RECORDS, READINGS) for file in directory.glob(f"{name}{ASIDE}*")]
    groups: dict[str, list[Path]] = {}
    for file in sorted(files, key=_age):
        stem = file.name.removesuffix(".json").removesuffix("-wal").removesuffix("-shm")
        groups.setdefault(stem, []).append(file)
    sizes = {stem: sum(file.stat().st_size for file in group) for stem, group in groups.items()}
    deleted = []
    while sizes and (len(sizes) >= _ASIDE_MAX or sum(sizes.values()) >= _ASIDE_BYTES_MAX):
        oldest = next(iter(sizes))
        for file in groups[oldest]:
            file.unlink()
        del sizes[oldest]
        deleted.append(oldest)
    return deleted


def _age(file: Path) -> float:
    return file.stat().st_mtime
