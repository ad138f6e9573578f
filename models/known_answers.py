"""Known answers: a test that this machine computes the same results as the trainer.

A bundle contains samples with the scores and events that its trainer computed for them. The gateway
replays them on its own interpreter before it uses the bundle. So this test detects a different
kernel, a faulty CPU feature or a replaced part before operation.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from models.bundle import Bundle
from models.detector import Detector, Result
from models.errors import BundleCorrupt, KnownAnswerMismatch
from models.features import figure
from models.forecaster import Forecaster, normalised
from models.manifest import KNOWN_ANSWERS, ForecastPart, Manifest, StreamRules
from models.messages import FLOAT32_TINY, Event, Float32, Float64, NoForecast, Samples

_STEP_MAX = 2**53  # the numbers of later steps are not exact as float64
_DIGITS = 9  # nine significant digits preserve a float32 exactly


class Foretold(NamedTuple):
    """A forecaster's known answer; ``C`` are the scored channels, ``I`` all inputs."""

    context: Float32  # (L, I) in the channels' units
    quantiles: Float32  # (C, G, Q) in the channels' units, at the leads of the intervals
    step: int  # number of the last step of the context; only a calendar makes it matter


def foretell(forecaster: Forecaster, context: Float32, step: int = 0) -> Foretold:
    """Return the forecast from ``context`` (L, I), with the exported offsets.

    ``step`` is the number of its last step.

    Raises:
        BundleCorrupt: no forecast can be made from the context.

    """
    made = forecaster.forecast(context, step, forecaster.intervals.start())
    if isinstance(made, NoForecast):
        raise BundleCorrupt(f"no forecast from the known context: {made.detail}")
    return Foretold(context, made.quantiles[:, forecaster.intervals.leads - 1], step)


def record(samples: Samples, result: Result) -> bytes:
    """Return the known answers as a part of the bundle; ``result`` must start without memory."""
    return _encoded(_document(samples, result))


def with_forecast(answers: bytes, foretold: Foretold) -> bytes:
    """Return the part ``answers`` with a forecaster's known answer added."""
    forecast: dict[str, Any] = {
        "context": [_numbers(row) for row in foretold.context],
        "quantiles": [[_numbers(row) for row in rows] for rows in foretold.quantiles],
    }
    if foretold.step:
        forecast["step"] = foretold.step
    return _encoded(json.loads(answers) | {"forecast": forecast})


def with_features(answers: bytes, manifest: Manifest) -> bytes:
    """Return the part ``answers`` with the features of a known signal, if there are features."""
    if not manifest.sources:
        return answers
    return _encoded(json.loads(answers) | {"features": _numbers(_known_features(manifest))})


def _known_features(manifest: StreamRules) -> Float32:
    """Return each feature of a window of a signal that is simple to reproduce elsewhere.

    The signal is a sine sweep from 0 to half of the sampling rate, with an offset and impulses.
    """
    sources = {source.name: source for source in manifest.sources}
    figures = []
    for channel in manifest.channels:
        if channel.feature is not None:
            source = sources[channel.feature.source]
            at = np.arange(source.window_samples, dtype=np.float64)
            window = 1 + np.sin(np.pi * at * at / (2 * len(at))) + 3 * (at % 97 == 0)
            newest = window[-(channel.feature.samples or 0) :]
            figures.append(figure(channel.feature, newest, source.rate_hz))
    return np.array(figures, np.float32)


