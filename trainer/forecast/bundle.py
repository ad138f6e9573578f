"""Puts a forecaster into a bundle: trained on its training part, judged on its test part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.bundle import Bundle
from models.forecaster import Forecaster
from models.impute import fill
from models.interpreter import ForecastNetwork
from models.known_answers import foretell, with_forecast
from models.manifest import FORECASTER, KNOWN_ANSWERS, Manifest
from models.messages import Float32, Samples
from trainer import prepare
from trainer.config import ForecastTable
from trainer.forecast import references
from trainer.forecast.build import BuiltForecaster, Say, StepParts, build
from trainer.forecast.evaluate import Accuracy, Told, evaluate, season_error
from trainer.forecast.windows import Steps, steps
from trainer.seal import assemble


@dataclass(frozen=True, slots=True)
class Foretold:
    """What the forecaster is worth on the test part."""

    metrics: dict[str, Any]
    by_lead: dict[str, dict[str, list[float]]]
    fans: list[Told]
    channels: list[str]


class _Parts(NamedTuple):
    """Steps of the bundle's parts."""

    train: Steps
    calibrate: Steps
    test: Steps


def extend(
    bundle: Bundle,
    settings: ForecastTable,
    parts: prepare.Parts,
    tflite_python: Path | None,
    say: Say,
) -> tuple[Bundle, Foretold]:
    """Return the bundle with a forecaster, and what that is worth.

    Args:
        bundle: calibrated; its detector stays as it is.
        settings: of the forecaster.
        parts: on the sampling grid.
        tflite_python: a Python with ``tflite-runtime`` to choose the form on as well.
        say: called with each line of progress.

    Raises:
        DataError: a part is too short for the forecaster.

    """
    manifest, period_s = bundle.manifest, bundle.manifest.sampling.period_s
    scored, count = manifest.scored, settings.step_samples
    cut = _Parts(*(steps(part, scored, count, period_s) for part in parts))
    scales = np.array([manifest.channels[position].scale for position in scored], np.float32)
    train, validate = _training_and_validation(cut.train.values, settings)
    built = build(
        settings, scales, StepParts(train, validate, cut.calibrate.values), tflite_python, say
    )
    extended = _assembled(bundle, built, cut.calibrate.values)
    foretold = _judge(extended.manifest, built, cut, parts.test, settings)
    return extended, foretold


def _training_and_validation(values: Float32, settings: ForecastTable) -> tuple[Float32, Float32]:
    """Cut off the tail that says when to stop; it begins with a context of what is learnt from.

    Shares are of the steps with a value: between recordings there may be days without one.
    """
    known = np.flatnonzero(~np.isnan(values).all(axis=1))
    learnt = int(known[round(len(known) * (1 - settings.fit.validation)) - 1]) + 1
    return values[:learnt], values[max(0, learnt - settings.context_steps) :]


def _assembled(bundle: Bundle, built: BuiltForecaster, calibrate: Float32) -> Bundle:
    manifest = bundle.manifest.model_copy(update={"forecaster": built.shipped.part})
    forecaster = Forecaster(manifest, ForecastNetwork(built.shipped.network))
    context = calibrate[-built.shipped.part.context_steps :]
    answer = foretell(forecaster, fill(context, built.shipped.part.imputation))
    answers = with_forecast(bundle.parts[KNOWN_ANSWERS], answer)
    parts = {FORECASTER: built.shipped.network, KNOWN_ANSWERS: answers}
    return assemble(manifest, dict(bundle.parts) | parts)


def _judge(
    manifest: Manifest,
    built: BuiltForecaster,
    cut: _Parts,
    test: Samples,
    settings: ForecastTable,
) -> Foretold:
    names = [manifest.channels[position].name for position in manifest.scored]
    scales = np.array([manifest.channels[position].scale for position in manifest.scored])
    scales = scales.astype(np.float32)
    season = settings.imputation.season_steps or 1
    naive = season_error(cut.train.values, scales, season)
    judged: dict[str, Accuracy] = {}
    fans: list[Told] = []
    for name, form in (("quantized", built.shipped), ("float", built.floating)):
        judged[name], told = evaluate(form.forecaster(manifest), test, cut.test)
        fans = fans or told
    beside = {
        "linear": references.linear(built.linear),
        "last_value": references.last_value(settings),
    }
    if season > 1:
        beside["seasonal_naive"] = references.seasonal(settings, season)
    for name, reference in beside.items():
        judged[name] = references.evaluate(reference, cut.test.values, scales, settings)
    metrics = built.metrics() | {
        "step_s": settings.step_samples * manifest.sampling.period_s,
        "accuracy": {name: accuracy.total(naive) for name, accuracy in judged.items()},
        "channels": judged["quantized"].by_channel(names),
        "quantiles": judged["quantized"].below(),
    }
    leads = {name: accuracy.by_lead() for name, accuracy in judged.items()}
    return Foretold(metrics, leads, fans, names)
