"""Ends the process if an exception ends a thread: no thread may be missing unnoticed.

    thread ─exception─> Watch: log, with its traceback ─> the loop commits and closes ─> exit 70

It does not matter who started the thread: an input, the uplink, paho, or an input's own package.
systemd restarts the process. A thread that returns has finished its work, which is no fault.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from models.errors import Defect

_LOG = logging.getLogger(__name__)


class Watch:
    """Catches exceptions that end threads: ``with Watch(stop): run()``; one per process."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """Set up; ``stop`` makes the main thread end soon; the failing thread calls it."""
        self._stop = stop
        self._ended: str | None = None  # name of the first

    def __enter__(self) -> Self:
        """Watch all threads from now on."""
        threading.excepthook = self._take_note
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise an error at the end if a thread was ended.

        Raises:
            Defect: a thread was ended, and nothing else is raised.

        """
        if error is None and self._ended is not None:
            raise Defect(f"thread {self._ended!r} ended by a defect; the log has its traceback")

    def _take_note(self, what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread else "unknown"
        self._ended = self._ended or name
        try:
            _LOG.critical(
                "a defect ended thread %r, so the agent ends; systemd restarts it",
                name,
                exc_info=what.exc_value,
            )
        finally:
            self._stop()
