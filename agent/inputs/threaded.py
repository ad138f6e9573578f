"""The base of inputs that read in their own thread: its start, its end, and its counters."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from agent.config.inputs import SourceTable
from agent.inputs.source import Chunk, InputStatus
from agent.journal import INPUT

_LOG = logging.getLogger(__name__)


class ThreadedInput(ABC):
    """Reads in ``_run`` until ``_stopping`` is set; see ``agent.inputs.Input``.

    Only this thread writes ``_connected`` and the counters. It calls ``_found`` and ``_lost`` to
    report whether its source is available.
    """

    def __init__(self, settings: SourceTable) -> None:
        self.name = settings.name
        self.stream = settings.stream
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connected = False
        self._since: float | None = None  # Unix seconds of the last change of ``_connected``
        self._last_error: str | None = None
        self._bytes = self._lines = self._connections = 0
        self._messages_too_large = 0
        self._messages_without_topic = 0
        self._topics_given_up: tuple[str, ...] = ()
        self._registers_refused: tuple[str, ...] = ()

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Begin to read; the thread waits for an absent device."""
        self._thread = threading.Thread(
            target=self._run, args=(put,), name=f"input {self.name}", daemon=True
        )
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Request the end of reading; does not wait for it."""
        self._stopping.set()

    def stop(self) -> None:
        """End the reading and close what was opened."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join()

    def status(self) -> InputStatus:
        """Return its state."""
        return InputStatus(
            connected=self._connected,
            since=self._since,
            last_error=self._last_error,
            bytes=self._bytes,
            lines=self._lines,
            lines_cut=self._lines_cut(),
            reconnects=max(0, self._connections - 1),
            messages_too_large=self._messages_too_large,
            messages_without_topic=self._messages_without_topic,
            topics_given_up=self._topics_given_up,
            registers_refused=self._registers_refused,
        )

    def committed(self, tokens: Sequence[int]) -> None:  # noqa: B027 - few have to
        """Note that these chunks are on the disk; most sources do not need this."""

    def _found(self, doing: str) -> None:
        """Record that the source is available (again); log ``doing``, such as "reading PORT"."""
        self._connections += 1
        self._change(True)
        _LOG.info("input %s: %s", self.name, doing, extra={INPUT: self.name})

    def _lost(self, error: str) -> None:
        """Record, on each attempt, that the source is unavailable; log it once. A stop is no loss.

        ``error`` states what is wrong, and how to fix it.
        """
        if self._stopping.is_set():
            return
        self._last_error = error
        if self._connected or self._since is None:
            self._change(False)
            _LOG.warning(
                "input %s: %s; retrying until it is back",
                self.name,
                error,
                extra={INPUT: self.name},
            )
        else:
            _LOG.debug("input %s: still failing: %s", self.name, error, extra={INPUT: self.name})

    def _change(self, connected: bool) -> None:
        self._connected, self._since = connected, time.time()

    def _lines_cut(self) -> int:
        return 0

    @abstractmethod
    def _run(self, put: Callable[[Chunk], None]) -> None:
        """Read until ``_stopping`` is set; close everything that was opened."""
