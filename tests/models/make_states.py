"""Makes ``data/state-*.npz``: what detectors of today save, for every later version to restore.

    python -m tests.models.make_states telemanom|hampel FILE

Each holds the parts that were saved after ``SAVED_AT`` samples, as bytes, and the scores of all.
Made once per form of the state, by the version that introduced it; old files stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from models import bundle as bundles
from models.messages import Float32, Samples
from models.pipeline import Pipeline
from tests.conftest import ROOT
from tests.models.conftest import recorded
from tests.models.test_baseline import EVENTFUL, made

SAVED_AT = 800
# the reference bundle that saved the state, whatever bundle is the reference today
BUNDLE = ROOT / "tests" / "models" / "data" / "forecast-1.fieldwatch"


def detector_and_samples(family: str) -> tuple[Any, Samples]:
    """Return what saved the state, and the samples that it saw before and after."""
    if family == "telemanom":
        return Pipeline(bundles.read(BUNDLE)), recorded(5, 900)
    times = np.arange(len(EVENTFUL), dtype=np.float64)
    return made(2, adapt_samples=60), Samples(times, EVENTFUL.astype(np.float32))


def scored(detector: Any, state: Any, samples: Samples, begin: int, end: int) -> Float32:
    part = Samples(samples.times[begin:end], samples.values[begin:end])
    score: Float32 = detector.step(state, part).scores.score
    return score


def make(family: str, path: Path) -> None:
    detector, samples = detector_and_samples(family)
    state = detector.start()
    first = scored(detector, state, samples, 0, SAVED_AT)
    parts = detector.changed_parts(state, 0)
    rest = scored(detector, state, samples, SAVED_AT, len(samples.times))
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in parts.items()}
    np.savez_compressed(path, score=np.concatenate([first, rest]), **arrays)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
