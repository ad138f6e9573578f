"""A thread that an exception ends takes the process with it: none may be missing unnoticed.

    thread ─exception─> Watch: log, with its traceback ─> the loop commits and closes ─> exit 70

Whoever started the thread: an input, the uplink, paho, a package with an input of its own. systemd
starts the process again. A thread that returns has done its work, and is not missed.
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
    """Sees what ends threads: ``with Watch(stop): run()``; one of a process."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """``stop`` makes the main thread end soon; it is called in the thread that ends."""
        self._stop = stop
        self._ended: str | None = None  # name of the first

    def __enter__(self) -> Self:
        """See all threads from now on."""
        threading.excepthook = self._take_note
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say at the end whether a thread was ended.

        Raises:
            Defect: one was, and nothing else is raised.

        """
        if error is None and self._ended is not None:
            raise Defect(f"thread {self._ended!r} ended by a defect; the log has its traceback")

    def _take_note(self, what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread else "unknown"
        self._ended = self._ended or name
        try:
            _LOG.critical(
                "thread %r ended by a defect, so all ends; to be started again",
                name,
                exc_info=what.exc_value,
            )
        finally:
            self._stop()
