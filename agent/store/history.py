"""Minutes and hours of each stream's past, written beside the ring in ``readings.db``.

    committed samples ─> open block (10 minutes) ─> ``minutes`` ─> open hour ─> ``hours``

An open block is in memory only. It loses nothing: each row says which samples it is of, by their
numbers, and after a kill what no row is of is added up again from the ring. So a stream costs one
page of the disk in ten minutes and one in an hour, whatever its rate. A row is written with the
commit that follows its end, after the samples that it is of.

A row's key is the stream's number, and the number of the row's first sample. Both numbers and
times grow, so that rows are found by time by halving, without an index; and a row points to the
samples of its time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from agent.store.aggregates import Entries, from_bytes, joined, merged, of_samples, to_bytes
from agent.store.migrations import LEVELS, NUMBER_BITS, Level
from models.messages import Float32, Float64, Samples

if TYPE_CHECKING:
    from agent.store.correction import Correction
    from agent.store.sqlite import Connection

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
_BLOCK_S: Final = 600.0
BLOCK_S: Final = {"minutes": _BLOCK_S, "hours": HOUR_S}  # of a row
ENTRY_S: Final = {"minutes": MINUTE_S, "hours": HOUR_S}
_PARTS_MAX = 60  # chunks that are added up together, and what that made
_ROWS_MAX = 1024
_LOOK_S = 60.0  # between two looks for blocks that nothing is added to
_IDLE_S = 1200.0
_ROWS_READ = 20  # of a stream at a look, of what may be too old
_ROWS_DROPPED = 200  # in a commit

Chunk = tuple[str, Samples, Float32]


def key_of(stream: int, number: int) -> int:
    """Return the key of a stream's row that begins with this sample."""
    return stream << NUMBER_BITS | number


@dataclass(slots=True)
class _Open:
    """What is not written yet of a block or an hour."""

    index: float  # its begin, in lengths of a block
    first: int  # number of its first sample
    next: int  # and of the first after it
    parts: list[Entries] = field(default_factory=list)
    samples: list[tuple[Float64, Float32, Float32]] = field(default_factory=list)  # not added up
    rows: int = 0  # of these
    touched_s: float = 0.0  # monotonic


@dataclass(slots=True)
class _Track:
    """A stream with the channels that it has now."""

    id: int
    channels: list[str]
    next: int  # number of the first sample that no row is of
    checked: bool = False  # whether its channels are those described
    block: _Open | None = None
    hour: _Open | None = None


