"""Stores samples, alarms, waiting messages and state in SQLite.

There are two files in one directory. ``fieldwatch.db`` has what must survive a power cut: alarms,
the outbox, the streams' state. Every commit to it is on the disk before it returns
(synchronous=FULL).
``readings.db`` has the ring of samples, its history and the status. It is consistent after a power
cut, but may lose the commits since a stream's memory was last saved (NORMAL; with a memory, FULL).
The loop has the only read-write connection to each file; all others use ``agent.store.reader``.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from agent.store import salvage
from agent.store.batch import Batch
from agent.store.correction import Correction
from agent.store.file import Mend
from agent.store.migrations import READINGS, RECORDS
from agent.store.readings_file import ReadingsFile
from agent.store.record import Origin
from agent.store.records_file import RecordsFile
from agent.store.retention import FOREVER, LOOK_S, Retention
from agent.store.sqlite import LOCK, errors_of, lock
from models.errors import StoreError


class Store:
    """The read-write side: both files, the order of commits, and the limit of both together.

    One thread of one process uses it.
    """

    def __init__(
        self,
        directory: Path,
        site: str,
        gateway: str,
        outbox_rows_max: int,
        ring_rows_max: int,
        *,
        alarm_rows_max: int = 100_000,
        logbook_rows_max: int = 200_000,
        bytes_max: int = 2**30,
        history_bytes_max: int = 2**28,
        windows_bytes_max: int = 2**24,
        retention: Retention = FOREVER,
    ) -> None:
        self.directory = directory
        self._bytes_max = bytes_max
        self._retention, self._next_look = retention, 0.0
        self.records = RecordsFile(
            directory / RECORDS,
            site,
            gateway,
            outbox_rows_max,
            alarm_rows_max,
            logbook_rows_max,
            _windows_bytes(windows_bytes_max, bytes_max),
        )
        self.readings = ReadingsFile(
            directory / READINGS, ring_rows_max, _history_bytes(history_bytes_max, bytes_max)
        )
        self._files = (self.records.file, self.readings.file)

    def limit(
        self,
        outbox_rows_max: int,
        ring_rows_max: int,
        alarm_rows_max: int,
        bytes_max: int,
        retention: Retention = FOREVER,
        history_bytes_max: int = 2**28,
        logbook_rows_max: int = 200_000,
        windows_bytes_max: int = 2**24,
    ) -> None:
        """Set new limits; the next commits delete what exceeds them."""
        self._retention, self._bytes_max = retention, bytes_max
        self.records.limit(
            outbox_rows_max,
            alarm_rows_max,
            logbook_rows_max,
            _windows_bytes(windows_bytes_max, bytes_max),
        )
        self.readings.limit(ring_rows_max, _history_bytes(history_bytes_max, bytes_max))

    def open(self, mend: Mend = salvage.mend) -> None:
        """Open both files; create or repair them if needed.

        Raises:
            StoreError: the directory cannot be used, or another agent uses it.

        """
        with contextlib.ExitStack() as opening:
            with errors_of(self.directory):
                opening.enter_context(lock(self.directory / LOCK))
            for file in self._files:
                file.open(mend)
                opening.callback(file.close)
            with errors_of(self.directory):
                self.records.read()
                self.readings.read()
            self._closing = opening.pop_all()

    @property
    def origin(self) -> Origin:
        """Site, gateway and epoch of all messages."""
        return self.records.origin

    @property
    def last_seq(self) -> int:
        """Highest number given to a message that is committed."""
        return self.records.last_seq

    @property
    def set_aside(self) -> list[Path]:
        """Damaged files in the directory; each was replaced by a new one."""
        return [self.directory / report["file"] for report in self._reports()]

    def _reports(self) -> list[salvage.Report]:
        return [report for file in self._files for report in file.reports]

    @property
    def mended(self) -> int:
        """Number of reports of damaged files."""
        return len(self._reports())

    def outbox_damaged(self) -> None:
        """Check the outbox: a reader has found damage."""
        self.records.file.suspect()

    def commit(self, batch: Batch, clock: str) -> None:
        """Write the batch, and remove from it what was written.

        It writes the samples first. If the process is killed before the streams' memory includes
        them, the next start scores them again. The reverse, a memory of samples that are not
        stored, could not be repaired.

        ``clock`` is the quality of the gateway's clock, for the messages.

        Raises:
            StoreError: disk full, read-only, or I/O error; what remains in the batch was not
                written, and the caller can commit it again.

        """
        trouble: StoreError | None = None
        try:
            self.readings.commit_samples(batch, self._is_too_large)
        except StoreError as error:  # must not delay alarms
            trouble = error
        self.records.commit(batch, clock, self._is_full_of_messages)
        if trouble is not None:
            raise trouble
        if clock == "synced":  # a clock that is ahead must not empty the store
            self._drop_what_is_old()
        self.readings.commit_status(batch)
        for file in self._files:
            file.give_back()

    def _is_too_large(self) -> bool:
        return self._bytes() > self._bytes_max

    def _is_full_of_messages(self) -> bool:
        """Whether the store is still too large after all samples, which go first, were dropped."""
        return not self.readings.rows and self._is_too_large()

    def _bytes(self) -> int:
        return sum(file.bytes() for file in self._files)

    def _drop_what_is_old(self) -> None:
        """Delete old rows, at most once per ``LOOK_S``."""
        now = time.monotonic()
        if self._retention == FOREVER or now < self._next_look:
            return
        self._next_look = now + LOOK_S
        now_s = time.time()
        self.readings.drop_old(self._retention, now_s)
        self.records.drop_old(self._retention, now_s)

    def correction(
        self, by_s: float, since_s: float, until_s: float, streams: frozenset[str], batch: Batch
    ) -> Correction:
        """Return the correction for the times of everything stored or in ``batch``."""
        next_sample = self.readings.next_sample + batch.rows()
        self.readings.history.cut(next_sample)
        by = Correction(
            by_s,
            since_s,
            until_s,
            streams,
            samples=next_sample,
            cut=next_sample,
            messages=self.last_seq + len(batch.messages) + 1,
            alarms=self.records.next_alarm,
            windows=self.records.next_window,
        )
        self.records.begin(by)
        return by

    def correct(self, by: Correction) -> None:
        """Correct some of the times that were wrong; call it until ``by`` is done.

        Raises:
            StoreError: nothing was corrected in one of the files; you can call it again.

        """
        self.records.correct(by)
        self.readings.correct(by)

    def document(self) -> dict[str, Any]:
        """Return how full it is, for ``status``."""
        return (
            self.records.document()
            | self.readings.document()
            | {
                "dropped": self.readings.dropped() | self.records.dropped(),
                "bytes": self._bytes(),
                "set_aside": [path.name for path in self.set_aside],
                "damage": self._reports(),
            }
        )

    def close(self) -> None:
        """Close both files and release the lock."""
        self._closing.close()


def _history_bytes(history_bytes_max: int, bytes_max: int) -> int:
    """Return the limit of minutes and hours in bytes; it always leaves room for samples."""
    return min(history_bytes_max, bytes_max // 4)


def _windows_bytes(windows_bytes_max: int, bytes_max: int) -> int:
    """Return the limit of windows in bytes; it always leaves room for the rest."""
    return min(windows_bytes_max, bytes_max // 8)
