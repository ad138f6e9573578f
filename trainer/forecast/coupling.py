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
from models.manifest import CouplingPart
from models.messages import Float32, Float64
from trainer.config import ForecastTable
from trainer.forecast import calibrate, maps, origins
from trainer.forecast.origins import Origin
from trainer.forecast.stack import Trial, judge_network
from trainer.forecast.windows import Added, Cutter, Int64, Windows

EFFECT_WINDOWS_MAX = 20_000
_BATCH = 4096


class Steps(NamedTuple):
    """The steps that a coupling is fitted to, and how they become its inputs."""

    values: Float32  # (n, C) distances from the channels' centers, in scales; NaN where missing
    plannable: list[int]  # indices of the channels whose future may be given


class Fitted(NamedTuple):
    """A coupling that is fitted."""

    spans: list[int]
    leads: Int64  # (G,)
    horizon: int  # H
    weights: Float64  # (G, C, F)
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
        """Return what is added to forecasts, from steps (n, C); see ``windows.Added``."""
        at_leads = np.empty((len(values), values.shape[1], len(self.leads)), np.float32)
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


def judge(
    rolled: Sequence[Origin],
    learn: Cutter,
    steps: Steps,
    weights: Mapping[str, float],
    settings: ForecastTable,
) -> Judgement:
    """Return the gain of a coupling over a closed form at the origins.

    Args:
        rolled: origins in chronological order.
        learn: cutter of the training and validation steps.
        steps: the same steps.
        weights: weights of the closed form's mix.
        settings: settings of the forecaster.

    """
    products: dict[float, list[Float64]] = {one: [] for one in settings.coupling.penalties}
    added: dict[float, list[Added]] = {one: [] for one in settings.coupling.penalties}
    for origin in rolled:
        closed = trimmed(origins.mixed(origin.maps, weights), settings)
        before = learn.only(learn.ending(0, origin.step))
        judged, ends = learn.cut(origin.places), learn.ends(origin.places)
        plain = _missed(judged, closed)
        for penalty, found in products.items():
            adds = fit(before, steps, closed, penalty, settings).added(steps.values, 1.0)
            left = plain - _known(judged) * adds(ends, judged.channel)
            found.append(origins.products([plain, left], origin))
            added[penalty].append(adds)
    best = min(products, key=lambda one: float(np.mean([each[1, 1] for each in products[one]])))
    return Judgement(worth(np.stack(products[best]), settings), best, added[best])


def worth(products: Float64, settings: ForecastTable) -> Trial:
    """Return whether a coupling is worth its place; see ``stack.judge_network``.

    A few origins can agree by chance, the more so as they also choose the penalty. So the gain has
    a margin of its own.
    """
    margin = settings.coupling.margin
    return judge_network(products, settings.choice.model_copy(update={"margin": margin}))


def trimmed(closed: Float32, settings: ForecastTable) -> Float32:
    """Return a map (L, H) without the context that it does not need."""
    return closed[-max(settings.context_steps, maps.support(closed)) :]


def fit(
    cutter: Cutter, steps: Steps, closed: Float32, penalty: float, settings: ForecastTable
) -> Fitted:
    """Return the coupling that fits the errors of a map (L, H) in windows of a cutter.

    Its contexts have at least L steps.
    """
    leads = np.array(calibrate.leads(settings.intervals.leads, settings.horizon_steps))
    channels = steps.values.shape[1]
    sizes = spans(settings, len(closed))
    weights = np.zeros((len(leads), channels, len(sizes) * channels + 1))
    places = cutter.some(maps.WINDOWS_MAX)
    missed = _missed(cutter.cut(places), closed)[:, leads - 1]
    given = coupling.inputs(steps.values, cutter.ends(places), sizes)
    for channel in range(channels):
        mine = places[:, 1] == channel
        weights[:, channel] = _ridge(given[mine], missed[mine], penalty).T
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
            effects[at, channel] = _ridge(given[:, :, at], missed[:, [lead - 1]], penalty)[:, 0]
    return fitted._replace(effects=effects, plannable=plans)


def _cut(cutter: Cutter, starts: Int64, channel: int) -> Windows:
    return cutter.cut(np.stack([starts, np.full(len(starts), channel)], axis=1))


def _missed(windows: Windows, closed: Float32, held: Sequence[int] = ()) -> Float32:
    """Return actual - forecast of a map (L, H), in scales, (n, H); 0: not known."""
    return -origins.errors_of(windows, origins.forecasts(windows, closed, held))


def _known(windows: Windows) -> Float32:
    return np.asarray(~np.isnan(windows.future), np.float32)


def _ridge(given: Float64, missed: Float32, penalty: float) -> Float64:
    """Return the weights (F, G) of a ridge regression; the penalty is in mean squares."""
    rows = given.astype(np.float64)
    squares = rows.T @ rows
    shrink = penalty * float(np.trace(squares)) / len(squares) + float(np.finfo(np.float64).tiny)
    found = np.linalg.solve(squares + shrink * np.eye(len(squares)), rows.T @ missed)
    return np.asarray(found, np.float64)
