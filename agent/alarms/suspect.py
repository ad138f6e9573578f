"""Machine or sensor: whether one channel disagrees with neighbours that agree with each other.

In normal operation many channels move together: the flow of a pump follows its current and its
pressure. ``Relations`` learns this from the means of intervals, as a covariance that forgets
slowly. A channel's **neighbours** are those whose correlation with it is at least ``CORRELATED``.
They give a value that the channel should have, with its standard deviation (linear regression, the
conditional mean of a normal distribution). So an interval in an alarm says:

    sensor    exactly one channel is far from the value that its neighbours give (``FAR``
              deviations), and each neighbour is near the value that the others give (``NEAR``)
    machine   several channels are off, and whichever single channel is left out, one of them is
              still far from the value that its neighbours give
    no claim  anything else: few intervals learned, fewer than two neighbours, a channel that the
              neighbours do not determine, or values beyond those that were learned

The channels of the alarm are only where to look: a network predicts each channel from all others,
so the fault of one sensor may show in the channels that it helps to predict.

This is analytical redundancy, as in fault isolation (Gertler, "Fault Detection and Diagnosis in
Engineering Systems", 1998, chapter 1). It cannot tell a sensor's fault from a fault that only this
sensor sees, such as a leak behind the pump. So its advice is to check the sensor **first**.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from models.messages import Float64

CHANNELS_MAX: Final = 32  # with more, the covariance costs too much memory
LEARNED_MIN: Final = 60  # intervals
FORGOTTEN: Final = 1440.0  # intervals after which an old one has lost most of its weight
CORRELATED: Final = 0.8
NEIGHBOURS_MIN: Final = 2
NEIGHBOURS_MAX: Final = 6
FAR: Final = 6.0  # standard deviations
NEAR: Final = 4.0
EXPLAINED: Final = 0.5  # most standard deviation that neighbours leave, as a share of the channel's
_KNOWN: Final = 4.0  # neighbours farther from their mean are beyond what was learned
_RIDGE: Final = 1e-3  # of the variances, so that neighbours that are alike do not matter twice

What = Literal["sensor", "machine"]


class Finding(NamedTuple):
    """What an interval says about the cause of an alarm."""

    what: What
    channel: int  # of ``sensor`` the one that is alone, of ``machine`` the worst of the alarm
    expected: float | None  # of ``sensor``: its value by its neighbours
    spread: float | None  # the standard deviation of that value
    neighbours: tuple[int, ...]  # of ``machine``: the channels that are off


@dataclass(eq=False, slots=True)
class Relations:
    """How the ``C`` channels of a stream move together in normal operation."""

    mean: Float64  # (C,) in the channels' units
    covariance: Float64  # (C, C)
    intervals: int = 0

    @classmethod
    def of(cls, channels: int) -> Relations:
        """Return the relations before the first interval."""
        return cls(np.zeros(channels), np.zeros((channels, channels)))

    def learn(self, means: Float64) -> None:
        """Learn the means, (C,), of an interval of normal operation; all are finite."""
        self.intervals += 1
        rate = 1.0 / min(self.intervals, FORGOTTEN)
        apart = means - self.mean
        self.mean += rate * apart
        self.covariance += (rate * apart)[:, None] * apart
        self.covariance *= 1 - rate

    def find(self, means: Float64, off: Sequence[int]) -> Finding | None:
        """Return what the means, (C,), of an interval say; None: they do not suffice.

        ``off``: the channels of the alarm, the worst first, at least one.
        """
        if self.intervals < LEARNED_MIN or not np.isfinite(means[list(off)]).all():
            return None
        groups = {one: self._neighbours(one, means) for one in off}
        looked_at = dict.fromkeys([*off, *(one for group in groups.values() for one in group)])
        alone = [one for one in looked_at if self._is_alone(one, means)]
        if len(alone) == 1:
            return self._sensor(alone[0], means, off)
        # without its only channel, an alarm has none that could be far
        if all(self._is_far_without(one, groups, means) for one in looked_at):
            return Finding("machine", off[0], None, None, tuple(off))
        return None

    def _is_far_without(
        self, left_out: int, groups: Mapping[int, Sequence[int]], means: Float64
    ) -> bool:
        """Whether a channel of the alarm is far from its neighbours although one is left out."""
        return any(
            self._is_far(one, [other for other in group if other != left_out], means)
            for one, group in groups.items()
            if one != left_out
        )

    def _sensor(self, channel: int, means: Float64, off: Sequence[int]) -> Finding | None:
        neighbours = self._neighbours(channel, means)
        if set(off) - {channel, *neighbours}:  # off, and nothing says that they fit
            return None
        expected, spread = self._expected(channel, neighbours, means)
        return Finding("sensor", channel, expected, spread, tuple(neighbours))

    def _is_alone(self, channel: int, means: Float64) -> bool:
        """Whether a channel disagrees with neighbours that agree with each other."""
        neighbours = self._neighbours(channel, means)
        return (
            self._is_far(channel, neighbours, means)
            and self._is_known(neighbours, means)
            and all(self._fits(one, neighbours, means) for one in neighbours)
        )

    def _is_far(self, channel: int, neighbours: Sequence[int], means: Float64) -> bool:
        """Whether a channel is far from the value that its neighbours determine."""
        if len(neighbours) < NEIGHBOURS_MIN:
            return False
        expected, spread = self._expected(channel, neighbours, means)
        far = abs(means[channel] - expected) > FAR * spread
        return bool(far) and self._is_determined(channel, spread)

    def _neighbours(self, channel: int, means: Float64) -> list[int]:
        """Return the measured channels that move with a channel, the closest first."""
        deviation = np.sqrt(np.diagonal(self.covariance))
        scale = deviation * deviation[channel]
        related = np.zeros(len(scale))
        moved = scale > 0
        related[moved] = np.abs(self.covariance[channel][moved] / scale[moved])
        related[channel] = 0.0
        related[~np.isfinite(means)] = 0.0
        order = np.argsort(-related, kind="stable")[:NEIGHBOURS_MAX]
        return [int(one) for one in order if related[one] >= CORRELATED]

    def _expected(self, channel: int, by: Sequence[int], means: Float64) -> tuple[float, float]:
        """Return the value of a channel by others, and its standard deviation."""
        inner = self.covariance[np.ix_(by, by)]
        inner = inner + _RIDGE * np.diag(np.diagonal(inner))
        cross = self.covariance[channel, by]
        weights = np.linalg.solve(inner, cross)
        expected = self.mean[channel] + weights @ (means[by] - self.mean[by])
        own = self.covariance[channel, channel]
        left = own - 2 * weights @ cross + weights @ self.covariance[np.ix_(by, by)] @ weights
        return float(expected), float(np.sqrt(max(left, 1e-12 * own)))

    def _fits(self, channel: int, neighbours: Sequence[int], means: Float64) -> bool:
        others = [one for one in neighbours if one != channel]
        expected, spread = self._expected(channel, others, means)
        return bool(abs(means[channel] - expected) <= NEAR * spread)

    def _is_determined(self, channel: int, spread: float) -> bool:
        return bool(spread <= EXPLAINED * np.sqrt(self.covariance[channel, channel]))

    def _is_known(self, channels: Sequence[int], means: Float64) -> bool:
        deviation = np.sqrt(np.diagonal(self.covariance))[channels]
        return bool((np.abs(means[channels] - self.mean[channels]) <= _KNOWN * deviation).all())

    def to_document(self) -> dict[str, Any]:
        """Return the relations as JSON data; the covariance as its upper triangle, float32."""
        upper = self.covariance[np.triu_indices(len(self.mean))].astype("<f4")
        return {
            "mean": self.mean.tolist(),
            "covariance": base64.b64encode(upper.tobytes()).decode(),
            "intervals": self.intervals,
        }

    @classmethod
    def from_document(cls, saved: dict[str, Any]) -> Relations:
        """Return the relations of ``to_document``."""
        mean = np.array(saved["mean"])
        upper = np.frombuffer(base64.b64decode(saved["covariance"]), "<f4")
        covariance = np.zeros((len(mean), len(mean)))
        covariance[np.triu_indices(len(mean))] = upper
        covariance += np.triu(covariance, 1).T
        return cls(mean, covariance, int(saved["intervals"]))
