"""Delivers the notices of one hook in a thread of its own, and retries what fails.

    queue (SQLite, read-only here) ─> oldest notice ─> program or web server
    loop (deletes with its next commit) <─settled───────┘ done, refused or too old

Until the loop has deleted a settled notice, the worker remembers it. If the agent is killed between
delivery and deletion, the notice is delivered again with the same id.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent.backoff import Backoff
from agent.clock import clock_quality
from agent.onsite.outcome import Done, Failed, Outcome, Refused
from agent.store.notices import Waiting
from agent.store.reader import Reader
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.config.onsite import HookTable

_LOG = logging.getLogger(__name__)

_LOOK_S_MAX: Final = 60.0  # also when nothing wakes the thread, for what becomes too old
_ROWS_READ: Final = 100
_IN_A_ROW: Final = 5  # failures of one notice, until others get a turn
_HOUR_S: Final = 3600.0


class Channel(Protocol):
    """A way to a receiver: ``Command`` or ``Webhook``."""

    def deliver(
        self, id: str, document: bytes, change: dict[str, Any], stopping: threading.Event
    ) -> Outcome:
        """Try once, within the hook's ``timeout_s``."""


def open_channel(settings: HookTable) -> Channel:
    """Return the channel of a hook; only the kind in use is loaded."""
    if settings.is_web:
        from agent.onsite.webhook import Webhook

        return Webhook(settings)
    from agent.onsite.command import Command

    return Command(settings)


class Worker:
    """The thread of one hook; the loop's thread calls the public methods."""

    def __init__(self, settings: HookTable, directory: Path, before: Worker | None = None) -> None:
        """Set up; ``directory`` is the store's.

        ``before``: the worker of the same hook with other settings, which is ending.
        """
        self.name = settings.name
        self._settings, self._directory, self._before = settings, directory, before
        self._thread = threading.Thread(target=self._run, name=f"hook {settings.name}", daemon=True)
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._settled: SimpleQueue[int] = SimpleQueue()  # worker -> loop
        self._deleted: SimpleQueue[int] = SimpleQueue()  # loop -> worker
        self._over: set[int] = set()  # settled rows that may still be in the queue
        self._attempts: Counter[int] = Counter()  # failed, by row
        self._seen: dict[int, float] = {}  # row -> when it was first read, monotonic
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._not_before = 0.0  # monotonic
        self._counts: Counter[str] = Counter() if before is None else before.counts
        self._last_error: str | None = None
        self._failing = False

    @property
    def counts(self) -> Counter[str]:
        """How many notices had which fate, since the start of the agent."""
        return self._counts

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def settled(self) -> list[int]:
        """Return the rows to delete, each once."""
        return _drained(self._settled)

    def committed(self, deleted: list[int]) -> None:
        """Record that a commit has deleted these rows, and perhaps added others."""
        for row in deleted:
            self._deleted.put(row)
        self._wake.set()

    def document(self) -> dict[str, Any]:
        """Return its state, for ``status``."""
        return {
            "failing": self._failing,
            "last_error": self._last_error,
            "sent": self._counts["sent"],
            "retried": self._counts["retried"],
            "refused": self._counts["refused"],
            "expired": self._counts["expired"],
        }

    def ask_to_stop(self) -> None:
        """Make the thread end soon; a program that runs is ended."""
        self._stopping.set()
        self._wake.set()

    def join(self, wait_s: float) -> None:
        """Wait for its end, but no longer than this: if it hangs in a request, it has no data."""
        if self._thread.ident is not None:
            self._thread.join(wait_s)

    def wait(self) -> None:
        """Wait for its end, in the thread that takes its place."""
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def over(self) -> set[int]:
        """Settled rows that may still be in the queue; for the thread that takes its place."""
        return self._over

    # ---- the thread

    def _run(self) -> None:
        if self._before is not None:  # or both would deliver the same notice
            self._before.wait()
            self._over, self._before = self._before.over, None
        channel = open_channel(self._settings)
        with Reader(self._directory) as reader:
            while not self._stopping.is_set():
                self._wake.clear()
                wait_s = self._not_before - time.monotonic()
                if wait_s <= 0:
                    wait_s = self._turn(reader, channel)
                if wait_s > 0:
                    self._wake.wait(wait_s)

    def _turn(self, reader: Reader, channel: Channel) -> float:
        """Try to deliver one notice; return how long to wait, seconds."""
        self._over.difference_update(_drained(self._deleted))
        try:
            rows = reader.notices(self._settings.name, _ROWS_READ + len(self._over))
        except StoreError as error:
            _LOG.debug("hook %s: %s", self._settings.name, error)
            return 1.0
        waiting = [one for one in rows if one.row not in self._over and not self._expires(one)]
        self._forget_all_but({one.row for one in rows})
        if not waiting:
            return _LOOK_S_MAX
        # in order; but one that always fails must not hold up all others
        notice = min(waiting, key=lambda one: (self._attempts[one.row] // _IN_A_ROW, one.row))
        change = json.loads(notice.document)["transition"]
        self._judge(notice, channel.deliver(notice.id, notice.document, change, self._stopping))
        return 0.0

    def _forget_all_but(self, rows: set[int]) -> None:
        """Forget rows that are no longer in the queue, such as those above its cap."""
        for gone in self._seen.keys() - rows:
            del self._seen[gone]
        for gone in self._attempts.keys() - rows:
            del self._attempts[gone]

    def _expires(self, notice: Waiting) -> bool:
        """Drop a notice that is too old; return whether it is.

        Its age counts from its transition if the clock was right then and is now; otherwise since
        this process has read it first.
        """
        now = time.monotonic()
        age_s = now - self._seen.setdefault(notice.row, now)
        if notice.clock == "synced" and clock_quality() == "synced":
            age_s = max(age_s, time.time() - notice.at)
        if age_s <= self._settings.waiting_h_max * _HOUR_S:
            return False
        self._settle(notice, "expired")
        _LOG.error(
            "hook %s: notice %s has waited too long and is dropped", self._settings.name, notice.id
        )
        return True

    def _judge(self, notice: Waiting, outcome: Outcome) -> None:
        name = self._settings.name
        match outcome:
            case Done():
                if self._failing:
                    _LOG.info("hook %s works again", name)
                self._failing = False
                self._backoff.succeeded()
                self._settle(notice, "sent")
            case Refused(reason):
                _LOG.error(
                    "hook %s refuses notice %s, which is dropped: %s", name, notice.id, reason
                )
                self._last_error = reason
                self._settle(notice, "refused")
            case Failed(reason, after_s):
                if not self._stopping.is_set():
                    self._failed(notice, reason, after_s)

    def _failed(self, notice: Waiting, reason: str, after_s: float | None) -> None:
        if not self._failing or reason != self._last_error:
            _LOG.warning("hook %s failed, and is tried again: %s", self._settings.name, reason)
        self._failing, self._last_error = True, reason
        self._attempts[notice.row] += 1
        self._counts["retried"] += 1
        self._backoff.failed()
        wait_s = max(self._backoff.wait_s(), after_s or 0.0)
        self._not_before = time.monotonic() + wait_s

    def _settle(self, notice: Waiting, fate: str) -> None:
        self._counts[fate] += 1
        self._over.add(notice.row)
        self._attempts.pop(notice.row, None)
        self._seen.pop(notice.row, None)
        self._settled.put(notice.row)


def _drained(queue: SimpleQueue[int]) -> list[int]:
    found = []
    try:
        while True:
            found.append(queue.get_nowait())
    except Empty:
        return found
