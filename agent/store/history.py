"""Stores minute and hour statistics of each stream, beside the ring in ``readings.db``.

``open_blocks`` holds, in memory only, what is not written yet. A kill loses nothing: each row has
the numbers of the samples that it summarises, and the next start aggregates the remaining samples
from the ring. So a stream writes one disk page per ten minutes and one per hour, whatever its rate.
A row is written with the commit that follows its end, after its samples.

A row's key is the stream's number and the number of the row's first sample. Both numbers and times
grow, so a binary search finds rows by time without an index, and a row points to its samples.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.store.aggregates import from_bytes
from agent.store.migrations import LEVELS, Level
from agent.store.open_blocks import BLOCK_S, MINUTE_S, OpenBlocks, Row, key_of
from models.messages import Float32, Samples

if TYPE_CHECKING:
    from agent.store.correction import Correction
    from agent.store.sqlite import Connection

LOOK_S = 60.0  # interval between searches for idle blocks
IDLE_S = 1200.0
_ROWS_READ = 20  # per stream and search for rows that are too old
_ROWS_DROPPED = 200  # in a commit

Chunk = tuple[str, Samples, Float32]


@dataclass(slots=True)
class _Track:
    """A stream with the channels that it has now."""

    id: int
    channels: list[str]
    next: int  # number of the first sample without a row, when the file was opened
    open: OpenBlocks
    checked: bool = False  # whether its channels were compared with ``describe``'s


class History:
    """Writes minutes and hours; the store's thread uses it."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0  # of all blocks, as of the last row
        self.excess = 0  # rows dropped for the size
        self._described: dict[str, list[str]] = {}
        self._begin()

    def _begin(self) -> None:
        self._tracks: dict[str, _Track] = {}
        self._new: dict[str, _Track] = {}  # inserted in the current transaction
        self._due: list[Row] = []
        self._taken = 0  # number of the first sample not added yet
        self._next_look_s = 0.0
        self._now_s = time.monotonic()

    def describe(self, channels: Mapping[str, Sequence[str]]) -> None:
        """Set the names of the streams' channels; without names, channels get numbers."""
        self._described |= {stream: list(names) for stream, names in channels.items()}
        for track in self._tracks.values():
            track.checked = False

    def open(self, readings: Connection) -> int:
        """Aggregate samples that have no row; return the first sample number above all rows."""
        self._begin()
        for id_, stream, names, since in readings.execute(
            "SELECT id, stream, channels, since FROM history_streams ORDER BY id"
        ).fetchall():
            last = _last_next(readings, "minutes", id_)
            first = since if last is None else last
            self._tracks[stream] = self._track(id_, json.loads(names), first)
            self._read_hour(readings, self._tracks[stream], since)
        state = readings.execute("SELECT settled, bytes FROM history").fetchone()
        starts = [track.next for track in self._tracks.values()]
        settled, self.bytes = state or (min(starts, default=1), 0)
        self._taken = max([settled, *starts])
        self._read_ring(readings, settled)
        return self._taken

    def _track(self, id_: int, channels: list[str], first: int, checked: bool = False) -> _Track:
        return _Track(id_, channels, first, OpenBlocks(id_, self._due), checked)

    def _read_hour(self, readings: Connection, track: _Track, since: int) -> None:
        """Aggregate the blocks that are in no hour yet."""
        from_number = _last_next(readings, "hours", track.id) or since
        for key, next_number, start_s, data in readings.execute(
            "SELECT key, next, start, data FROM minutes WHERE key BETWEEN ? AND ? ORDER BY key",
            [key_of(track.id, from_number), key_of(track.id + 1, 0) - 1],
        ).fetchall():
            number = key - key_of(track.id, 0)
            entries = from_bytes(data, start_s, MINUTE_S)
            track.open.add_block(number, next_number, [entries], start_s)

    def _read_ring(self, readings: Connection, settled: int) -> None:
        rows = readings.execute(
            """SELECT number, rows, stream, times, readings, scores FROM samples WHERE number >=
            ifnull((SELECT max(number) FROM samples WHERE number <= ?), 0) ORDER BY number""",
            [settled],
        )
        for number, count, stream, times, values, scores in rows:
            self._taken = max(self._taken, number + count)
            track = self._tracks.get(stream)
            if track is None or len(values) != 4 * count * len(track.channels):
                continue
            begin = max(0, track.next - number)
            if begin < count:
                samples = Samples(
                    np.frombuffer(times)[begin:],
                    np.frombuffer(values, np.float32).reshape(count, -1)[begin:],
                )
                score = np.frombuffer(scores, np.float32)[begin:]
                track.open.add(number + begin, samples, score, self._now_s)

    def write(self, readings: Connection, chunks: Sequence[Chunk], next_sample: int) -> None:
        """Write the finished rows, in the transaction that stores ``chunks``; these are not added.

        After a commit, call ``written`` and ``take``. After a rollback, call this again.
        """
        self._new = {}
        for stream, samples, _ in chunks:
            track = self._new.get(stream) or self._tracks.get(stream)
            width = samples.values.shape[1]
            if track is not None and track.checked and len(track.channels) == width:
                continue
            names = self._names(stream, width)
            if track is not None and track.channels == names:
                track.checked = True
            else:
                id_ = _insert_stream(readings, stream, names, next_sample)
                self._new[stream] = self._track(id_, names, next_sample, checked=True)
        if self._due:
            self._write_due(readings)

    def _names(self, stream: str, count: int) -> list[str]:
        names = self._described.get(stream, [])
        return names if len(names) == count else [str(number + 1) for number in range(count)]

    def _write_due(self, readings: Connection) -> None:
        for level in LEVELS:
            readings.executemany(
                f"INSERT OR REPLACE INTO {level} VALUES (?, ?, ?, ?)",  # noqa: S608
                [row[1:] for row in self._due if row.level == level],
            )
        added = sum(len(row.data) for row in self._due)
        readings.execute(
            """INSERT INTO history VALUES (1, ?, ?) ON CONFLICT DO UPDATE
            SET settled = excluded.settled, bytes = bytes + excluded.bytes""",
            [self._settled(), added],
        )
        self._drop_excess(readings)

    def _settled(self) -> int:
        firsts = (track.open.first for track in self._tracks.values())
        return min((first for first in firsts if first is not None), default=self._taken)

    def written(self) -> None:
        """Discard the written rows, after the transaction was committed."""
        self._due.clear()
        for stream, track in self._new.items():
            if before := self._tracks.get(stream):
                before.open.close()
            self._tracks[stream] = track
        self._new = {}

    def take(self, chunks: Sequence[Chunk], number: int, oldest: int) -> None:
        """Add committed samples; arguments: number of the first one, and of the ring's oldest."""
        now_s = self._now_s = time.monotonic()
        for stream, samples, scores in chunks:
            self._tracks[stream].open.add(number, samples, scores, now_s)
            number += len(samples.times)
        self._taken = max(self._taken, number)
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_S
            self._close_idle(now_s, oldest)

    def _close_idle(self, now_s: float, oldest: int) -> None:
        """Finish blocks that are idle, or whose samples are about to leave the ring."""
        for track in self._tracks.values():
            if track.open.idle_since(now_s - IDLE_S):
                track.open.close()
            elif track.open.first is not None and track.open.first < oldest:
                track.open.close_block()

    def cut(self, number: int) -> None:
        """Keep samples from this number on separate: the times of earlier ones may be corrected."""
        for track in self._tracks.values():
            track.open.cut = number

    def correct(self, readings: Connection, by: Correction) -> None:
        """Correct rows with wrong times, in the caller's transaction; then call ``written``.

        Corrected rows do not begin at a whole minute. A row that lies only partly in the wrong
        period is moved as a whole.
        """
        for stream in by.streams & self._tracks.keys():
            opened = self._tracks[stream].open
            if opened.has_before(by.cut):
                opened.close()
        if self._due:
            self._write_due(readings)
        for stream in by.streams & self._tracks.keys():
            for level in LEVELS:
                _move(readings, level, self._tracks[stream].id, by)

    def drop_old(self, readings: Connection, before_s: float) -> int:
        """Delete some rows that began before this time, in the caller's transaction."""
        old = [
            (level, key, size)
            for level in LEVELS
            for start_s, key, size in _oldest(readings, level)
            if start_s < before_s
        ]
        _delete(readings, old)
        return len(old)

    def _drop_excess(self, readings: Connection) -> None:
        """While the history is too large, delete the oldest minutes; if there are none, hours."""
        (self.bytes,) = readings.execute("SELECT bytes FROM history").fetchone()
        excess: list[tuple[Level, int, int]] = []
        bytes_left = self.bytes
        for level in LEVELS:
            for _, key, size in sorted(_oldest(readings, level))[:_ROWS_DROPPED]:
                if bytes_left <= self.bytes_max:
                    break
                excess.append((level, key, size))
                bytes_left -= size
        if excess:
            _delete(readings, excess)
            self.bytes = bytes_left
            self.excess += len(excess)


