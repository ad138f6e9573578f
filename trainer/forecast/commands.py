"""Finds which commands tell of the scored channels' future, and judges what each is worth.

Commands are the channels that are not scored: set points, modes, valves. Two things are judged at
the rolling origins, each against the same forecast without it (``coupling.worth``):

- **history**: what the commands were corrects the forecast, by a ridge regression of its errors;
- **plan**: what they will be moves it, if it is known, by the response of each channel to how far
  a command is from what is usual after its past.

Each command is tried alone first. Of those that gain enough the best ships, and each other one if
it gains enough on top of those before it. So commands that change together do not all ship. A plan
moves the channels whose own error it lowers, by the same test.

Commands may soon be used as they never were before the last origin. So each part is withdrawn if it
does not lower the error in the calibration part, too.
Commands with few values are tried as numbers and as levels (``models.commands``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from models import coupling as inputs
from models.commands import encoded, lagged, own_inputs
from models.intervals import between
from models.manifest import OFFSETS_MAX, Channel, CommandsPart, command_weights
from models.messages import Bool, Float32, Float64
from trainer.config import ForecastTable
from trainer.forecast import calibrate, coupling
from trainer.forecast.coupling import Errors, Steps, Trials
from trainer.forecast.stack import Trial
from trainer.forecast.windows import Added, Int64

LEVEL_SHARE = 0.01  # of the steps, at least, at a value that is a level
LEVELS_SHARE = 0.9  # of the steps, at least, at any level
TAPS = 8  # of a response
_CELLS = 4_000_000  # numbers that are computed at once


class Recorded(NamedTuple):
    """The steps of the commands, in units; a missing value is the last one."""

    channels: list[Channel]
    positions: list[int]  # among all channels
    learn: Float32  # (n, U)
    calibrate: Float32  # (m, U)


class Columns(NamedTuple):
    """Commands as columns."""

    levels: list[list[float]]  # per command; see ``models.commands.encoded``
    learn: Float32  # (n, E)
    calibrate: Float32  # (m, E)
    owner: Int64  # (E,) the command of each

    def of(self, commands: Sequence[int]) -> Int64:
        """Return the columns of some commands."""
        return np.flatnonzero(np.isin(self.owner, commands))


class Found(NamedTuple):
    """Which commands are worth something."""

    alone: dict[int, Trial]
    together: Trial | None  # None: no command gains enough alone
    penalty: float
    chosen: list[int]  # none if they do not ship
    follow: list[int]  # scored channels that a plan moves
    withdrawn: bool = False  # it gained enough, but nothing in the calibration part

    def withdraw(self) -> Found:
        """Return it without what would ship."""
        return self._replace(chosen=[], follow=[], withdrawn=True)

    @property
    def gain(self) -> float:
        """The gain of what ships."""
        return self.together.gain if self.chosen and self.together is not None else 0.0

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return it for the metrics."""
        return {
            "chosen": [names[at] for at in self.chosen],
            "withdrawn": self.withdrawn,
            "together": None if self.together is None else self.together.as_json(),
            "alone": {names[at]: trial.as_json() for at, trial in self.alone.items()},
        }


class Plan(NamedTuple):
    """What a plan needs."""

    expected: Float64  # (P, G, K + 1) how the columns usually go on
    response: Float64  # (C, P, T)


