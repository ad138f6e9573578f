"""Chooses or mixes forecasters by their errors over several rolling origins.

At each origin every candidate is fitted on earlier steps and judged on later ones. The **evidence**
of an origin is the matrix of mean products of the candidates' errors, in units of the squared error
of repeating the last season (without a season: the last value). The error of any mix follows from
it: ``w' E w``. So the choice can be reproduced from the evidence alone.

A mix is convex (weights of at least 0 that sum to 1; Breiman, "Stacked Regressions", 1996). Its
error at an origin is computed with the weights that fit the *other* origins best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from models.messages import Float64
from trainer.config import ChoiceTable

STACK, NETWORK = "stack", "network"
WEIGHT_LEAST = 0.02  # a smaller weight is left out
_SWEEPS = 3000  # of the coordinate descent; it converges long before
_NO_ERROR = 1e-12  # of the largest error, as a lower bound; a candidate below it has all the weight


class Evidence(NamedTuple):
    """Products of the errors of ``J`` candidates over ``K`` origins."""

    names: tuple[str, ...]
    products: Float64  # (K, J, J)

    def errors(self) -> dict[str, Float64]:
        """Return each candidate's error at each origin, (K,)."""
        return {name: self.products[:, at, at] for at, name in enumerate(self.names)}

    def as_json(self) -> dict[str, Any]:
        """Return it for the metrics."""
        return {"candidates": list(self.names), "products": self.products.tolist()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evidence:
        """Return the evidence that ``as_json`` wrote."""
        return cls(tuple(document["candidates"]), np.array(document["products"], np.float64))


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen mix, and the reasons for it."""

    name: str  # name of a candidate, or STACK
    weights: dict[str, float]  # by candidate; they sum to 1
    errors: dict[str, list[float]]  # of every candidate and of the stack, at each origin

    def as_json(self) -> dict[str, Any]:
        """Return it for the metrics."""
        return {"chosen": self.name, "weights": self.weights, "errors": self.errors}


def convex(products: Float64) -> Float64:
    """Return the weights (J,) ≥ 0 with sum 1 that minimize ``w' E w`` for ``products`` (J, J).

    Coordinate descent minimizes ``w' E w / 2 - Σ w`` over all w ≥ 0. The result is scaled to sum 1.
    """
    count = len(products)
    weights = np.full(count, 1 / count)
    largest = np.diag(products).max()
    if largest <= np.finfo(np.float32).tiny:  # no candidate has an error
        return weights
    diagonal = np.maximum(np.diag(products), _NO_ERROR * largest)
    for _ in range(_SWEEPS):
        for at in range(count):
            slope = 1 - products[at] @ weights
            weights[at] = max(0.0, weights[at] + slope / diagonal[at])
    return _tidy(weights / weights.sum())


def _tidy(weights: Float64) -> Float64:
    kept = np.where(weights < WEIGHT_LEAST, 0.0, weights)
    return np.asarray(kept / kept.sum(), np.float64)


def nested(products: Float64) -> tuple[Float64, list[Float64]]:
    """Return the stack's error at each origin, (K,), and its weights there, (J,).

    The weights are fitted on the other origins. If there is only one origin, they are fitted on it.
    """
    weights = [
        convex(np.delete(products, at, axis=0).mean(axis=0) if len(products) > 1 else products[0])
        for at in range(len(products))
    ]
    errors = [mix @ product @ mix for mix, product in zip(weights, products, strict=True)]
    return np.array(errors), weights


def choose(evidence: Evidence) -> Choice:
    """Return the single candidate or the stack with the least mean error over the origins.

    A stack needs more than one origin, because its weights are fitted and judged at different ones.
    """
    errors = evidence.errors()
    best = min(errors, key=lambda name: float(errors[name].mean()))
    chosen, weights = best, {best: 1.0}
    if len(evidence.products) > 1:
        errors = errors | {STACK: nested(evidence.products)[0]}
        if errors[STACK].mean() < errors[best].mean():
            chosen, weights = STACK, _named(evidence.names, convex(evidence.products.mean(axis=0)))
    shown = {name: np.round(values, 6).tolist() for name, values in errors.items()}
    return Choice(chosen, weights, shown)


def _named(names: Sequence[str], weights: Float64) -> dict[str, float]:
    return {
        name: round(float(weight), 4)
        for name, weight in zip(names, weights, strict=True)
        if weight > 0
    }


@dataclass(frozen=True, slots=True)
class Trial:
    """The comparison of closed form plus something more with the closed form alone."""

    closed: list[float]  # error at each origin
    network: list[float]  # with a network, coupling or calendar; with the share of other origins
    share: float  # share of the network's or coupling's output that is added
    gain: float  # mean of closed - network
    standard_error: float  # of the gain, over the origins
    ships: bool
    plain_gain: float | None = None  # of a network, in windows without added trends

    def as_json(self) -> dict[str, Any]:
        """Return it for the metrics."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value is not None}


def gains_enough(products: Float64, settings: ChoiceTable) -> bool:
    """Return whether a network gains the least fraction of the error, whether by chance or not."""
    return _enough(products[:, 0, 0], nested(products)[0], settings)


def _enough(closed: Float64, other: Float64, settings: ChoiceTable) -> bool:
    return bool((closed - other).mean() > settings.gain_min * closed.mean())


def judge(products: Float64, settings: ChoiceTable) -> Trial:
    """Return whether something on top of a closed form is worth its size.

    Args:
        products: (K, 2, 2) products of the errors of the closed form and of both together.
        settings: the least gain, in standard errors and as a fraction of the error.

    """
    share = round(float(convex(products.mean(axis=0))[1]), 4)
    return weighed(products[:, 0, 0], nested(products)[0], share, settings)


def judge_network(trended: Float64, plain: Float64, settings: ChoiceTable) -> Trial:
    """Return whether a network is worth its size, with added trends and without.

    The share that would ship is that of the first, and must gain enough in both.

    Args:
        trended: (K, 2, 2) products, see ``judge``, in windows with added trends.
        plain: the same in the windows as they are.
        settings: see ``judge``.

    """
    trial = judge(trended, settings)
    mix = np.array([1 - trial.share, trial.share])
    as_it_is = weighed(plain[:, 0, 0], mix @ plain @ mix, trial.share, settings)
    return replace(trial, ships=trial.ships and as_it_is.ships, plain_gain=as_it_is.gain)


def weighed(closed: Float64, other: Float64, share: float, settings: ChoiceTable) -> Trial:
    """Return whether a gain is significant and large enough.

    Args:
        closed: squared errors (K,) at the origins of a closed form.
        other: those of what is judged.
        share: share of it that would ship.
        settings: the least gain, in standard errors and as a fraction of the error.

    """
    gains = closed - other
    count = len(gains)
    error = float(gains.std(ddof=1) / np.sqrt(count)) if count > 1 else float("inf")
    gain = float(gains.mean())
    significant = count > 1 and gain > settings.margin * error
    return Trial(
        closed=np.round(closed, 6).tolist(),
        network=np.round(other, 6).tolist(),
        share=share,
        gain=round(gain, 6),
        standard_error=round(error, 6) if np.isfinite(error) else 0.0,
        ships=significant and _enough(closed, other, settings),
    )
