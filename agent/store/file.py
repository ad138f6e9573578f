"""One database file of the store, its only writer, and its repair if it is damaged.

If SQLite cannot read the file when it is opened, it is repaired before use. Damage that shows up
later is repaired by another process while the loop runs. Meanwhile nothing is written to the file.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.store.maintenance import Helper, checking, mending
from agent.store.salvage import Numbers, Report, reports
from agent.store.sqlite import (
    CHECKED_BYTES_MAX,
    Connection,
    Damaged,
    Synchronous,
    bytes_used,
    errors_of,
    give_back,
    open_for_writing,
    transaction,
)
from models.errors import StoreError

_LOG = logging.getLogger(__name__)

_RETRY_S = 10.0  # until the next attempt after a failed repair

Mend = Callable[[Path, Numbers | None, int], Report]


class StoreFile:
    """A file and its connection; one thread uses it."""

    connection: Connection  # closed during a repair

    def __init__(
        self,
        path: Path,
        synchronous: Synchronous,
        numbers: Callable[[], Numbers | None],
        mended: Callable[[], None],
    ) -> None:
        """Set up; a repaired file continues ``numbers``; ``mended`` is called after a repair."""
        self.path = path
        self._synchronous: Synchronous = synchronous
        self._numbers, self._mended = numbers, mended
        self.reports: list[Report] = []  # on damaged files, kept in the same directory
        self._damaged = False
        self._mending: Helper | None = None
        self._checking: Helper | None = None
        self._failure = ""
        self._retry_at = 0.0  # monotonic
        self._bytes = 0

    def open(self, mend: Mend) -> None:
        """Open the file; create or repair it if needed.

        Raises:
            StoreError: it cannot be used.

        """
        with errors_of(self.path):
            self.reports = reports(self.path)
        try:
            self.connection = open_for_writing(self.path, self._synchronous)
        except Damaged as damage:
            _LOG.error("%s; the file is damaged: recovering the readable rows", damage)
            self._take_note(mend(self.path, None, damage.commits_lost))
            self.connection = open_for_writing(self.path, self._synchronous)
        if self.path.stat().st_size > CHECKED_BYTES_MAX:
            self._checking = checking(self.path)

    def _take_note(self, report: Report) -> None:
        self.reports.append(report)
        lost = {table: "unknown" if n is None else n for table, n in report["lost"].items()}
        _LOG.error(
            "%s was damaged and is kept as %s; a new file replaces it: rows saved %s, lost %s",
            self.path,
            report["file"],
            report["saved"],
            lost,
        )
        for name in report["deleted"]:
            _LOG.warning("deleted %s: only the newest damaged files are kept", name)

    def ready(self) -> None:
        """Continue a repair, if there is one.

        Raises:
            StoreError: the repair is not finished.

        """
        self._look_at_the_check()
        if self._damaged:
            self._go_on_mending()

    def _look_at_the_check(self) -> None:
        if self._checking is None:
            return
        try:
            found = self._checking.poll()
        except StoreError as error:  # perhaps a disk error; the next commit will show it
            self._checking = None
            _LOG.warning("%s could not be checked: %s", self.path, error)
            return
        if found is not None:
            self._checking = None
            if "finding" in found:
                self.damaged(found["finding"])

    def suspect(self) -> None:
        """Check the whole file in another process: a reader has found damage."""
        if not self._damaged and self._checking is None:
            self._checking = checking(self.path)

    def damaged(self, why: object) -> None:
        """Close the file and have it repaired."""
        if not self._damaged:
            _LOG.error("%s; the file is damaged: recovering the readable rows", why)
            self._damaged, self._retry_at = True, 0.0
            self.connection.close()

    def _go_on_mending(self) -> None:
        if self._mending is None:
            if time.monotonic() < self._retry_at:
                raise StoreError(self._failure)
            self._mending = mending(self.path, self._numbers())
        try:
            report = self._mending.poll()
        except StoreError as error:
            self._mending = None
            self._failure = f"{self.path} is damaged and cannot be repaired: {error}"
            self._retry_at = time.monotonic() + _RETRY_S
            raise StoreError(self._failure) from error
        if report is None:
            raise StoreError(f"{self.path} is being repaired")
        self._mending = None
        self.connection = open_for_writing(self.path, self._synchronous)
        self._damaged = False
        self._take_note(report)
        self._mended()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Provide the connection for reading; if the file proves damaged, start its repair.

        Raises:
            StoreError: the file cannot be read.

        """
        try:
            with errors_of(self.path):
                yield self.connection
        except Damaged as damage:
            self.damaged(damage)
            raise

    @contextlib.contextmanager
    def transaction(self, durable: bool = False) -> Iterator[None]:
        """Commit everything in the block, or nothing; if the file proves damaged, start its repair.

        If ``durable``, this commit and all earlier ones are on the disk afterwards.

        Raises:
            StoreError: nothing was written.

        """
        try:
            with errors_of(self.path):
                level = "FULL" if durable else self._synchronous
                self.connection.execute(f"PRAGMA synchronous = {level}")
            with transaction(self.connection, self.path):
                yield
        except Damaged as damage:
            self.damaged(damage)
            raise

    def give_back(self) -> None:
        """Return some free pages to the file system.

        Raises:
            StoreError: disk failure.

        """
        with self.reading() as connection:
            give_back(connection)

    def bytes(self) -> int:
        """Return the size of its content in bytes; if it cannot be read, the last known size."""
        if not self._damaged:
            with contextlib.suppress(StoreError), errors_of(self.path):
                self._bytes = bytes_used(self.connection)
        return self._bytes

    def close(self) -> None:
        """Close the file; the next opening starts an unfinished repair again."""
        for helper in (self._mending, self._checking):
            if helper is not None:
                helper.stop()
        if not self._damaged:
            self.connection.close()
