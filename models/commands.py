"""What commands tell of the future: set points, operating modes, valves; channels not scored.

Their recent means correct the forecast, as those of the scored channels do (``models.coupling``).
A **plan** gives the future of a command. Where it differs from how the command usually goes on, the
forecasts move by the **response** of each scored channel: a finite impulse response, the same at
every lead (Ljung, "System Identification", 1999, ch. 4 and 7). So a delay is part of it.

A command is a number, in its scale, or has **levels**: then it has a column for each level but the
lowest, which is 1 at its level and 0 at the others, and linear between neighbors. A mode may so
have any effect. A command without a value has its last one.

Shapes: ``U`` commands, ``E`` columns of them, ``P`` columns of the plannable ones, ``C`` scored
channels, ``L`` steps of context, ``H`` steps of horizon, ``G`` leads, ``K`` spans, ``T`` taps.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.coupling import inputs
from models.intervals import between
from models.manifest import Channel, CommandsPart, ForecastPart
from models.messages import Float32, Float64

Int64 = npt.NDArray[np.int64]


class Commands:
    """Corrects forecasts by what commands were, and by plans of them; without memory."""

    def __init__(
        self, part: ForecastPart, commands: CommandsPart, channels: Sequence[Channel]
    ) -> None:
        """Take the part and the settings in it; ``channels`` are all of the bundle."""
        self.channels = [channels[at] for at in commands.channels]
        self.plannable = tuple(self.channels[at].name for at in commands.plannable)
        self._positions = list(commands.plannable)
        self._levels = commands.levels
        self._spans = commands.spans_steps
        self._scale = np.array([channel.scale for channel in channels if channel.scored])
        self._weights = np.array(commands.weights)  # (G, C, K E + 1), or (0,)
        ends = np.cumsum([commands.columns[at] for at in commands.plannable])
        # of each plannable command, (p, G, K + 1)
        self._expected = np.split(np.array(commands.expected), ends[:-1]) if len(ends) else []
        self._taps = commands.taps_steps
        self._response = np.array(commands.response)  # (C, P, T)
        self._between = between(np.array(part.intervals.leads_steps), part.horizon_steps)

    def correction(self, context: Float32) -> Float32 | None:
        """Return what the commands of a context (L, U) add to the forecast, (C, H), in units.

        ``context``: see ``held``. None: nothing.
        """
        if not len(self._weights):
            return None
        columns = encoded(context, self.channels, self._levels)
        given = inputs(columns, np.array([len(columns) - 1]), self._spans)[0]
        added = self._between @ (self._weights @ given)  # (H, C)
        return np.asarray((added * self._scale).T, np.float32)

    def planned(
        self, context: Float32, quantiles: Float32, plans: Mapping[str, Float32]
    ) -> Float32:
        """Return forecasts (C, H, Q) that follow plans, by command, (H,); all in units.

        ``context`` (L, U) are the commands before, see ``held``. The widths of the intervals do
        not change.
        """
        if not set(self.plannable) & plans.keys():
            return quantiles
        apart = [
            self._apart(number, context, plans.get(name))
            for number, name in enumerate(self.plannable)
        ]
        leads = np.arange(1, quantiles.shape[1] + 1)
        by_lag = lagged(np.concatenate(apart), leads, self._taps)  # (P, H, T)
        moved = np.einsum("cpt,pht->ch", self._response, by_lag) * self._scale[:, None]
        return np.asarray(quantiles + moved[:, :, None], np.float32)

    def _apart(self, number: int, known: Float32, plan: Float32 | None) -> Float64:
        """Return how far a plan is from how the command usually goes on, (p, H)."""
        expected, at = self._expected[number], self._positions[number]
        if plan is None:
            return np.zeros((len(expected), len(self._between)))
        one, levels = [self.channels[at]], [self._levels[at]]
        columns = encoded(known[:, at, None], one, levels)
        given = own_inputs(columns, np.array([len(columns) - 1]), self._spans)[:, 0]  # (p, K + 1)
        usual = np.einsum("pgk,pk->pg", expected, given) @ self._between.T
        return np.asarray(encoded(plan[:, None], one, levels).T - usual, np.float64)


def held(values: Float32) -> Float32:
    """Return steps (n, U) in which a missing value is the last one; NaN: none was known."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    found = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, found, np.float32(np.nan))


def encoded(
    values: Float32, channels: Sequence[Channel], levels: Sequence[Sequence[float]]
) -> Float32:
    """Return the columns (n, E) of commands (n, U) in units; NaN where missing.

    ``levels``: of each command, rising; empty: it is a number.
    """
    columns = []
    for column, channel, known in zip(values.T, channels, levels, strict=True):
        if not known:
            columns.append((column - channel.center) / channel.scale)
        for unit in np.eye(len(known))[1:]:
            columns.append(np.where(np.isnan(column), np.nan, np.interp(column, known, unit)))
    return np.stack(columns, axis=1).astype(np.float32)


def own_inputs(columns: Float32, ends: Int64, spans: Sequence[int]) -> Float64:
    """Return the means of each column's newest steps, and a constant: (E, n, K + 1)."""
    return np.stack([inputs(column[:, None], ends, spans) for column in columns.T])


def lagged(off: Float64, leads: Int64, taps: Sequence[int]) -> Float64:
    """Return how far plans are from what is usual, by lag.

    Args:
        off: (..., H) the distance at each step ahead; before the first it is 0.
        leads: (G,) steps ahead that the lags count back from.
        taps: rising; a tap has the lags from the former one to before itself, the first from 0.

    Returns:
        The mean distance of each tap, (..., G, T).

    """
    none = np.zeros((*off.shape[:-1], 1))
    total = np.concatenate([none, off.cumsum(axis=-1)], axis=-1)
    found = []
    for begin, end in itertools.pairwise([0, *taps]):
        newest, oldest = np.maximum(leads - begin, 0), np.maximum(leads - end, 0)
        found.append((total[..., newest] - total[..., oldest]) / (end - begin))
    return np.stack(found, axis=-1)