class Judgement(NamedTuple):
    """What the commands are worth, in the better of their forms."""

    names: list[str]
    columns: Columns
    history: Found
    plan: Found
    added: list[Added]  # by the history, fitted before each origin; empty: nothing

    @property
    def chosen(self) -> list[int]:
        """The commands that ship."""
        return sorted({*self.history.chosen, *self.plan.chosen})

    def weights(self, scored: int, settings: ForecastTable) -> int:
        """Return the most weights that ship, whatever the context is."""
        if not self.chosen:
            return 0
        return command_weights(
            len(coupling.leads_of(settings)),
            scored,
            len({*settings.coupling.spans_steps}) + 1,
            len(self.columns.of(self.chosen)),
            len(self.columns.of(self.plan.chosen)),
            len(_taps(settings)),
        )

    def withdraw(self) -> Judgement:
        """Return it without what would ship."""
        return self._replace(history=self.history.withdraw(), plan=self.plan.withdraw(), added=[])

    def as_planned(self, plan: Plan) -> Judgement:
        """Return it with the channels that respond to a plan."""
        if not self.plan.chosen:
            return self
        follow = np.flatnonzero(plan.response.any(axis=(1, 2))).tolist()
        return self._replace(
            plan=self.plan._replace(follow=follow) if follow else self.plan.withdraw()
        )

    def as_json(self, channels: Sequence[str]) -> dict[str, Any]:
        """Return it for the metrics; ``channels``: names of the scored ones."""
        return {
            "follow": [channels[at] for at in self.plan.follow],
            "levels": {
                name: levels
                for name, levels in zip(self.names, self.columns.levels, strict=True)
                if levels
            },
            "history": self.history.as_json(self.names),
            "plan": self.plan.as_json(self.names),
        }


def judge(
    recorded: Recorded,
    trials: Trials,
    channels: int,
    plannable: Sequence[int],
    settings: ForecastTable,
) -> Judgement:
    """Return what the commands are worth.

    Args:
        recorded: their steps.
        trials: the errors of the forecast without them, at the origins.
        channels: number of scored channels.
        plannable: those whose future may be given.
        settings: settings of the forecaster.

    """
    known = levels_of(recorded.learn, settings.coupling.levels_max)
    forms: list[list[list[float]]] = [[[] for _ in known], *([known] if any(known) else [])]
    found = [_judged(recorded, form, trials, channels, plannable, settings) for form in forms]
    fitting = [one for one in found if one.weights(channels, settings) <= OFFSETS_MAX]
    return max(fitting or found, key=lambda one: one.history.gain + one.plan.gain)


def levels_of(values: Float32, most: int) -> list[list[float]]:
    """Return the levels of each command (n, U), rising; empty: it has no few levels.

    Two levels are as good as a number.
    """
    found: list[list[float]] = []
    for column in values.T:
        known = column[~np.isnan(column)]
        seen, counts = np.unique(known, return_counts=True)
        usual = counts >= LEVEL_SHARE * max(1, len(known))
        few = 3 <= usual.sum() <= most and counts[usual].sum() >= LEVELS_SHARE * len(known)
        found.append([float(value) for value in seen[usual]] if few else [])
    return found


def _judged(
    recorded: Recorded,
    levels: list[list[float]],
    trials: Trials,
    channels: int,
    plannable: Sequence[int],
    settings: ForecastTable,
) -> Judgement:
    learn, held_out = (
        encoded(values, recorded.channels, levels)
        for values in (recorded.learn, recorded.calibrate)
    )
    owner = np.repeat(np.arange(len(levels)), [max(1, len(one) - 1) for one in levels])
    columns = Columns(levels, learn, held_out, owner)
    history, added = _history(columns, trials, channels, settings)
    left = _less(trials, added, settings)
    plan = _plan(columns, left, channels, plannable, settings)
    names = [channel.name for channel in recorded.channels]
    return Judgement(names, columns, history, plan, added)


def _history(
    columns: Columns, trials: Trials, channels: int, settings: ForecastTable
) -> tuple[Found, list[Added]]:
    """Return what the commands' past is worth, and what it adds at each origin."""

    def tried(chosen: Sequence[int]) -> coupling.Judgement:
        steps = Steps(columns.learn[:, columns.of(chosen)], [])
        return coupling.judge(trials, steps, channels, settings)

    found = _selected(range(len(columns.levels)), lambda some: _brief(tried(some)), settings)
    if not found.chosen:
        return found, []
    again = tried(found.chosen)
    share = again.trial.share
    return found, [coupling.part_of(adds, share, ()) for adds in again.added]


def _brief(found: coupling.Judgement) -> tuple[Trial, float]:
    return found.trial, found.penalty


