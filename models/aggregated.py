"""Adapts interval widths to the values on a gateway, quickly and without overshoot.

A quantile's distance from the median is its exported width times ``exp(θ)``. ``θ`` is a sum:

- **pooled**, per lead: a quantile tracker on the errors of all channels together (the P part of
  Angelopoulos, Candès & Tibshirani, "Conformal PID Control for Time Series Prediction", NeurIPS
  2023). A season or a load changes all channels, so together they show the change early.
- **own**, per channel and lead: several experts with different rates (one of them 0), weighted by
  their recent pinball losses (aggregated adaptive conformal inference, Zaffran et al., "Adaptive
  Conformal Predictions for Time Series", ICML 2022). If only one channel changes, it moves to a
  faster expert; the others stay with the pooled tracker.
- **integral**, per quantile: sums the coverage errors of the intervals *as they were shown*, over
  all leads and channels (the I part of the same method). Trackers see an error only when its lead
  is over, so without this part their long-run coverage would be slightly too low. With a
  ``lead_rate`` each lead also has a sum of its own, as a correction for all leads narrows some and
  widens others too little. A lead that has no actual value yet then follows the longest lead that
  has one: what widens a week ahead seldom leaves a month ahead as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.manifest import Aggregation, ForecastPart
from models.messages import FLOAT32_TINY, Float32, Float64

GRADIENT_SCALE = 0.4  # a miss counts as (1 - α) of it, a hit as α; a rate is about a relative step
LOG_MAX = 5.0  # of θ: intervals become at most e⁵ times wider or narrower than exported


@dataclass(eq=False, slots=True)
class Learnt:
    """The learnt state of a stream: ``K`` experts, ``Q`` quantiles, ``C`` channels, ``G`` leads."""

    pooled: Float64  # (Q, G) logarithm of a factor, like the next two
    own: Float64  # (K, Q, C, G)
    integral: Float64  # (Q,), or (Q, G) with a ``lead_rate``
    losses: Float64  # (K, Q, C, G) fading sums of pinball losses, in widths of the 80 % interval


class Aggregated:
    """Learns ``θ`` from forecasts with known actual values. It holds settings but no memory."""

    def __init__(self, part: ForecastPart, settings: Aggregation) -> None:
        self._settings = settings
        self._levels = np.array(part.quantiles)[:, None, None]  # (Q, 1, 1), like the next three
        middle = len(part.quantiles) // 2
        self._side = np.sign(np.arange(len(part.quantiles)) - middle)[:, None, None]
        self._share = np.minimum(self._levels, 1 - self._levels)
        self._rates = np.array([0.0, *settings.rates])
        leads = np.array(part.intervals.leads_steps)
        delays = np.maximum(leads / part.stride_steps, 1)  # in forecasts
        self._pooled_rates = np.minimum(settings.pooled_rate, settings.pooled_delay_share / delays)
        self._own_rates = np.minimum.outer(self._rates, settings.delay_share / delays)  # (K, G)
        self._lead_rates = np.minimum(settings.lead_rate, settings.lead_delay_share / delays)
        self._widths = np.array(settings.widths)  # (Q, C, G)
        self._unit = np.maximum(self._widths[-2] - self._widths[1], FLOAT32_TINY)

    def start(self) -> Learnt:
        """Return the state before the first forecast."""
        quantiles, channels, leads = self._widths.shape
        experts = (len(self._rates), quantiles, channels, leads)
        return Learnt(
            pooled=np.zeros((quantiles, leads)),
            own=np.zeros(experts),
            integral=np.zeros((quantiles, leads) if self._by_lead else quantiles),
            losses=np.zeros(experts),
        )

    @property
    def _by_lead(self) -> bool:
        return self._settings.lead_rate > 0

    def added(self, learnt: Learnt) -> Float32:
        """Return the addition to the exported offsets, (Q, C, G), in scales of the context."""
        least = learnt.losses - learnt.losses.min(axis=0)
        weights = np.exp(-self._settings.sharpness * least)
        own = (weights * learnt.own).sum(axis=0) / weights.sum(axis=0)
        integral = learnt.integral.reshape(len(own), 1, -1)
        theta = learnt.pooled[:, None] + own + integral
        theta = np.clip(theta, -LOG_MAX, LOG_MAX)
        return np.asarray(self._widths * np.expm1(theta), np.float32)

    def learn(
        self, learnt: Learnt, leads: list[int], observed: Float32, shown: Float32, scale: Float32
    ) -> None:
        """Learn from the observed value of forecasts at ``g`` leads.

        Args:
            learnt: changed in place.
            leads: indices of the leads, (g).
            observed: (C,) in the channels' units; a channel with NaN changes nothing.
            shown: (g, C, Q) the quantiles that were forecast, in the channels' units.
            scale: (g, C) scales of the forecasts' contexts, in the channels' units.

        """
        known = np.flatnonzero(~np.isnan(observed))
        if len(known) == 0 or len(leads) == 0:
            return
        row, column = known[:, None], np.array(leads)[None]  # indices of channels and leads
        units = scale[:, known].T.astype(np.float64)  # (c, g) of the known channels, as all below
        quantiles = shown[:, known].transpose(2, 1, 0).astype(np.float64)  # (Q, c, g)
        median = quantiles[len(quantiles) // 2]
        error = (observed[known, None] - median) / units
        pooled = self._widths[:, row, column] * np.exp(learnt.pooled[:, None, leads])
        own, losses = learnt.own[:, :, row, column], learnt.losses[:, :, row, column]
        experts = pooled * np.exp(own)  # (K, Q, c, g)
        losses = losses * self._settings.memory
        losses += self._pinball(error, experts) / self._unit[row, column]
        learnt.losses[:, :, row, column] = losses
        own += self._own_rates[:, None, None, leads] * self._gradient(error, experts)
        learnt.own[:, :, row, column] = np.clip(own, -LOG_MAX, LOG_MAX)
        mean = self._pooled_rates[leads] * self._gradient(error, pooled).mean(axis=1)
        learnt.pooled[:, leads] = np.clip(learnt.pooled[:, leads] + mean, -LOG_MAX, LOG_MAX)
        missed = self._gradient(error, (quantiles - median) / units).mean(axis=1)  # (Q, g)
        self._sum_up(learnt, leads, missed)

    def _sum_up(self, learnt: Learnt, leads: list[int], missed: Float64) -> None:
        """Add coverage errors (Q, g) at ``leads`` to the integral."""
        together = self._settings.integral_rate / self._widths.shape[2] * missed.sum(axis=1)
        learnt.integral += together[:, None] if self._by_lead else together
        if self._by_lead:
            learnt.integral[:, leads] += self._lead_rates[leads] * missed
            self._follow(learnt)
        np.clip(learnt.integral, -LOG_MAX, LOG_MAX, out=learnt.integral)

    def _follow(self, learnt: Learnt) -> None:
        """Give leads without any actual value what the longest lead with one has learnt."""
        heard = np.flatnonzero(learnt.losses.sum(axis=(0, 1, 2)))
        last = int(heard[-1]) if len(heard) else learnt.losses.shape[3]
        for part in (learnt.pooled, learnt.integral):
            part[:, last + 1 :] = part[:, last : last + 1]

    def _gradient(self, error: Float64, distances: Float64) -> Float64:
        """Return the amount by which each distance (…, Q, c, g) should grow, for errors (c, g)."""
        outside = (error - distances) * self._side > 0
        return np.asarray((outside - self._share) / GRADIENT_SCALE * (self._side != 0), np.float64)

    def _pinball(self, error: Float64, distances: Float64) -> npt.NDArray[np.float64]:
        apart = error - distances
        return np.asarray(np.maximum(self._levels * apart, (self._levels - 1) * apart), np.float64)
