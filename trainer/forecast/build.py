"""Builds a forecaster: from steps to the part of a bundle.

steps ─> calendar ─> origins: closed forms ─> stack ─> corrections ─> a network on top ─┐
part of the manifest + network <─ intervals <─ choose a form <─ every form <────────────┘

The corrections are a coupling of the channels, and commands. Calendar, corrections and network ship
only if they gain enough. What one leaves is forecast by the next. A channel whose last value is a
better forecast than that with the coupling is held.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from models.errors import DataError
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork, Runtime
from models.manifest import (
    CalendarPart,
    Channel,
    ForecastPart,
    Imputation,
    Intervals,
    TelemanomManifest,
)
from models.messages import Float32
from trainer.config import ForecastTable, Quantization
from trainer.epochs import Epoch
from trainer.family import OnEpoch, unheard
from trainer.forecast import calendar, calibrate, coupling, origins, stack
from trainer.forecast.calendar import Calendars
from trainer.forecast.choose import (
    BATCH,
    GATE_WINDOWS_MAX,
    ForecasterTrial,
    choose,
    predict,
    representative,
)
from trainer.forecast.corrections import Corrected, Cutters, StepParts, closed_form, corrected
from trainer.forecast.origins import Origin
from trainer.forecast.stack import Choice, Evidence, Trial
from trainer.forecast.windows import Cutter, Windows, joined
from trainer.quiet import quiet

if TYPE_CHECKING:
    from trainer.forecast.fit import Learner

Say = Callable[[str], None]
FORECASTER: Final = "forecaster"  # name of the network, in curves of its epochs


class Form(NamedTuple):
    """One form of the forecaster, with the intervals that belong to it."""

    part: ForecastPart
    network: bytes

    def forecaster(self, manifest: TelemanomManifest, runtime: Runtime = "auto") -> Forecaster:
        """Return the forecaster as it runs on a gateway, for the channels of ``manifest``."""
        whole = manifest.model_copy(update={"forecaster": self.part})
        return Forecaster(whole, ForecastNetwork(self.network, runtime))


@dataclass(eq=False, frozen=True, slots=True)
class BuiltForecaster:
    """The result of the training: the forecaster that ships, and its float32 form."""

    shipped: Form
    floating: Form
    linear: Float32  # (L, H) the chosen mix of closed forms; without a calendar, a forecaster
    evidence: Evidence
    choice: Choice  # of the closed forms
    network: Trial | None  # None: no network was tried
    epochs: list[Epoch]  # of the network that ships
    trials: list[ForecasterTrial]  # the chosen form first
    calendar: Calendars | None  # None: no calendar was tried
    corrected: Corrected  # coupling, commands, and channels that are held
    channels: list[str]  # names of the scored channels

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the training."""
        found: dict[str, Any] = {
            "choice": self.choice.as_json(),
            "evidence": self.evidence.as_json(),
            "network": None if self.network is None else self.network.as_json(),
            "calendar": None if self.calendar is None else self.calendar.as_json(),
            "quantization": [trial.as_json() for trial in self.trials],
        } | self.corrected.metrics(self.channels)
        if self.epochs:
            best = next(epoch for epoch in reversed(self.epochs) if epoch.best)
            found["epochs"] = len(self.epochs)
            found["best_epoch"] = best.number
            found["validation_loss"] = round(best.validation_loss, 6)
        return found


