"""``readings.db``: the ring of samples, minutes and hours of them, and the status.

A commit here need not be on the disk immediately: what a power cut loses is received again, or the
loss is acceptable. The file is synced every ``SYNC_S``, and with each saved memory of the samples,
which must not outlive them.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.store.batch import Batch
from agent.store.correction import Correction, correct_samples
from agent.store.file import StoreFile
from agent.store.retention import Retention, drop_samples
from agent.store.ring import Ring, size
from agent.store.sqlite import Connection, Damaged, touch
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.store.history import History

SYNC_S = 10.0  # the file is synced at least this often; a power cut loses later commits


class ReadingsFile:
    """The large file, which is written most; the store's thread uses it."""

    def __init__(self, path: Path, ring_rows_max: int, history_bytes_max: int) -> None:
        self._ring = Ring(ring_rows_max)
        self._ring_id = 0  # in the file's header; 0: none yet
        self.history = _history(history_bytes_max)
        self._next_sync = 0.0  # of the samples
        self.durable = 0  # samples below this number are on the disk
        self._unsynced = False  # whether some samples are written but perhaps not on the disk
        # since the start
        self.stored_by: Counter[str] = Counter()  # samples, by stream
        self._evicted = 0  # samples, for the size
        self._dropped_old = {"samples_old": 0, "history_old": 0}
        self.file = StoreFile(path, "NORMAL", lambda: None, self.read)

    def limit(self, ring_rows_max: int, history_bytes_max: int) -> None:
        """Set new limits; the next commits delete what exceeds them."""
        self._ring.rows_max, self.history.bytes_max = ring_rows_max, history_bytes_max

    def read(self) -> None:
        """Read the state of the file, which is open."""
        self._ring.open(self._readings, self.history.open(self._readings))
        (self._ring_id,) = self._readings.execute("PRAGMA application_id").fetchone()

    @property
    def ring_epoch(self) -> str:
        """A random word of the file, within which no number is given twice; "" until a commit.

        A file that is new, repaired or restored has another one: numbers that its predecessor gave
        to samples may be given again.
        """
        return f"{self._ring_id & 0xFFFFFFFF:08x}" if self._ring_id else ""

    @property
    def _readings(self) -> Connection:
        return self.file.connection

    @property
    def next_sample(self) -> int:
        """Number of the next sample; all streams share one count."""
        return self._ring.next_sample

    def number_from(self, number: int) -> None:
        """Give no lower number to a new sample: those below were sent, and the file may be new."""
        self._ring.next_sample = max(self._ring.next_sample, number)

    @property
    def rows(self) -> int:
        """Number of samples in the file."""
        return self._ring.rows

    def commit_samples(self, batch: Batch, is_too_large: Callable[[], bool]) -> None:
        """Write the samples and remove them from the batch; drop the oldest if it is too large.

        Raises:
            StoreError: nothing was written.

        """
        self.file.ready()
        before, evicted = (self._ring.next_sample, self._ring.rows), 0
        ring_id = self._ring_id or 1 + secrets.randbelow(2**31 - 1)
        try:
            # a power cut must not leave a memory of samples without the samples
            due = time.monotonic() >= self._next_sync
            durable = due or batch.remembers
            with self.file.transaction(durable):
                if not self._ring_id:
                    self._readings.execute(f"PRAGMA application_id = {ring_id}")
                self.history.write(self._readings, batch.samples, self._ring.next_sample)
                self._ring.write(self._readings, batch.samples, batch.clock)
                if is_too_large():
                    evicted = self._ring.evict(self._readings, size(batch.samples))
                if durable and self._unsynced and not batch.samples:
                    touch(self._readings)
        except StoreError:
            self._ring.next_sample, self._ring.rows = before
            raise
        self._ring_id = ring_id
        if due:
            self._next_sync = time.monotonic() + SYNC_S
        if durable:
            self.durable = self._ring.next_sample
        self._unsynced = not durable and (self._unsynced or bool(batch.samples))
        self._evicted += evicted
        self.history.written()
        for stream, samples, _ in batch.samples:
            self.stored_by[stream] += len(samples.times)
        self.history.take(batch.samples, before[0], self._ring.next_sample - self._ring.rows)
        batch.samples = []

    def commit_status(self, batch: Batch) -> None:
        """Ask for the status, write it, and remove it from the batch.

        Raises:
            StoreError: it was not written.

        """
        if batch.status is not None:
            with self.file.transaction():
                self._readings.execute(
                    "INSERT OR REPLACE INTO status VALUES (1, ?)",
                    [zlib.compress(batch.status().encode(), 1)],
                )
        batch.status = None

    def drop_old(self, retention: Retention, now_s: float) -> None:
        """Delete samples, minutes and hours that are too old.

        Raises:
            StoreError: nothing was deleted.

        """
        with self.file.transaction():
            samples = drop_samples(self._readings, retention, now_s)
            since_s = retention.history_since(now_s)
            history = 0 if since_s is None else self.history.drop_old(self._readings, since_s)
        self._ring.rows -= samples
        self._dropped_old["samples_old"] += samples
        self._dropped_old["history_old"] += history

    def correct(self, by: Correction) -> None:
        """Correct some of the times that were wrong.

        Raises:
            StoreError: nothing was corrected; you can call it again.

        """
        samples, history = by.samples, by.history
        try:
            with self.file.transaction():
                correct_samples(self._readings, by)
                if history:
                    self.history.correct(self._readings, by)
        except StoreError:
            by.samples = samples
            raise
        if history:
            self.history.written()
            by.history = False

    def clock(self) -> bytes | None:
        """Return the clock's state at the newest samples; None if there is none."""
        try:
            with self.file.reading() as readings:
                newest = readings.execute(
                    "SELECT clock FROM samples ORDER BY number DESC LIMIT 1"
                ).fetchone()
        except Damaged:  # the repair has started
            return None
        return newest[0] if newest else None

    def samples_from(self, stream: str, number: int) -> list[tuple[bytes, bytes, bytes | None]]:
        """Return a stream's samples from this number on, in order; see ``stored_samples``."""
        try:
            with self.file.reading() as readings:
                return readings.execute(
                    "SELECT times, readings, quality FROM samples WHERE stream = ? AND number >= ?"
                    " ORDER BY number",
                    [stream, number],
                ).fetchall()
        except Damaged:  # the repair has started; these samples are lost
            return []

    def document(self) -> dict[str, Any]:
        """Return how full it is, for ``status``."""
        return {
            "ring_rows": self._ring.rows,
            "samples_evicted": self._evicted,
            "history_bytes": self.history.bytes,
        }

    def dropped(self) -> dict[str, int]:
        """Return how much was deleted since the start, by cause."""
        return self._dropped_old | {"history_excess": self.history.excess}


def _history(bytes_max: int) -> History:
    from agent.store.history import History  # loads numpy, which nothing else here needs

    return History(bytes_max)
