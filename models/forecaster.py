"""The streaming forecaster: calibrated quantiles of the future of each scored channel.

    samples ─> steps (means on a coarser grid) ─> context ─┬─> network ─> offsets ─> Forecast
                                │                          └─ impute, calendar, instance scaling
                                └─> judged: what was forecast for this step, against it

A patch Transformer, after Nie et al., "A Time Series is Worth 64 Words" (PatchTST), ICLR 2023:
the same network forecasts all channels in one call, each from its own past. A channel's context is
shifted to mean 0 and scaled to deviation 1, and its forecast is scaled back (reversible instance
normalisation, Kim et al., ICLR 2022). This module normalises outside the network, so that the
network only has inputs near 1 and quantizes well.

Steps lie on multiples of the step length in Unix time. So the steps do not depend on restarts, or
on how the samples are split into calls. The time of a step is its end.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.aggregated import Learnt
from models.calendar import Calendar
from models.commands import Commands, held
from models.coupling import Coupling
from models.grid import ended_by
from models.history import History
from models.impute import fill, longest_gap
from models.intervals import Intervals, pairs
from models.manifest import Channel, ForecastPart, Sampling
from models.messages import Float32, Float64, Forecast, NoForecast, Samples

NEVER = -(2**62)  # stands for the number of a step that does not exist
JUDGED_MEMORY = 500  # forecasts per lead and channel that the rolling figures cover
_SAMPLE_SHARE = 1e-3  # tolerance, as a share of a sample's period: times are sums of floats

Int64 = npt.NDArray[np.int64]


class Quantiles(Protocol):
    """A source of quantiles: a network or its substitute."""

    def expect(self, context_steps: int, horizon_steps: int, quantiles: int) -> None:
        """Reject sizes other than its own."""

    def run(self, context: Float32) -> Float32:
        """Return quantiles (C, H, Q) of the steps after a normalised context (C, L)."""


class Foretold(Protocol):
    """The settings for a forecaster: a bundle's manifest, or those of a stream without one."""

    @property
    def forecaster(self) -> ForecastPart | None:
        """The settings of the forecaster."""

    @property
    def channels(self) -> list[Channel]:
        """All channels."""

    @property
    def scored(self) -> list[int]:
        """Indices of the channels that are forecast."""

    @property
    def sampling(self) -> Sampling:
        """The grid of the samples."""


@dataclass(eq=False, slots=True)
class Pending:
    """Forecasts whose steps are still incomplete, in a ring buffer, only at the judged leads.

    Shapes: ``N`` ring places, ``G`` leads, ``C`` scored channels, ``Q`` quantiles.
    """

    made: Int64  # (N,) number of the last step of each context
    shown: Float32  # (N, G, C, Q) the quantiles that were forecast, in the channels' units
    scale: Float32  # (N, C) of the context, in the channels' units


@dataclass(eq=False, slots=True)
class Judged:
    """Exponentially weighted sums over the judged forecasts: ``G`` leads, ``C`` channels."""

    weight: Float64  # (G, C) number of comparisons
    error: Float64  # (G, C) forecast - actual, in the channels' units
    absolute: Float64  # (G, C) its magnitude
    inside: Float64  # (P, G, C) number of actual values in each of the ``P`` intervals


@dataclass(eq=False, slots=True)
class ForecastState:
    """The memory of one stream, of constant size. ``C`` are the scored channels."""

    total: Float64  # (C,) sum of the values of the current step, in the channels' units
    count: Int64  # (C,) number of these values
    step: int  # number of the current step, NEVER before the first sample
    newest: int  # number of the last whole step, NEVER before the first
    history: History  # (C, L) of whole steps, NaN where missing
    offsets: Float32  # (Q, C, G) see ``models.intervals``
    learnt: Learnt | None  # state that determines the offsets; None: there is no other state
    pending: Pending
    judged: Judged
    refused: NoForecast | None = None  # why the last forecast that was due was not made
    counters: Counter[str] = field(default_factory=Counter)
    changed: bool = True  # since it was last saved
    pending_changed: bool = True


