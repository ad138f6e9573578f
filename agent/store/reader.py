"""The read-only side of the store, for ``status``, ``alarms``, the uplink and the demo.

It can neither write nor checkpoint. If a damaged file was replaced, it continues with the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from agent.alarms.document import with_newest
from agent.alarms.lifecycle import OPENED
from agent.handling.states import Standing
from agent.store import layouts
from agent.store.batch import COUNTER
from agent.store.migrations import READINGS, RECORDS
from agent.store.notices import Waiting
from agent.store.record import COLUMNS, Record
from agent.store.sqlite import LOCK, Connection, errors_of, locked, open_for_reading
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.store.timeline import History, Stretch


_ENDS_MAX: Final = 1000  # chunks whose first and last times are in memory


class _Opened(NamedTuple):
    connection: Connection
    file: tuple[int, int] | None  # device and inode


class Stored(NamedTuple):
    """Consecutive samples, in their stored form."""

    times: bytes  # f8
    values: bytes  # f4
    scores: bytes  # f4
    quality: bytes | None  # u1; None: all measured, or an older version did not store it


class Ringed(NamedTuple):
    """A chunk of the ring, with its place among the samples of all streams."""

    number: int  # of its first sample
    rows: int
    stream: str
    stored: Stored


class Reader:
    """Reads both files; one thread uses it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: dict[str, _Opened] = {}

    def __enter__(self) -> Self:
        """Return itself; a file is opened by its first query."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened."""
        for opened in self._opened.values():
            opened.connection.close()

    def alarms(self, limit: int, open_only: bool = False) -> list[dict[str, Any]]:
        """Return the newest alarms in chronological order; open ones have their newest values."""
        some = f"WHERE state = '{OPENED}'" if open_only else ""  # as its index has it
        rows = self._query(
            RECORDS,
            f"SELECT document FROM alarms {some} ORDER BY id DESC LIMIT ?",  # noqa: S608 - no input
            [limit],
        )
        alarms: list[dict[str, Any]] = [json.loads(document) for (document,) in reversed(rows)]
        return self._with_newest(alarms)

    def alarm(self, stream: str, number: int) -> dict[str, Any] | None:
        """Return one alarm, with its newest values if it is open; None if there is none."""
        return next(iter(self.alarms_named([(stream, number)])), None)

    def alarms_named(self, names: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
        """Return the alarms of these streams and numbers that exist, as ``alarm`` does."""
        rows = self._query(
            RECORDS,
            """SELECT document FROM json_each(?) AS named JOIN alarms
            ON stream = json_extract(named.value, '$[0]')
            AND number = json_extract(named.value, '$[1]') ORDER BY named.key""",
            [json.dumps(list(names))],
        )
        return self._with_newest([json.loads(document) for (document,) in rows])

    def _with_newest(self, alarms: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give open alarms their newest values; this reads the status at most once."""
        if not any(alarm["state"] == OPENED for alarm in alarms):
            return alarms
        now = self._open_now()
        return [
            with_newest(alarm, now[key])
            if alarm["state"] == OPENED and (key := (alarm["stream"], alarm["number"])) in now
            else alarm
            for alarm in alarms
        ]

    def alarms_of(self, stream: str, limit: int) -> list[dict[str, Any]]:
        """Return the newest alarms of a stream, as stored, the newest first."""
        rows = self._query(
            RECORDS,
            "SELECT document FROM alarms WHERE stream = ? ORDER BY number DESC LIMIT ?",
            [stream, limit],
        )
        return [json.loads(document) for (document,) in rows]

    def streams_with(self, number: int) -> list[str]:
        """Return the streams that have an alarm of this number."""
        rows = self._query(
            RECORDS, "SELECT stream FROM alarms WHERE number = ? ORDER BY stream", [number]
        )
        return [stream for (stream,) in rows]

    def standings(self) -> dict[tuple[str, str], Standing]:
        """Return the standing of each point, by stream and point; empty for an older file."""
        if not self._has_logbook():
            return {}
        rows = self._query(RECORDS, "SELECT stream, point, document FROM points", [])
        return {(stream, point): Standing.of(json.loads(text)) for stream, point, text in rows}

    def logbook(self, stream: str, point: str, limit: int) -> list[dict[str, Any]]:
        """Return the newest transitions of a point in chronological order."""
        if not self._has_logbook():
            return []
        rows = self._query(
            RECORDS,
            "SELECT document FROM logbook WHERE stream = ? AND point = ?"
            " ORDER BY revision DESC LIMIT ?",
            [stream, point, limit],
        )
        return [json.loads(document) for (document,) in reversed(rows)]

    def said(self, stream: str, point: str, limit: int) -> list[dict[str, Any]]:
        """Return the newest labels and notes of a point, the newest first."""
        if not self._has_logbook():
            return []
        rows = self._query(
            RECORDS,
            "SELECT document FROM logbook WHERE stream = ? AND point = ?"
            " AND what IN ('labelled', 'noted') ORDER BY revision DESC LIMIT ?",
            [stream, point, limit],
        )
        return [json.loads(document) for (document,) in rows]

    def last_logbook_row(self) -> int:
        """Return the number of the newest row of the logbook; 0 if there is none."""
        if not self._has_logbook():
            return 0
        ((newest,),) = self._query(RECORDS, "SELECT ifnull(max(id), 0) FROM logbook", [])
        return int(newest)

    def logbook_after(self, row: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """Return the next transitions after a row of the logbook, each with its row."""
        if not self._has_logbook():
            return []
        rows = self._query(
            RECORDS,
            "SELECT id, document FROM logbook WHERE id > ? ORDER BY id LIMIT ?",
            [row, limit],
        )
        return [(number, json.loads(document)) for number, document in rows]

    def labels(self) -> list[dict[str, Any]]:
        """Return all transitions that label an alarm, in their order."""
        if not self._has_logbook():
            return []
        rows = self._query(
            RECORDS, "SELECT document FROM logbook WHERE what = 'labelled' ORDER BY id", []
        )
        return [json.loads(document) for (document,) in rows]

    def _has_logbook(self) -> bool:
        return bool(self._query(RECORDS, "SELECT 1 FROM sqlite_master WHERE name = 'logbook'", []))

    def _open_now(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the open alarms as the last status has them, by stream and number."""
        try:
            streams = self.status().get("streams", {})
        except StoreError:  # none yet
            return {}
        return {
            (alarm["stream"], alarm["number"]): alarm
            for stream in streams.values()
            for alarm in stream["open_alarms"]
        }

    def status(self) -> dict[str, Any]:
        """Return the agent's last status.

        Raises:
            StoreError: there is no database, or it has no status that this version can read.

        """
        rows = self._query(READINGS, "SELECT document FROM status", [])
        if not rows:
            raise StoreError(f"{self._directory}: no status yet; is the agent running?")
        try:
            document: dict[str, Any] = json.loads(zlib.decompress(rows[0][0]))
        except (
            zlib.error,
            ValueError,
            TypeError,
        ) as error:  # damaged, or text: of an early version
            raise StoreError(f"{self._directory}: its status cannot be read: {error}") from error
        return document

    def held(self) -> bool | None:
        """Whether an agent has the store open; None if unknown."""
        return locked(self._directory / LOCK)

    def newest_samples(self, stream: str, rows: int, since: int = 0) -> list[Stored]:
        """Return the newest samples, oldest first; none with a number below ``since``.

        They are in the chunks in which they were stored; the first may begin before ``since``.
        """
        columns = self._query(READINGS, "SELECT name FROM pragma_table_info('samples')", [])
        quality = "quality" if ("quality",) in columns else "NULL"  # of an older version's file
        chunks = self._query(
            READINGS,
            f"""SELECT times, readings, scores, {quality} FROM (
                SELECT *, sum(rows) OVER (ORDER BY number DESC) - rows AS newer FROM (
                    SELECT * FROM samples WHERE stream = ? AND number >= ?
                    ORDER BY number DESC LIMIT ?))
            WHERE newer < ? ORDER BY number""",  # noqa: S608 - no input in it
            [stream, since, rows, rows],
        )
        return [Stored(*chunk) for chunk in chunks]

    def samples_of(self, stream: str, since: int, until: int) -> list[tuple[bytes, bytes]]:
        """Return the chunks of a stream that begin from one sample's number to before another.

        They are times and values in their stored form, in order; see ``Stored``.
        """
        return self._query(
            READINGS,
            "SELECT times, readings FROM samples"
            " WHERE number >= ? AND number < ? AND stream = ? ORDER BY number",
            [since, until, stream],
        )

    def rows_from(self, first: int, below: int, limit: int) -> list[Ringed]:
        """Return the next chunks of all streams with sample numbers from ``first``, in order.

        The first chunk may begin before ``first``; none begins at ``below`` or after it.
        """
        columns = self._query(READINGS, "SELECT name FROM pragma_table_info('samples')", [])
        quality = "quality" if ("quality",) in columns else "NULL"  # of an older version's file
        rows = self._query(
            READINGS,
            f"""SELECT number, rows, stream, times, readings, scores, {quality} FROM samples
            WHERE number >= ifnull((SELECT max(number) FROM samples WHERE number <= ?), 0)
            AND number < ? AND number + rows > ? ORDER BY number LIMIT ?""",  # noqa: S608 - no input in it
            [first, below, first, limit],
        )
        return [Ringed(number, count, stream, Stored(*row)) for number, count, stream, *row in rows]

    def next_sample(self) -> int:
        """Return the number after the newest sample of all streams; 1 if there is none."""
        rows = self._query(
            READINGS, "SELECT number + rows FROM samples ORDER BY number DESC LIMIT 1", []
        )
        return int(rows[0][0]) if rows else 1

    def samples_between(self, stream: str, begin_s: float, end_s: float) -> list[Stored]:
        """Return the chunks of a stream with a sample between two times, Unix seconds, in order.

        It looks at the first and last time of every chunk of the stream, so it takes long.
        """
        return [chunk for _, chunk in self.each_between(stream, begin_s, end_s)]

    def each_between(
        self, stream: str, begin_s: float, end_s: float
    ) -> Iterator[tuple[int, Stored]]:
        """Yield those chunks, each with the number of its first sample; few are in memory.

        The agent may drop the oldest meanwhile: then they are left out.
        """
        columns = self._query(READINGS, "SELECT name FROM pragma_table_info('samples')", [])
        quality = "quality" if ("quality",) in columns else "NULL"  # of an older version's file
        after = -1
        while ends := self._query(
            READINGS,
            "SELECT number, substr(times, 1, 8), substr(times, -8) FROM samples"
            " WHERE stream = ? AND number > ? ORDER BY number LIMIT ?",
            [stream, after, _ENDS_MAX],
        ):
            for number, first, last in ends:
                if _seconds(first) <= end_s and _seconds(last) >= begin_s:
                    for row in self._query(
                        READINGS,
                        f"SELECT times, readings, scores, {quality} FROM samples WHERE number = ?",  # noqa: S608
                        [number],
                    ):
                        yield number, Stored(*row)
            after = ends[-1][0]

    def layouts(self, stream: str) -> list[layouts.Part]:
        """Return the parts of a stream's past, each with its channels; [] if it has no history."""
        return layouts.parts_of(self._query_readings, stream)

    def history_streams(self) -> list[str]:
        """Return the names of the streams that have a history, in order."""
        return layouts.streams(self._query_readings)

    def layout(self, stream: str) -> tuple[list[str], int] | None:
        """Return a stream's channels, and the number of the first sample that has them.

        None if no agent that keeps a history has run the stream.
        """
        return layouts.layout(self._query_readings, stream)

    def history(self, stream: str, from_s: float, to_s: float, points_max: int) -> History:
        """Return a stream's past between two times (Unix seconds) in at most ``points_max`` points.

        It reads the finest level (samples, minutes or hours) that does not have too many entries,
        so the cost depends on ``points_max``. A stream without a history has no points.
        """
        from agent.store import timeline  # loads numpy, which few readers need

        return timeline.history(self._query_readings, stream, from_s, to_s, points_max)

    def stretch(self, stream: str, from_s: float, to_s: float, samples_max: int) -> Stretch | None:
        """Return a stream's samples between two times (Unix seconds), both included.

        None if the ring has lost some of them, or if they are more than ``samples_max``.
        """
        from agent.store import timeline  # loads numpy, which few readers need

        return timeline.stored(self._query_readings, stream, from_s, to_s, samples_max)

    def _query_readings(self, statement: str, values: Sequence[Any]) -> list[Any]:
        return self._query(READINGS, statement, values)

    def query_records(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Query ``fieldwatch.db``, for the modules of this package that read some of its tables."""
        return self._query(RECORDS, statement, values)

    def outbox(
        self, kinds: Sequence[str], after: int, limit: int, held: Sequence[str | None] = ()
    ) -> list[Record]:
        """Return the next messages of these kinds, in order.

        It skips the streams in ``held``; None stands for the gateway.
        """
        rows = self._query(
            RECORDS,
            f"""SELECT {COLUMNS} FROM outbox WHERE kind IN ({_marks(kinds)}) AND seq > ?
            AND ifnull(stream, '') NOT IN ({_marks(held)}) ORDER BY seq LIMIT ?""",  # noqa: S608
            [*kinds, after, *(stream or "" for stream in held), limit],
        )
        return list(map(Record._make, rows))

    def waiting(self, first: int, last: int) -> list[int]:
        """Return which numbers from ``first`` to ``last`` are in the outbox."""
        rows = self._query(
            RECORDS, "SELECT seq FROM outbox WHERE seq BETWEEN ? AND ? ORDER BY seq", [first, last]
        )
        return [seq for (seq,) in rows]

    def waiting_above(self, low: int, limit: int) -> tuple[list[int], int]:
        """Return the next numbers in the outbox above ``low``, and how far this list is complete.

        If there are fewer than ``limit``, it is complete up to the highest number used so far.
        """
        rows = self._query(
            RECORDS,
            """SELECT seq, (SELECT value FROM meta WHERE key = 'last_seq') FROM (
                SELECT seq FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?)
            UNION ALL SELECT NULL, value FROM meta WHERE key = 'last_seq'""",
            [low, limit],
        )
        seqs = [seq for seq, _ in rows if seq is not None]
        return seqs, seqs[-1] if len(seqs) == limit else int(rows[-1][1])

    def notices(self, hook: str, limit: int) -> list[Waiting]:
        """Return the oldest notices that wait for a hook, in order."""
        rows = self._query(
            RECORDS,
            "SELECT id, notice, at, clock, document FROM notices WHERE hook = ?"
            " ORDER BY id LIMIT ?",
            [hook, limit],
        )
        return list(map(Waiting._make, rows))

    def state(self, stream: str) -> dict[str, bytes]:
        """Return the last committed state of a stream, by part."""
        rows = self._query(RECORDS, "SELECT part, data FROM state WHERE stream = ?", [stream])
        return dict(rows)

    def meta(self, key: str) -> Any:
        """Return the epoch, or another value that belongs to the whole database."""
        ((value,),) = self._query(RECORDS, "SELECT value FROM meta WHERE key = ?", [key])
        return value

    def counters(self) -> dict[str, int]:
        """Return the highest counters of central ops' messages, by topic and key."""
        begin = len(COUNTER)
        rows = self._query(
            RECORDS, "SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", [begin, COUNTER]
        )
        return {key[begin:]: int(value) for key, value in rows}

    def outbox_rows(self) -> int:
        """Return how many messages wait."""
        ((count,),) = self._query(RECORDS, "SELECT count(*) FROM outbox", [])
        return int(count)

    def _query(self, name: str, statement: str, values: Sequence[Any]) -> list[Any]:
        path = self._directory / name
        with errors_of(path):
            connection = self._open(name, path)
            if connection is not None:
                return connection.execute(statement, values).fetchall()
            connection, lasting = open_for_reading(path)
            if lasting:
                self._opened[name] = _Opened(connection, _file_at(path))
                return connection.execute(statement, values).fetchall()
            with contextlib.closing(connection):
                return connection.execute(statement, values).fetchall()

    def _open(self, name: str, path: Path) -> Connection | None:
        """Return the open connection, unless its file has been replaced by another."""
        opened = self._opened.get(name)
        if opened is None:
            return None
        file = _file_at(path)
        if file is None or file == opened.file:
            return opened.connection
        del self._opened[name]
        opened.connection.close()
        return None


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if it is absent, for example during a replacement."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for each query; a Path costs as much again
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _seconds(time: bytes) -> float:
    (seconds,) = struct.unpack("<d", time)
    return float(seconds)
