"""Computes the wait before the next attempt after a failure: exponential backoff with full jitter.

The upper bound of the wait doubles with each consecutive failure. The wait is random below it, so
that the gateways of a fleet do not all reconnect at the same time (Brooker, "Exponential Backoff
And Jitter", AWS 2015). The caller makes the attempts and decides on success. There is no clock
here.
"""

from __future__ import annotations

import random
from typing import Final

STEADY_S: Final = 20.0
_FACTOR: Final = 2.0
_DOUBLINGS_MAX: Final = 32  # without a limit, a float would eventually overflow


class Backoff:
    """The waits between repeated attempts at one operation."""

    def __init__(self, first_s: float, max_s: float) -> None:
        """Set up; ``first_s`` bounds the first wait, ``max_s`` every wait; seconds."""
        self._first_s = first_s
        self._max_s = max_s
        self.failures = 0  # since the last success

    def failed(self) -> None:
        """Count a failure."""
        self.failures += 1

    def succeeded(self) -> None:
        """Reset: the wait after the next failure is short again."""
        self.failures = 0

    def lasted(self, seconds: float) -> None:
        """Count a connection as a success if it lasted ``STEADY_S``, or the longest wait.

        A connection that is accepted but breaks immediately is not a success.
        """
        if seconds >= min(STEADY_S, self._max_s):
            self.succeeded()

    @property
    def bound_s(self) -> float:
        """Upper bound of ``wait_s`` now, in seconds; 0 after a success."""
        if not self.failures:
            return 0.0
        return min(self._max_s, self._first_s * _FACTOR ** min(self.failures - 1, _DOUBLINGS_MAX))

    def wait_s(self) -> float:
        """Return the seconds to wait before the next attempt; 0 after a success."""
        return random.uniform(0, self.bound_s)  # noqa: S311 - no secret
