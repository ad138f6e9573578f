"""A forecast without a network: the last value, the last season, and half of the trend.

It is for streams without a bundle. For each lead time it mixes two simple forecasts: the last
value, and the value one season before. Their weights are inverse to their mean squared errors in
the context (Bates & Granger, "The Combination of Forecasts", 1969). Half of the slope between the
two seasons of the context is added, as in the Theta method (Assimakopoulos & Nikolopoulos, 2000;
Hyndman & Billah, "Unmasking the Theta method", 2003). The quantiles are initially those of a normal
distribution with the size of the errors. ``models.intervals`` adapts them to the actual values.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from models.manifest import SAMPLES_MAX, ForecastPart, Imputation, Intervals
from models.messages import Float32, Float64

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SEASONS = 2  # seasons in a context
STEPS_MIN = 4  # least steps in a season; with fewer there is no forecast
_LEADS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_FORECASTS_PER_SEASON = 24
_RATE = 0.02  # of the intervals' adaptation
_GAP_SHARE = 0.1  # of a season; longest gap within a context
_MISSING_SHARE_MAX = 0.2  # of a context; largest share of missing steps
_TINY = 1e-12  # of a normalised value, squared
_RESEMBLANCE_MIN = 0.5  # least autocorrelation at a season
_NEARLY = 0.9  # of the largest autocorrelation; multiples of a season are as high
_SEASONS_SEEN = 3  # least seasons in the steps that one is found in


class SeasonForecast:
    """Forecasts one season from a context of ``SEASONS`` seasons. It has no memory."""

    def __init__(self, season_steps: int, quantiles: Sequence[float] = QUANTILES) -> None:
        self._season = season_steps
        self._normal = np.array([NormalDist().inv_cdf(level) for level in quantiles])

    def expect(self, context_steps: int, horizon_steps: int, quantiles: int) -> None:
        """Check the sizes, which must be those of ``part_of``."""
        assert (context_steps, horizon_steps) == (SEASONS * self._season, self._season)
        assert quantiles == len(self._normal)

    def run(self, context: Float32) -> Float32:
        """Return quantiles (C, H, Q) of the steps after a normalised context (C, L)."""
        known, season = context.astype(np.float64), self._season
        before, last = known[:, :season], known[:, season:]
        usual = ((last - before) ** 2).mean(axis=1)[:, None] + _TINY  # (C, 1)
        moved = _squared_moves(known, season) + _TINY  # (C, H)
        share = usual / (usual + moved)  # of the last value
        slope = (last.mean(axis=1) - before.mean(axis=1)) / season
        leads = np.arange(1, season + 1)
        middle = share * known[:, -1:] + (1 - share) * last + slope[:, None] / 2 * leads
        spread = np.sqrt(share**2 * moved + (1 - share) ** 2 * usual)
        quantiles = middle[..., None] + spread[..., None] * self._normal
        return np.asarray(quantiles, np.float32)


def _squared_moves(known: Float64, horizon: int) -> Float64:
    """Return the mean squared difference of values 1 to ``horizon`` steps apart, (C, H)."""
    length = known.shape[1]
    padded = np.fft.rfft(known, 2 * length, axis=1)
    products = np.fft.irfft(padded * np.conj(padded), axis=1)[:, 1 : horizon + 1]
    squares = np.cumsum(known**2, axis=1)
    counts = length - np.arange(1, horizon + 1)
    early = squares[:, counts - 1]  # of all but the last values
    late = squares[:, -1:] - squares[:, :horizon]  # of all but the first
    return np.asarray(np.maximum(early + late - 2 * products, 0) / counts)


def season_steps(season_s: float, step_s: float) -> int:
    """Return the length of a season in steps."""
    return round(season_s / step_s)


def part_of(step_samples: int, season: int, channels: int) -> ForecastPart | None:
    """Return this forecaster's settings in the form of a bundle's part; None: there is none.

    It is None if a season has too few steps, or a step has too many samples.
    """
    if season < STEPS_MIN or step_samples > SAMPLES_MAX:
        return None
    leads = [*(lead for lead in _LEADS if lead < season), season]
    zeros = [[[0.0] * len(leads) for _ in range(channels)] for _ in QUANTILES]
    return ForecastPart(
        step_samples=step_samples,
        context_steps=SEASONS * season,
        horizon_steps=season,
        stride_steps=max(1, season // _FORECASTS_PER_SEASON),
        quantiles=list(QUANTILES),
        scale_floor=1e-6,
        patch_steps=1,
        width=0,
        heads=0,
        layers=0,
        imputation=Imputation(
            method="linear",
            gap_steps_max=int(_GAP_SHARE * season),
            missing_share_max=_MISSING_SHARE_MAX,
        ),
        intervals=Intervals(leads_steps=leads, offsets=zeros, rate=_RATE),
        quantization="no network",
    )


def find_season(steps: Float32) -> int | None:
    """Return the season of steps (T, C), NaN where missing, in steps; None: there is none.

    A season is the shortest lag at which the channels resemble themselves nearly as much as at any
    other lag: the mean of their autocorrelations is above ``_RESEMBLANCE_MIN``, after it was below
    0 at a shorter lag. At least ``_SEASONS_SEEN`` seasons must be there.
    """
    longest = len(steps) // _SEASONS_SEEN
    alike = [_autocorrelation(one, longest) for one in steps.T if _usable(one)]
    if longest < STEPS_MIN or not alike:
        return None
    mean = np.mean(alike, axis=0)
    below = np.flatnonzero(mean < 0)
    if not len(below) or mean[below[0] :].max() < _RESEMBLANCE_MIN:
        return None
    begin = int(below[0])
    high = mean >= _NEARLY * mean[begin:].max()
    first = begin + int(high[begin:].argmax())
    after = np.flatnonzero(~high[first:])
    end = first + int(after[0]) if len(after) else len(mean)
    lag = first + int(mean[first:end].argmax())
    return lag if lag >= STEPS_MIN and end < len(mean) else None


def _usable(series: Float32) -> bool:
    """Whether a channel has most of its values, and they differ."""
    known = series[np.isfinite(series)]
    enough = len(known) >= max(1, (1 - _MISSING_SHARE_MAX) * len(series))
    return enough and bool(np.ptp(known) > 0)


def _autocorrelation(series: Float32, lags: int) -> Float64:
    """Return the autocorrelation (lags,) of a series without its trend; gaps are bridged."""
    places, known = np.arange(len(series)), np.isfinite(series)
    bridged = np.interp(places, places[known], series[known].astype(np.float64))
    left = bridged - np.polyval(np.polyfit(places, bridged, 1), places)
    power = np.abs(np.fft.rfft(left, 2 * len(left))) ** 2
    products = np.fft.irfft(power)[:lags] / (len(left) - np.arange(lags))
    return np.asarray(products / max(float(products[0]), _TINY))