def _selected(
    commands: Sequence[int],
    tried: Callable[[Sequence[int]], tuple[Trial, float]],
    settings: ForecastTable,
) -> Found:
    """Try each command alone, then the best, and each other one on top of those chosen."""
    alone = {command: tried([command]) for command in commands}
    trials = {command: trial for command, (trial, _) in alone.items()}
    found = Found(trials, None, 0.0, [], [])
    able = [command for command, trial in trials.items() if trial.ships]
    for command in sorted(able, key=lambda one: -trials[one].gain):
        if found.together is None:
            together, penalty = alone[command]
            found = Found(trials, together, penalty, [command], [])
            continue
        more, penalty = tried(chosen := sorted([*found.chosen, command]))
        if coupling.adds_enough(found.together, more, settings):
            found = Found(trials, more, penalty, chosen, [])
    return found


def _less(trials: Trials, added: Sequence[Added], settings: ForecastTable) -> Trials:
    """Return the errors that are left."""
    if not added:
        return trials
    leads = coupling.leads_of(settings)
    before, judged = [], []
    for adds, earlier, later in zip(added, trials.before, trials.judged, strict=True):
        before.append(earlier.less(adds(earlier.ends, earlier.channel)[:, leads - 1]))
        judged.append(later.less(adds(later.ends, later.channel)))
    return trials._replace(before=before, judged=judged)


class _Moments(NamedTuple):
    """Sums over windows and steps of products of errors and lagged distances (F = P T)."""

    squares: Float64  # (C, F, F)
    products: Float64  # (C, F)
    total: Float64  # (C,) of squared errors

    def left(self, weights: Float64) -> Float64:
        """Return the products (C, 2, 2) of errors without and with a response (C, F)."""
        gained = (weights * self.products).sum(axis=1)
        square = np.einsum("cf,cfg,cg->c", weights, self.squares, weights)
        mixed = self.total - gained
        rows = [[self.total, mixed], [mixed, mixed - gained + square]]
        return np.array(rows).transpose(2, 0, 1)


def _plan(
    columns: Columns,
    trials: Trials,
    channels: int,
    plannable: Sequence[int],
    settings: ForecastTable,
) -> Found:
    """Return what the commands' future is worth."""
    if not plannable:
        return Found({}, None, 0.0, [], [])
    own, taps = columns.of(plannable), _taps(settings)
    moments = _moments(columns.learn[:, own], trials, channels, settings)

    def products(chosen: Sequence[int], penalty: float) -> Float64:
        kept = np.repeat(np.isin(columns.owner[own], chosen), len(taps))
        return _at_origins(moments, kept, penalty, trials)

    def tried(chosen: Sequence[int]) -> tuple[Trial, float]:
        by_penalty = {one: products(chosen, one).sum(axis=1) for one in settings.coupling.penalties}
        best = min(by_penalty, key=lambda one: float(by_penalty[one][:, 1, 1].mean()))
        return coupling.worth(by_penalty[best], settings), best

    found = _selected(plannable, tried, settings)
    if not found.chosen:
        return found
    each = products(found.chosen, found.penalty)
    follow = [at for at in range(channels) if coupling.worth(each[:, at], settings).ships]
    return found._replace(follow=follow, chosen=found.chosen if follow else [])


def _moments(
    steps: Float32, trials: Trials, channels: int, settings: ForecastTable
) -> list[tuple[_Moments, _Moments]]:
    """Return the moments before and after each origin, with the plans of columns (n, P)."""
    every, found = np.arange(1, settings.horizon_steps + 1), []
    leads, taps = coupling.leads_of(settings), _taps(settings)
    for before, judged, context in zip(trials.before, trials.judged, trials.contexts, strict=True):
        usual = _Usual.fitted(steps, before, context, settings)
        earlier = _summed(usual, before, leads, channels, taps)
        found.append((earlier, _summed(usual, judged, every, channels, taps)))
    return found


def _taps(settings: ForecastTable) -> list[int]:
    return calibrate.leads(TAPS, settings.horizon_steps)


