"""The remaining life of a machine, from the smoothed values of its channels.

A regression maps exponentially weighted means of the scored channels, their squares and, if the
bundle says so, the machine's age to the remaining life. It is fitted to machines that ran until
they failed (``trainer.remaining``). A healthy machine does not show how long it will live, so
predictions are capped (Heimes, PHM 2008). Quantiles come from the errors on machines that the fit
had not seen (split conformal prediction, by parts of the predicted life).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.manifest import RemainingPart
from models.messages import Float32, Float64
from models.state import StateMismatch

INPUT_MAX = 10.0  # scales; an input farther away than that is no longer like any that was learnt
_WEIGHT_MIN = 1e-3  # of a mean; below, the channel has had no value for too long


class Life(NamedTuple):
    """A prediction of the remaining life."""

    predicted: float  # by the map alone, 0 to the cap, in unit
    quantiles: Float64  # (Q,) rising, in unit


@dataclass(eq=False, slots=True)
class LifeState:
    """What is known of one machine.

    ``S`` is the number of spans, ``C`` that of the scored channels.
    """

    total: Float64  # (S, C) weighted sums of the values
    weight: Float64  # (S, C) sums of their weights; 1 once the mean has settled
    age: int  # samples so far


class Remaining:
    """Predicts the remaining life of the machines of one bundle.

    Args:
        part: of the bundle.
        channels: names of the ``C`` scored channels, in order.

    """

    def __init__(self, part: RemainingPart, channels: tuple[str, ...]) -> None:
        self.part, self._channels = part, channels
        self.levels: Float64 = np.array(part.levels)
        self._shares = shares(part.spans_samples)
        self._mean, scale = np.array(part.mean), np.array(part.scale)
        self._scale = np.where(scale > 0, scale, np.inf)
        self._used = scale > 0
        self._weights, self._offsets = np.array(part.weights), np.array(part.offsets)

    def start(self) -> LifeState:
        """Return the state of a machine of which nothing is known."""
        return empty(len(self.part.spans_samples), len(self._channels))

    def take(self, state: LifeState, values: Float32) -> None:
        """Add samples (n, C) of the scored channels, in their units; NaN: no value."""
        add(state, values, self._shares)

    def predict(self, state: LifeState, age_samples: float | None = None) -> Life | None:
        """Return the remaining life; None: a channel has had no value, or none for too long.

        ``age_samples``: the age of the machine, if it is known better than from the samples.
        """
        given = inputs(state, self.part.by_age, age_samples)
        if np.isnan(given[self._used]).any():
            return None
        row = expanded(given[None], self._mean, self._scale)
        predicted = float(np.clip(row @ self._weights, 0.0, self.part.cap)[0])
        offsets = self._offsets[part_of(predicted, self.part.cap, len(self._offsets))]
        return Life(predicted, np.clip(predicted + offsets, 0.0, self.part.cap))

    def to_bytes(self, state: LifeState) -> bytes:
        """Return the state, for the store."""
        saved = {"total": state.total.tolist(), "weight": state.weight.tolist()}
        return json.dumps(saved | self._key() | {"age": state.age}).encode()

    def restore(self, data: bytes) -> LifeState:
        """Return a saved state; from another bundle with other inputs only the age.

        Raises:
            StateMismatch: the data is not a saved state.

        """
        try:
            saved = json.loads(data)
            state = self.start()
            state.age = int(saved["age"])
            if {name: saved[name] for name in self._key()} == self._key():
                state.total = np.array(saved["total"]).reshape(state.total.shape)
                state.weight = np.array(saved["weight"]).reshape(state.weight.shape)
        except (ValueError, KeyError, TypeError) as error:
            raise StateMismatch(f"the saved remaining life is damaged: {error}") from error
        return state

    def _key(self) -> dict[str, Any]:
        return {"channels": list(self._channels), "spans": list(self.part.spans_samples)}


def empty(spans: int, channels: int) -> LifeState:
    """Return the state before the first sample."""
    return LifeState(np.zeros((spans, channels)), np.zeros((spans, channels)), 0)


def shares(spans_samples: list[float]) -> Float64:
    """Return the weight (S,) of the newest sample in the mean of each span."""
    return 2.0 / (np.array(spans_samples) + 1.0)


def add(state: LifeState, values: Float32, share: Float64) -> None:
    """Add samples (n, C) to a state; ``share``: see ``shares``.

    The sums of all samples are the same whatever the number of samples in a call, except for
    rounding.
    """
    known = ~np.isnan(values)
    numbers = np.where(known, values, 0.0).astype(np.float64)
    ahead = np.arange(len(values) - 1, -1, -1)
    weights = share[:, None] * (1.0 - share)[:, None] ** ahead  # (S, n)
    left = ((1.0 - share) ** len(values))[:, None]
    state.total = left * state.total + weights @ numbers
    state.weight = left * state.weight + weights @ known.astype(np.float64)
    state.age += len(values)


def inputs(state: LifeState, by_age: bool, age_samples: float | None = None) -> Float64:
    """Return the inputs (F,) of the map: by span and channel, then the age in samples.

    NaN: a channel has had no value for too long.
    """
    settled = state.weight >= _WEIGHT_MIN
    means = np.full(state.total.shape, np.nan)
    np.divide(state.total, state.weight, out=means, where=settled)
    age = [state.age if age_samples is None else age_samples] if by_age else []
    return np.concatenate([means.ravel(), np.array(age, np.float64)])


def expanded(given: Float64, mean: Float64, scale: Float64) -> Float64:
    """Return scaled inputs, their squares and a column of ones, (n, 2 F + 1), from (n, F)."""
    scaled = np.clip((given - mean) / scale, -INPUT_MAX, INPUT_MAX)
    scaled = np.where(np.isfinite(scale), scaled, 0.0)
    return np.concatenate([scaled, np.square(scaled), np.ones((len(scaled), 1))], axis=1)


def part_of(predicted: float, cap: float, parts: int) -> int:
    """Return the index of the equal part of 0 to ``cap`` that a prediction lies in."""
    return min(int(predicted / cap * parts), parts - 1)
