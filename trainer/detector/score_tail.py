"""Checks the tail of the score that ``models.tail_fit`` fitted to held-out normal operation."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np

from models.manifest import Manifest, Tail
from models.messages import Float32, Float64
from models.score_tail import FORESIGHT, ScoreTail

CHECK_SHARES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


class Exceedances(NamedTuple):
    """The probabilities of a tail, and the shares observed in other normal operation."""

    predicted: Float64  # predicted share of scores above each level
    observed: Float64  # observed share
    samples: int


def warnings(manifest: Manifest) -> Iterator[str]:
    """Yield a warning if the calibration part was too short for the severity ``high``."""
    tail, high = manifest.tail, manifest.severities.high
    if tail is None or (known := ScoreTail(tail)).least <= high:
        return
    enough = ceil(1 / (FORESIGHT * high))
    yield (
        f"the calibration part has {tail.samples} scores, too few for a probability below"
        f" {known.least:.1g}, but the severity high begins at {high:.1g}. An anomaly gets the"
        f" severity high from a score of {known.score_at(high):.3g} on, until you calibrate with at"
        f" least {enough:,} scores"
    )


def check(tail: Tail, scores: Float32) -> Exceedances:
    """Return the tail's probabilities, and the shares of ``scores`` (n,) in normal operation."""
    known = scores[~np.isnan(scores)]
    claimed = ScoreTail(tail).probability(known)
    predicted = np.array(CHECK_SHARES)
    observed = np.array([float(np.mean(claimed <= share)) for share in predicted])
    return Exceedances(predicted, observed, len(known))
