"""Fits the remaining life to machines that ran until they failed, and seals it in a bundle.

    lives ─> smoothed values ─┬─> ridge regression, its penalty by cross-validation over machines
                              └─> quantiles, from the errors on the machines left out

A machine is wholly in one fold, so every error is that of a machine that the fit had not seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.errors import DataError
from models.manifest import RemainingPart
from models.messages import Float32, Float64, Samples
from models.remaining import add, empty, expanded, inputs, part_of, shares
from trainer.config import RemainingTable
from trainer.seal import assemble

LIVES_MIN: Final = 4
_CONSTANT: Final = 1e-6  # relative to its magnitude; an input with less spread is not used
_ERRORS_MIN: Final = 100  # of a part's quantiles; with fewer, it uses those of all parts
_EARLY, _LATE = 13.0, 10.0  # units of the score; a life that is predicted too long costs more


class Accuracy(NamedTuple):
    """The accuracy of predictions."""

    rmse: float  # in unit
    score: float  # of Saxena et al. (PHM 2008), a sum over the predictions; 0 is perfect


class Fitted(NamedTuple):
    """The sealed part, and its errors on machines that the fit had not seen."""

    part: RemainingPart
    metrics: dict[str, Any]


class _Map(NamedTuple):
    """A fitted ridge regression."""

    mean: Float64  # (F,)
    scale: Float64  # (F,) infinite where an input is constant
    weights: Float64  # (2 F + 1,)

    def predict(self, given: Float64, cap: float) -> Float64:
        """Return the remaining life (n,) for inputs (n, F)."""
        return np.clip(expanded(given, self.mean, self.scale) @ self.weights, 0, cap)


class _Rows(NamedTuple):
    """The rows of one machine."""

    given: Float64  # (n, F)
    left: Float64  # (n,) the remaining life, capped, in unit


def check(lives: int) -> None:
    """Raise DataError if there are too few machines to measure the errors on."""
    if lives < LIVES_MIN:
        raise DataError(
            f"remaining.files: {lives} recordings to failure, at least {LIVES_MIN} are needed: the"
            " errors are measured on machines that the fit has not seen"
        )


def extend(
    bundle: Bundle, lives: Sequence[Samples], settings: RemainingTable
) -> tuple[Bundle, dict[str, Any]]:
    """Return the bundle with the remaining life, and its metrics.

    Args:
        bundle: calibrated; its detector and forecaster do not change.
        lives: samples (n, C) of each machine, to its failure.
        settings: of the map.

    Raises:
        DataError: there are too few machines, or no input is known in any of them.

    """
    scored = bundle.manifest.scored
    fitted = fit([life.values[:, scored] for life in lives], settings)
    manifest = bundle.telemanom.model_copy(update={"remaining": fitted.part})
    return assemble(manifest, bundle.parts), {"remaining": fitted.metrics}


def fit(lives: Sequence[Float32], settings: RemainingTable) -> Fitted:
    """Return the map that is fitted to machines that ran until they failed.

    Args:
        lives: samples (n, C) of the scored channels of each machine, to its failure.
        settings: of the map.

    Raises:
        DataError: there are too few machines.

    """
    check(len(lives))
    rows = [_rows(life, settings) for life in lives]
    errors = {penalty: _held_out(rows, settings, penalty) for penalty in settings.penalties}
    penalty = min(errors, key=lambda one: float(np.square(errors[one][1]).mean()))
    predicted, missed = errors[penalty]
    offsets = _offsets(predicted, missed, settings)
    found = _map_of(rows, penalty)
    part = RemainingPart(
        unit=settings.unit,
        unit_samples=settings.unit_samples,
        cap=settings.cap,
        spans_samples=settings.spans_samples,
        by_age=settings.by_age,
        mean=found.mean.tolist(),
        scale=np.where(np.isfinite(found.scale), found.scale, 0.0).tolist(),
        weights=found.weights.tolist(),
        stride_samples=settings.stride_samples,
        levels=settings.quantiles,
        offsets=offsets.tolist(),
    )
    return Fitted(part, _metrics(rows, penalty, predicted, missed, part))


def accuracy(predicted: Float64, actual: Float64) -> Accuracy:
    """Return root mean squared error and score of predictions (n,) in their unit."""
    error = predicted - actual
    score = np.where(error < 0, np.exp(-error / _EARLY), np.exp(error / _LATE)) - 1
    return Accuracy(float(np.sqrt(np.square(error).mean())), float(score.sum()))


def remaining(samples: int, settings: RemainingTable) -> Float64:
    """Return the capped remaining life (n,) of a machine that failed after its last sample."""
    left = np.arange(samples - 1, -1, -1, dtype=np.float64) / settings.unit_samples
    return np.minimum(left, settings.cap)


def _rows(life: Float32, settings: RemainingTable) -> _Rows:
    state, share = empty(len(settings.spans_samples), life.shape[1]), shares(settings.spans_samples)
    found = []
    left = remaining(len(life), settings)
    ends = range(settings.stride_samples, len(life) + 1, settings.stride_samples)
    for begin, end in itertools.pairwise([0, *ends]):
        add(state, life[begin:end], share)
        found.append(inputs(state, settings.by_age))
    given = np.array(found).reshape(len(ends), -1)
    known = ~np.isnan(given).any(axis=1)
    return _Rows(given[known], left[[end - 1 for end in ends]][known])


def _held_out(
    rows: Sequence[_Rows], settings: RemainingTable, penalty: float
) -> tuple[Float64, Float64]:
    """Return predictions (n,) and errors (n,) of each machine by a map without its fold."""
    fold = np.arange(len(rows)) % min(settings.folds, len(rows))
    predicted, missed = [], []
    for out in np.unique(fold):
        found = _map_of(_of(rows, fold != out), penalty)
        for machine in _of(rows, fold == out):
            predicted.append(found.predict(machine.given, settings.cap))
            missed.append(machine.left - predicted[-1])
    return np.concatenate(predicted), np.concatenate(missed)


def _of(rows: Sequence[_Rows], chosen: npt.NDArray[np.bool_]) -> list[_Rows]:
    return [one for one, is_in in zip(rows, chosen, strict=True) if is_in]


def _map_of(machines: Sequence[_Rows], penalty: float) -> _Map:
    given = np.concatenate([one.given for one in machines])
    left = np.concatenate([one.left for one in machines])
    if not len(given):
        raise DataError("remaining: no recording to failure has a value of every channel")
    mean, scale = given.mean(axis=0), given.std(axis=0)
    scale[scale <= _CONSTANT * np.abs(mean)] = np.inf
    row = expanded(given, mean, scale)
    ridge = penalty * np.eye(row.shape[1])
    ridge[-1, -1] = 0.0  # the constant term has no penalty
    weights: Float64 = np.linalg.lstsq(row.T @ row + ridge, row.T @ left, rcond=None)[0]
    return _Map(mean, scale, weights)


def _offsets(predicted: Float64, missed: Float64, settings: RemainingTable) -> Float64:
    """Return the quantiles of the errors (parts, Q), by parts of the predicted life.

    The middle quantile is 0: it is the prediction itself.
    """
    parts = settings.interval_parts
    part = np.array([part_of(one, settings.cap, parts) for one in predicted])
    middle = len(settings.quantiles) // 2
    found = np.empty((parts, len(settings.quantiles)))
    for at in range(parts):
        inside = missed[part == at]
        inside = inside if len(inside) >= _ERRORS_MIN else missed
        found[at] = np.quantile(inside, settings.quantiles)
    found[:, :middle] = np.minimum(found[:, :middle], 0.0)
    found[:, middle] = 0.0
    found[:, middle + 1 :] = np.maximum(found[:, middle + 1 :], 0.0)
    return found


def _metrics(
    rows: Sequence[_Rows], penalty: float, predicted: Float64, missed: Float64, part: RemainingPart
) -> dict[str, Any]:
    """Return the accuracy on machines that the fit had not seen, from the whole of their lives."""
    left = predicted + missed
    constant = np.full(len(left), np.median(np.concatenate([one.left for one in rows])))
    return {
        "lives": len(rows),
        "penalty": penalty,
        "rmse": accuracy(predicted, left).rmse,
        "rmse_constant": accuracy(constant, left).rmse,
        "unit": part.unit,
    }
