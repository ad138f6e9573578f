"""Logs a problem at once, then once a minute while it lasts, and its end."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

_LOG = logging.getLogger(__name__)

AGAIN_S: Final = 60.0


class Reminder:
    """One problem, which exists or not."""

    def __init__(self, over: str) -> None:
        """Set up; ``over`` is logged when the problem ends."""
        self._over = over
        self._told: str | None = None
        self._next_s = -math.inf  # monotonic

    def look(self, trouble: str | None) -> None:
        """Log what must be said about the problem now; None: there is none."""
        now_s = time.monotonic()
        if trouble is None:
            if self._told is not None:
                _LOG.warning(self._over)
        elif trouble != self._told or now_s >= self._next_s:
            _LOG.error("%s", trouble)
            self._next_s = now_s + AGAIN_S
        self._told = trouble
