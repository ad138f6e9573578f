"""The time until a channel passes its limit, from the quantile paths of a forecast.

The probability that a step lies beyond the limit is interpolated between its quantiles. Beyond the
outermost quantile it follows an exponential tail through the outer two. The probability of having
passed the limit by a step is the largest one so far. Quantile paths are treated as scenarios, each
of which is beyond the limit or not. The dependence between steps is unknown, so the result is the
smallest probability that is consistent with the quantiles.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from models.messages import Float64, Forecast

Side = Literal["high", "low"]

INTERVAL = 0.8  # coverage of the interval of the time to the limit: 10 % to 90 %
_WIDTH_MIN = 1e-9  # width of a tail if two quantiles are equal


class TimeToLimit(NamedTuple):
    """The time until a limit is passed, in seconds after ``Forecast.time``.

    A time is None where its probability is not reached within the horizon.
    """

    probability: float  # of passing the limit by the end of the horizon, 0 to 1
    median_s: float | None  # with a probability of 50 %
    earliest_s: float | None  # 10 %
    latest_s: float | None  # 90 %
    horizon_s: float


def time_to_limit(
    forecast: Forecast, levels: Float64, channel: int, side: Side, limit: float
) -> TimeToLimit:
    """Return the time until a channel passes ``limit``.

    Args:
        forecast: the stream's forecast; its quantiles are (C, H, Q).
        levels: (Q,) float64, the levels of the quantiles, 0 to 1, rising and symmetric.
        channel: index among the forecast's channels.
        side: ``high``: the limit is an upper one; ``low``: a lower one.
        limit: the limit, in the channel's unit.

    """
    sign = 1.0 if side == "high" else -1.0
    paths = sign * forecast.quantiles[channel].astype(np.float64)  # (H, Q)
    paths = paths if sign > 0 else paths[:, ::-1]
    beyond = np.array([_chance_above(path, levels, sign * limit) for path in paths])
    now = float(sign * forecast.last[channel] > sign * limit)
    passed = np.maximum.accumulate(np.concatenate([[now], beyond]))
    times = np.concatenate([[0.0], forecast.times - forecast.time])
    edge = (1 - INTERVAL) / 2
    return TimeToLimit(
        probability=float(passed[-1]),
        median_s=_when(passed, times, 0.5),
        earliest_s=_when(passed, times, edge),
        latest_s=_when(passed, times, 1 - edge),
        horizon_s=float(times[-1]),
    )


def _chance_above(quantiles: Float64, levels: Float64, limit: float) -> float:
    """Return the probability above ``limit``; ``quantiles`` and ``levels`` must be rising."""
    if limit < quantiles[0]:
        return 1 - float(levels[0]) * _tail(
            quantiles[0] - limit, quantiles[1] - quantiles[0], levels
        )
    if limit > quantiles[-1]:
        over, width = limit - quantiles[-1], quantiles[-1] - quantiles[-2]
        return float(levels[0]) * _tail(over, width, levels)
    return 1 - float(np.interp(limit, quantiles, levels))


def _tail(beyond: float, width: float, levels: Float64) -> float:
    """Return the part of the tail's probability that lies ``beyond``; levels are symmetric."""
    per_width = float(np.log(levels[1] / levels[0]))
    return float(np.exp(-beyond * per_width / max(width, _WIDTH_MIN)))


def _when(passed: Float64, times: Float64, chance: float) -> float | None:
    """Return when the probability is first reached, interpolated linearly between steps."""
    reached = int(np.argmax(passed >= chance))
    if passed[reached] < chance:
        return None
    if reached == 0:
        return 0.0
    before, after = passed[reached - 1], passed[reached]
    share = (chance - before) / (after - before)
    return float(times[reached - 1] + share * (times[reached] - times[reached - 1]))
