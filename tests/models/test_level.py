"""Level rows: the smoothed value against the levels that training knew."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest

from agent.inputs.plant import PERIOD_S
from models.errors import BundleCorrupt
from models.manifest import LevelPart, TelemanomManifest, manifest_of
from models.messages import ALL, Float32, Samples
from models.pipeline import Pipeline
from tests.models.conftest import START_S, Change, recorded, sealed

SPAN = 10
WARM_UP = 20


@pytest.fixture(scope="module")
def pipeline(changed: Change) -> Pipeline:
    """All levels are known to lie within 3 scales of the center; a limit is 4 scales away."""
    bundle = changed(
        sampling={"warm_up_samples": WARM_UP},
        smoothing={"spans_samples": [5]},
        threshold={"history_samples": 300, "update_samples": 25, "adapt_samples": 200},
        events={"off_samples": 30},
    )
    manifest = bundle.telemanom
    scored = len(manifest.scored)
    level = LevelPart(span_samples=SPAN, middle=[0.0] * scored, half=[3.0] * scored)
    threshold = manifest.threshold.model_copy(
        update={
            "accepts": True,
            "floor": [100.0] * len(manifest.threshold.floor) + [4.0] * scored,
            "calm": [0.0] * (len(manifest.threshold.calm) + scored),
        }
    )
    manifest = manifest.model_copy(update={"level": level, "threshold": threshold})
    return Pipeline(sealed(manifest, dict(bundle.parts)))


@pytest.fixture(scope="module")
def drifting(pipeline: Pipeline) -> Samples:
    """Channel 0 leaves its known levels slowly from sample 300 on, and is back from 900 on."""
    samples = recorded(41, 1300)
    slope = np.clip((np.arange(1300) - 300) / 200, 0, 1) * 8
    samples.values[:900, 0] += (slope[:900] * scale(pipeline)).astype(np.float32)
    samples.values[700, 1] = np.nan
    return samples


def scale(pipeline: Pipeline) -> float:
    return pipeline.manifest.channels[0].scale


def test_a_level_out_of_its_range_is_a_persistent_deviation(
    pipeline: Pipeline, drifting: Samples
) -> None:
    events = pipeline.step(pipeline.start(), drifting).events
    assert {event.course for event in events if event.kind == "anomaly"} == {"persistent"}


def test_a_level_is_the_smoothed_value(pipeline: Pipeline) -> None:
    samples = recorded(40, 200)
    samples.values[120:125, 2] = np.nan
    smoothed = pipeline.step(pipeline.start(), samples).smoothed
    manifest = pipeline.manifest
    channel = manifest.channels[2]
    values = ((samples.values[:, 2] - channel.center) / channel.scale)[WARM_UP:]
    keep = 1 - 2 / (SPAN + 1)
    for at in (WARM_UP + 30, 119, 126, 199):
        seen = values[: at + 1 - WARM_UP][::-1]
        seen = seen[~np.isnan(seen)]
        expected = abs(np.average(seen, weights=keep ** np.arange(len(seen))))
        np.testing.assert_allclose(smoothed[at, -len(manifest.scored) + 2], expected, rtol=1e-3)
    assert np.isnan(smoothed[:WARM_UP, -1]).all()


def test_after_an_interruption_a_level_begins_anew(pipeline: Pipeline) -> None:
    samples = recorded(43, 400)
    samples.times[200:] += 1000.0
    state = pipeline.start()
    pipeline.step(state, samples.part(0, 200))
    after = pipeline.step(state, samples.part(200, 400)).smoothed
    alone = pipeline.step(pipeline.start(), samples.part(200, 400)).smoothed
    rows = len(pipeline.manifest.scored)
    assert np.isnan(after[:WARM_UP, -rows:]).all()
    np.testing.assert_array_equal(after[:, -rows:], alone[:, -rows:])


def test_a_slow_drift_opens_an_alarm_that_is_accepted_and_tells_the_known_level(
    pipeline: Pipeline, drifting: Samples
) -> None:
    events = pipeline.step(pipeline.start(), drifting).events
    anomalies = [event for event in events if event.kind == "anomaly"]
    opened, closed = anomalies[:2]
    assert 380 < (opened.opened - START_S) / PERIOD_S < 480
    (contribution,) = opened.channels
    channel = pipeline.manifest.channels[0]
    assert contribution.level
    assert contribution.expected == pytest.approx(channel.center + 3 * channel.scale, rel=1e-5)
    assert closed.accepted
    assert 200 <= (closed.time - opened.opened) / PERIOD_S < 225
    assert len(anomalies) == 2  # neither what goes on nor the way back is another
    assert [event.accepted for event in anomalies] == [False, True]


def pieces(samples: Samples, cuts: list[int]) -> list[Samples]:
    edges = [0, *cuts, len(samples.times)]
    return [samples.part(a, b) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("cuts", [[7, 50, 444, 460, 525, 600, 601, 702, 1111], [*range(1, 1300)]])
def test_cuts_and_restarts_change_nothing(
    pipeline: Pipeline, drifting: Samples, cuts: list[int]
) -> None:
    whole = pipeline.step(pipeline.start(), drifting)
    state, saved = pipeline.start(), {}
    scores, events = [], []
    for number, part in enumerate(pieces(drifting, cuts)):
        result = pipeline.step(state, part)
        scores.append(result.scores.score)
        events += result.events
        if len(cuts) < 100 or number % 50 == 0:
            saved |= pipeline.changed_parts(state)
            state = pipeline.restore(saved)
    assert np.array_equal(np.concatenate(scores), whole.scores.score, equal_nan=True)
    assert [asdict(event) for event in events] == [asdict(event) for event in whole.events]


def test_streams_together_are_as_each_by_itself(pipeline: Pipeline, drifting: Samples) -> None:
    other = recorded(42, 1300)
    state = pipeline.start(3)
    scores: list[Float32] = []
    for begin in range(0, 1300, 65):
        at = slice(begin, begin + 65)
        values = np.stack([drifting.values[at], other.values[at]], axis=1)
        times = np.stack([drifting.times[at], other.times[at]], axis=1)
        who = np.array([2, 0])
        scores.append(pipeline.step_together(state, who, times, values).score)
    together = np.concatenate(scores)
    for column, samples in enumerate((drifting, other)):
        alone = pipeline.step(pipeline.start(), samples).scores.score
        np.testing.assert_array_equal(together[:, column], alone)
    assert state.numbers[ALL].size == 3


def test_a_manifest_without_levels_is_written_as_before(changed: Change) -> None:
    document = json.loads(changed().telemanom.to_bytes())
    assert "level" not in document
    assert not {"accepts", "settle_judged"} & document["threshold"].keys()


def test_levels_of_another_number_of_channels_are_refused(pipeline: Pipeline) -> None:
    document = json.loads(pipeline.manifest.to_bytes())
    assert isinstance(manifest_of("file", json.dumps(document).encode()), TelemanomManifest)
    document["level"] = {"span_samples": 5.0, "middle": [0.0], "half": [1.0]}
    with pytest.raises(BundleCorrupt, match=r"level\.middle must have|floor must have"):
        manifest_of("file", json.dumps(document).encode())
