"""Limits and tail come from the calibration part alone, through the deployed code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.errors import DataError
from models.manifest import TelemanomManifest
from models.messages import Samples
from models.pipeline import Pipeline
from tests.trainer.conftest import Trained, machine
from trainer.answers import KNOWN_SAMPLES, known_answers
from trainer.config import CalibrateTable
from trainer.detector import calibrate, score_tail
from trainer.seal import assemble

WARM_UP = 20  # of the configuration


def part(seed: int = 9, samples: int = 1200) -> Samples:
    return Samples(*machine(samples, seed))


def calibrated(
    trained: Trained, train: Samples, samples: Samples, **settings: Any
) -> TelemanomManifest:
    bundle = trained.bundle
    table = CalibrateTable.model_validate(settings)
    return calibrate.calibrated(bundle.manifest, bundle.parts, train, samples, table)


def test_a_floor_is_a_margin_over_the_largest_error(trained: Trained) -> None:
    bundle, samples = trained.bundle, part()
    pipeline = Pipeline(bundle)
    smoothed = pipeline.step(pipeline.start(), samples).smoothed
    manifest = calibrated(trained, part(8), samples, floor_margin=2.0, floor_min=1e-6)
    largest = np.nanmax(smoothed, axis=0)
    np.testing.assert_allclose(manifest.threshold.floor, 2.0 * largest, rtol=1e-6)
    np.testing.assert_allclose(manifest.threshold.calm, np.nanmin(smoothed, axis=0) / 2, rtol=1e-6)


def test_a_network_that_is_warm_has_errors_from_the_first_sample(trained: Trained) -> None:
    whole = part(samples=1300)
    train, rest = (
        Samples(whole.times[cut], whole.values[cut]) for cut in (slice(1200), slice(1200, None))
    )
    assert calibrated(trained, train, rest).tail.samples == 100
    assert calibrated(trained, part(8), rest).tail.samples < 80  # it goes on from nothing


def test_a_floor_has_a_least_value(trained: Trained) -> None:
    floors = calibrated(trained, part(8), part(), floor_margin=1.0, floor_min=0.3).threshold.floor
    assert min(floors) == 0.3
    assert max(floors) > 0.3


def test_ordinary_changes_at_another_moment_are_below_the_floor(trained: Trained) -> None:
    train, samples = part(8), part()
    train.values[600:, 0] += 8.0  # it steps once in normal operation
    settings: dict[str, Any] = {"floor_margin": 1.0, "floor_min": 1e-6}
    without = calibrated(trained, train, samples, **settings).threshold.floor
    manifest = calibrated(trained, train, samples, **settings, floor_changes=[1.5])
    scale, keep = manifest.channels[0].scale, 1 - 2 / 11
    changes = np.abs(np.diff(train.values[:, 0].astype(float))) / scale
    means = [
        np.average(changes[: n + 1], weights=keep ** np.arange(n + 1)[::-1]) for n in range(5, 1199)
    ]
    np.testing.assert_allclose(manifest.threshold.floor[0], 1.5 * max(means), rtol=1e-4)
    assert without[0] < manifest.threshold.floor[0]
    assert without[2] == manifest.threshold.floor[2]  # this one never moves


def test_the_tail_foretells_what_other_normal_operation_does(trained: Trained) -> None:
    manifest = calibrated(trained, part(8, 3000), part(9, 6000))
    bundle = assemble(manifest, trained.bundle.parts)
    pipeline = Pipeline(bundle)
    scores = pipeline.step(pipeline.start(), part(10, 6000)).scores
    assert manifest.tail is not None
    found = score_tail.check(manifest.tail, scores.score)
    within = (found.observed < 2.5 * found.predicted) & (found.observed > 0.3 * found.predicted)
    assert within[:4].all(), found
    known = ~np.isnan(scores.score)
    assert np.array_equal(known, ~np.isnan(scores.probability))


def test_the_calibration_part_itself_raises_nothing(trained: Trained) -> None:
    manifest = trained.bundle.manifest
    assert manifest.metrics["normal"]["score_max"] < 1
    assert len(manifest.threshold.floor) == 6
    assert min(manifest.threshold.floor) >= trained.file.config.calibrate.floor_min


def test_a_channel_without_a_value_is_named(trained: Trained) -> None:
    samples = part()
    samples.values[:, 1] = np.nan
    with pytest.raises(DataError, match="channel power has no value in the calibration part"):
        calibrated(trained, part(8), samples)


def test_known_answers_hold_an_event_that_opens_and_calm_before(trained: Trained) -> None:
    answers = json.loads(known_answers(trained.bundle, part(), WARM_UP))
    assert len(answers["times"]) == WARM_UP + 3 * KNOWN_SAMPLES
    [opened] = [event for event in answers["events"] if event["state"] == "opened"]
    disturbed_at = answers["times"][WARM_UP + KNOWN_SAMPLES]
    assert opened["kind"] == "anomaly"
    assert 0 <= opened["time"] - disturbed_at < 20


def test_samples_that_are_too_few_are_repeated(trained: Trained) -> None:
    answers = json.loads(known_answers(trained.bundle, part(samples=60), WARM_UP))
    assert len(answers["times"]) == WARM_UP + 3 * KNOWN_SAMPLES
    assert answers["events"]


def test_the_swing_grows_until_it_opens_an_event(trained: Trained) -> None:
    """Limits of few samples are wide: here a swing by 6 scales stays below them."""
    bundle = trained.bundle
    threshold = bundle.manifest.threshold
    wide = [15.0] * bundle.manifest.error_rows
    manifest = bundle.manifest.model_copy(
        update={"threshold": threshold.model_copy(update={"floor": wide})}
    )
    answers = json.loads(
        known_answers(
            type(bundle)(manifest, manifest.to_bytes(), bundle.parts, None, "wide"),
            part(),
            WARM_UP,
        )
    )
    assert answers["events"][0]["state"] == "opened"


def test_thresholds_that_nothing_reaches_are_an_error(trained: Trained) -> None:
    bundle = trained.bundle
    floor = [1e6] * bundle.manifest.error_rows
    threshold = bundle.manifest.threshold.model_copy(update={"floor": floor})
    manifest = bundle.manifest.model_copy(update={"threshold": threshold})
    deaf = type(bundle)(manifest, manifest.to_bytes(), bundle.parts, None, "deaf")
    with pytest.raises(DataError, match="the known answers raise no event"):
        known_answers(deaf, part(), WARM_UP)


def test_largest_errors_of_few_samples_are_raised_towards_those_of_the_other_channels() -> None:
    settings = CalibrateTable(margin_samples=1000)
    largest = np.array([1, 3, 10, 20], np.float32)  # two channels, two spans
    few = calibrate.raised(largest, 2, settings, 1000)
    assert few.tolist() == [1.5, 3, 12.5, 20]
    many = calibrate.raised(largest, 2, settings, 10**9)
    assert many == pytest.approx(largest, rel=1e-5)
    alone = calibrate.raised(largest, 1, settings, 10)
    assert alone.tolist() == largest.tolist()
