"""What the gateway saw, said and still has to say, in SQLite.

Two files in one directory. ``fieldwatch.db`` has what must survive a power cut (alarms, the
outbox, the streams' state): every commit is on the disk before it is over (synchronous=FULL).
``readings.db`` has the ring of samples, its history and the status: consistent after a power cut,
but the commits since a stream's memory was last saved may be gone (NORMAL; with the memory, FULL).
One read-write connection per file, the loop's; everyone else reads through ``agent.store.reader``.
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.alarms.lifecycle import CLOSED, OPENED
from agent.store import salvage
from agent.store.batch import COUNTER, EVICTION, Batch
from agent.store.compaction import compact
from agent.store.correction import Correction, correct_alarms, correct_messages, correct_samples
from agent.store.file import Mend, StoreFile
from agent.store.migrations import READINGS, RECORDS
from agent.store.record import INSERT, Origin, Outgoing, Record
from agent.store.retention import FOREVER, LOOK_S, Retention, drop_alarms, drop_samples
from agent.store.salvage import Numbers
from agent.store.sqlite import LOCK, Connection, Damaged, errors_of, lock, touch
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.store.history import History
    from models.messages import Float32, Samples

SYNC_S = 10.0  # samples are on the disk this often at least; a power cut costs what came since
_ROWS_DROPPED = 1000  # at a time, so that a commit does not take long
_BYTES_DROPPED = 2**19  # of samples
_LAST_ALARM = "last_alarm/"  # in the keys of ``meta``, before a stream's name
_CROWDED = 0.75  # of the outbox's cap; above it, summaries are merged
_MERGINGS_MAX = 20  # in one commit, which must not take long


@dataclass(slots=True)
class _Totals:
    """What the tables add up to, so that nobody has to count; as of the last commit."""

    last_seq: int
    outbox_rows: int
    evicted: dict[str, int]  # kind -> messages
    merged: int  # summaries that others have taken in


class Store:
    """The read-write side; one thread of one process uses it."""

    def __init__(
        self,
        directory: Path,
        site: str,
        gateway: str,
        outbox_rows_max: int,
        ring_rows_max: int,
        *,
        alarm_rows_max: int = 100_000,
        bytes_max: int = 2**30,
        history_bytes_max: int = 2**28,
        retention: Retention = FOREVER,
    ) -> None:
        self.directory = directory
        self._site, self._gateway = site, gateway
        self._outbox_rows_max, self._ring_rows_max = outbox_rows_max, ring_rows_max
        self._alarm_rows_max, self._bytes_max = alarm_rows_max, bytes_max
        self._retention, self._next_look = retention, 0.0
        self._next_sync = 0.0  # of the samples
        self._unsynced = False  # whether some are stored, and not on the disk for sure
        # since the start
        self._samples_evicted = 0  # for the size
        self._dropped = {
            "samples_old": 0,
            "alarms_old": 0,
            "alarms_excess": 0,
            "history_old": 0,
        }
        self._compacted_through = 0  # seq where the next merging begins
        self._totals = _Totals(0, 0, dict.fromkeys(EVICTION, 0), 0)
        self._next_sample = 1
        self.history = _history(_history_bytes(history_bytes_max, bytes_max))
        self._last_alarms: dict[str, int] = {}  # stream -> highest number, as far as asked for
        self._records_file = StoreFile(
            directory / RECORDS, "FULL", self._numbers, self._read_records
        )
        self._readings_file = StoreFile(
            directory / READINGS, "NORMAL", lambda: None, self._read_readings
        )

    def limit(
        self,
        outbox_rows_max: int,
        ring_rows_max: int,
        alarm_rows_max: int,
        bytes_max: int,
        retention: Retention = FOREVER,
        history_bytes_max: int = 2**28,
    ) -> None:
        """Set new caps; what is too much goes with the next commits."""
        self._retention = retention
        self._outbox_rows_max, self._ring_rows_max = outbox_rows_max, ring_rows_max
        self._alarm_rows_max, self._bytes_max = alarm_rows_max, bytes_max
        self.history.bytes_max = _history_bytes(history_bytes_max, bytes_max)

    def open(self, mend: Mend = salvage.mend) -> None:
        """Open both files, making or mending them as needed.

        Raises:
            StoreError: the directory cannot be used, or another agent uses it.

        """
        with contextlib.ExitStack() as opening:
            with errors_of(self.directory):
                opening.enter_context(lock(self.directory / LOCK))
            for file in (self._records_file, self._readings_file):
                file.open(mend)
                opening.callback(file.close)
            with errors_of(self.directory):
                self._read_records()
                self._read_readings()
            self._closing = opening.pop_all()

    @property
    def _records(self) -> Connection:
        return self._records_file.connection

    @property
    def _readings(self) -> Connection:
        return self._readings_file.connection

    @property
    def set_aside(self) -> list[Path]:
        """Damaged files in the directory, each of which a new one took the place of."""
        return [self.directory / report["file"] for report in self._reports()]

    def _reports(self) -> list[salvage.Report]:
        return [*self._records_file.reports, *self._readings_file.reports]

    @property
    def mended(self) -> int:
        """How many reports of damaged files there are."""
        return len(self._reports())

    def outbox_damaged(self) -> None:
        """Take note that a reader has found it damaged."""
        self._records_file.suspect()

    def _numbers(self) -> Numbers | None:
        return Numbers(self.origin.epoch, self.last_seq)

    def _read_records(self) -> None:
        meta = dict(self._records.execute("SELECT key, value FROM meta").fetchall())
        (outbox_rows,) = self._records.execute("SELECT count(*) FROM outbox").fetchone()
        evicted = {kind: int(meta.get(f"evicted_{kind}", 0)) for kind in EVICTION}
        self._totals = _Totals(
            int(meta["last_seq"]), outbox_rows, evicted, int(meta.get("merged", 0))
        )
        self.origin = Origin(self._site, self._gateway, str(meta["epoch"]))
        self._next_alarm = self._alarms_end()

    def _read_readings(self) -> None:
        newest = self._readings.execute(
            "SELECT number + rows FROM samples ORDER BY number DESC LIMIT 1"
        ).fetchone()
        known = self.history.open(self._readings)
        self._next_sample = max(self._next_sample, newest[0] if newest else 1, known)
        self._ring_rows = self._next_sample - self._oldest_sample(self._next_sample)

    def _oldest_sample(self, next_sample: int) -> int:
        (oldest,) = self._readings.execute("SELECT min(number) FROM samples").fetchone()
        return next_sample if oldest is None else int(oldest)

    def commit(self, batch: Batch, clock: str) -> None:
        """Write the batch and empty it of what was written.

        The samples first: what a kill leaves stored without the streams' memory of it is scored
        again at the next start; a memory of samples that are not there would never miss them.

        ``clock`` is the quality of the gateway's clock, for the messages.

        Raises:
            StoreError: disk full, read-only, I/O error; what is left in the batch was not
                written and can be committed again.

        """
        trouble: StoreError | None = None
        try:
            self._commit_samples(batch)
        except StoreError as error:  # does not hold back alarms
            trouble = error
        self._commit_records(batch, clock)
        if trouble is not None:
            raise trouble
        due = clock == "synced" and self._retention != FOREVER
        if due and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            self._drop_what_is_old(time.time())
        self._commit_status(batch)
        for file in (self._records_file, self._readings_file):
            file.give_back()

    def _commit_records(self, batch: Batch, clock: str) -> None:
        self._records_file.ready()
        totals = replace(self._totals, evicted=dict(self._totals.evicted))
        with self._records_file.transaction():
            self._write_alarms(batch.alarms)
            self._records.executemany(
                "DELETE FROM state WHERE stream = ?", [(stream,) for stream in batch.forgotten]
            )
            self._records.executemany(
                "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
                (
                    (stream, part, data)
                    for stream, parts in batch.state.items()
                    for part, data in parts.items()
                ),
            )
            self._delete_acknowledged(batch.acked, totals)
            self._raise(COUNTER, batch.counters)
            self._write_messages(batch.messages, clock, totals)
        self._totals = totals
        for alarm in batch.alarms:
            if (last := self._last_alarms.get(alarm["stream"])) is not None:
                self._last_alarms[alarm["stream"]] = max(last, alarm["number"])
        batch.alarms, batch.messages, batch.state, batch.acked = [], [], {}, []
        batch.forgotten = set()
        batch.counters = {}

    def _write_alarms(self, alarms: list[dict[str, Any]]) -> None:
        if not alarms:
            return
        self._records.executemany(
            """INSERT INTO alarms (stream, number, state, document) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET state = excluded.state, document = excluded.document""",
            [(a["stream"], a["number"], a["state"], json.dumps(a)) for a in alarms],
        )
        rising = sorted(alarms, key=lambda alarm: int(alarm["number"]))
        self._raise(_LAST_ALARM, {alarm["stream"]: alarm["number"] for alarm in rising})
        # ids count up, so this needs no counting of rows; what is open stays
        excess = self._records.execute(
            """DELETE FROM alarms WHERE id IN
            (SELECT id FROM alarms WHERE id <= (SELECT max(id) FROM alarms) - ?
            AND state = ? ORDER BY id LIMIT ?)""",
            [self._alarm_rows_max, CLOSED, len(alarms) + _ROWS_DROPPED],
        )
        self._dropped["alarms_excess"] += excess.rowcount
        self._next_alarm = self._alarms_end()

    def _raise(self, prefix: str, numbers: dict[str, int]) -> None:
        """Store each number, unless a higher one is there."""
        self._records.executemany(
            """INSERT INTO meta VALUES (?, ?)
            ON CONFLICT DO UPDATE SET value = max(value, excluded.value)""",
            [(prefix + name, number) for name, number in numbers.items()],
        )

    def _alarms_end(self) -> int:
        (newest,) = self._records.execute("SELECT ifnull(max(id), 0) FROM alarms").fetchone()
        return int(newest) + 1

    def _delete_acknowledged(self, acked: list[int], totals: _Totals) -> None:
        deleted = self._records.executemany(
            "DELETE FROM outbox WHERE seq = ?", ((seq,) for seq in acked)
        )
        totals.outbox_rows -= deleted.rowcount

    def _write_messages(self, messages: list[Outgoing], clock: str, totals: _Totals) -> None:
        if not messages:
            return
        self._records.executemany(INSERT, self._numbered(messages, clock, totals))
        self._compact(totals)
        self._evict(totals, len(messages) + _ROWS_DROPPED)
        self._records.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", [totals.last_seq])

    def _numbered(self, messages: list[Outgoing], clock: str, totals: _Totals) -> Iterator[Record]:
        for message in messages:
            totals.last_seq += 1
            totals.outbox_rows += 1
            yield message.numbered(totals.last_seq, clock)

    def _compact(self, totals: _Totals) -> None:
        """Merge some summaries where the outbox is crowded: that costs detail, no message.

        More of them where it is too full: what would be dropped next is rather merged.
        """
        if totals.outbox_rows <= _CROWDED * self._outbox_rows_max:
            return
        for _ in range(_MERGINGS_MAX):
            done = compact(self._records, totals.last_seq, self._compacted_through)
            self._compacted_through, totals.last_seq = done.after, done.last_seq
            totals.outbox_rows -= done.merged - done.written
            totals.merged += done.merged - done.written
            if totals.outbox_rows <= self._outbox_rows_max:
                break
        self._records.execute("INSERT OR REPLACE INTO meta VALUES ('merged', ?)", [totals.merged])

    def _evict(self, totals: _Totals, rows_max: int) -> None:
        """Keep the outbox to its cap: health first, then summaries, oldest first; all counted."""
        for kind in EVICTION:
            excess = min(totals.outbox_rows - self._outbox_rows_max, rows_max)
            if excess > 0:
                rows_max -= self._drop(kind, excess, totals)
        for kind in EVICTION:  # samples go first, with their own commits
            while self._too_large() and not self._ring_rows:
                if not self._drop(kind, _ROWS_DROPPED, totals):
                    break

    def _drop(self, kind: str, rows_max: int, totals: _Totals) -> int:
        """Drop the oldest messages of a kind; return how many."""
        gone = self._records.execute(
            """DELETE FROM outbox WHERE seq IN
            (SELECT seq FROM outbox WHERE kind = ? ORDER BY seq LIMIT ?)""",
            [kind, rows_max],
        ).rowcount
        if gone:
            totals.outbox_rows -= gone
            totals.evicted[kind] += gone
            self._records.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [f"evicted_{kind}", totals.evicted[kind]],
            )
        return gone

    def _too_large(self) -> bool:
        return self._bytes() > self._bytes_max

    def _bytes(self) -> int:
        return self._records_file.bytes() + self._readings_file.bytes()

    def _commit_samples(self, batch: Batch) -> None:
        self._readings_file.ready()
        before = self._next_sample, self._ring_rows
        try:
            # a memory of samples must not outlive them, nor be the only one to survive a power cut
            due = time.monotonic() >= self._next_sync
            durable = due or batch.remembers
            with self._readings_file.transaction(durable):
                self.history.write(self._readings, batch.samples, self._next_sample)
                self._write_samples(batch.samples, batch.clock)
                evicted = self._evict_samples(_bytes(batch.samples))
                if durable and self._unsynced and not batch.samples:
                    touch(self._readings)
        except StoreError:
            self._next_sample, self._ring_rows = before
            raise
        if due:
            self._next_sync = time.monotonic() + SYNC_S
        self._unsynced = not durable and (self._unsynced or bool(batch.samples))
        self._samples_evicted += evicted
        self.history.written()
        self.history.take(batch.samples, before[0], self._next_sample - self._ring_rows)
        batch.samples = []

    def _drop_what_is_old(self, now_s: float) -> None:
        with self._readings_file.transaction():
            samples = drop_samples(self._readings, self._retention, now_s)
            since_s = self._retention.history_since(now_s)
            history = 0 if since_s is None else self.history.drop_old(self._readings, since_s)
        with self._records_file.transaction():
            alarms = drop_alarms(self._records, self._retention, now_s)
        self._ring_rows -= samples
        self._dropped["samples_old"] += samples
        self._dropped["alarms_old"] += alarms
        self._dropped["history_old"] += history

    def _commit_status(self, batch: Batch) -> None:
        if batch.status is not None:
            with self._readings_file.transaction():
                self._readings.execute(
                    "INSERT OR REPLACE INTO status VALUES (1, ?)",
                    [zlib.compress(batch.status().encode(), 1)],
                )
        batch.status = None

    def _evict_samples(self, bytes_written: int) -> int:
        """Drop the oldest samples while the store is too large, some a commit; return how many."""
        before = self._ring_rows
        if self._ring_rows and self._too_large():
            self._drop_samples(self._next_sample, bytes_written)
        return before - self._ring_rows

    def _drop_samples(self, below: int, bytes_written: int) -> None:
        """Drop the oldest samples with numbers below this one, but not many more than came."""
        rows = self._readings.execute(
            """SELECT number, length(times) + length(readings) + length(scores) FROM samples
            WHERE number < ? ORDER BY number LIMIT ?""",
            [below, _ROWS_DROPPED],
        ).fetchall()
        room = _BYTES_DROPPED + 2 * bytes_written
        sizes = accumulate(size for _, size in rows)
        last = [number for (number, _), size in zip(rows, sizes, strict=True) if size <= room][-1:]
        self._readings.execute(
            "DELETE FROM samples WHERE number <= ?", last or [number for number, _ in rows[:1]]
        )
        self._ring_rows = self._next_sample - self._oldest_sample(self._next_sample)

    def _write_samples(
        self, chunks: list[tuple[str, Samples, Float32]], clock: bytes | None
    ) -> None:
        if not chunks:
            return
        self._readings.executemany(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._rows(chunks, clock)
        )
        self._ring_rows = self._next_sample - self._oldest_sample(self._next_sample)
        if self._ring_rows > self._ring_rows_max:
            self._drop_samples(self._next_sample - self._ring_rows_max, _bytes(chunks))

    def _rows(
        self, chunks: list[tuple[str, Samples, Float32]], clock: bytes | None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield a row for each; the last one has the clock's state, which costs no page so."""
        for number, (stream, samples, score) in enumerate(chunks, 1):
            rows = len(samples.times)
            yield (
                self._next_sample,
                rows,
                stream,
                samples.times.tobytes(),
                samples.values.tobytes(),
                score.tobytes(),
                clock if number == len(chunks) else None,
                samples.quality_bytes(),
            )
            self._next_sample += rows

    def correction(
        self, by_s: float, since_s: float, until_s: float, streams: frozenset[str], batch: Batch
    ) -> Correction:
        """Return how to put right all that is stored, and in ``batch``; see ``Correction``."""
        next_sample = self._next_sample + batch.rows()
        self.history.cut(next_sample)
        return Correction(
            by_s,
            since_s,
            until_s,
            streams,
            samples=next_sample,
            cut=next_sample,
            messages=self.last_seq + len(batch.messages) + 1,
            alarms=self._next_alarm,
        )

    def correct(self, by: Correction) -> None:
        """Move some of the times that were wrong; to be called until ``by`` is done.

        Raises:
            StoreError: nothing was moved; it can be called again.

        """
        before = replace(by)
        try:
            with self._records_file.transaction():
                correct_messages(self._records, by)
                correct_alarms(self._records, by)
        except StoreError:
            by.messages, by.alarms = before.messages, before.alarms
            raise
        try:
            with self._readings_file.transaction():
                correct_samples(self._readings, by)
                if before.history:
                    self.history.correct(self._readings, by)
        except StoreError:
            by.samples = before.samples
            raise
        if before.history:
            self.history.written()
            by.history = False

    def state(self, stream: str) -> dict[str, bytes]:
        """Return the parts of a stream's state that were committed last."""
        return dict(self._select("SELECT part, data FROM state WHERE stream = ?", stream))

    def clock(self) -> bytes | None:
        """Return the clock's state as of the newest samples; None where there is none."""
        try:
            with self._readings_file.reading() as readings:
                newest = readings.execute(
                    "SELECT clock FROM samples ORDER BY number DESC LIMIT 1"
                ).fetchone()
        except Damaged:  # which is seen to
            return None
        return newest[0] if newest else None

    @property
    def next_sample(self) -> int:
        """Number that the next sample will have, over all streams."""
        return self._next_sample

    def samples_from(self, stream: str, number: int) -> list[tuple[bytes, bytes, bytes | None]]:
        """Return a stream's samples from this number on, in order; see ``stored_samples``."""
        try:
            with self._readings_file.reading() as readings:
                return readings.execute(
                    "SELECT times, readings, quality FROM samples WHERE stream = ? AND number >= ?"
                    " ORDER BY number",
                    [stream, number],
                ).fetchall()
        except Damaged:  # which is seen to; what is lost is lost
            return []

    def open_alarms(self, stream: str) -> list[dict[str, Any]]:
        """Return the stream's alarms that are open."""
        rows = self._select(
            f"SELECT document FROM alarms WHERE state = '{OPENED}' AND stream = ? ORDER BY id",  # noqa: S608 - as its index has it
            stream,
        )
        return [json.loads(document) for (document,) in rows]

    def last_alarm_number(self, stream: str) -> int:
        """Return the highest number of the stream's alarms, kept or dropped; 0 before the first.

        An alarm with a higher one is not on the disk yet.
        """
        if stream not in self._last_alarms:
            self._last_alarms[stream] = self._find_last_alarm(stream)
        return self._last_alarms[stream]

    def _find_last_alarm(self, stream: str) -> int:
        # a version that did not note it has told no higher one than it kept
        rows = self._select("SELECT max(number) FROM alarms WHERE stream = ?", stream)
        rows += self._select("SELECT value FROM meta WHERE key = ?", _LAST_ALARM + stream)
        return max(number or 0 for (number,) in rows)

    def _select(self, statement: str, key: str) -> list[Any]:
        with self._records_file.reading() as records:
            return records.execute(statement, [key]).fetchall()

    @property
    def last_seq(self) -> int:
        """Highest number given to a message that is committed."""
        return self._totals.last_seq

    def document(self) -> dict[str, Any]:
        """Say how full it is, for ``status``."""
        return {
            "epoch": self.origin.epoch,
            "last_seq": self._totals.last_seq,
            "outbox_rows": self._totals.outbox_rows,
            "ring_rows": self._ring_rows,
            "evicted": dict(self._totals.evicted),
            "samples_evicted": self._samples_evicted,
            "dropped": self._dropped | {"history_excess": self.history.excess},
            "bytes": self._bytes(),
            "history_bytes": self.history.bytes,
            "merged": self._totals.merged,
            "set_aside": [path.name for path in self.set_aside],
            "damage": self._reports(),
        }

    def close(self) -> None:
        """Close both files and let others in."""
        self._closing.close()


def _history(bytes_max: int) -> History:
    from agent.store.history import History  # loads numpy, which nothing else here needs

    return History(bytes_max)


def _history_bytes(history_bytes_max: int, bytes_max: int) -> int:
    """Return the cap of minutes and hours: however small the store is, samples have room."""
    return min(history_bytes_max, bytes_max // 4)


def _bytes(chunks: list[tuple[str, Samples, Float32]]) -> int:
    return sum(
        samples.times.nbytes + samples.values.nbytes + score.nbytes for _, samples, score in chunks
    )
