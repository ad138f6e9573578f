"""What the gateway saw, said and still has to say, in SQLite.

Two files in one directory. ``fieldwatch.db`` has what must survive a power cut (alarms, the
outbox, the streams' state): every commit is on the disk before it is over (synchronous=FULL).
``readings.db`` has the ring of samples, its history and the status: consistent after a power cut,
but the commits since a stream's memory was last saved may be gone (NORMAL; with the memory, FULL).
One read-write connection per file, the loop's; everyone else reads through ``agent.store.reader``.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.store import salvage
from agent.store.alarm_table import AlarmTable
from agent.store.batch import COUNTER, Batch
from agent.store.correction import Correction, correct_alarms, correct_messages, correct_samples
from agent.store.file import Mend, StoreFile
from agent.store.meta import raise_numbers
from agent.store.migrations import READINGS, RECORDS
from agent.store.outbox import Outbox
from agent.store.record import Origin
from agent.store.retention import FOREVER, LOOK_S, Retention, drop_alarms, drop_samples
from agent.store.ring import Ring, size
from agent.store.salvage import Numbers
from agent.store.sqlite import LOCK, Connection, Damaged, errors_of, lock, touch
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.store.history import History

SYNC_S = 10.0  # samples are on the disk this often at least; a power cut costs what came since


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
        self._bytes_max = bytes_max
        self._retention, self._next_look = retention, 0.0
        self._next_sync = 0.0  # of the samples
        self._unsynced = False  # whether some are stored, and not on the disk for sure
        # since the start
        self._samples_evicted = 0  # for the size
        self._dropped = {"samples_old": 0, "alarms_old": 0, "history_old": 0}
        self._outbox, self._alarms = Outbox(outbox_rows_max), AlarmTable(alarm_rows_max)
        self._ring = Ring(ring_rows_max)
        self.history = _history(_history_bytes(history_bytes_max, bytes_max))
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
        """Set new limits; the next commits delete what exceeds them."""
        self._retention, self._bytes_max = retention, bytes_max
        self._outbox.rows_max, self._ring.rows_max = outbox_rows_max, ring_rows_max
        self._alarms.rows_max = alarm_rows_max
        self.history.bytes_max = _history_bytes(history_bytes_max, bytes_max)

    def open(self, mend: Mend = salvage.mend) -> None:
        """Open both files; create or repair them if needed.

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
        """Damaged files in the directory; each was replaced by a new one."""
        return [self.directory / report["file"] for report in self._reports()]

    def _reports(self) -> list[salvage.Report]:
        return [*self._records_file.reports, *self._readings_file.reports]

    @property
    def mended(self) -> int:
        """How many reports of damaged files there are."""
        return len(self._reports())

    def outbox_damaged(self) -> None:
        """Check the outbox: a reader has found damage."""
        self._records_file.suspect()

    def _numbers(self) -> Numbers | None:
        return Numbers(self.origin.epoch, self.last_seq)

    def _read_records(self) -> None:
        self._outbox.open(self._records)
        self._alarms.open(self._records)
        (epoch,) = self._records.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        self.origin = Origin(self._site, self._gateway, str(epoch))

    def _read_readings(self) -> None:
        self._ring.open(self._readings, self.history.open(self._readings))

    def commit(self, batch: Batch, clock: str) -> None:
        """Write the batch, and remove from it what was written.

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
        with self._records_file.transaction():
            self._alarms.write(self._records, batch.alarms)
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
            raise_numbers(
                self._records, [(COUNTER + name, number) for name, number in batch.counters.items()]
            )
            totals = self._outbox.change(
                self._records, batch.messages, batch.acked, clock, self._is_full_of_messages
            )
        self._outbox.totals = totals
        self._alarms.committed(batch.alarms)
        batch.alarms, batch.messages, batch.state, batch.acked = [], [], {}, []
        batch.forgotten = set()
        batch.counters = {}

    def _is_full_of_messages(self) -> bool:
        """Whether it is too large and has no samples left: those are dropped first."""
        return not self._ring.rows and self._too_large()

    def _too_large(self) -> bool:
        return self._bytes() > self._bytes_max

    def _bytes(self) -> int:
        return self._records_file.bytes() + self._readings_file.bytes()

    def _commit_samples(self, batch: Batch) -> None:
        self._readings_file.ready()
        before, evicted = (self._ring.next_sample, self._ring.rows), 0
        try:
            # a memory of samples must not outlive them, nor be the only one to survive a power cut
            due = time.monotonic() >= self._next_sync
            durable = due or batch.remembers
            with self._readings_file.transaction(durable):
                self.history.write(self._readings, batch.samples, self._ring.next_sample)
                self._ring.write(self._readings, batch.samples, batch.clock)
                if self._too_large():
                    evicted = self._ring.evict(self._readings, size(batch.samples))
                if durable and self._unsynced and not batch.samples:
                    touch(self._readings)
        except StoreError:
            self._ring.next_sample, self._ring.rows = before
            raise
        if due:
            self._next_sync = time.monotonic() + SYNC_S
        self._unsynced = not durable and (self._unsynced or bool(batch.samples))
        self._samples_evicted += evicted
        self.history.written()
        self.history.take(batch.samples, before[0], self._ring.next_sample - self._ring.rows)
        batch.samples = []

    def _drop_what_is_old(self, now_s: float) -> None:
        with self._readings_file.transaction():
            samples = drop_samples(self._readings, self._retention, now_s)
            since_s = self._retention.history_since(now_s)
            history = 0 if since_s is None else self.history.drop_old(self._readings, since_s)
        with self._records_file.transaction():
            alarms = drop_alarms(self._records, self._retention, now_s)
        self._ring.rows -= samples
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

    def correction(
        self, by_s: float, since_s: float, until_s: float, streams: frozenset[str], batch: Batch
    ) -> Correction:
        """Return how to correct the times of all that is stored or in ``batch``."""
        next_sample = self.next_sample + batch.rows()
        self.history.cut(next_sample)
        return Correction(
            by_s,
            since_s,
            until_s,
            streams,
            samples=next_sample,
            cut=next_sample,
            messages=self.last_seq + len(batch.messages) + 1,
            alarms=self._alarms.next_id,
        )

    def correct(self, by: Correction) -> None:
        """Correct some of the times that were wrong; call it until ``by`` is done.

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
        with self._records_file.reading() as records:
            parts = records.execute("SELECT part, data FROM state WHERE stream = ?", [stream])
            return dict(parts.fetchall())

    def clock(self) -> bytes | None:
        """Return the clock's state at the newest samples; None if there is none."""
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
        """Number of the next sample; all streams share one count."""
        return self._ring.next_sample

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
        with self._records_file.reading() as records:
            return self._alarms.open_ones(records, stream)

    def last_alarm_number(self, stream: str) -> int:
        """Return the highest number of the stream's alarms, kept or dropped; 0 before the first.

        An alarm with a higher one is not on the disk yet.
        """
        with self._records_file.reading() as records:
            return self._alarms.last_number(records, stream)

    @property
    def last_seq(self) -> int:
        """Highest number given to a message that is committed."""
        return self._outbox.totals.last_seq

    def document(self) -> dict[str, Any]:
        """Return how full it is, for ``status``."""
        totals = self._outbox.totals
        return {
            "epoch": self.origin.epoch,
            "last_seq": totals.last_seq,
            "outbox_rows": totals.rows,
            "ring_rows": self._ring.rows,
            "evicted": dict(totals.evicted),
            "samples_evicted": self._samples_evicted,
            "dropped": self._dropped
            | {"alarms_excess": self._alarms.excess, "history_excess": self.history.excess},
            "bytes": self._bytes(),
            "history_bytes": self.history.bytes,
            "merged": totals.merged,
            "set_aside": [path.name for path in self.set_aside],
            "damage": self._reports(),
        }

    def close(self) -> None:
        """Close both files and release the lock."""
        self._closing.close()


def _history(bytes_max: int) -> History:
    from agent.store.history import History  # loads numpy, which nothing else here needs

    return History(bytes_max)


def _history_bytes(history_bytes_max: int, bytes_max: int) -> int:
    """Return the limit of minutes and hours in bytes; it leaves room for samples in any store."""
    return min(history_bytes_max, bytes_max // 4)