def build(
    settings: ForecastTable,
    channels: Sequence[Channel],
    parts: StepParts,
    tflite_python: Path | None,
    say: Say,
    on_epoch: OnEpoch = unheard,
) -> BuiltForecaster:
    """Choose a forecaster, fit it, and choose its form.

    Args:
        settings: settings of the forecaster.
        channels: the scored channels.
        parts: the steps.
        tflite_python: a Python with ``tflite-runtime`` to check the forms on as well.
        say: called with each line of progress.
        on_epoch: called after each epoch, with the name of the network: ``forecaster``, which
            ships, or ``forecaster.origin-N``, which is tried on the steps before the Nth origin.

    Raises:
        DataError: there is too little data for training or calibration.

    """
    with quiet():
        from trainer.detector.export import convert, in_every_form
    scales = np.array([channel.scale for channel in channels], np.float32)
    usual = _calendar(parts, channels, settings, say)
    parts = parts if usual is None else _less(parts, usual, channels)
    cut = cutters(settings, scales, parts)
    say(f"choosing the forecaster, at {settings.choice.origins} origins")
    rolled = origins.roll(cut.learn, settings)
    found = origins.evidence(rolled)
    choice = stack.choose(found)
    say(_choice_line(choice))
    added = corrected(cut, parts, channels, rolled, choice, settings, say)
    networks = _Networks(added.learn, settings, say, on_epoch)
    left = _left(rolled, added.learn, settings) if added.adds else rolled
    trial = _tried(left, choice, networks, settings, say)
    if trial is not None and trial.ships:
        made = _with_network(added.cut, choice, trial, networks, settings)
    else:
        inside = [
            (origin, learn)
            for origin, learn in zip(rolled, added.learn, strict=True)
            if origin.step < parts.trained
        ]
        closed = coupling.trimmed(closed_form(cut.train, choice, settings), settings)
        made = _closed_alone(closed, added.cut, choice, inside, added.held.channels, settings)
    closed, cut = made.closed, added.cut
    held_out = cut.calibrate.shortened(len(closed))
    gate = held_out.cut(held_out.some(GATE_WINDOWS_MAX))
    floating = convert(made.network, "float32")
    exported = in_every_form(
        made.network, floating, settings.parity.quantizations, lambda: representative(gate)
    )
    trials = choose(exported.networks, exported.refused, gate, settings.parity, tflite_python)
    for form in trials:
        say(_gate_line(form))
    windows = held_out.cut(held_out.some(calibrate.WINDOWS_MAX))
    shape = _Shape(
        len(closed),
        len(scales),
        bool(made.epochs),
        added,
        None if usual is None else usual.part,
    )
    forms = _Forms(exported.networks, windows, made.earlier, shape, settings)
    return BuiltForecaster(
        shipped=forms.calibrated(trials[0].quantization),
        floating=forms.calibrated("float32"),
        linear=closed,
        evidence=found,
        choice=choice,
        network=trial,
        epochs=made.epochs,
        trials=trials,
        calendar=usual,
        corrected=added,
        channels=[channel.name for channel in channels],
    )


def _calendar(
    parts: StepParts, channels: Sequence[Channel], settings: ForecastTable, say: Say
) -> Calendars | None:
    """Choose a calendar; None: none is tried."""
    if settings.calendar.zone is None or parts.moments is None:
        return None
    found = calendar.choose(parts.learn, parts.trained, channels, parts.moments, settings)
    for line in _calendar_lines(found):
        say(line)
    return found


def _less(parts: StepParts, usual: Calendars, channels: Sequence[Channel]) -> StepParts:
    """Return the steps without what the calendar that ships tells of them."""
    part, moments = usual.part, parts.moments
    if part is None or moments is None:
        return parts
    learn, held_out = (
        calendar.less(values, part, channels, first, moments.step_s)
        for values, first in (
            (parts.learn, moments.learn),
            (parts.calibrate, moments.calibrate),
        )
    )
    return parts._replace(learn=learn, calibrate=held_out)


def _left(
    rolled: Sequence[Origin], learn: Sequence[Cutter], settings: ForecastTable
) -> list[Origin]:
    """Return the origins with windows of what the corrections leave."""
    random = np.random.default_rng(settings.fit.seed)
    share = settings.fit.trend_share
    return [
        origin._replace(
            judged=cutter.cut_with_trends(origin.places, share, random),
            plain=cutter.cut(origin.places),
        )
        for origin, cutter in zip(rolled, learn, strict=True)
    ]


class _Made(NamedTuple):
    """A forecaster before its export."""

    network: Any  # in Keras, ``context -> quantiles``
    closed: Float32  # (L, H) its linear path
    epochs: list[Epoch]  # of its encoder; empty: it is only the linear path
    earlier: list[Judged]  # windows of the training part that also set the intervals


def _with_network(
    cut: Cutters, choice: Choice, trial: Trial, networks: _Networks, settings: ForecastTable
) -> _Made:
    from trainer.forecast.network import on_top

    closed = closed_form(cut.train, choice, settings)
    epochs = networks.fit(cut.train, cut.validate, closed)
    return _Made(on_top(networks.network, closed, trial.share), closed, epochs, [])


