"""Limits the main thread's time in a regular expression.

``re`` checks for signals now and then, so a signal can end a match; nothing else can. The timer
counts the CPU time of the process, so that a busy machine makes nothing too slow.
"""

from __future__ import annotations

import atexit
import signal
import threading
from typing import Final

LIMIT_S: Final = 0.05  # of CPU time; it takes effect within twice this


class TooSlow(Exception):
    """The match took too long."""


class TimeLimit:
    """The one timer of the process; ``begin`` and ``end`` are cheap, because few of them set it.

    It does nothing outside of the main thread, where signals do not arrive.
    """

    def __init__(self) -> None:
        self._running = self._ticked = self._set = self._installed = False

    def begin(self) -> None:
        """Raise TooSlow from here to ``end``, if that takes too long."""
        if threading.get_ident() != threading.main_thread().ident:
            return
        self._ticked, self._running = False, True
        if not self._set:
            self._start()

    def end(self) -> None:
        """End what ``begin`` began; call it in any case."""
        self._running = False

    def _start(self) -> None:
        if not self._installed:
            signal.signal(signal.SIGVTALRM, self._tick)
            # the interpreter removes the handler at its end, and then the signal would kill it
            atexit.register(signal.setitimer, signal.ITIMER_VIRTUAL, 0)
            self._installed = True
        self._set = True
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)

    def _tick(self, *_: object) -> None:
        self._set = False
        if not self._running:  # it was set for something that has ended
            return
        if self._ticked:
            self._running = False
            raise TooSlow
        self._ticked = True
        self._start()


TIME_LIMIT: Final = TimeLimit()