class Forecaster:
    """Makes forecasts from samples. It holds the network and its scaling, but no memory.

    Raises:
        BundleCorrupt: the network does not fit the manifest.
        BundleError: this machine does not know the time zone of its calendar.

    """

    def __init__(self, manifest: Foretold, network: Quantiles) -> None:
        assert manifest.forecaster is not None
        self.part = part = manifest.forecaster
        network.expect(part.context_steps, part.horizon_steps, len(part.quantiles))
        self._network = network
        self.scored = manifest.scored
        self.channels = [manifest.channels[position] for position in manifest.scored]
        self.step_s = part.step_samples * manifest.sampling.period_s
        self.intervals = Intervals(part)
        self.pairs = pairs(part.quantiles)
        self._period_s = manifest.sampling.period_s
        self.coupling = (
            None if part.coupling is None else Coupling(part, part.coupling, self.channels)
        )
        self.commands = (
            None if part.commands is None else Commands(part, part.commands, manifest.channels)
        )
        known = [] if part.commands is None else part.commands.channels
        self.columns = [*self.scored, *known]
        self.inputs = [manifest.channels[position] for position in self.columns]
        self._calendar = (
            None if part.calendar is None else Calendar(part.calendar, self.channels, self.step_s)
        )
        self._scale_min = part.scale_floor * np.array([c.scale for c in self.channels], np.float32)
        self._fade = 1.0 - 1.0 / JUDGED_MEMORY

    def start(self) -> ForecastState:
        """Return the state of one stream before its first sample."""
        part, channels, inputs = self.part, len(self.scored), len(self.columns)
        leads, intervals = len(self.intervals.leads), len(self.pairs)
        return ForecastState(
            total=np.zeros(inputs),
            count=np.zeros(inputs, np.int64),
            step=NEVER,
            newest=NEVER,
            history=History.empty(inputs, part.context_steps),
            offsets=self.intervals.start(),
            learnt=self.intervals.start_learning(),
            pending=Pending(
                made=np.full(part.slots, NEVER),
                shown=np.zeros((part.slots, leads, channels, len(part.quantiles)), np.float32),
                scale=np.ones((part.slots, channels), np.float32),
            ),
            judged=Judged(
                weight=np.zeros((leads, channels)),
                error=np.zeros((leads, channels)),
                absolute=np.zeros((leads, channels)),
                inside=np.zeros((intervals, leads, channels)),
            ),
        )

    def step(self, state: ForecastState, samples: Samples) -> list[Forecast]:
        """Process the next samples, values (n, C) of all channels; return the forecasts now due.

        ``state`` is changed in place.
        """
        made: list[Forecast] = []
        if len(samples.times) == 0:
            return made
        numbers = self._number(samples.times)
        for step, rows in self._steps(numbers, samples.values):
            if step != state.step:
                if state.step != NEVER:  # its other samples never arrived
                    made += self._complete(state)
                self._begin(state, step)
            known = ~np.isnan(rows)
            state.total += np.where(known, rows, 0).sum(axis=0, dtype=np.float64)
            state.count += known.sum(axis=0)
        if self._number(samples.times[-1:] + self._period_s)[0] != numbers[-1]:
            made += self._complete(state)  # the next sample belongs to another step
        return made

    def _number(self, times: Float64) -> Int64:
        return step_numbers(times, self.step_s, self._period_s)

    def _steps(self, numbers: Int64, every: Float32) -> Iterator[tuple[int, Float32]]:
        """Yield the number of each step with its rows of the inputs."""
        values = every[:, self.columns]
        if (numbers == numbers[0]).all():
            yield int(numbers[0]), values
            return
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for begin, end in itertools.pairwise(edges):
            yield int(numbers[begin]), values[begin:end]

    def _begin(self, state: ForecastState, step: int) -> None:
        if state.newest != NEVER and not 0 < step - state.newest <= self.part.context_steps:
            self._restart(state)  # time went back, or no step of the context is left
        state.step = step
        state.total[:], state.count[:] = 0, 0

    def _restart(self, state: ForecastState) -> None:
        """Clear the context; the learnt intervals remain."""
        state.history.forget(np.ones(len(self.columns), np.bool_))
        state.pending.made[:] = NEVER
        state.newest = NEVER
        state.changed = state.pending_changed = True

    def _complete(self, state: ForecastState) -> list[Forecast]:
        """End the current step: judge earlier forecasts, store the step, and forecast if due."""
        if state.step == NEVER or state.step == state.newest:
            return []
        missed = 0 if state.newest == NEVER else state.step - state.newest - 1
        mean = np.divide(
            state.total, state.count, out=np.full(len(self.columns), np.nan), where=state.count > 0
        ).astype(np.float32)
        rows = np.full((missed + 1, len(mean)), np.nan, np.float32)
        rows[-1] = mean
        for column, row in enumerate(rows.T):
            state.history.remember(column, row)
        state.newest = state.step
        state.changed = True
        self._judge(state, mean[: len(self.scored)])
        if state.step % self.part.stride_steps:
            return []
        outcome = self.forecast(self.context(state), state.newest, state.offsets)
        if isinstance(outcome, NoForecast):
            state.refused = outcome
            state.counters[outcome.reason] += 1
            return []
        state.refused = None
        state.counters["forecasts"] += 1
        self._await(state, outcome)
        return [outcome]

    def context(self, state: ForecastState) -> Float32:
        """Return the newest steps (n, C) in the channels' units, oldest first.

        ``C`` are the inputs: the scored channels, then the commands that the forecast knows. n is
        at most ``context_steps``. NaN is missing.
        """
        rows = [state.history.kept(column) for column in range(len(self.columns))]
        return np.stack(rows, axis=1)

    def forecast(
        self, context: Float32, number: int, offsets: Float32, horizon: int | None = None
    ) -> Forecast | NoForecast:
        """Forecast the steps after ``context``.

        Args:
            context: (n, C) of the inputs, see ``context``. A context of fewer than
                ``context_steps`` steps yields no forecast.
            number: number of its last step.
            offsets: (Q, C, G) offsets of the intervals.
            horizon: steps to forecast; None for the trained horizon. Steps beyond it are forecast
                recursively: medians become the context, and the deviations add up as those of
                independent stretches do, and commands stay as they are. That part is not
                calibrated.

        """
        time = number * self.step_s
        filled = self._filled(context[:, : len(self.scored)], time)
        if isinstance(filled, NoForecast):
            return filled
        trained = self.part.horizon_steps
        horizon = trained if horizon is None else horizon
        known, commands = self._less_usual(filled, number), self._commanded(context)
        quantiles, scale = self._quantiles(known, commands, offsets)
        while quantiles.shape[1] < horizon:
            known = np.concatenate([known, quantiles[:, -trained:, self.intervals.middle].T])
            known = known[-self.part.context_steps :]
            commands = np.concatenate([commands, np.repeat(commands[-1:], trained, axis=0)])
            commands = commands[-self.part.context_steps :]
            quantiles = self._appended(quantiles, self._quantiles(known, commands, offsets)[0])
        quantiles = self._with_usual(quantiles[:, :horizon], number)
        return Forecast(
            time=time,
            times=(number + np.arange(1, horizon + 1, dtype=np.float64)) * self.step_s,
            last=filled[-1],
            scale=scale,
            quantiles=quantiles,
            trained_steps=trained,
            imputed=int(np.isnan(context[-len(filled) :, : len(self.scored)]).sum()),
        )

    @property
    def plannable(self) -> tuple[str, ...]:
        """The channels whose future may be given: scored ones, then commands."""
        scored = () if self.coupling is None else self.coupling.plannable
        return scored + (() if self.commands is None else self.commands.plannable)

    def planned(self, made: Forecast, context: Float32, plans: Mapping[str, Float32]) -> Forecast:
        """Return a forecast that follows plans of channels, by name, (H,) in units.

        ``made`` is the forecast from ``context`` over the trained horizon. Commands move all
        scored channels, and plans of these move the others.
        """
        quantiles = made.quantiles
        if self.commands is not None:
            quantiles = self.commands.planned(self._commanded(context), quantiles, plans)
        if self.coupling is not None:
            quantiles = self.coupling.planned(quantiles, plans)
        return made._replace(quantiles=quantiles)

    def _commanded(self, context: Float32) -> Float32:
        """Return the commands (L, U) of a context of the inputs; a missing value is the last."""
        commands = context[-self.part.context_steps :, len(self.scored) :]
        return commands if self.commands is None else held(commands)

    def _less_usual(self, context: Float32, number: int) -> Float32:
        """Return a context (L, C) that ends with step ``number``, without what is usual."""
        if self._calendar is None:
            return context
        return context - self._calendar.usual(np.arange(number - len(context) + 1, number + 1))

    def _with_usual(self, quantiles: Float32, number: int) -> Float32:
        """Return forecasts (C, H, Q) of the steps after ``number``, with what is usual then."""
        if self._calendar is None:
            return quantiles
        ahead = np.arange(number + 1, number + 1 + quantiles.shape[1])
        return quantiles + self._calendar.usual(ahead).T[:, :, None]

    def _appended(self, before: Float32, after: Float32) -> Float32:
        """Append a stretch to another; widen its deviations by the other's final deviations."""
        middle = self.intervals.middle
        median = after[..., middle, None]
        ended = before[:, -1:, :] - before[:, -1:, middle, None]
        deviation = after - median
        widened = np.sign(deviation) * np.hypot(deviation, ended)
        return np.concatenate([before, (median + widened).astype(np.float32)], axis=1)

    def _filled(self, context: Float32, time: float) -> Float32 | NoForecast:
        """Return the context (L, C) without gaps, or the reason why this is impossible."""
        needed, settings = self.part.context_steps, self.part.imputation
        if len(context) < needed:
            detail = f"{len(context)} of {needed} steps of {self.step_s:g} s are there"
            return NoForecast(time, "short_history", detail)
        context = context[-needed:]
        missing = np.isnan(context).sum(axis=0)
        worst = int(missing.argmax())
        name, gap = self.channels[worst].name, longest_gap(context)
        if missing[worst] > settings.missing_share_max * needed:
            detail = f"{name} has no value in {missing[worst]} of {needed} steps"
            return NoForecast(time, "missing_values", detail)
        if gap > settings.gap_steps_max:
            detail = f"{gap} steps in a row are missing, {settings.gap_steps_max} may be"
            return NoForecast(time, "missing_values", detail)
        return fill(context, settings)

    def _quantiles(
        self, context: Float32, commands: Float32, offsets: Float32
    ) -> tuple[Float32, Float32]:
        """Return the quantiles (C, H, Q) in units, and the context's scale (C,).

        Args:
            context: (L, C) of the scored channels.
            commands: (L, U).
            offsets: see ``forecast``.

        """
        scaled, mean, scale = normalised(context.T, self._scale_min)
        widened = self.intervals.widen(self._network.run(scaled), offsets)
        quantiles = widened * scale[:, None, None] + mean[:, None, None]
        if self.coupling is not None:
            quantiles += self.coupling.correction(context)[:, :, None]
        if self.part.held:
            median = quantiles[self.part.held, :, self.intervals.middle]
            off = context[-1, self.part.held, None] - median
            quantiles[self.part.held] += off[:, :, None]
        if self.commands is not None:
            added = self.commands.correction(commands)
            quantiles = quantiles if added is None else quantiles + added[:, :, None]
        return quantiles, scale

    def _await(self, state: ForecastState, forecast: Forecast) -> None:
        slot = state.newest // self.part.stride_steps % self.part.slots
        state.pending.made[slot] = state.newest
        state.pending.scale[slot] = forecast.scale
        at_leads = forecast.quantiles[:, self.intervals.leads - 1]  # (C, G, Q)
        state.pending.shown[slot] = at_leads.transpose(1, 0, 2)
        state.pending_changed = True

    def _judge(self, state: ForecastState, observed: Float32) -> None:
        """Compare the step with its earlier forecasts, and adapt the intervals."""
        pending, judged = state.pending, state.judged
        known = ~np.isnan(observed)
        judged_now: list[tuple[int, int]] = []  # position of the lead, and slot
        for position, lead in enumerate(self.intervals.leads.tolist()):
            made = state.newest - lead
            slot = made // self.part.stride_steps % self.part.slots
            if made % self.part.stride_steps or pending.made[slot] != made:
                continue
            shown = pending.shown[slot, position]
            judged_now.append((position, slot))
            error = np.where(known, shown[:, self.intervals.middle] - observed, 0)
            fade = np.where(known, self._fade, 1.0)
            judged.weight[position] = judged.weight[position] * fade + known
            judged.error[position] = judged.error[position] * fade + error
            judged.absolute[position] = judged.absolute[position] * fade + np.abs(error)
            for row, (low, high) in enumerate(self.pairs.values()):
                inside = (shown[:, low] <= observed) & (observed <= shown[:, high])
                judged.inside[row, position] = judged.inside[row, position] * fade + inside
            state.counters["judged"] += 1
        if judged_now:
            leads, slots = map(list, zip(*judged_now, strict=True))
            self.intervals.learn(
                state.offsets,
                state.learnt,
                leads,
                observed,
                pending.shown[slots, leads],
                pending.scale[slots],
            )


def step_numbers(times: Float64, step_s: float, period_s: float) -> Int64:
    """Return the numbers (n,) of the steps of samples at ``times`` (n,), Unix seconds.

    A step ends at number × ``step_s``.
    """
    return ended_by(times, step_s, _SAMPLE_SHARE * period_s).astype(np.int64)


def normalised(context: Float32, scale_min: Float32 | float) -> tuple[Float32, Float32, Float32]:
    """Shift and scale series to mean 0 and standard deviation 1.

    Args:
        context: (..., L) without NaN.
        scale_min: least scale, (...) or one for all, as a constant series has deviation 0.

    Returns:
        The series, their means (...) and their scales (...).

    """
    wide = context.astype(np.float64)
    mean = wide.mean(axis=-1)
    scale = np.maximum(wide.std(axis=-1), scale_min)
    scaled = (wide - mean[..., None]) / scale[..., None]
    return scaled.astype(np.float32), mean.astype(np.float32), scale.astype(np.float32)
