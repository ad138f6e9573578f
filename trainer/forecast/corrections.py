"""What is added to the chosen closed form: the coupling of the channels, then the commands.

closed form ─> coupling ─> which channels are held ─> commands' history ─> commands' plans

Each is fitted to what is left by those before it, and ships only if it gains enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.manifest import OFFSETS_MAX, Channel, CommandsPart, CouplingPart
from models.messages import Float32
from trainer.config import ForecastTable
from trainer.forecast import commands, coupling, held, maps, origins
from trainer.forecast.calendar import Moments
from trainer.forecast.commands import Recorded
from trainer.forecast.held import Held
from trainer.forecast.origins import Origin
from trainer.forecast.stack import Choice, Trial
from trainer.forecast.windows import Added, Cutter

Say = Callable[[str], None]


class StepParts(NamedTuple):
    """The steps of each part, (n, C) in the channels' units, NaN where missing."""

    learn: Float32  # training and validation, in chronological order
    trained: int  # number of first steps of ``learn`` to fit; the rest decides when to stop
    calibrate: Float32  # determines form and intervals
    moments: Moments | None = None  # the times of the steps; None: not known, so no calendar
    commands: Recorded | None = None  # of the same steps; None: there are none


class Cutters(NamedTuple):
    """The cutters for the windows of each part."""

    learn: Cutter  # training and validation
    train: Cutter
    validate: Cutter
    calibrate: Cutter
    validated: int  # first step of ``validate`` among those of ``learn``

    def less(self, learnt: Callable[[slice], Added], held_out: Added) -> Cutters:
        """Return them without what is added.

        ``learnt``: what is added in a part of the steps of training and validation.
        """
        whole = learnt(slice(None))
        return Cutters(
            self.learn.less(whole),
            self.train.less(whole),
            self.validate.less(learnt(slice(self.validated, None))),
            self.calibrate.less(held_out),
            self.validated,
        )


class Corrected(NamedTuple):
    """What is added, if it ships, the cutters of what is left, and the channels that are held."""

    coupling: Trial | None  # None: it was not tried
    coupling_part: CouplingPart | None  # None: it does not ship
    cut: Cutters
    learn: list[Cutter]  # by origin, without what was known at the origin
    held: Held
    commands: commands.Judgement | None = None  # None: they were not tried
    commands_part: CommandsPart | None = None
    left_out: tuple[str, ...] = ()  # what was not tried or does not ship, as it is too large

    @property
    def adds(self) -> bool:
        """Whether anything is added to a forecast that knows no plan."""
        weights = None if self.commands_part is None else self.commands_part.weights
        return self.coupling_part is not None or bool(weights)

    def metrics(self, names: Sequence[str]) -> dict[str, Any]:
        """Return it for the metrics; ``names``: of the scored channels."""
        return {
            "coupling": None if self.coupling is None else self.coupling.as_json(),
            "commands": None if self.commands is None else self.commands.as_json(names),
            "held": self.held.as_json(names),
        } | ({"left_out": list(self.left_out)} if self.left_out else {})


def corrected(
    cut: Cutters,
    parts: StepParts,
    channels: Sequence[Channel],
    rolled: Sequence[Origin],
    choice: Choice,
    settings: ForecastTable,
    say: Say,
) -> Corrected:
    """Fit coupling and commands to the errors of the closed form, if they gain enough."""
    found = _coupled(cut, parts, channels, rolled, choice, settings, say)
    recorded = parts.commands
    if recorded is None or not settings.coupling.commands or len(rolled) < 2:
        return found
    return _commanded(found, recorded, len(channels), rolled, choice, settings, say)


def closed_form(train: Cutter, choice: Choice, settings: ForecastTable) -> Float32:
    """Return the chosen mix of closed forms (L, H), fitted on the whole training part."""
    moments = maps.Moments.empty(settings)
    random = np.random.default_rng(settings.fit.seed)
    moments.add(train, train.some(maps.WINDOWS_MAX), settings.fit.trend_share, random)
    return origins.mixed(maps.fitted(moments, settings), choice.weights)


def _coupled(
    cut: Cutters,
    parts: StepParts,
    channels: Sequence[Channel],
    rolled: Sequence[Origin],
    choice: Choice,
    settings: ForecastTable,
    say: Say,
) -> Corrected:
    """Fit a coupling of the channels to the errors of the closed form, if that gains enough."""
    count = len(channels)
    plain = [cut.learn] * len(rolled)
    alone = held.judge(rolled, cut.learn, plain, choice.weights, count, settings)
    none = Corrected(None, None, cut, plain, alone)
    if not settings.coupling.tried or len(rolled) < 2 or count < 2:
        return none
    learn, held_out = (_steps(part, channels, settings) for part in (parts.learn, parts.calibrate))
    if (size := coupling.weights(count, len(learn.plannable), settings)) > OFFSETS_MAX:
        told = _too_large("the coupling of the channels", size)
        say(told)
        return none._replace(left_out=(told,))
    trials = coupling.trials(rolled, plain, choice.weights, settings)
    found = coupling.judge(trials, learn, count, settings)
    say(_line(f"coupling of the channels, penalty {found.penalty:g}", found.trial))
    if not found.trial.ships:
        return none._replace(coupling=found.trial)
    share = found.trial.share
    earlier = [cut.learn.less(coupling.part_of(adds, share, ())) for adds in found.added]
    kept = held.judge(rolled, cut.learn, earlier, choice.weights, count, settings)
    closed = coupling.trimmed(closed_form(cut.train, choice, settings), settings)
    errors = coupling.to_fit(cut.train, closed, settings)
    fitted = coupling.fit(errors, learn, count, len(closed), found.penalty, settings)
    fitted = fitted.without(kept.channels)
    less = cut.less(
        lambda part: fitted.added(learn.values[part], share), fitted.added(held_out.values, share)
    )
    if learn.plannable:
        fitted = coupling.with_effects(
            fitted, less.train, learn, closed, found.penalty, kept.channels
        )
    earlier = [cut.learn.less(coupling.part_of(adds, share, kept.channels)) for adds in found.added]
    return Corrected(found.trial, fitted.part(share), less, earlier, kept)


