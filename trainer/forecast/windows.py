"""Steps and windows of recordings, as the gateway's forecaster sees them.

A window is a context and the steps after it, of one channel. Windows are cut from the steps when
they are needed, because a step belongs to many hundreds of windows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.forecaster import normalised, step_numbers
from models.messages import Float32, Samples
from trainer.config import ForecastTable

Int64 = npt.NDArray[np.int64]

# what is added to forecasts (n, H), in scales, by the last step of the context and the channel
Added = Callable[[Int64, Int64], Float32]

TREND_LEAST, TREND_MAX = 0.5, 30.0  # scales of the context, over its length


class Steps(NamedTuple):
    """Consecutive steps: one row per step, one column per channel."""

    first: int  # number of the first step
    values: Float32  # (n, C) in units, NaN where missing


class Windows(NamedTuple):
    """Normalised windows of single channels."""

    context: Float32  # (n, L)
    future: Float32  # (n, H), NaN where missing
    scale: Float32  # (n,) of the context, in scales of the channel
    channel: Int64  # (n,)


def steps(samples: Samples, scored: list[int], step_samples: int, period_s: float) -> Steps:
    """Return the steps of a recording: means of known values; see ``models.forecaster``."""
    numbers = step_numbers(samples.times, step_samples * period_s, period_s)
    first = int(numbers[0])
    known = ~np.isnan(samples.values[:, scored])
    values = np.where(known, samples.values[:, scored], 0).astype(np.float64)
    count = np.zeros((int(numbers[-1]) - first + 1, len(scored)), np.int64)
    total = np.zeros(count.shape)
    np.add.at(total, numbers - first, values)
    np.add.at(count, numbers - first, known)
    means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return Steps(first, means.astype(np.float32))


class Cutter:
    """Cuts windows from steps, only where the whole context is known."""

    def __init__(self, values: Float32, scales: Float32, settings: ForecastTable) -> None:
        """Take ``values`` (n, C) in units and the channels' ``scales`` (C,)."""
        self._length = settings.longest_steps + settings.horizon_steps
        self._context = settings.longest_steps
        self._shift = 0  # shift of the places through ``shortened``
        self._scale_floor = settings.scale_floor
        self._scaled = (values / scales).astype(np.float32)
        self._added: Added | None = None
        self.places = self._whole()

    def _whole(self) -> Int64:
        """Return the start and channel of every usable window, (n, 2)."""
        unknown = np.isnan(self._scaled)
        before = np.concatenate([np.zeros((1, unknown.shape[1]), int), unknown.cumsum(axis=0)])
        starts = np.arange(len(self._scaled) - self._length + 1)
        missing = before[starts + self._context] - before[starts]
        future = before[starts + self._length] - before[starts + self._context]
        usable = (missing == 0) & (future < self._length - self._context)
        return np.argwhere(usable)

    def cut(self, places: Int64) -> Windows:
        """Return the windows at ``places`` (n, 2)."""
        rows = places[:, 0, None] + np.arange(self._length)
        whole = self._scaled[rows, places[:, 1, None]]
        context, mean, scale = normalised(whole[:, : self._context], self._scale_floor)
        future = (whole[:, self._context :] - mean[:, None]) / scale[:, None]
        if self._added is not None:
            end = places[:, 0] + self._context - 1
            future = future - self._added(end, places[:, 1]) / scale[:, None]
        return Windows(context, future.astype(np.float32), scale, places[:, 1])

    def cut_with_trends(self, places: Int64, share: float, random: np.random.Generator) -> Windows:
        """Return the windows at ``places``; add a ramp to a share of them.

        A ramp begins somewhere in the context and goes on to the end of the window. Over one
        context it rises or falls by ``TREND_LEAST`` to ``TREND_MAX`` scales of the context, with
        log-uniform magnitude: from plausible chance to clear trends. The window keeps the
        weight of its scale without the ramp.
        """
        plain = self.cut(places)
        count, length = len(places), self._context
        begin = random.uniform(0, length, count)
        rise = np.exp(random.uniform(np.log(TREND_LEAST), np.log(TREND_MAX), count))
        chosen = random.choice([-1.0, 0.0, 1.0], count, p=[share / 2, 1 - share, share / 2])
        ramp = np.maximum(np.arange(self._length) - begin[:, None], 0)
        ramp = (ramp * (chosen * rise / length)[:, None]).astype(np.float32)
        context, mean, scale = normalised(plain.context + ramp[:, :length], self._scale_floor)
        future = (plain.future + ramp[:, length:] - mean[:, None]) / scale[:, None]
        return Windows(context, future, plain.scale, plain.channel)

    def some(self, count_max: int) -> Int64:
        """Return at most ``count_max`` places, evenly from all channels, in chronological order."""
        return some_of(self.places, count_max)

    def shortened(self, context_steps: int) -> Cutter:
        """Return a cutter whose windows have only the newest steps of the same contexts."""
        other = self.only(self.places + np.array([self._context - context_steps, 0]))
        other._shift = self._context - context_steps
        other._length += context_steps - self._context
        other._context = context_steps
        return other

    def at(self, places: Int64) -> Windows:
        """Return the windows with the same futures as those at ``places`` before shortening."""
        return self.cut(places + np.array([self._shift, 0]))

    def known(self) -> Int64:
        """Return the steps at which any channel has a value, rising."""
        return np.flatnonzero(~np.isnan(self._scaled).all(axis=1))

    def ends(self, places: Int64) -> Int64:
        """Return the last step of each context, for ``places`` before shortening."""
        return np.asarray(places[:, 0] + self._shift + self._context - 1)

    def less(self, added: Added) -> Cutter:
        """Return a cutter whose futures also lack this part of what is added to the forecasts."""
        other, before = copy.copy(self), self._added
        other._added = added if before is None else lambda *at: before(*at) + added(*at)
        return other

    def only(self, places: Int64) -> Cutter:
        """Return a cutter that is restricted to these ``places`` (n, 2)."""
        other = copy.copy(self)
        other.places = places
        return other

    def ending(self, begin: int, end: int) -> Int64:
        """Return the places whose windows end after step ``begin``, and at ``end`` at the latest.

        Both count steps from the first of ``values``.
        """
        ends = self.places[:, 0] + self._length
        return self.places[(ends > begin) & (ends <= end)]

    def forecast_from(self, begin: int, end: int) -> Int64:
        """Return the places whose futures begin at a step from ``begin`` to before ``end``."""
        first = self.places[:, 0] + self._context
        return self.places[(first >= begin) & (first < end)]


def joined(parts: Sequence[Windows]) -> Windows:
    """Return the windows of all parts, which have the same lengths."""
    return Windows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def some_of(places: Int64, count_max: int) -> Int64:
    """Return at most ``count_max`` of ``places`` (n, 2), in the same order."""
    if len(places) <= count_max:
        return places
    random = np.random.default_rng(0)  # even strides would hit only some channels
    return places[np.sort(random.permutation(len(places))[:count_max])]