def _closed_alone(
    closed: Float32,
    cut: Cutters,
    choice: Choice,
    inside: Sequence[tuple[Origin, Cutter]],
    kept: Sequence[int],
    settings: ForecastTable,
) -> _Made:
    """Return the closed form (L, H) alone.

    ``inside``: origins in training, and their cutters. ``kept``: channels that are held.
    """
    with quiet():
        from trainer.forecast.network import closed_network
    # distances are in scales of the context that the network gets
    validate = cut.validate.shortened(len(closed))
    checked = validate.cut(validate.some(settings.fit.validation_windows_max))
    distances = calibrate.distances(closed, checked, settings)
    earlier = [
        _judged(
            origin,
            learn,
            origins.mixed(origin.maps, choice.weights)[-len(closed) :],
            kept,
            distances,
        )
        for origin, learn in inside
    ]
    return _Made(closed_network(closed, distances), closed, [], earlier)


def _judged(
    origin: Origin, learn: Cutter, closed: Float32, kept: Sequence[int], distances: Float32
) -> Judged:
    """Return the forecasts of a closed form after an origin, fitted before it."""
    windows = learn.shortened(len(closed)).at(origin.places)
    median = origins.forecasts(windows, closed, kept)
    return Judged(windows, median[:, :, None] + distances)


def _tried(
    rolled: Sequence[Origin], choice: Choice, networks: _Networks, settings: ForecastTable, say: Say
) -> Trial | None:
    """Return the gain of a network over the closed form; None: no network is tried."""
    if not settings.choice.network or len(rolled) < 2:
        return None
    found = origins.try_network(rolled, choice.weights, networks.fit_before, settings.choice)
    say(_network_line(found, len(rolled)))
    return found


def cutters(settings: ForecastTable, scales: Float32, parts: StepParts) -> Cutters:
    """Return the cutters for the windows of each part.

    Raises:
        DataError: a part has no whole window.

    """
    needed = settings.longest_steps + settings.horizon_steps
    validated = max(0, parts.trained - settings.longest_steps)
    by_part = {
        "training": parts.learn[: parts.trained],
        "validation": parts.learn[validated:],
        "calibration": parts.calibrate,
    }
    made = []
    for part, values in by_part.items():
        check_length(part, len(values), needed)
        made.append(Cutter(values, scales, settings))
        if len(made[-1].places) == 0:
            raise DataError(
                f"the {part} part has no window of the forecaster without a gap: make"
                " forecast.context_steps shorter, or record without interruptions"
            )
    train, validate, held_out = made
    return Cutters(Cutter(parts.learn, scales, settings), train, validate, held_out, validated)


class _Networks:
    """Fits networks on top of closed forms, one after the other with the same learner."""

    def __init__(
        self, learn: Sequence[Cutter], settings: ForecastTable, say: Say, on_epoch: OnEpoch
    ) -> None:
        self._learn, self._settings, self._say, self._on_epoch = learn, settings, say, on_epoch

    @functools.cached_property
    def _learner(self) -> Learner:
        with quiet():
            from trainer.forecast.fit import Learner
        return Learner(self._settings)

    @property
    def network(self) -> Any:
        """The network of the last fit; it predicts the residual of the closed form."""
        return self._learner.network

    def fit(
        self, train: Cutter, validate: Cutter, closed: Float32, name: str = FORECASTER
    ) -> list[Epoch]:
        """Fit the network on top of a map (L, H); ``name``: of the network, for its curve."""
        from trainer.forecast.fit import fit

        tell = functools.partial(self._on_epoch, name)
        return fit(self._learner, train, validate, closed, tell)

    def fit_before(
        self, number: int, origin: Origin, closed: Float32
    ) -> Callable[[Windows], Float32]:
        """Fit before an origin, the ``number``th; return the forecasts (n, H) of windows."""
        learn, settings = self._learn[number], self._settings
        stop = round(origin.step * (1 - settings.fit.validation))
        train = learn.only(learn.ending(0, stop))
        validate = learn.only(learn.ending(stop, origin.step))
        if len(train.places) == 0 or len(validate.places) == 0:
            train = validate = learn.only(learn.ending(0, origin.step))
        self._say(f"trying a network on the steps before number {origin.step}")
        self.fit(train, validate, closed, f"{FORECASTER}.origin-{number + 1}")
        return functools.partial(self._forecasts, closed)

    def _forecasts(self, closed: Float32, windows: Windows) -> Float32:
        """Return the forecasts (n, H) of closed form plus network."""
        middle, contexts = len(self._settings.quantiles) // 2, windows.context
        batches = [contexts[begin : begin + BATCH] for begin in range(0, len(contexts), BATCH)]
        added = [np.asarray(self.network(batch)["quantiles"])[:, :, middle] for batch in batches]
        return np.asarray(contexts @ closed + np.concatenate(added), np.float32)


