"""Calibrated quantiles: offsets that are set on held-out data and adapted on the gateway.

The network's quantiles are calibrated on its training data only. Each gets an offset, per channel
and lead time, in units of the context's scale:

- At export, it is the offset with the nominal coverage on the calibration part (split-conformal
  quantile regression in its asymmetric form, Romano, Patterson & Candès, NeurIPS 2019).
- On the gateway, ``models.aggregated`` adapts it after each forecast whose actual value is known.
  In a bundle without the settings of ``models.aggregated``, each actual value moves it by one step
  up or down. This is the quantile tracker of Angelopoulos, Candès & Tibshirani, "Conformal PID
  Control for Time Series Prediction", NeurIPS 2023. With a fixed step it has the long-run coverage
  of Gibbs & Candès, NeurIPS 2021. A quantile of level τ rises by ``τ`` steps if the value was above
  it, and otherwise falls by ``1 - τ`` steps. A step is ``rate`` times the width of the forecast's
  own quantiles. It is smaller for long leads: its effect shows only at the end of the lead, and
  until then all steps go in the same direction.

The median has no offset. It is the forecast, and its bias is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.aggregated import Aggregated, Learnt
from models.manifest import ForecastPart
from models.messages import Float32

DELAY_SHARE = 0.5  # of the width: limit for all steps until the first one shows an effect


class Intervals:
    """Adds offsets to quantiles, and adapts offsets. It holds settings but no memory.

    Shapes: ``Q`` quantiles, ``C`` scored channels, ``G`` lead times, ``H`` steps. Offsets are
    float32 in units of the context's scale.
    """

    def __init__(self, part: ForecastPart) -> None:
        self.leads = np.array(part.intervals.leads_steps)  # (G,) in steps, from 1
        self.levels = np.array(part.quantiles)  # (Q,)
        self.middle = len(part.quantiles) // 2
        self._start = np.array(part.intervals.offsets, np.float32)  # (Q, C, G)
        delays = np.maximum(self.leads / part.stride_steps, 1)  # in forecasts
        self._rates = np.minimum(part.intervals.rate, DELAY_SHARE / delays)  # (G,)
        self._weights = between(self.leads, part.horizon_steps)
        self._moves = np.arange(len(self.levels)) != self.middle
        settings = part.intervals.aggregated
        self.aggregated = None if settings is None else Aggregated(part, settings)
        self._fixed = part.intervals.rate == 0

    def start(self) -> Float32:
        """Return the offsets as exported, (Q, C, G)."""
        return self._start.copy()

    def start_learning(self) -> Learnt | None:
        """Return the initial learnt state; None: the offsets are the only state."""
        return None if self.aggregated is None else self.aggregated.start()

    def widen(self, quantiles: Float32, offsets: Float32) -> Float32:
        """Return normalised ``quantiles`` (C, H, Q) plus ``offsets`` (Q, C, G), rising along Q."""
        moved = quantiles + np.einsum("hg,qcg->chq", self._weights, offsets)
        median = quantiles[..., self.middle, None]
        below = np.minimum(moved[..., : self.middle], median)
        above = np.maximum(moved[..., self.middle + 1 :], median)
        ordered = (
            np.maximum.accumulate(below, axis=-1),
            median,
            np.minimum.accumulate(above[..., ::-1], axis=-1)[..., ::-1],
        )
        return np.asarray(np.concatenate(ordered, axis=-1), np.float32)

    def learn(
        self,
        offsets: Float32,
        learnt: Learnt | None,
        leads: list[int],
        observed: Float32,
        shown: Float32,
        scale: Float32,
    ) -> None:
        """Adapt ``offsets`` (Q, C, G), in place, to the observed value of forecasts at ``g`` leads.

        ``learnt``, the state that determines them, also changes. For the other arguments, see
        ``Aggregated.learn``.
        """
        if self._fixed:
            return
        if self.aggregated is None or learnt is None:
            for at, lead in enumerate(leads):
                self._adapt(offsets, lead, observed, shown[at], scale[at])
            return
        self.aggregated.learn(learnt, leads, observed, shown, scale)
        offsets[:] = self._start + self.aggregated.added(learnt)

    def _adapt(
        self, offsets: Float32, lead: int, observed: Float32, shown: Float32, scale: Float32
    ) -> None:
        """Adapt ``offsets`` to the observed value of a forecast.

        Args:
            offsets: (Q, C, G), changed in place.
            lead: index in ``leads``.
            observed: (C,) in the channels' units; NaN changes nothing.
            shown: (C, Q) the quantiles that were forecast, in the channels' units.
            scale: (C,) scale of the forecast's context, in the channels' units.

        """
        width = (shown[:, -2] - shown[:, 1]) / scale
        step = self._rates[lead] * np.where(np.isnan(observed), 0, width)  # (C,)
        above = observed[:, None] > shown  # (C, Q)
        toward = np.where(above, self.levels, self.levels - 1) * self._moves
        offsets[:, :, lead] += (step[:, None] * toward).T.astype(np.float32)


def between(leads: np.ndarray[tuple[int], np.dtype[np.int64]], horizon: int) -> Float32:
    """Return the weight of each of G leads at each step of the horizon, (H, G): linear between."""
    steps = np.arange(1, horizon + 1)
    columns = [np.interp(steps, leads, unit) for unit in np.eye(len(leads))]
    return np.stack(columns, axis=1).astype(np.float32)


def pairs(quantiles: Sequence[float]) -> dict[int, tuple[int, int]]:
    """Return the indices of the lower and upper quantile of each interval, by its level in %."""
    last = len(quantiles) - 1
    return {
        round(100 * (quantiles[last - low] - quantiles[low])): (low, last - low)
        for low in range(len(quantiles) // 2)
    }
