"""The gateway's two time scales: steady time for the order; wall time for storage and display.

A gateway may boot in 1970, or an hour off, and its clock is set while it runs. Arrivals therefore
get a **steady** time, which only moves forward, at the rate of ``time.monotonic``. Wall time is
steady time plus a **correction**, which changes when the clock is set. Alignment, scores and
forecasts use only steady time, so no step of the clock reorders, loses or interrupts anything.
"""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import math
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from models.messages import ClockQuality

_LOG = logging.getLogger(__name__)

STEP_S: Final = 0.5  # up to this, a time client slews a clock; beyond, it steps the clock

_BUILT_S: Final = 1_735_689_600.0  # 2025-01-01; an earlier time means that the clock is not set

_SECONDS_MAX: Final = 1e10  # some 300 years
_PACKED = struct.Struct("<3d")  # as in ``_Known``; NaN for None

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class Timex(ctypes.Structure):
    """The beginning of the kernel's ``struct timex``, and space for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: only read
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class Step(NamedTuple):
    """A step of the clock."""

    by_s: float  # size of the step, forward if positive
    # steady time since which the clock had not been synchronised; None: it was synchronised
    unsure_since_s: float | None


class _Known(NamedTuple):
    """The saved state from which a clock continues."""

    steady_s: float
    correction_s: float
    unsure_since_s: float | None


class Clock:
    """Steady time and wall time; one thread uses it.

    Args:
        quality: Returns whether the clock is synchronised.
        wall: Unix seconds; may be set at any time.
        monotonic: Seconds since an arbitrary moment; never decreases.

    """

    def __init__(
        self,
        quality: Callable[[], ClockQuality] | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quality = quality or clock_quality
        self._wall, self._monotonic = wall, monotonic
        self._began_s = wall() - monotonic()
        self.correction_s = 0.0  # wall time - steady time
        self._behind = False  # whether the wall clock is behind the latest known time
        self._unsure_since_s: float | None = None  # see ``Step``
        self.synced = False  # at the last check
        self._judge()

    def restore(self, *saved: bytes) -> None:
        """Continue from the latest state that ``to_bytes`` and ``packed`` returned earlier."""
        readable = [known for one in saved if (known := _known(one)) is not None]
        if len(readable) < len(saved):
            _LOG.warning("a saved state of the clock cannot be read; continuing without it")
        if not readable:
            return
        known = max(readable, key=lambda known: known.steady_s)
        self.correction_s = known.correction_s
        self._unsure_since_s = known.unsure_since_s
        self._began_s -= self.correction_s
        if self.steady_s() < known.steady_s:  # a clock without a battery
            self._behind = True
            self._began_s = known.steady_s - self._monotonic()
            _LOG.warning("the clock is behind the last known time; continuing from that time")
        self._judge()

    def monotonic_s(self) -> float:
        """Return the monotonic time for an arrival, in seconds."""
        return self._monotonic()

    def steady_s(self, monotonic_s: float | None = None) -> float:
        """Return the steady time now, or at a moment of ``time.monotonic``."""
        return self._began_s + (self._monotonic() if monotonic_s is None else monotonic_s)

    def wall_s(self, monotonic_s: float | None = None) -> float:
        """Return the best known wall time, Unix seconds."""
        return self.steady_s(monotonic_s) + self.correction_s

    def quality(self) -> ClockQuality:
        """Return the quality of wall time."""
        never_set = self._behind or self._wall() < _BUILT_S
        return "unsynced" if never_set else self._quality()

    def look(self) -> Step | None:
        """Return the step if the clock was set since the last call, and adopt the new time."""
        apart = self._wall() - self.wall_s()
        if self._behind and apart < 0:
            return None
        self._behind = False
        unsure = self._unsure_since_s
        self._judge()
        if abs(apart) < STEP_S:
            return None
        self.correction_s += apart
        _LOG.warning("the clock was set %+.1f s; nothing is lost or reordered", apart)
        return Step(apart, unsure)

    def _judge(self) -> None:
        """Record since when the clock has not been synchronised."""
        self.synced = self.quality() == "synced"
        if self.synced:
            self._unsure_since_s = None
        elif self._unsure_since_s is None:
            self._unsure_since_s = self.steady_s()

    def to_bytes(self) -> bytes:
        """Return the state from which the next run continues."""
        known = {
            "correction_s": self.correction_s,
            "steady_s": self.steady_s(),
            "unsure_since_s": self._unsure_since_s,
        }
        return json.dumps(known).encode()

    def packed(self) -> bytes:
        """Return the same in 24 bytes, to be written with each commit."""
        unsure_s = math.nan if self._unsure_since_s is None else self._unsure_since_s
        return _PACKED.pack(self.steady_s(), self.correction_s, unsure_s)


def _known(saved: bytes) -> _Known | None:
    """Return the saved state; None if it is damaged."""
    try:
        if len(saved) != _PACKED.size:  # the JSON is longer
            known = _Known(**json.loads(saved))
        else:
            steady_s, correction_s, unsure_s = _PACKED.unpack(saved)
            known = _Known(steady_s, correction_s, None if math.isnan(unsure_s) else unsure_s)
        sane = all(abs(value or 0.0) < _SECONDS_MAX for value in known)
    except (ValueError, TypeError):
        return None
    return known if sane else None


def clock_quality() -> ClockQuality:
    """Ask the kernel (``adjtimex(2)``) whether the clock is synchronised."""
    timex, libc = Timex(), _libc()
    if not hasattr(libc, "adjtimex"):
        return "unknown"
    return quality_of(libc.adjtimex(ctypes.byref(timex)), timex.status)


@functools.cache
def _libc() -> ctypes.CDLL:
    """Load libc once: each load creates new classes, so memory use would grow."""
    return ctypes.CDLL(None)


def quality_of(state: int, status: int) -> ClockQuality:
    """Convert the kernel's return value and status to a quality, see ``adjtimex(2)``."""
    if state == -1:  # a sandbox may forbid even this call
        return "unknown"
    return "unsynced" if state == _TIME_ERROR or status & _STA_UNSYNC else "synced"
