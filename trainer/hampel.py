"""The family ``hampel``: the robust distance from the median, without a network.

The gateway learns median and deviation from what it scores. The training only finds what a short
time on the gateway cannot show: the resolution of each channel, a limit above which normal
operation does not come, and the probabilities of scores.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models import tail_fit
from models.bundle import Bundle
from models.errors import DataError
from models.families import detector_of
from models.manifest import BaselinePart, HampelManifest
from models.messages import Float32, Samples, joined
from trainer import seal
from trainer.answers import with_answers
from trainer.config import Config
from trainer.evaluate import Judgement
from trainer.family import Built, Evaluated, Family, Job

FIRST_DEVIATIONS: Final = 6.0  # the limit by which the calibration part is scored first


class Exported(NamedTuple):
    """The manifest before calibration; this family has no files."""

    manifest: HampelManifest


class Hampel(Family[list[float], Exported]):
    """Trains the limits of the distance from the median."""

    tables = ("hampel",)

    def check(self, config: Config) -> None:
        """Accept the settings: their table has checked them."""

    def fit(self, job: Job) -> list[float]:
        """Return the resolution of each channel: its least change between different values."""
        return [_resolution(column) for column in job.parts.train.values.T]

    def export(self, job: Job, fitted: list[float]) -> Exported:
        """Return the manifest with the settings."""
        table = job.config.hampel
        part = BaselinePart(
            resolution=fitted,
            history_samples=table.history_samples,
            update_samples=table.update_samples,
            deviations_max=FIRST_DEVIATIONS,
            adapt_samples=table.adapt_samples,
        )
        return Exported(seal.made(HampelManifest, **job.manifest_keys, baseline=part))

    def calibrate(self, job: Job, exported: Exported) -> Built:
        """Set the limit by the calibration part, and fit the probabilities to its scores."""
        job.say("calibrating")
        train, part, table = job.parts.train, job.parts.calibrate, job.config.hampel
        manifest = exported.manifest
        largest = float(np.nanmax(_scores(manifest, train, part), initial=0.0))
        limit = max(table.deviations_min, table.deviations_margin * largest * FIRST_DEVIATIONS)
        baseline = manifest.baseline.model_copy(update={"deviations_max": limit})
        manifest = manifest.model_copy(update={"baseline": baseline})
        tail = tail_fit.fit(_scores(manifest, train, part))
        bundle = seal.assemble(manifest.model_copy(update={"tail": tail}), {})
        before = max(manifest.sampling.warm_up_samples, table.history_samples)
        metrics: dict[str, Any] = {"fit": {"deviations_max": round(limit, 4)}}
        return Built(bundle=with_answers(bundle, part, before), metrics=metrics)

    def evaluate(self, job: Job, built: Built, sealed: Bundle, judged: Judgement) -> Evaluated:
        """Return no figures beside those of every bundle."""
        return Evaluated(measured_on={"fit": "calibrate"})


def _resolution(column: Float32) -> float:
    """Return the least difference between two different values, in the channel's unit; or 0."""
    steps = np.diff(np.unique(column[~np.isnan(column)]))
    return float(steps.min()) if len(steps) else 0.0


def _scores(manifest: HampelManifest, train: Samples, part: Samples) -> Float32:
    """Return the scores (n,) of the calibration part, after those of the training part.

    Raises:
        DataError: none of its samples has a score.

    """
    detector = detector_of(seal.assemble(manifest, {}))
    scores = detector.step(detector.start(), joined([train, part])).scores.score
    held_out = scores[len(train.times) :]
    if np.isnan(held_out).all():
        raise DataError(
            "no sample of the calibration part has a score: a channel has too few values, or"
            " hampel.update_samples is more than the recordings have"
        )
    return held_out