class History:
    """The writer of minutes and hours; the store's thread uses it."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0  # of all blocks, as of the last row
        self.excess = 0  # rows dropped for the size
        self._described: dict[str, list[str]] = {}
        self._begin(0)

    def _begin(self, taken: int) -> None:
        self._tracks: dict[str, _Track] = {}
        self._new: dict[str, _Track] = {}  # whose row is in a transaction
        self._due: list[tuple[Level, tuple[int, int, float, bytes]]] = []
        self._taken = taken  # number of the first sample that is not added yet
        self._cut = 0  # what is from this number on stays apart from what is before
        self._next_look_s = 0.0
        self._now_s = time.monotonic()

    def describe(self, channels: Mapping[str, Sequence[str]]) -> None:
        """Set the names of the streams' channels; without them they are called by their number."""
        self._described |= {stream: list(names) for stream, names in channels.items()}
        for track in self._tracks.values():
            track.checked = False

    def open(self, readings: Connection) -> int:
        """Add up what no row is of; return the first number above all that rows know of."""
        self._begin(0)
        for id_, stream, names, since in readings.execute(
            "SELECT id, stream, channels, since FROM history_streams ORDER BY id"
        ).fetchall():
            last = _last_next(readings, "minutes", id_)
            self._tracks[stream] = _Track(id_, json.loads(names), since if last is None else last)
            self._read_hour(readings, self._tracks[stream], since)
        state = readings.execute("SELECT settled, bytes FROM history").fetchone()
        starts = [track.next for track in self._tracks.values()]
        settled, self.bytes = state or (min(starts, default=1), 0)
        self._taken = max([settled, *starts])
        self._read_ring(readings, settled)
        return self._taken

    def _read_hour(self, readings: Connection, track: _Track, since: int) -> None:
        """Add up the blocks that no hour is of."""
        from_number = _last_next(readings, "hours", track.id) or since
        for key, next_number, start_s, data in readings.execute(
            "SELECT key, next, start, data FROM minutes WHERE key BETWEEN ? AND ? ORDER BY key",
            [key_of(track.id, from_number), key_of(track.id + 1, 0) - 1],
        ).fetchall():
            number = key - key_of(track.id, 0)
            entries = from_bytes(data, start_s, MINUTE_S)
            self._add_to_hour(track, _Open(0.0, number, next_number, [entries]), start_s)

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
                self._add(track, number + begin, samples, score)

    def write(self, readings: Connection, chunks: Sequence[Chunk], next_sample: int) -> None:
        """Write what is due, within the transaction of these samples; they are not added yet.

        To be called again where that is rolled back; else ``written`` and ``take`` follow.
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
                self._new[stream] = _insert_stream(readings, stream, names, next_sample)
        if self._due:
            self._write_due(readings)

    def _names(self, stream: str, count: int) -> list[str]:
        names = self._described.get(stream, [])
        return names if len(names) == count else [str(number + 1) for number in range(count)]

    def _write_due(self, readings: Connection) -> None:
        for level in LEVELS:
            readings.executemany(
                f"INSERT OR REPLACE INTO {level} VALUES (?, ?, ?, ?)",  # noqa: S608
                [row for of, row in self._due if of == level],
            )
        added = sum(len(row[-1]) for _, row in self._due)
        readings.execute(
            """INSERT INTO history VALUES (1, ?, ?) ON CONFLICT DO UPDATE
            SET settled = excluded.settled, bytes = bytes + excluded.bytes""",
            [self._settled(), added],
        )
        self._drop_excess(readings)

    def _settled(self) -> int:
        opened = (track.block.first for track in self._tracks.values() if track.block)
        return min(opened, default=self._taken)

    def written(self) -> None:
        """Take note that the transaction is committed."""
        self._due = []
        for stream, track in self._new.items():
            if before := self._tracks.get(stream):
                self._close_hour(before)
            self._tracks[stream] = track
        self._new = {}

    def take(self, chunks: Sequence[Chunk], number: int, oldest: int) -> None:
        """Add samples that are committed; the first has this number, the ring's oldest that."""
        now_s = self._now_s = time.monotonic()
        for stream, samples, scores in chunks:
            self._add(self._tracks[stream], number, samples, scores)
            number += len(samples.times)
        self._taken = max(self._taken, number)
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            self._close_idle(now_s, oldest)

    def _close_idle(self, now_s: float, oldest: int) -> None:
        """Write what nothing is added to, and what could not be added up again from the ring."""
        for track in self._tracks.values():
            if (block := track.block) is None:
                continue
            if block.touched_s < now_s - _IDLE_S:
                self._close_hour(track)
            elif block.first < oldest:
                self._close_block(track)

    def _add(self, track: _Track, number: int, samples: Samples, scores: Float32) -> None:
        times = samples.times
        first = times.item(0) // _BLOCK_S
        if first == times.item(-1) // _BLOCK_S:
            self._extend(track, first, number, times, samples.values, scores)
            return
        index = times // _BLOCK_S
        cuts = np.flatnonzero(index[1:] != index[:-1]) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(times)]):
            part, score = samples.part(begin, end), scores[begin:end]
            self._extend(track, float(index[begin]), number + begin, part.times, part.values, score)

    def _extend(
        self,
        track: _Track,
        index: float,
        number: int,
        times: Float64,
        values: Float32,
        scores: Float32,
    ) -> None:
        block = track.block
        if block is not None and self._apart(block, index, number):
            self._close_block(track)
            block = None
        if block is None:
            block = track.block = _Open(index, number, number)
        block.samples.append((times, values, scores))
        block.rows += len(times)
        block.next = number + len(times)
        block.touched_s = self._now_s
        if len(block.samples) >= _PARTS_MAX or block.rows >= _ROWS_MAX:
            _add_up(block)

    def _apart(self, before: _Open, index: float, number: int) -> bool:
        return before.index != index or before.first < self._cut <= number

    def _close_block(self, track: _Track) -> None:
        if (block := track.block) is None:
            return
        _add_up(block)
        start_s = block.index * _BLOCK_S
        self._finish("minutes", track, block, start_s)
        track.block, track.next = None, block.next
        self._add_to_hour(track, block, start_s)

    def _add_to_hour(self, track: _Track, block: _Open, start_s: float) -> None:
        index = start_s // HOUR_S
        if track.hour is not None and self._apart(track.hour, index, block.first):
            self._write_hour(track)
        if track.hour is None:
            track.hour = _Open(index, block.first, block.next)
        track.hour.parts += block.parts
        track.hour.next = block.next

    def _close_hour(self, track: _Track) -> None:
        self._close_block(track)
        self._write_hour(track)

    def _write_hour(self, track: _Track) -> None:
        if (hour := track.hour) is not None:
            start_s = hour.index * HOUR_S
            self._finish("hours", track, hour, start_s)
            track.hour = None

    def _finish(self, level: Level, track: _Track, done: _Open, start_s: float) -> None:
        entries = merged(joined(done.parts), ENTRY_S[level], start_s)
        data = to_bytes(entries, start_s, ENTRY_S[level])
        self._due.append((level, (key_of(track.id, done.first), done.next, start_s, data)))

    def cut(self, number: int) -> None:
        """Keep samples from this number on apart: those before may be moved in time."""
        self._cut = number

    def correct(self, readings: Connection, by: Correction) -> None:
        """Move what was timed by a wrong clock, in the caller's transaction; ``written`` follows.

        Rows that are moved begin at no whole minute. One that is partly of the time before is
        moved as a whole.
        """
        for stream in by.streams & self._tracks.keys():
            track = self._tracks[stream]
            for opened in (track.block, track.hour):
                if opened is not None and opened.first < by.cut:
                    self._close_hour(track)
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
        """Delete the oldest minutes while there is too much, and where there are none, hours."""
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


def _add_up(block: _Open) -> None:
    """Make minutes of the samples that wait for it: of several chunks at once, which is cheaper."""
    if block.samples:
        times, values, scores = map(np.concatenate, zip(*block.samples, strict=True))
        block.parts.append(merged(of_samples(times, values, scores), MINUTE_S))
        block.samples, block.rows = [], 0
    if len(block.parts) >= _PARTS_MAX:
        block.parts = [merged(joined(block.parts), MINUTE_S)]


def _last_next(readings: Connection, level: Level, id_: int) -> int | None:
    row = readings.execute(
        f"SELECT next FROM {level} WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",  # noqa: S608
        [key_of(id_, 0), key_of(id_ + 1, 0) - 1],
    ).fetchone()
    return None if row is None else int(row[0])


def _insert_stream(readings: Connection, stream: str, names: list[str], since: int) -> _Track:
    (id_,) = readings.execute(
        "INSERT INTO history_streams (stream, channels, since) VALUES (?, ?, ?) RETURNING id",
        [stream, json.dumps(names), since],
    ).fetchone()
    return _Track(id_, names, since, checked=True)


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