def _steps(values: Float32, channels: Sequence[Channel], settings: ForecastTable) -> coupling.Steps:
    center = np.array([channel.center for channel in channels])
    scale = np.array([channel.scale for channel in channels])
    names = [channel.name for channel in channels]
    plannable = [names.index(name) for name in settings.coupling.plannable if name in names]
    return coupling.Steps(((values - center) / scale).astype(np.float32), plannable)


def _commanded(
    before: Corrected,
    recorded: Recorded,
    count: int,
    rolled: Sequence[Origin],
    choice: Choice,
    settings: ForecastTable,
    say: Say,
) -> Corrected:
    """Fit the commands to what the coupling leaves, if they gain enough."""
    kept = before.held.channels
    trials = coupling.trials(rolled, before.learn, choice.weights, settings, kept)
    named = settings.coupling.plannable
    wanted = [at for at, channel in enumerate(recorded.channels) if channel.name in named]
    found = commands.judge(recorded, trials, count, wanted, settings)
    for line in _command_lines(found):
        say(line)
    if (size := found.weights(count, settings)) > OFFSETS_MAX:
        told = _too_large("the part of the commands", size)
        say(told)
        found = found.withdraw()
        before = before._replace(left_out=(*before.left_out, told))
    if not found.chosen:
        return before._replace(commands=found)
    closed = coupling.trimmed(closed_form(before.cut.train, choice, settings), settings)
    made = _with_commands(before, found, recorded, count, closed, settings)
    for line in commands.withdrawn(made.commands):
        say(line)
    return made


def _with_commands(
    before: Corrected,
    found: commands.Judgement,
    recorded: Recorded,
    count: int,
    closed: Float32,
    settings: ForecastTable,
) -> Corrected:
    """Return it with the commands that are chosen, on top of a map (L, H), as far as they last."""
    cut, learn, kept = before.cut, before.learn, before.held.channels
    errors, later = _to_fit(cut, closed, kept, settings)
    history = commands.fit_history(found, errors, count, len(closed), settings)
    if history is not None and not commands.lasts(found, history, later):
        found, history = found._replace(history=found.history.withdraw(), added=[]), None
    if history is not None:
        own, adds = found.columns.of(found.history.chosen), history.added
        values, held_out = found.columns.learn[:, own], found.columns.calibrate[:, own]
        cut = cut.less(lambda part: adds(values[part], 1.0), adds(held_out, 1.0))
        learn = [one.less(earlier) for one, earlier in zip(learn, found.added, strict=True)]
        errors, later = _to_fit(cut, closed, kept, settings)
    plan = commands.fit_plan(found, errors, later, count, len(closed), settings)
    found = found.as_planned(plan)
    if not found.chosen:
        return before._replace(commands=found)
    spans = coupling.spans(settings, len(closed))
    part = commands.part(recorded, found, history, plan, spans, settings)
    return before._replace(cut=cut, learn=learn, commands=found, commands_part=part)


def _to_fit(
    cut: Cutters, closed: Float32, kept: Sequence[int], settings: ForecastTable
) -> tuple[coupling.Errors, coupling.Errors]:
    """Return the errors of a map (L, H) to fit to, at leads, and later ones, at each step."""
    errors = coupling.to_fit(cut.train, closed, settings, kept)
    places = cut.calibrate.some(maps.WINDOWS_MAX)
    return errors, coupling.errors_at(cut.calibrate, places, closed, kept)


def _too_large(what: str, size: int) -> str:
    return (
        f"{what} is left out: it would have {size} weights, and a bundle has room for"
        f" {OFFSETS_MAX}. Score fewer channels, or set fewer coupling.spans_steps or"
        " intervals.leads"
    )


def _line(what: str, trial: Trial) -> str:
    verdict = "ships" if trial.ships else "does not ship"
    return (
        f"{what}: gains {trial.gain:.4f}, standard error {trial.standard_error:.4f}; it {verdict}"
    )


def _command_lines(found: commands.Judgement) -> list[str]:
    lines = []
    for what, part in (("what it was", found.history), ("what it will be", found.plan)):
        for at, trial in part.alone.items():
            lines.append(_line(f"command {found.names[at]}, {what}", trial))
        if part.together is not None and len(part.alone) > 1:
            lines.append(_line(f"commands together, {what}", part.together))
    return lines
