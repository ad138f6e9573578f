"""The least thresholds come from the calibration part alone, through the deployed code."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.errors import DataError
from models.messages import Samples
from models.pipeline import Pipeline
from tests.trainer.conftest import Trained, machine
from trainer import calibrate
from trainer.config import CalibrateTable


def part(seed: int = 9, samples: int = 1200) -> Samples:
    return Samples(*machine(samples, seed))


def test_a_floor_is_a_margin_over_the_largest_error(trained: Trained) -> None:
    bundle, samples = trained.bundle, part()
    pipeline = Pipeline(bundle)
    largest = np.nanmax(pipeline.step(pipeline.start(), samples).smoothed, axis=0)
    settings = CalibrateTable(floor_margin=2.0, floor_min=1e-6)
    np.testing.assert_allclose(calibrate.floors(bundle, samples, settings), 2.0 * largest)


def test_a_floor_has_a_least_value(trained: Trained) -> None:
    settings = CalibrateTable(floor_margin=1.0, floor_min=0.3)
    floors = calibrate.floors(trained.bundle, part(), settings)
    assert min(floors) == 0.3
    assert max(floors) > 0.3


def test_the_calibration_part_itself_raises_nothing(trained: Trained) -> None:
    manifest = trained.bundle.manifest
    assert manifest.metrics["normal"]["score_max"] < 1
    assert len(manifest.threshold.floor) == 6
    assert min(manifest.threshold.floor) >= trained.file.config.calibrate.floor_min


def test_a_channel_without_a_value_is_named(trained: Trained) -> None:
    samples = part()
    samples.values[:, 1] = np.nan
    with pytest.raises(DataError, match="channel power has no value in the calibration part"):
        calibrate.floors(trained.bundle, samples, CalibrateTable())


def test_known_answers_hold_an_event_that_opens_and_calm_before(trained: Trained) -> None:
    answers = json.loads(calibrate.known_answers(trained.bundle, part()))
    assert len(answers["times"]) == 20 + 3 * calibrate.KNOWN_SAMPLES
    [opened] = [event for event in answers["events"] if event["state"] == "opened"]
    disturbed_at = answers["times"][20 + calibrate.KNOWN_SAMPLES]
    assert opened["kind"] == "anomaly"
    assert 0 <= opened["time"] - disturbed_at < 20


def test_thresholds_that_nothing_reaches_are_an_error(trained: Trained) -> None:
    bundle = trained.bundle
    floor = [1e6] * bundle.manifest.error_rows
    threshold = bundle.manifest.threshold.model_copy(update={"floor": floor})
    manifest = bundle.manifest.model_copy(update={"threshold": threshold})
    deaf = type(bundle)(manifest, manifest.to_bytes(), bundle.parts, None, "deaf")
    with pytest.raises(DataError, match="the known answers raise no event"):
        calibrate.known_answers(deaf, part())
