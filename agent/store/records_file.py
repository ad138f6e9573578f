"""``fieldwatch.db``: alarms, outbox, counters and the memory of the streams, synced each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.store import orders
from agent.store.alarm_table import AlarmTable
from agent.store.batch import COUNTER, Batch
from agent.store.correction import (
    Correction,
    correct_alarms,
    correct_labels,
    correct_messages,
    correct_windows,
)
from agent.store.file import StoreFile
from agent.store.logbook import Key, Logbook, standings
from agent.store.meta import raise_numbers
from agent.store.notices import NoticeTable
from agent.store.orders import FORGOTTEN, Known
from agent.store.outbox import Outbox
from agent.store.record import Origin
from agent.store.retention import Retention, drop_alarms
from agent.store.salvage import Numbers
from agent.store.window_table import WindowTable, drop_orphans
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.handling.states import Standing
    from agent.store.sqlite import Connection
    from agent.store.window import Window


class RecordsFile:
    """The file that must not lose anything; the store's thread uses it."""

    origin: Origin  # of its messages; read with the file

    def __init__(
        self,
        path: Path,
        site: str,
        gateway: str,
        outbox_rows_max: int,
        alarm_rows_max: int,
        logbook_rows_max: int,
        windows_bytes_max: int,
    ) -> None:
        self._logbook = Logbook(logbook_rows_max)
        self._site, self._gateway = site, gateway
        self._outbox, self._alarms = Outbox(outbox_rows_max), AlarmTable(alarm_rows_max)
        self._windows = WindowTable(windows_bytes_max)
        self.notices = NoticeTable()
        self._dropped_old = 0  # alarms, since the start
        self.file = StoreFile(path, "FULL", self._numbers, self.read)

    def limit(
        self,
        outbox_rows_max: int,
        alarm_rows_max: int,
        logbook_rows_max: int,
        windows_bytes_max: int,
    ) -> None:
        """Set new limits; the next commits delete what exceeds them."""
        self._logbook.rows_max, self._windows.bytes_max = logbook_rows_max, windows_bytes_max
        self._outbox.rows_max, self._alarms.rows_max = outbox_rows_max, alarm_rows_max

    def read(self) -> None:
        """Read the state of the file, which is open."""
        self._outbox.open(self._records)
        self._alarms.open(self._records)
        self._windows.open(self._records)
        self.notices.open(self._records)
        (epoch,) = self._records.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        self.origin = Origin(self._site, self._gateway, str(epoch))

    @property
    def _records(self) -> Connection:
        return self.file.connection

    def _numbers(self) -> Numbers | None:
        return Numbers(self.origin.epoch, self.last_seq)

    @property
    def last_seq(self) -> int:
        """Highest number given to a message that is committed."""
        return self._outbox.totals.last_seq

    @property
    def next_alarm(self) -> int:
        """Number of the next alarm's row; all streams share one count."""
        return self._alarms.next_id

    @property
    def next_window(self) -> int:
        """Number of the next row of windows; all streams share one count."""
        return self._windows.next_id

    def commit(self, batch: Batch, clock: str, is_too_large: Callable[[], bool]) -> None:
        """Write alarms, messages and memory, and remove from the batch what was written.

        Args:
            batch: To be written.
            clock: Quality of the gateway's clock, for the messages.
            is_too_large: Whether the store is too large, and only messages can be dropped.

        Raises:
            StoreError: nothing was written.

        """
        self.file.ready()
        with self.file.transaction():
            self._logbook.write(self._records, batch.transitions, batch.standings, clock)
            excess = self._alarms.excess
            self._alarms.write(self._records, batch.alarms)
            windows = self._windows.change(
                self._records,
                batch.windows.values(),
                batch.transitions,
                orphaned=self._alarms.excess > excess,
            )
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
            if batch.orders or FORGOTTEN in batch.counters:
                orders.write(self._records, batch.orders, batch.counters.get(FORGOTTEN))
            totals = self._outbox.change(
                self._records, batch.messages, batch.acked, clock, is_too_large
            )
            noticed = self.notices.change(self._records, batch.notices, batch.settled, clock)
        self._outbox.totals, self.notices.totals = totals, noticed
        self._windows.totals = windows
        self._alarms.committed(batch.alarms)
        batch.alarms, batch.messages, batch.state, batch.acked = [], [], {}, []
        batch.windows, batch.transitions, batch.standings = {}, [], {}
        batch.notices, batch.settled = [], []
        batch.forgotten = set()
        batch.counters, batch.orders, batch.ordered = {}, {}, {}

    def drop_old(self, retention: Retention, now_s: float) -> None:
        """Delete alarms that have been closed for too long.

        Raises:
            StoreError: nothing was deleted.

        """
        with self.file.transaction():
            if alarms := drop_alarms(self._records, retention, now_s):
                drop_orphans(self._records)
        self._dropped_old += alarms

    def begin(self, by: Correction) -> None:
        """Note from now on which alarms are written while times are corrected."""
        self._alarms.rewritten.append(by.rewritten)

    def correct(self, by: Correction) -> None:
        """Correct some of the times that were wrong.

        Raises:
            StoreError: nothing was corrected; you can call it again.

        """
        before = by.messages, by.alarms, by.labels, by.windows
        try:
            with self.file.transaction():
                correct_messages(self._records, by)
                correct_alarms(self._records, by)
                correct_labels(self._records, by)
                correct_windows(self._records, by)
        except StoreError:
            by.messages, by.alarms, by.labels, by.windows = before
            raise
        if not by.alarms:
            self._alarms.rewritten = [s for s in self._alarms.rewritten if s is not by.rewritten]

    def state(self, stream: str) -> dict[str, bytes]:
        """Return the last committed state of a stream, by part."""
        with self.file.reading() as records:
            parts = records.execute("SELECT part, data FROM state WHERE stream = ?", [stream])
            return dict(parts.fetchall())

    def open_alarms(self, stream: str) -> list[dict[str, Any]]:
        """Return the stream's alarms that are open."""
        with self.file.reading() as records:
            return self._alarms.open_ones(records, stream)

    def unfinished_windows(self, stream: str) -> list[Window]:
        """Return the windows of a stream's alarms that are not complete, the oldest first."""
        with self.file.reading() as records:
            return self._windows.unfinished(records, stream)

    def all_open_alarms(self) -> list[dict[str, Any]]:
        """Return the open alarms of all streams, also of those that are no longer configured."""
        with self.file.reading() as records:
            return self._alarms.open_ones(records)

    def alarm(self, stream: str, number: int) -> dict[str, Any] | None:
        """Return an alarm that is on the disk; None if there is none."""
        with self.file.reading() as records:
            return self._alarms.one(records, stream, number)

    def standings(self) -> dict[Key, Standing]:
        """Return the standing of each point, by stream and point."""
        with self.file.reading() as records:
            return standings(records)

    def orders(self) -> tuple[dict[str, Known], float]:
        """Return the stored commands by id, and the latest expiry of a deleted one, Unix s."""
        with self.file.reading() as records:
            return orders.read(records), orders.forgotten_s(records, COUNTER + FORGOTTEN)

    def last_alarm_number(self, stream: str) -> int:
        """Return the highest number of the stream's alarms, kept or dropped; 0 before the first.

        An alarm with a higher one is not on the disk yet.
        """
        with self.file.reading() as records:
            return self._alarms.last_number(records, stream)

    def document(self) -> dict[str, Any]:
        """Return how full it is, for ``status``."""
        totals = self._outbox.totals
        return {
            "epoch": self.origin.epoch,
            "last_seq": totals.last_seq,
            "outbox_rows": totals.rows,
            "evicted": dict(totals.evicted),
            "merged": totals.merged,
            "windows_bytes": self._windows.totals.bytes,
        }

    def dropped(self) -> dict[str, int]:
        """Return how many alarms were deleted since the start, by cause."""
        return {
            "alarms_old": self._dropped_old,
            "alarms_excess": self._alarms.excess,
            "logbook_excess": self._logbook.excess,
            "windows_excess": self._windows.totals.excess,
            "notices_removed": self.notices.totals.removed.total(),
        }