class _Usual(NamedTuple):
    """How columns usually go on."""

    steps: Float32  # (n, P)
    spans: list[int]
    weights: Float64  # (P, G, K + 1)
    between: Float32  # (H, G)

    @classmethod
    def fitted(
        cls, steps: Float32, errors: Errors, context: int, settings: ForecastTable
    ) -> _Usual:
        """Fit it to the steps (n, P) after the contexts of the errors."""
        leads, spans = coupling.leads_of(settings), coupling.spans(settings, context)
        ends, penalty = np.unique(errors.ends), min(settings.coupling.penalties)
        weights = np.zeros((steps.shape[1], len(leads), len(spans) + 1))
        for at, column in enumerate(steps.T):
            given = inputs.inputs(column[:, None], ends, spans)
            came = np.nan_to_num(column[ends[:, None] + leads])
            weights[at] = coupling.ridge(given, came, penalty).T
        return cls(steps, spans, weights, between(leads, settings.horizon_steps))

    def apart(self, ends: Int64) -> Float64:
        """Return how far the steps after ``ends`` (n,) are from it, (n, P, H)."""
        given = own_inputs(self.steps, ends, self.spans)  # (P, n, K + 1)
        usual = np.einsum("pgk,pnk->npg", self.weights, given) @ self.between.T
        came = self.steps[ends[:, None] + np.arange(1, len(self.between) + 1)]
        return np.asarray(np.nan_to_num(came.transpose(0, 2, 1) - usual), np.float64)