def _encoded(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n").encode()


def _document(samples: Samples, result: Result) -> dict[str, Any]:
    return {
        "times": samples.times.tolist(),
        "values": [_numbers(row) for row in samples.values],
        "score": _numbers(result.scores.score),
        "events": [_brief(event) for event in result.events],
    }


def largest_difference(detector: Detector, bundle: Bundle) -> float:
    """Replay the known answers and return the largest difference, in units of the tolerance.

    A difference is ``|got - expected| / (tolerance * (1 + |expected|))``; 1 is the largest allowed.

    Raises:
        BundleCorrupt: the part cannot be read.
        KnownAnswerMismatch: different samples have a score, or the events differ.

    """
    samples, expected, events = _read(bundle)
    result = detector.step(detector.start(), samples)
    got = result.scores.score
    if not np.array_equal(np.isnan(got), np.isnan(expected)):
        raise KnownAnswerMismatch(f"{bundle.source}: other samples have a score than in training")
    found = [_brief(event) for event in result.events]
    if _of_scores(found) != _of_scores(events):
        raise KnownAnswerMismatch(
            f"{bundle.source}: the known answers lead to the events {found} here, not {events}"
        )
    tolerance = bundle.manifest.known_answers.tolerance
    change = np.abs(got - expected) / (tolerance * (1 + np.abs(expected)))
    others = max(_forecast_difference(detector, bundle), _feature_difference(bundle)) / tolerance
    return max(float(np.nanmax(change, initial=0.0)), others)


class Difference(NamedTuple):
    """How far the answers of another training are from a bundle's; 0 and true: not at all."""

    score: float  # largest |got - expected| / (1 + |expected|); infinite where one has no score
    forecast: float  # of a quantile, in units of the context's scale
    same_events: bool


def difference(detector: Detector, bundle: Bundle) -> Difference:
    """Compare a detector with the known answers of a bundle of the same configuration.

    Raises:
        BundleCorrupt: the part cannot be read, or its forecast has another form.

    """
    samples, expected, events = _read(bundle)
    result = detector.step(detector.start(), samples)
    got = result.scores.score
    change = np.abs(got - expected) / (1 + np.abs(expected))
    both = np.isnan(got) & np.isnan(expected)
    found = [_brief(event) for event in result.events]
    return Difference(
        _largest(np.where(both, np.float32(0), change)),
        _forecast_difference(detector, bundle),
        _of_scores(found) == _of_scores(events),
    )


def _feature_difference(bundle: Bundle) -> float:
    """Return the largest difference of a feature, absolute + relative."""
    if not bundle.manifest.sources:
        return 0.0
    got = _known_features(bundle.manifest)
    try:
        with np.errstate(over="raise"):
            expected = np.array(json.loads(bundle.parts[KNOWN_ANSWERS])["features"], np.float32)
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise BundleCorrupt(
            f"{bundle.source}: {KNOWN_ANSWERS} has no readable features: {error}"
        ) from error
    if got.shape != expected.shape:
        raise BundleCorrupt(f"{bundle.source}: {KNOWN_ANSWERS} must have one number per feature")
    return _largest(np.abs(got - expected) / (1 + np.abs(expected)))


def _largest(differences: Float32 | Float64) -> float:
    """Return the largest difference; infinite if one is NaN."""
    difference = float(differences.max())
    return np.inf if np.isnan(difference) else difference


def _forecast_difference(detector: Detector, bundle: Bundle) -> float:
    """Return the largest difference of a quantile, in units of the context's scale."""
    if detector.forecaster is None:
        return 0.0
    expected = _read_foretold(bundle, detector.forecaster.part)
    got = foretell(detector.forecaster, expected.context, expected.step)
    scored = expected.context[:, : len(detector.forecaster.scored)]
    _, _, scale = normalised(scored.T, FLOAT32_TINY)
    return _largest(np.abs((got.quantiles - expected.quantiles) / scale[:, None, None]))


def check(detector: Detector, bundle: Bundle) -> None:
    """Refuse a bundle if this machine does not reproduce its known answers.

    Raises:
        BundleCorrupt: the part cannot be read.
        KnownAnswerMismatch: a score differs by more than the tolerance, or the events differ.

    """
    difference = largest_difference(detector, bundle)
    if not difference <= 1:
        raise KnownAnswerMismatch(
            f"{bundle.source}: on {detector.runtime} an answer differs from the trainer's by"
            f" {difference:.1f} × the tolerance; the bundle is not used. Train it again, and"
            " include this interpreter in the check"
        )


def _read(bundle: Bundle) -> tuple[Samples, Float32, list[dict[str, Any]]]:
    try:
        document = json.loads(bundle.parts[KNOWN_ANSWERS])
        with np.errstate(over="raise"):
            values = np.array(document["values"], np.float32)
            score = np.array(document["score"], np.float32)
        times = np.array(document["times"], np.float64)
        events = [dict(event) for event in document["events"]]
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise BundleCorrupt(f"{bundle.source}: {KNOWN_ANSWERS} cannot be read: {error}") from error
    channels = len(bundle.manifest.channels)
    if (
        times.ndim != 1
        or len(times) == 0
        or values.shape != (len(times), channels)
        or score.shape != times.shape
    ):
        raise BundleCorrupt(f"{bundle.source}: {KNOWN_ANSWERS} has rows of the wrong length")
    return Samples(times, values), score, events


def _read_foretold(bundle: Bundle, part: ForecastPart) -> Foretold:
    try:
        answer = json.loads(bundle.parts[KNOWN_ANSWERS])["forecast"]
        context = np.array(answer["context"], np.float32)
        quantiles = np.array(answer["quantiles"], np.float32)
        step = answer.get("step", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleCorrupt(
            f"{bundle.source}: {KNOWN_ANSWERS} has no readable forecast: {error}"
        ) from error
    channels = len(bundle.manifest.scored)
    shape = (channels, len(part.intervals.leads_steps), len(part.quantiles))
    inputs = channels + (0 if part.commands is None else len(part.commands.channels))
    if context.shape != (part.context_steps, inputs) or quantiles.shape != shape:
        raise BundleCorrupt(f"{bundle.source}: {KNOWN_ANSWERS} has a forecast of the wrong shape")
    if not isinstance(step, int) or abs(step) > _STEP_MAX:
        raise BundleCorrupt(f"{bundle.source}: {KNOWN_ANSWERS} has a forecast of step {step!r}")
    return Foretold(context, quantiles, step)


def _numbers(row: Float32) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.{_DIGITS}g}") for value in row]


def _of_scores(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop events that follow from absent values alone, and the numbers of the others.

    Versions differ in these: older ones reported a gap of the whole stream for each channel.
    """
    return [event | {"number": None} for event in events if event.get("kind") != "missing"]


def _brief(event: Event) -> dict[str, Any]:
    """Return the fields that must be equal everywhere; scores are compared with a tolerance."""
    return {
        "number": event.number,
        "kind": event.kind,
        "state": event.state,
        "time": event.time,
        "onset": event.onset,
    }
