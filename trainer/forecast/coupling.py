"""Fits what the channels tell of each other's future, and judges whether it is worth its place.

The errors of the chosen closed form are regressed on all channels' recent means
(``models.coupling``), with a ridge penalty. At each rolling origin the regression is fitted before,
and judged after. It ships if its gain passes the test of a network's, with a larger margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models import coupling
from models.intervals import between
from models.manifest import CouplingPart, coupling_weights
from models.messages import Bool, Float32, Float64
from trainer.config import ForecastTable
from trainer.forecast import calibrate, maps, origins, stack
from trainer.forecast.origins import Origin
from trainer.forecast.stack import Trial, weighed
from trainer.forecast.windows import Added, Cutter, Int64, Windows

EFFECT_WINDOWS_MAX = 20_000
_BATCH = 4096


class Steps(NamedTuple):
    """The steps that a coupling is fitted to, and how they become its inputs."""

    values: Float32  # (n, I) distances from the inputs' centers, in scales; NaN where missing
    plannable: list[int]  # indices of the channels whose future may be given


class Errors(NamedTuple):
    """The errors of a forecast in windows, at each step or at leads."""

    ends: Int64  # (n,) last step of each context
    channel: Int64  # (n,)
    missed: Float32  # (n, H) or (n, G) actual - forecast, in scales; 0: not known
    known: Bool  # as ``missed``

    def at(self, leads: Int64) -> Errors:
        """Return those at leads (G,)."""
        columns = leads - 1
        return self._replace(missed=self.missed[:, columns], known=self.known[:, columns])

    def less(self, added: Float32) -> Errors:
        """Return what is left if this is added to the forecast, as ``missed``."""
        return self._replace(missed=self.missed - np.where(self.known, added, np.float32(0)))


class Fitted(NamedTuple):
    """A coupling that is fitted."""

    spans: list[int]
    leads: Int64  # (G,)
    horizon: int  # H
    weights: Float64  # (G, C, F), of I inputs: F = K I + 1
    effects: Float64  # (G, C, 2 P)
    plannable: list[int]

    def part(self, share: float) -> CouplingPart:
        """Return it for the manifest; ``share``: of the correction that is added."""
        return CouplingPart(
            spans_steps=self.spans,
            weights=np.round(share * self.weights, 7).tolist(),
            plannable=self.plannable,
            effects=np.round(self.effects, 7).tolist(),
        )

    def without(self, held: Sequence[int]) -> Fitted:
        """Return it without a correction of the channels that are held."""
        weights = self.weights.copy()
        weights[:, list(held)] = 0.0
        return self._replace(weights=weights)

    def added(self, values: Float32, share: float) -> Added:
        """Return what is added to forecasts, from steps (n, I); see ``windows.Added``."""
        channels = self.weights.shape[1]
        at_leads = np.empty((len(values), channels, len(self.leads)), np.float32)
        for begin in range(0, len(values), _BATCH):
            ends = np.arange(begin, min(begin + _BATCH, len(values)))
            given = coupling.inputs(values, ends, self.spans)
            at_leads[ends] = share * np.einsum("gcf,nf->ncg", self.weights, given)
        steps = between(self.leads, self.horizon).T  # (G, H)
        return lambda ends, channels: np.asarray(at_leads[ends, channels] @ steps, np.float32)


class Judgement(NamedTuple):
    """The gain of a coupling at the origins."""

    trial: Trial
    penalty: float  # the best one
    added: list[Added]  # what the coupling that was fitted before each origin adds, in whole


def part_of(added: Added, share: float, held: Sequence[int]) -> Added:
    """Return a share of what a coupling adds, and nothing for channels that are held."""

    def part(ends: Int64, channels: Int64) -> Float32:
        shares = np.where(np.isin(channels, held), 0.0, share)
        return np.asarray(shares[:, None] * added(ends, channels), np.float32)

    return part


def spans(settings: ForecastTable, context: int) -> list[int]:
    """Return the spans of the inputs, rising; the longest is the whole context."""
    return sorted({span for span in settings.coupling.spans_steps if span < context} | {context})


class Trials(NamedTuple):
    """The errors of a closed form, before and after each origin."""

    rolled: Sequence[Origin]  # in chronological order
    before: list[Errors]  # at leads, which a coupling is fitted to
    judged: list[Errors]  # at each step
    contexts: list[int]  # L at each origin


def trials(
    rolled: Sequence[Origin],
    learn: Sequence[Cutter],
    weights: Mapping[str, float],
    settings: ForecastTable,
    held: Sequence[int] = (),
) -> Trials:
    """Return the errors of a closed form at the origins.

    Args:
        rolled: origins in chronological order.
        learn: for each, a cutter of the training and validation steps.
        weights: weights of the closed form's mix.
        settings: settings of the forecaster.
        held: channels whose forecast is their last value.

    """
    before, judged, contexts = list[Errors](), list[Errors](), list[int]()
    for origin, cutter in zip(rolled, learn, strict=True):
        closed = trimmed(origins.mixed(origin.maps, weights), settings)
        earlier = cutter.only(cutter.ending(0, origin.step))
        before.append(to_fit(earlier, closed, settings, held))
        judged.append(errors_at(cutter, origin.places, closed, held))
        contexts.append(len(closed))
    return Trials(rolled, before, judged, contexts)


def judge(found: Trials, steps: Steps, channels: int, settings: ForecastTable) -> Judgement:
    """Return the gain of a coupling over a closed form at the origins.

    Args:
        found: the errors of the closed form.
        steps: the training and validation steps.
        channels: number of scored channels.
        settings: settings of the forecaster.

    """
    penalties = settings.coupling.penalties
    products: dict[float, list[Float64]] = {one: [] for one in penalties}
    added: dict[float, list[Added]] = {one: [] for one in penalties}
    for origin, before, judged, context in zip(*found, strict=True):
        for penalty in penalties:
            fitted = fit(before, steps, channels, context, penalty, settings)
            adds = fitted.added(steps.values, 1.0)
            left = judged.less(adds(judged.ends, judged.channel))
            products[penalty].append(origins.products([judged.missed, left.missed], origin))
            added[penalty].append(adds)
    best = min(products, key=lambda one: float(np.mean([each[1, 1] for each in products[one]])))
    return Judgement(worth(np.stack(products[best]), settings), best, added[best])


def worth(products: Float64, settings: ForecastTable) -> Trial:
    """Return whether a coupling is worth its place; see ``stack.judge``.

    A few origins can agree by chance, the more so as they also choose the penalty. So the gain has
    a margin of its own.
    """
    margin = settings.coupling.margin
    return stack.judge(products, settings.choice.model_copy(update={"margin": margin}))


def adds_enough(before: Trial, after: Trial, settings: ForecastTable) -> bool:
    """Return whether one more input is worth its place, from the errors without and with it.

    It gains enough alone, so the margin is that of a network.
    """
    without, with_it = np.array(before.network), np.array(after.network)
    return weighed(without, with_it, after.share, settings.choice).ships


def weights(channels: int, plannable: int, settings: ForecastTable) -> int:
    """Return the most weights that a coupling can have, whatever the context is."""
    sizes = len({*settings.coupling.spans_steps}) + 1
    return coupling_weights(len(leads_of(settings)), channels, sizes, plannable)


def trimmed(closed: Float32, settings: ForecastTable) -> Float32:
    """Return a map (L, H) without the context that it does not need."""
    return closed[-max(settings.context_steps, maps.support(closed)) :]


def leads_of(settings: ForecastTable) -> Int64:
    """Return the leads (G,) that have weights of their own."""
    return np.array(calibrate.leads(settings.intervals.leads, settings.horizon_steps))


def to_fit(
    cutter: Cutter, closed: Float32, settings: ForecastTable, held: Sequence[int] = ()
) -> Errors:
    """Return the errors of a map (L, H) in enough windows of a cutter, at leads."""
    places = cutter.some(maps.WINDOWS_MAX)
    return errors_at(cutter, places, closed, held).at(leads_of(settings))


def errors_at(cutter: Cutter, places: Int64, closed: Float32, held: Sequence[int] = ()) -> Errors:
    """Return the errors of a map (L, H) in windows of a cutter at ``places`` (n, 2).

    Its contexts have at least L steps.
    """
    windows = cutter.cut(places)
    missed = _missed(windows, closed, held)
    return Errors(cutter.ends(places), windows.channel, missed, ~np.isnan(windows.future))


def fit(
    errors: Errors,
    steps: Steps,
    channels: int,
    context: int,
    penalty: float,
    settings: ForecastTable,
) -> Fitted:
    """Return the coupling that fits errors of forecasts.

    Args:
        errors: of a closed form, at leads.
        steps: those that the errors are at.
        channels: number of scored channels.
        context: steps of the closed form's context, L.
        penalty: of the ridge regression.
        settings: settings of the forecaster.

    """
    leads, sizes = leads_of(settings), spans(settings, context)
    given = coupling.inputs(steps.values, errors.ends, sizes)
    weights = np.zeros((len(leads), channels, given.shape[1]))
    for channel in range(channels):
        mine = errors.channel == channel
        weights[:, channel] = ridge(given[mine], errors.missed[mine], penalty).T
    return Fitted(
        sizes, leads, settings.horizon_steps, weights, np.zeros((len(leads), channels, 0)), []
    )


def with_effects(
    fitted: Fitted,
    cutter: Cutter,
    steps: Steps,
    closed: Float32,
    penalty: float,
    held: Sequence[int],
) -> Fitted:
    """Return a coupling with how far each channel is off when a plannable one is.

    ``cutter``: its futures lack what the coupling adds, see ``Cutter.less``. ``held``: channels
    whose forecast is their last value.
    """
    plans = steps.plannable
    usable = np.zeros(steps.values.shape, np.bool_)
    usable[cutter.places[:, 0], cutter.places[:, 1]] = True
    starts = np.flatnonzero(usable[:, plans].all(axis=1))
    starts = starts[:: 1 + len(starts) // EFFECT_WINDOWS_MAX]
    off = np.stack([_missed(_cut(cutter, starts, plan), closed, held) for plan in plans], axis=1)
    effects = np.zeros((len(fitted.leads), steps.values.shape[1], 2 * len(plans)))
    for channel in set(range(steps.values.shape[1])) - set(plans):
        mine = usable[starts, channel]
        missed = _missed(_cut(cutter, starts[mine], channel), closed, held)
        mean = off[mine].cumsum(axis=2)[:, :, fitted.leads - 1] / fitted.leads
        given = np.concatenate([off[mine][:, :, fitted.leads - 1], mean], axis=1)  # (n, 2 P, G)
        for at, lead in enumerate(fitted.leads.tolist()):
            effects[at, channel] = ridge(given[:, :, at], missed[:, [lead - 1]], penalty)[:, 0]
    return fitted._replace(effects=effects, plannable=plans)


def _cut(cutter: Cutter, starts: Int64, channel: int) -> Windows:
    return cutter.cut(np.stack([starts, np.full(len(starts), channel)], axis=1))


def _missed(windows: Windows, closed: Float32, held: Sequence[int] = ()) -> Float32:
    """Return actual - forecast of a map (L, H), in scales, (n, H); 0: not known."""
    return -origins.errors_of(windows, origins.forecasts(windows, closed, held))


def ridge(given: Float64, missed: Float32, penalty: float) -> Float64:
    """Return the weights (F, G) of a ridge regression; the penalty is in mean squares."""
    rows = given.astype(np.float64)
    return solved(rows.T @ rows, rows.T @ missed, penalty)


def solved(squares: Float64, products: Float64, penalty: float) -> Float64:
    """Return the weights (F, G) of a ridge regression from its moments, (F, F) and (F, G)."""
    shrink = penalty * float(np.trace(squares)) / len(squares) + float(np.finfo(np.float64).tiny)
    found = np.linalg.solve(squares + shrink * np.eye(len(squares)), products)
    return np.asarray(found, np.float64)
