"""Predicts the remaining life in C-MAPSS FD001 with the code and the sealed form of a gateway.

The map is fitted to the training engines (``trainer.remaining``). Its part of the manifest is
written and read again. Then each test engine is a stream from its first cycle to its last one,
where the remaining life is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.manifest import RemainingPart
from models.messages import Float32, Float64
from models.remaining import Life, Remaining
from trainer.benchmark.cases import BENCHMARKS
from trainer.config import RemainingTable
from trainer.datasets import cmapss
from trainer.remaining import accuracy, fit, remaining


class Figures(NamedTuple):
    """The accuracy of predictions over the test engines; lives are in cycles."""

    rmse: float
    score: float  # of Saxena et al. (PHM 2008), summed over the engines; 0 is perfect
    coverage_80: float | None = None  # share within the 80 % intervals; None: there are none
    width_80: float | None = None  # mean width of these intervals


def figures(directory: Path) -> dict[str, Figures]:
    """Return the accuracy of the map, and of a constant: the median life left in training.

    Raises:
        DataError: a file is missing or has another layout.

    """
    settings = _settings()
    train, test = (_sensors(directory, part) for part in ("train", "test"))
    left = np.array(cmapss.remaining(directory, len(test)), np.float64) / settings.unit_samples
    left = np.minimum(left, settings.cap)
    part = RemainingPart.model_validate_json(fit(train, settings).part.model_dump_json())
    lives = [_predict(part, engine) for engine in test]
    learnt = np.concatenate([remaining(len(engine), settings) for engine in train])
    constant = np.full(len(test), np.median(learnt))
    return {"linear": _figures(part, lives, left), "constant": Figures(*accuracy(constant, left))}


def document(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the figures, ready for JSON.

    Raises:
        DataError: as ``figures``.

    """
    return {name: found._asdict() for name, found in figures(directory).items()}


def is_there(directory: Path) -> bool:
    """Return whether a folder has test engines."""
    return (directory / "test_FD001.txt").is_file()


def _settings() -> RemainingTable:
    settings = BENCHMARKS["cmapss"].settings(None).config.remaining
    assert settings is not None
    return settings


def _sensors(directory: Path, part: str) -> list[Float32]:
    engines = cmapss.read(directory, part).engines
    return [engine[:, len(cmapss.SETTINGS) :] for engine in engines]


def _predict(part: RemainingPart, engine: Float32) -> Life:
    model = Remaining(part, tuple(str(at) for at in range(engine.shape[1])))
    state = model.start()
    for row in engine:
        model.take(state, row[None])
    life = model.predict(state)
    assert life is not None  # no value is missing
    return life


def _figures(part: RemainingPart, lives: Sequence[Life], left: Float64) -> Figures:
    low, high = part.levels.index(0.1), part.levels.index(0.9)
    inside = [
        life.quantiles[low] <= each <= life.quantiles[high]
        for life, each in zip(lives, left, strict=True)
    ]
    widths = [life.quantiles[high] - life.quantiles[low] for life in lives]
    predicted = np.array([life.predicted for life in lives])
    return Figures(*accuracy(predicted, left), float(np.mean(inside)), float(np.mean(widths)))