def _summed(
    usual: _Usual, errors: Errors, leads: Int64, channels: int, taps: Sequence[int]
) -> _Moments:
    """Return the moments of errors at leads (G,)."""
    size = usual.steps.shape[1] * len(taps)
    squares, products = np.zeros((channels, size, size)), np.zeros((channels, size))
    batch = max(1, _CELLS // max(1, size * len(leads)))
    for channel in range(channels):
        mine = np.flatnonzero(errors.channel == channel)
        for begin in range(0, len(mine), batch):
            rows = mine[begin : begin + batch]
            by_lag = lagged(usual.apart(errors.ends[rows]), leads, taps)  # (b, P, G, T)
            given = by_lag.transpose(0, 2, 1, 3).reshape(-1, size)
            given *= errors.known[rows].reshape(-1, 1)
            squares[channel] += given.T @ given
            products[channel] += given.T @ errors.missed[rows].ravel()
    each = np.square(errors.missed, dtype=np.float64).sum(axis=1)
    total = np.asarray(np.bincount(errors.channel, each, channels), np.float64)
    return _Moments(squares, products, total)


def _at_origins(
    moments: Sequence[tuple[_Moments, _Moments]], kept: Bool, penalty: float, trials: Trials
) -> Float64:
    """Return the products of errors (K, C, 2, 2) with some inputs, (F,) ``kept``, and without."""
    found = []
    for (before, judged), errors, origin in zip(moments, trials.judged, trials.rolled, strict=True):
        left = judged.left(_response(before, kept, penalty))
        found.append(left / (errors.missed.size * origin.naive))
    return np.stack(found)


def _response(moments: _Moments, kept: Bool, penalty: float) -> Float64:
    """Return the weights (C, F) of a ridge regression on some of the inputs; 0 for the others."""
    found = np.zeros(moments.products.shape)
    inside = np.flatnonzero(kept)
    for channel, (squares, products) in enumerate(
        zip(moments.squares, moments.products, strict=True)
    ):
        part = squares[np.ix_(inside, inside)]
        found[channel, inside] = coupling.solved(part, products[inside, None], penalty)[:, 0]
    return found


def fit_history(
    found: Judgement, errors: Errors, channels: int, context: int, settings: ForecastTable
) -> coupling.Fitted | None:
    """Return the correction by the commands' past, its share; None: it does not ship.

    Args:
        found: which commands ship.
        errors: of the forecast without them in the training part, at leads.
        channels: number of scored channels.
        context: steps of the closed form's context.
        settings: settings of the forecaster.

    """
    history = found.history
    if not history.chosen or history.together is None:
        return None
    steps = Steps(found.columns.learn[:, found.columns.of(history.chosen)], [])
    fitted = coupling.fit(errors, steps, channels, context, history.penalty, settings)
    return fitted._replace(weights=history.together.share * fitted.weights)


def lasts(found: Judgement, history: coupling.Fitted, later: Errors) -> bool:
    """Return whether the history lowers later errors, at each step, of the calibration part."""
    steps = found.columns.calibrate[:, found.columns.of(found.history.chosen)]
    left = later.less(history.added(steps, 1.0)(later.ends, later.channel))
    return bool(np.square(left.missed).sum() < np.square(later.missed).sum())


def withdrawn(found: Judgement | None) -> list[str]:
    """Return what is said of the parts that are withdrawn."""
    parts = {} if found is None else {"were": found.history, "will be": found.plan}
    return [
        f"what commands {what} gains nothing in the calibration part; it does not ship"
        for what, part in parts.items()
        if part.withdrawn
    ]


def fit_plan(
    found: Judgement,
    errors: Errors,
    later: Errors,
    channels: int,
    context: int,
    settings: ForecastTable,
) -> Plan:
    """Return what a plan needs; no channel responds whose later error it does not lower.

    ``errors``: what the history leaves; the others as in ``fit_history`` and ``lasts``.
    """
    own, taps = found.columns.of(found.plan.chosen), _taps(settings)
    usual = _Usual.fitted(found.columns.learn[:, own], errors, context, settings)
    if not len(own):
        return Plan(usual.weights, np.zeros((channels, 0, len(taps))))
    moments = _summed(usual, errors, coupling.leads_of(settings), channels, taps)
    every = np.ones(len(own) * len(taps), np.bool_)
    response = _response(moments, every, found.plan.penalty)
    response *= 0.0 if found.plan.together is None else found.plan.together.share
    usual = usual._replace(steps=found.columns.calibrate[:, own])
    steps = np.arange(1, settings.horizon_steps + 1)
    products = _summed(usual, later, steps, channels, taps).left(response)
    lowered = np.flatnonzero(products[:, 1, 1] < products[:, 0, 0])
    follow = np.intersect1d(lowered, found.plan.follow)
    response[np.setdiff1d(np.arange(channels), follow)] = 0.0
    return Plan(usual.weights, response.reshape(channels, len(own), len(taps)))


def part(
    recorded: Recorded,
    found: Judgement,
    history: coupling.Fitted | None,
    plan: Plan,
    spans: list[int],
    settings: ForecastTable,
) -> CommandsPart:
    """Return it for the manifest, if any command ships."""
    used = found.chosen
    columns, own = found.columns, len(found.columns.of(found.plan.chosen))  # 0: it is withdrawn
    weights: list[list[list[float]]] = []
    if history is not None:
        inside = np.isin(columns.of(used), columns.of(found.history.chosen))
        weights = _spread(history.weights, inside, len(spans)).tolist()
    return CommandsPart(
        channels=[recorded.positions[at] for at in used],
        levels=[columns.levels[at] for at in used],
        spans_steps=spans,
        weights=weights,
        plannable=[used.index(at) for at in found.plan.chosen],
        expected=np.round(plan.expected[:own], 7).tolist(),
        taps_steps=_taps(settings),
        response=np.round(plan.response[:, :own], 7).tolist(),
    )


def _spread(weights: Float64, inside: Bool, spans: int) -> Float64:
    """Return weights (G, C, K e + 1) of the columns that are ``inside`` (E,), for all of them."""
    leads, channels, _ = weights.shape
    found = np.zeros((leads, channels, spans, len(inside)))
    found[:, :, :, inside] = weights[:, :, :-1].reshape(leads, channels, spans, -1)
    whole = [found.reshape(leads, channels, -1), weights[:, :, -1:]]
    return np.asarray(np.round(np.concatenate(whole, axis=2), 7), np.float64)
