"""Adds a forecaster to a bundle, and compares the sealed forecaster with simple ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.commands import held
from models.forecaster import Forecaster
from models.impute import fill
from models.interpreter import ForecastNetwork
from models.known_answers import foretell, with_forecast
from models.manifest import FORECASTER, KNOWN_ANSWERS, Channel, ForecastPart
from models.messages import Float32, Samples
from trainer import prepare
from trainer.config import ForecastTable
from trainer.family import OnEpoch, unheard
from trainer.forecast import calibrate, evaluate, references
from trainer.forecast.build import (
    BuiltForecaster,
    Say,
    build,
    check_length,
    cutters,
)
from trainer.forecast.calendar import Moments
from trainer.forecast.commands import Recorded
from trainer.forecast.corrections import StepParts
from trainer.forecast.evaluate import Accuracy, Told
from trainer.forecast.windows import steps
from trainer.seal import assemble


@dataclass(eq=False, frozen=True, slots=True)
class Foretold:
    """The accuracy of the forecaster on the test part."""

    metrics: dict[str, Any]
    by_lead: dict[str, dict[str, list[float]]]
    fans: list[Told]
    channels: list[str]


def extend(
    bundle: Bundle,
    settings: ForecastTable,
    parts: prepare.Parts,
    tflite_python: Path | None,
    say: Say,
    on_epoch: OnEpoch = unheard,
) -> tuple[Bundle, BuiltForecaster]:
    """Return the bundle with a forecaster, and the result of its training.

    Args:
        bundle: calibrated; its detector does not change.
        settings: of the forecaster.
        parts: on the sampling grid; the test part is not used.
        tflite_python: a Python with ``tflite-runtime`` to check the forms on as well.
        say: called with each line of progress.
        on_epoch: see ``trainer.forecast.build.build``.

    Raises:
        DataError: a part is too short for the forecaster.

    """
    manifest = bundle.manifest
    cut = _step_parts(parts, manifest.channels, settings, manifest.sampling.period_s)
    channels = [manifest.channels[position] for position in manifest.scored]
    built = build(settings, channels, cut, tflite_python, say, on_epoch)
    return _assembled(bundle, built, cut), built


def check(
    settings: ForecastTable, parts: prepare.Parts, channels: Sequence[Channel], period_s: float
) -> None:
    """Reject parts that are insufficient for a forecaster, before any training.

    Args:
        settings: of the forecaster.
        parts: on the sampling grid, of ``period_s`` seconds.
        channels: of the samples.

    Raises:
        DataError: a part is too short, or every window has a gap.

    """
    scales = _scales(channels)
    cut = cutters(settings, scales, _step_parts(parts, channels, settings, period_s)).calibrate
    calibrate.check(cut.cut(cut.some(calibrate.WINDOWS_MAX)), len(scales), settings)
    test = steps(parts.test, _scored(channels), settings.step_samples, period_s)
    # the first forecast needs a whole context, and then waits for the next stride
    needed = settings.longest_steps + settings.horizon_steps + settings.stride_steps - 1
    check_length("test", len(test.values), needed)


def _step_parts(
    parts: prepare.Parts, channels: Sequence[Channel], settings: ForecastTable, period_s: float
) -> StepParts:
    learnt, held_out = (
        steps(part, _scored(channels), settings.step_samples, period_s)
        for part in (parts.train, parts.calibrate)
    )
    moments = Moments(settings.step_samples * period_s, learnt.first, held_out.first)
    trained = _trained(learnt.values, settings)
    commands = _commands(parts, channels, settings, period_s)
    return StepParts(learnt.values, trained, held_out.values, moments, commands)


def _commands(
    parts: prepare.Parts, channels: Sequence[Channel], settings: ForecastTable, period_s: float
) -> Recorded | None:
    """Return the steps of the channels that are not scored; None: there are none."""
    positions = [at for at, channel in enumerate(channels) if not channel.scored]
    if not positions:
        return None
    learn, held_out = (
        held(steps(part, positions, settings.step_samples, period_s).values)
        for part in (parts.train, parts.calibrate)
    )
    return Recorded([channels[at] for at in positions], positions, learn, held_out)


def _scored(channels: Sequence[Channel]) -> list[int]:
    return [position for position, channel in enumerate(channels) if channel.scored]


def _scales(channels: Sequence[Channel]) -> Float32:
    return np.array([channel.scale for channel in channels if channel.scored], np.float32)


def _trained(values: Float32, settings: ForecastTable) -> int:
    """Return the number of steps for training; the rest is for validation.

    The share counts only steps with a value, because there may be days between recordings.
    """
    known = np.flatnonzero(~np.isnan(values).all(axis=1))
    return int(known[round(len(known) * (1 - settings.fit.validation)) - 1]) + 1


def _assembled(bundle: Bundle, built: BuiltForecaster, parts: StepParts) -> Bundle:
    manifest = bundle.telemanom.model_copy(update={"forecaster": built.shipped.part})
    forecaster = Forecaster(manifest, ForecastNetwork(built.shipped.network))
    part = built.shipped.part
    context = fill(parts.calibrate[-part.context_steps :], part.imputation)
    if part.commands is not None and parts.commands is not None:
        own = [parts.commands.positions.index(at) for at in part.commands.channels]
        known = parts.commands.calibrate[-part.context_steps :, own]
        context = np.concatenate([context, known], axis=1)
    answer = foretell(forecaster, context, _known_step(parts, part))
    answers = with_forecast(bundle.parts[KNOWN_ANSWERS], answer)
    added = {FORECASTER: built.shipped.network, KNOWN_ANSWERS: answers}
    return assemble(manifest, dict(bundle.parts) | added)


def _known_step(parts: StepParts, part: ForecastPart) -> int:
    """Return the number of the last step of the known answer; 0 where time does not matter."""
    if part.calendar is None or parts.moments is None:
        return 0
    return parts.moments.calibrate + len(parts.calibrate) - 1


def judge(
    bundle: Bundle, built: BuiltForecaster, parts: prepare.Parts, settings: ForecastTable
) -> Foretold:
    """Evaluate the forecaster of a sealed bundle, and untrained references.

    Args:
        bundle: sealed; its forecaster is opened as on a gateway.
        built: the result of its training, for the comparison.
        parts: the parts of the training; only the test part is used.
        settings: of the forecaster.

    """
    sealed = evaluate.judge(bundle, parts)
    judged = {evaluate.SEALED: sealed.accuracy} | _beside(bundle, built, parts.test, settings)
    metrics = built.metrics() | sealed.metrics
    metrics["accuracy"] = {name: one.total(sealed.naive) for name, one in judged.items()}
    leads = {name: accuracy.by_lead() for name, accuracy in judged.items()}
    names = [bundle.manifest.channels[position].name for position in bundle.manifest.scored]
    for name, found in judged["last_value"].by_channel(names).items():
        metrics["channels"][name]["last_value_mae"] = found["mae"]
    return Foretold(metrics, leads, sealed.told, names)


def _beside(
    bundle: Bundle, built: BuiltForecaster, test: Samples, settings: ForecastTable
) -> dict[str, Accuracy]:
    """Return the accuracy of the float32 form and of untrained forecasters."""
    manifest = bundle.manifest
    season = settings.maps.season_steps or settings.imputation.season_steps or 1
    cut = steps(test, manifest.scored, settings.step_samples, manifest.sampling.period_s)
    floating, _ = evaluate.evaluate(built.floating.forecaster(bundle.telemanom), test, cut)
    simple = {"last_value": references.last_value(settings)}
    if built.shipped.part.calendar is None:
        simple = {"linear": references.linear(built.linear)} | simple
    if season > 1:
        simple["seasonal_naive"] = references.seasonal(settings, season)
    return {"float": floating} | {
        name: references.evaluate(reference, cut.values, _scales(manifest.channels), settings)
        for name, reference in simple.items()
    }
