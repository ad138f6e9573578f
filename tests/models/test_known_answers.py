"""Known answers: this machine computes what the trainer computed, or the bundle is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import known_answers
from models.bundle import Bundle
from models.errors import BundleCorrupt, KnownAnswerMismatch
from models.interpreter import Runtime, StepNetwork
from models.manifest import KNOWN_ANSWERS
from models.messages import Samples
from models.pipeline import Pipeline
from tests.models.conftest import sealed


def with_answers(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> Bundle:
    document = json.loads(bundle.parts[KNOWN_ANSWERS])
    change(document)
    parts = dict(bundle.parts) | {KNOWN_ANSWERS: json.dumps(document).encode()}
    return sealed(bundle.manifest, parts)


def test_the_reference_bundle_gives_its_known_answers_here(zoo_bundle: Bundle) -> None:
    pipeline = Pipeline(zoo_bundle)
    known_answers.check(pipeline, zoo_bundle)
    document = json.loads(zoo_bundle.parts[KNOWN_ANSWERS])
    assert document["events"], "known answers without an event prove little"
    assert sum(score is not None for score in document["score"]) >= 100


def test_a_difference_beyond_the_tolerance_is_refused(zoo_bundle: Bundle) -> None:
    def change(document: dict[str, Any]) -> None:
        tolerance = zoo_bundle.manifest.known_answers.tolerance
        document["score"][-1] += 3 * tolerance * (1 + document["score"][-1])

    altered = with_answers(zoo_bundle, change)
    with pytest.raises(KnownAnswerMismatch, match="an answer differs"):
        known_answers.check(Pipeline(altered), altered)


def test_other_events_or_other_samples_scored_are_refused(zoo_bundle: Bundle) -> None:
    altered = with_answers(zoo_bundle, lambda d: d["events"].pop())
    with pytest.raises(KnownAnswerMismatch, match="lead to the events"):
        known_answers.check(Pipeline(altered), altered)
    altered = with_answers(zoo_bundle, lambda d: d["score"].__setitem__(-1, None))
    with pytest.raises(KnownAnswerMismatch, match="other samples"):
        known_answers.check(Pipeline(altered), altered)


def test_a_gap_that_an_older_version_told_of_each_channel_refuses_nothing(
    zoo_bundle: Bundle,
) -> None:
    def change(document: dict[str, Any]) -> None:
        missing = {"number": 1, "kind": "missing", "state": "opened", "time": 1.0, "onset": 0.0}
        later = [event | {"number": event["number"] + 1} for event in document["events"]]
        document["events"] = [missing, missing | {"state": "closed"}, *later]

    altered = with_answers(zoo_bundle, change)
    known_answers.check(Pipeline(altered), altered)


def test_features_are_computed_as_the_trainer_did(signal_bundle: Bundle) -> None:
    rms, band = json.loads(signal_bundle.parts[KNOWN_ANSWERS])["features"]
    assert 0.7 < rms < 0.9  # of a sine, and an impulse
    assert 0 < band < rms**2
    known_answers.check(Pipeline(signal_bundle), signal_bundle)
    altered = with_answers(signal_bundle, lambda d: d["features"].__setitem__(1, band + 0.1))
    with pytest.raises(KnownAnswerMismatch, match="an answer differs"):
        known_answers.check(Pipeline(altered), altered)


@pytest.mark.parametrize(
    "features", [None, [], [1.0], "ab", [[1.0, 2.0]], ["a", "b"], [1e300, 1.0]]
)
def test_unreadable_features_are_a_corrupt_bundle(signal_bundle: Bundle, features: Any) -> None:
    altered = with_answers(signal_bundle, lambda d: d.update(features=features))
    with pytest.raises(BundleCorrupt, match=r"known_answers\.json"):
        known_answers.check(Pipeline(altered), altered)
    missing = with_answers(signal_bundle, lambda d: d.pop("features"))
    with pytest.raises(BundleCorrupt, match="no readable features"):
        known_answers.check(Pipeline(missing), missing)


@pytest.mark.parametrize(
    "answers",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"times":[1],"values":[[1]],"score":[1],"events":[]}',
        b'{"times":[],"values":[],"score":[],"events":[]}',
        b'{"times":1,"values":[[1]],"score":[1],"events":[]}',
        b'{"times":[[1,2]],"values":[[1,1,1,1,1,1,1,1]],"score":[[1,2]],"events":[]}',
        b'{"times":[1],"values":[[1,1,1,1,1,1,1,1]],"score":[1e300],"events":[]}',
        b'{"times":[1],"values":[[1,1,1,1,1,1,1,1]],"score":[1%s],"events":[]}' % (b"0" * 400),
        b'{"times":[1],"values":[[1,1,1,1,1,1,1,1]],"score":[1],"events":5}',
        b"[" * 100_000,
    ],
)
def test_unreadable_answers_are_a_corrupt_bundle(zoo_bundle: Bundle, answers: bytes) -> None:
    altered = sealed(zoo_bundle.manifest, dict(zoo_bundle.parts) | {KNOWN_ANSWERS: answers})
    with pytest.raises(BundleCorrupt, match=r"known_answers\.json"):
        known_answers.check(Pipeline(altered), altered)


def test_recording_and_replaying_agree_exactly(zoo_bundle: Bundle, eventful: Samples) -> None:
    pipeline = Pipeline(zoo_bundle)
    part = Samples(eventful.times[:700], eventful.values[:700])
    forecast = json.loads(zoo_bundle.parts[KNOWN_ANSWERS])["forecast"]
    assert pipeline.forecaster is not None
    foretold = known_answers.foretell(
        pipeline.forecaster, np.array(forecast["context"], np.float32)
    )
    recorded = known_answers.record(part, pipeline.step(pipeline.start(), part))
    answers = known_answers.with_forecast(recorded, foretold)
    altered = sealed(zoo_bundle.manifest, dict(zoo_bundle.parts) | {KNOWN_ANSWERS: answers})
    assert known_answers.largest_difference(Pipeline(altered), altered) < 0.01


@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_a_runtime_that_is_not_there_says_what_to_install(
    zoo_bundle: Bundle, runtime: Runtime
) -> None:
    from models.errors import InterpreterMissing

    try:
        network = StepNetwork(zoo_bundle.network, runtime)
    except InterpreterMissing as error:
        assert "install" in str(error)
    else:
        assert network.runtime.startswith(
            {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}[runtime]
        )


def test_another_forecast_is_refused(zoo_bundle: Bundle) -> None:
    def change(document: dict[str, Any]) -> None:
        document["forecast"]["quantiles"][0][0][0] *= 2

    altered = with_answers(zoo_bundle, change)
    with pytest.raises(KnownAnswerMismatch, match="an answer differs"):
        known_answers.check(Pipeline(altered), altered)


def test_a_forecast_that_is_no_number_is_no_agreement(zoo_bundle: Bundle) -> None:
    def change(document: dict[str, Any]) -> None:
        document["forecast"]["quantiles"][0][0][0] = math.nan

    altered = with_answers(zoo_bundle, change)
    with pytest.raises(KnownAnswerMismatch, match="an answer differs"):
        known_answers.check(Pipeline(altered), altered)


@pytest.mark.parametrize("forecast", [None, {}, {"context": [], "quantiles": []}, 7])
def test_a_forecast_that_cannot_be_read_is_refused(zoo_bundle: Bundle, forecast: object) -> None:
    altered = with_answers(zoo_bundle, lambda d: d.__setitem__("forecast", forecast))
    with pytest.raises(BundleCorrupt, match="forecast"):
        known_answers.check(Pipeline(altered), altered)