def check_length(part: str, found: int, needed: int) -> None:
    """Reject a part with too few steps.

    Raises:
        DataError: the part is too short; the message has the actual and the required number.

    """
    if found < needed:
        raise DataError(
            f"too little data for the forecaster: the {part} part has {found} steps and needs"
            f" {needed}. Make forecast.context_steps or forecast.horizon_steps shorter, or give"
            " longer recordings"
        )


class Judged(NamedTuple):
    """Windows, and forecasts for them by a forecaster that was not fitted on them."""

    windows: Windows
    quantiles: Float32  # (n, H, Q)


class _Shape(NamedTuple):
    """The sizes of the network, for the manifest."""

    context: int  # L, steps
    channels: int  # C
    encoder: bool  # False: only a linear map
    added: Corrected
    calendar: CalendarPart | None


class _Forms:
    """Every form of one network, and the windows that set the intervals.

    The calibration part may show only one of many seasons or loads. The earlier forecasts, at the
    origins in the training part, add others.
    """

    def __init__(
        self,
        networks: Mapping[Quantization, bytes],
        windows: Windows,
        earlier: Sequence[Judged],
        shape: _Shape,
        settings: ForecastTable,
    ) -> None:
        self._networks, self._windows, self._earlier = networks, windows, earlier
        self._shape, self._settings = shape, settings

    def calibrated(self, name: Quantization) -> Form:
        """Return a form with its intervals."""
        network = self._networks[name]
        quantiles = _holding(
            predict(network, self._windows.context), self._windows, self._shape.added.held.channels
        )
        channels = self._shape.channels
        windows = joined([self._windows, *(one.windows for one in self._earlier)])
        quantiles = np.concatenate([quantiles, *(one.quantiles for one in self._earlier)])
        found = calibrate.intervals(quantiles, windows, channels, self._settings)
        return Form(_part(self._settings, self._shape, name, found), network)


def _holding(quantiles: Float32, windows: Windows, kept: Sequence[int]) -> Float32:
    """Return quantiles (n, H, Q); those of channels that are held lie around the last value."""
    mine = np.isin(windows.channel, kept)
    off = windows.context[mine, -1:] - quantiles[mine][:, :, quantiles.shape[2] // 2]
    moved = quantiles.copy()
    moved[mine] += off[:, :, None]
    return moved


def _part(
    settings: ForecastTable, shape: _Shape, quantization: str, intervals: Intervals
) -> ForecastPart:
    network, encoder = settings.network, shape.encoder
    return ForecastPart(
        step_samples=settings.step_samples,
        context_steps=shape.context,
        horizon_steps=settings.horizon_steps,
        stride_steps=settings.stride_steps,
        quantiles=settings.quantiles,
        scale_floor=settings.scale_floor,
        patch_steps=network.patch_steps,
        width=network.d_model if encoder else 0,
        heads=network.num_heads if encoder else 0,
        layers=network.layers if encoder else 0,
        imputation=Imputation(**settings.imputation.model_dump()),
        intervals=intervals,
        coupling=shape.added.coupling_part,
        calendar=shape.calendar,
        commands=shape.added.commands_part,
        held=shape.added.held.channels,
        quantization=quantization,
    )


def _choice_line(choice: Choice) -> str:
    error = np.mean(choice.errors[choice.name])
    weights = ", ".join(f"{weight:.2f} of {name}" for name, weight in choice.weights.items())
    return f"closed form: {weights}; squared error {error:.3f} of the naive forecast's"


def _network_line(trial: Trial, count: int) -> str:
    verdict = "ships" if trial.ships else "does not ship"
    return (
        f"network: gains {trial.gain:.4f}, standard error {trial.standard_error:.4f}, and"
        f" {trial.plain_gain:.4f} without added trends, at {len(trial.closed)} of {count} origins;"
        f" it {verdict}"
    )


def _calendar_lines(found: Calendars) -> list[str]:
    lines = [
        f"calendar, hours of the {cycle} in {found.zone}: gains {trial.gain:.4f}, standard error"
        f" {trial.standard_error:.4f}; it {'ships' if trial.ships else 'does not ship'}"
        for cycle, trial in found.trials.items()
    ]
    return lines or ["calendar: too few steps to find what is usual at each hour"]


def _gate_line(trial: ForecasterTrial) -> str:
    verdict = "passes" if trial.passed else f"fails: {trial.reason}"
    size = "" if trial.size_bytes is None else f"{trial.size_bytes:,} B, "
    return f"forecaster {trial.quantization}: {size}{verdict}"
