"""The open ``anomaly`` events of a stream: which error rows belong to which of them.

While an event is open, a second fault may begin. It is told from the first one by rest: an open
event is at rest when no row has had a new maximum for ``rest_samples``. What rises before belongs
to the event. After that, a row that rises above ``further_ratio`` times the larger of its maximum
at rest and its threshold shows a further fault. This is another channel, another kind of row (a
level instead of an error), or the same row far above its plateau. After a further event opened, the
next one needs another rest. So their number is bounded, whatever the noise.

Rows that were calm at the last rest belong to the further event alone, and the others to it above
their maximum at rest. So each event closes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.messages import Bool, Event, Float32

NEW_MAXIMUM = 1.1  # times the maximum before; less is noise of a plateau


@dataclass(eq=False, slots=True)
class OpenAnomaly:
    """An open event with the rows that it follows."""

    event: Event
    calm_run: int = 0  # consecutive samples below the deadband
    slow_run: int = 0  # consecutive samples with a persistent deviation
    base: Float32 | None = None  # (R,) a row belongs to it above this ratio; None: 1 for each row

    def own(self, ratio: Float32) -> Float32:
        """Return the ratios (R,) of the rows that belong to this event now, NaN for the others."""
        if self.base is None:
            return ratio
        return np.where(ratio > self.base, ratio, np.float32(np.nan))

    def distance(self, ratio: Float32) -> float:
        """Return the largest ratio in units of ``base``; 1 is where the event begins."""
        return float(np.fmax.reduce(ratio if self.base is None else ratio / self.base))

    def cede(self, base: Float32) -> None:
        """Leave the rows that are calm in ``base`` (R,) to an event that opens now."""
        before = np.ones_like(base) if self.base is None else self.base
        self.base = np.where(base > 1, before, np.float32(np.inf))

    def release(self, calm: Bool) -> None:
        """Follow the calm rows (R,) from their threshold on, except those of another event."""
        if self.base is not None:
            self.base[calm & np.isfinite(self.base)] = 1


@dataclass(eq=False, slots=True)
class Rise:
    """The maxima of the rows while an anomaly is open, and the further event that may open."""

    highest: Float32  # (R,) ratio, since the alarm opened
    rest_run: int = 0  # consecutive samples without a new maximum
    base: Float32 | None = None  # (R,) the maxima at the last rest, at least 1; None: none yet
    above_run: int = 0  # consecutive samples far above ``base``
    candidate: Event | None = None  # the further event as it would open now

    @staticmethod
    def start(rows: int) -> Rise:
        """Return the state when the first event of a stream opens."""
        return Rise(np.ones(rows, np.float32))

    def beyond(self, ratio: Float32, factor: float) -> Float32 | None:
        """Return the ratios above ``factor`` * ``base`` (R,), NaN for others; None: no row is."""
        if self.base is None:
            return None
        far = ratio > factor * self.base
        return np.where(far, ratio, np.float32(np.nan)) if far.any() else None

    def take(self, ratio: Float32, rest_samples: int) -> None:
        """Update the maxima with a sample's ratios (R,)."""
        rising = ratio > NEW_MAXIMUM * self.highest
        if rising.any():
            self.highest[rising] = ratio[rising]
            self.rest_run = 0
            return
        self.rest_run += 1
        if self.rest_run == rest_samples:
            self.base = self.highest.copy()

    def start_again(self) -> Float32:
        """Return ``base`` for an event that opens, and wait for the next rest."""
        base, self.base = self.base, None
        assert base is not None
        self.rest_run, self.above_run, self.candidate = 0, 0, None
        return base

    def release(self, calm: Bool) -> None:
        """Forget the maxima of calm rows (R,)."""
        self.highest[calm] = 1
        if self.base is not None:
            self.base[calm] = 1
