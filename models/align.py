"""From readings, as they come, to samples on the bundle's grid.

Both sides use it: the trainer on recordings, the agent on live lines, so that a sample is the
same thing in both. The grid's phase is the first reading's; a reading belongs to the nearest
slot. A slot is emitted as soon as every channel has a value, or when a reading of a later slot
comes. What is missing is held for ``hold_samples_max`` slots, then NaN; after more than
``reset_gap_samples`` empty slots ``times`` jumps instead.
"""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np

from models.bundle import Sampling
from models.messages import Float32, Float64, Readings, Samples

LATE_ROWS_MAX = 10  # so many in a row are no stragglers: the clock was set back


class Aligner:
    """The place of one stream on its grid.

    ``counters`` counts the readings that were not used: ``late`` (their slot is gone),
    ``duplicate`` (the slot had that channel already; the newer value wins while it is open) and,
    in rows, ``clock_step`` (the grid began anew because time went back for good).
    """

    def __init__(self, sampling: Sampling, channels: int) -> None:
        self._period_s = sampling.period_s
        self._hold_max = sampling.hold_samples_max
        self._gap_max = sampling.reset_gap_samples
        self.counters: Counter[str] = Counter()
        self._phase_s = math.nan  # slots lie at phase + k * period
        self._next = 0  # the first slot not emitted yet; the only one that may be open
        self._open = np.full(channels, np.nan, np.float32)  # what that slot has so far
        self._held = np.full(channels, np.nan, np.float32)  # last value of each channel
        self._age = np.zeros(channels, np.int64)  # slots since that value
        self._late_rows = 0

    def push(self, readings: Readings) -> Samples:
        """Take in readings, (n, C); return the samples they complete, in order."""
        if len(readings.times) == 0:
            return _samples([], [], len(self._open))
        if math.isnan(self._phase_s):
            self._begin(float(readings.times[0]))
        slots = np.rint((readings.times - self._phase_s) / self._period_s)
        if self._is_plain(slots, readings.values):
            return self._pass_through(slots, readings.values)
        times: list[float] = []
        rows: list[Float32] = []
        for time, values in zip(readings.times.tolist(), readings.values, strict=True):
            self._take(time, values, times, rows)
        return _samples(times, rows, len(self._open))

    def _begin(self, time: float) -> None:
        """Start the grid at ``time``, with nothing held from before."""
        self._phase_s = math.fmod(time, self._period_s)
        self._next = self._slot(time)
        self._open[:] = np.nan
        self._held[:] = np.nan
        self._age[:] = 0
        self._late_rows = 0

    def _slot(self, time: float) -> int:
        return round((time - self._phase_s) / self._period_s)

    def _is_plain(self, slots: Float64, values: Float32) -> bool:
        """Whether each row is complete and the next slot's: the common case, done at once."""
        return bool(
            slots[0] == self._next
            and (np.diff(slots) == 1).all()
            and np.isnan(self._open).all()
            and not np.isnan(values).any()
        )

    def _pass_through(self, slots: Float64, values: Float32) -> Samples:
        self._next += len(slots)
        self._held[:] = values[-1]
        self._age[:] = 0
        self._late_rows = 0
        return Samples(self._phase_s + slots * self._period_s, values)

    def _take(self, time: float, values: Float32, times: list[float], rows: list[Float32]) -> None:
        """Put one row into its slot; emit what that completes."""
        slot = self._slot(time)
        if slot < self._next:
            if not self._is_set_back(slot, values):
                return
            self._begin(time)
            slot = self._next
        self._late_rows = 0
        self._advance(slot, times, rows)
        known = ~np.isnan(values)
        self.counters["duplicate"] += int((known & ~np.isnan(self._open)).sum())
        self._open[known] = values[known]
        if not np.isnan(self._open).any():
            self._emit(times, rows)

    def _is_set_back(self, slot: int, values: Float32) -> bool:
        """Count a row whose slot is gone; say whether time itself went back."""
        cause = "duplicate" if slot == self._next - 1 else "late"
        self.counters[cause] += int((~np.isnan(values)).sum())
        self._late_rows += self._next - slot > self._gap_max
        if self._late_rows < LATE_ROWS_MAX:
            return False
        self.counters["clock_step"] += 1
        return True

    def _advance(self, slot: int, times: list[float], rows: list[Float32]) -> None:
        """Emit the open slot and the empty ones up to ``slot``, or jump a long gap."""
        if slot == self._next:
            return
        if not np.isnan(self._open).all():
            self._emit(times, rows)
        if slot - self._next > self._gap_max:
            self._held[:] = np.nan
            self._next = slot
        while self._next < slot:
            self._emit(times, rows)

    def _emit(self, times: list[float], rows: list[Float32]) -> None:
        """Emit the open slot; what it lacks is held, or NaN once held for too long."""
        missing = np.isnan(self._open)
        self._age = np.where(missing, self._age + 1, 0)
        self._held = np.where(missing, self._held, self._open)
        times.append(self._phase_s + self._next * self._period_s)
        rows.append(np.where(self._age <= self._hold_max, self._held, np.float32(np.nan)))
        self._open[:] = np.nan
        self._next += 1

    def to_bytes(self) -> bytes:
        """Return the place on the grid, for the store; a restart goes on from it."""
        if math.isnan(self._phase_s):
            return b"{}"
        arrays = {"open": self._open, "held": self._held}
        document = {name: _nullable(array) for name, array in arrays.items()} | {
            "phase_s": self._phase_s,
            "next": self._next,
            "age": self._age.tolist(),
            "late_rows": self._late_rows,
        }
        return json.dumps(document).encode()

    def restore(self, data: bytes) -> None:
        """Go on where ``to_bytes`` left off."""
        document = json.loads(data)
        if not document:
            return
        self._phase_s, self._next = document["phase_s"], document["next"]
        self._open[:] = np.array(document["open"], np.float32)
        self._held = np.array(document["held"], np.float32)
        self._age = np.array(document["age"], np.int64)
        self._late_rows = document["late_rows"]


def _samples(times: list[float], rows: list[Float32], channels: int) -> Samples:
    values = np.stack(rows) if rows else np.empty((0, channels), np.float32)
    return Samples(np.array(times, np.float64), values)


def _nullable(array: Float32) -> list[float | None]:
    return [None if math.isnan(value) else value for value in array.tolist()]
