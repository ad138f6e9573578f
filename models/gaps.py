"""The bundle's gap policy: it fills a slot of the grid for channels that have no value in it.

- ``hold``: the last value for ``hold_samples_max`` slots, then NaN.
- ``missing``: NaN at once.
- ``interpolate``: values on the straight line from the last value to the new one, if the gap has at
  most ``hold_samples_max`` slots; otherwise NaN. If other channels are faster, a slot may be
  emitted before the channel's next value arrives. It then gets the same value as with ``hold``.
  This does not depend on how long a gateway waits for late readings: no sample depends on readings
  that arrive after it was emitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.manifest import Sampling
from models.messages import GOOD, HELD, INTERPOLATED, MISSING, Bool, Float32, Int64, Uint8

_NEVER = -(2**62)  # the slot of a channel that has had no value


class Gaps:
    """The last value of each channel, from which slots without a value are filled."""

    def __init__(self, sampling: Sampling, channels: int) -> None:
        self._hold_max = 0 if sampling.gap == "missing" else sampling.hold_samples_max
        self._interpolates = sampling.gap == "interpolate"
        self._held = np.full(channels, np.nan, np.float32)  # last value of each channel
        self._held_slot = np.full(channels, _NEVER)  # the slot of that value

    def forget(self) -> None:
        """Forget the values of all channels."""
        self._held_slot[:] = _NEVER

    def hold(self, slot: int, values: Float32) -> None:
        """Take the values of a complete row, (C,)."""
        self._held[:] = values
        self._held_slot[:] = slot

    def hold_newest(self, slots: Int64, values: Float32, good: Bool) -> None:
        """Take the newest ``good`` value of each channel; ``slots`` (n,), the others (n, C)."""
        known = np.logical_or.reduce(good)
        newest = len(slots) - 1 - np.argmax(good[::-1], axis=0)  # row of the last good value
        self._held[known] = values[newest, np.arange(len(known))][known]
        self._held_slot[known] = slots[newest][known]

    def fill(self, slots: Int64, row: Float32) -> tuple[Float32, Uint8]:
        """Return values and quality (n, C) of slots (n,).

        All slots but the last are empty. The last one has the values ``row`` (C,), NaN where not
        measured. These values are held from now on.
        """
        fresh = slots[:, None] - self._held_slot <= self._hold_max
        values = np.where(fresh, self._held, np.float32(np.nan))
        quality = np.where(fresh, HELD, MISSING).astype(np.uint8)
        known = ~np.isnan(row)
        if self._interpolates and len(slots) > 1:
            self._interpolate(slots, row, known, values, quality)
        self._held[known], self._held_slot[known] = row[known], slots[-1]
        values[-1, known], quality[-1, known] = row[known], GOOD
        return values, quality

    def _interpolate(
        self, slots: Int64, row: Float32, known: Bool, values: Float32, quality: Uint8
    ) -> None:
        """Fill the slots before the last one in the channels that are ``known`` in ``row``."""
        span = slots[-1] - self._held_slot
        short = span - 1 <= self._hold_max
        share = (slots[:-1, None] - self._held_slot) / span
        before, after = self._held.astype(np.float64), row.astype(np.float64)
        line = (before + (after - before) * share).astype(np.float32)
        values[:-1, known] = np.where(short, line, np.float32(np.nan))[:, known]
        quality[:-1, known] = np.where(short, INTERPOLATED, MISSING)[known]

    def replace(self, before: Gaps, order: Sequence[int]) -> None:
        """Take over the values of ``before``; its channel ``order[c]`` is channel ``c`` here."""
        self._held, self._held_slot = before._held[order], before._held_slot[order]

    def document(self) -> dict[str, Any]:
        """Return the values as JSON data, for the store."""
        return {"held": nullable(self._held), "held_slot": self._held_slot.tolist()}

    def restore(self, document: dict[str, Any]) -> None:
        """Set the values to what ``document`` returned."""
        self._held = np.array(document["held"], np.float32)
        self._held_slot = np.array(document["held_slot"], np.int64)


def nullable(array: Float32) -> list[float | None]:
    """Return numbers as JSON data: None (null) for NaN."""
    return [None if math.isnan(value) else value for value in array.tolist()]
