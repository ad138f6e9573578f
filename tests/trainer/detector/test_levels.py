"""Known levels and their limits come from the training and the calibration part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.errors import DataError
from models.manifest import TelemanomManifest
from models.messages import Float32, Samples
from models.pipeline import Pipeline
from tests.trainer.conftest import Trained
from trainer.config import CalibrateTable
from trainer.detector import calibrate
from trainer.detector.levels import with_levels
from trainer.seal import assemble, level

SPAN = 20.0
COUNT = 1000


def draft(trained: Trained, **threshold: Any) -> TelemanomManifest:
    manifest = trained.bundle.telemanom
    part = level(SPAN, len(manifest.scored))
    rows = manifest.error_rows + len(manifest.scored)
    limits = {"floor": [1.0] * rows, "calm": [0.0] * rows}
    changed = manifest.threshold.model_copy(update=limits | threshold)
    return manifest.model_copy(update={"level": part, "threshold": changed})


def halves(manifest: TelemanomManifest, scaled: Float32) -> tuple[Samples, Samples]:
    """Two parts, one after the other, with channel 0 as given (n,); the others do not move."""
    channels = manifest.channels
    center = np.array([channel.center for channel in channels], np.float32)
    scale = np.array([channel.scale for channel in channels], np.float32)
    values = np.zeros((len(scaled), len(channels)), np.float32)
    values[:, 0] = scaled
    samples = Samples(np.arange(len(scaled)) * manifest.sampling.period_s, values * scale + center)
    return samples.part(0, len(scaled) // 2), samples.part(len(scaled) // 2, len(scaled))


def limits(trained: Trained, scaled: Float32, **settings: Any) -> tuple[TelemanomManifest, float]:
    manifest = draft(trained)
    table = CalibrateTable.model_validate({"level_samples": 0.0} | settings)
    found, limit = with_levels(manifest, *halves(manifest, scaled), table)
    assert len(limit) == len(manifest.scored)
    return found, limit[0]


def noise(count: int = COUNT) -> Float32:
    return np.random.default_rng(3).standard_normal(count).astype(np.float32)


def test_the_known_levels_are_the_range_of_the_smoothed_values(trained: Trained) -> None:
    values = noise()
    manifest, limit = limits(trained, values, level_growth=0.0, level_min=1e-6)
    assert manifest.level is not None
    keep, warm_up = 1 - 2 / (SPAN + 1), manifest.sampling.warm_up_samples
    kept = values[warm_up:].astype(float)
    means = [
        np.average(kept[: n + 1], weights=keep ** np.arange(n + 1)[::-1])
        for n in range(10, len(kept))
    ]
    half = (max(means) - min(means)) / 2
    assert manifest.level.half[0] == pytest.approx(half, rel=0.02)
    assert manifest.level.middle[0] == pytest.approx((max(means) + min(means)) / 2, abs=0.02)
    assert limit == pytest.approx(half, rel=0.02)
    assert manifest.level.half[1] == pytest.approx(0.0, abs=1e-5)  # it does not move


def test_few_samples_have_a_wide_margin(trained: Trained) -> None:
    rules = {"level_samples": 500.0, "level_growth": 0.0, "level_spread": 0.5, "level_min": 1e-6}
    for count in (250, 1000):
        values = noise(count)
        manifest, limit = limits(trained, values, **rules)
        assert manifest.level is not None
        half = manifest.level.half[0]
        assert limit == pytest.approx(half + 500 / count * (half + 0.5 * values.std()), rel=0.1)


def test_a_range_that_grew_may_go_on_growing(trained: Trained) -> None:
    trend = np.linspace(0, 8, COUNT, dtype=np.float32)
    manifest, limit = limits(trained, trend, level_growth=2.0)
    assert manifest.level is not None
    assert limit == pytest.approx(manifest.level.half[0] * 16, rel=0.15)  # four quarters, squared
    assert limits(trained, trend, level_growth=0.0)[1] < limit / 10
    steady, limit = limits(trained, noise(8000), level_growth=2.0)
    assert steady.level is not None
    assert limit < 2 * steady.level.half[0]


def test_a_level_has_a_least_margin(trained: Trained) -> None:
    _, limit = limits(trained, np.zeros(COUNT, np.float32), level_min=0.3)
    assert limit == pytest.approx(0.3, abs=1e-4)


def test_stretches_begin_anew(trained: Trained) -> None:
    """The mean of two machines that follow each other is the level of none."""
    manifest = draft(trained)
    values = np.repeat(np.float32([0.0, 10.0]), COUNT // 2)
    train, samples = halves(manifest, values)
    apart = Samples(samples.times + 1000.0, samples.values)
    table = CalibrateTable.model_validate({"level_growth": 0.0})
    found, _ = with_levels(manifest, train, apart, table)
    assert found.level is not None
    assert found.level.middle[0] == pytest.approx(5.0, abs=1e-3)


def test_a_span_that_no_stretch_is_long_enough_for_is_refused(trained: Trained) -> None:
    manifest = draft(trained)
    longer = manifest.model_copy(update={"level": level(10_000.0, len(manifest.scored))})
    with pytest.raises(DataError, match=r"has no level: .*level_span_samples = 10000"):
        with_levels(longer, *halves(manifest, noise()), CalibrateTable())


def test_without_level_rows_nothing_changes(trained: Trained) -> None:
    manifest = trained.bundle.telemanom
    table = CalibrateTable()
    assert with_levels(manifest, *halves(manifest, noise()), table) == (manifest, [])


def test_calibration_sets_the_limits_and_the_time_until_an_event_is_accepted(
    trained: Trained,
) -> None:
    manifest = draft(trained, accepts=True, adapt_samples=10_000)
    train, samples = halves(manifest, noise(2400))
    parts = trained.bundle.parts
    table = CalibrateTable.model_validate({"floor_margin": 1.0, "margin_samples": 1200.0})
    found = calibrate.calibrated(manifest, parts, train, samples, table)
    assert found.threshold.adapt_samples == 2400
    _, limit = with_levels(manifest, train, samples, table)
    assert found.threshold.floor[-len(limit) :] == pytest.approx(limit)
    assert found.threshold.calm[-len(limit) :] == [0.0] * len(limit)
    pipeline = Pipeline(assemble(found, parts))
    smoothed = pipeline.step(pipeline.start(), samples).smoothed
    assert np.nanmax(smoothed[300:, 0]) * 1.5 == pytest.approx(found.threshold.floor[0], rel=0.2)


def test_a_quantile_of_the_changes_forgets_the_rarest(trained: Trained) -> None:
    manifest = trained.bundle.telemanom
    values = noise(2400)
    values[1000] = 50.0
    train, _ = halves(manifest, values)
    largest = calibrate.smoothed_changes(manifest, train, 1.0)[0]
    assert calibrate.smoothed_changes(manifest, train, 0.95)[0] < largest / 3