def _last_next(readings: Connection, level: Level, id_: int) -> int | None:
    row = readings.execute(
        f"SELECT next FROM {level} WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",  # noqa: S608
        [key_of(id_, 0), key_of(id_ + 1, 0) - 1],
    ).fetchone()
    return None if row is None else int(row[0])


def _insert_stream(readings: Connection, stream: str, names: list[str], since: int) -> int:
    (id_,) = readings.execute(
        "INSERT INTO history_streams (stream, channels, since) VALUES (?, ?, ?) RETURNING id",
        [stream, json.dumps(names), since],
    ).fetchone()
    return int(id_)


def _oldest(readings: Connection, level: Level) -> list[tuple[float, int, int]]:
    """Return start, key and bytes of the oldest rows of each stream."""
    found: list[Any] = []
    for (id_,) in readings.execute("SELECT id FROM history_streams").fetchall():
        found += readings.execute(
            f"""SELECT start, key, length(data) FROM {level}
            WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?""",  # noqa: S608 - no input in it
            [key_of(id_, 0), key_of(id_ + 1, 0) - 1, _ROWS_READ],
        ).fetchall()
    return found


def _delete(readings: Connection, rows: Sequence[tuple[Level, int, int]]) -> None:
    for level in LEVELS:
        keys = [(key,) for of, key, _ in rows if of == level]
        if keys:
            readings.executemany(f"DELETE FROM {level} WHERE key = ?", keys)  # noqa: S608
    if rows:
        freed = sum(size for _, _, size in rows)
        readings.execute("UPDATE history SET bytes = bytes - ?", [freed])


def _move(readings: Connection, level: Level, id_: int, by: Correction) -> None:
    rows = readings.execute(
        f"SELECT key, start FROM {level} WHERE key BETWEEN ? AND ? ORDER BY key DESC",  # noqa: S608
        [key_of(id_, 0), key_of(id_, by.cut) - 1],
    )
    moved: list[tuple[float, int]] = []
    for key, start_s in rows:
        if not by.since_s - BLOCK_S[level] <= start_s <= by.until_s:
            break
        moved.append((start_s + by.by_s, key))
    readings.executemany(f"UPDATE {level} SET start = ? WHERE key = ?", moved)  # noqa: S608
