"""The nonparametric dynamic threshold of Telemanom, streaming.

After Hundman et al., "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic
Thresholding", KDD 2018, section 3.3: of the thresholds ``mean + z * deviation`` over a history
of smoothed errors, take the one whose exceedances, once removed, lower mean and deviation most
per exceedance; then prune exceedances that do not stand out from the next lower error.

What differs from the published batch form, and why:

- **Causal.** A sample is compared with a threshold found before it; the selection over z runs
  every ``update_samples`` and can find, late by at most that much, what stayed below.
- **The history keeps normal errors only.** What is found anomalous is left out, and nothing
  enters while an anomaly is open: a fault's smaller errors would raise the threshold too, close
  its own event and hide the next.
- **A floor per row**, from held-out normal data: tiny errors on a quiet channel never alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.bundle import Threshold
from models.messages import Float32, Float64

Bool = npt.NDArray[np.bool_]

PART_COLUMNS = 64  # the history is saved in parts of so many columns, only the changed ones


class Found(NamedTuple):
    """A sequence of one row that only the update at the end of a block found anomalous."""

    row: int
    onset: int  # position in the block
    peak: int  # position in the block
    score: float  # error at the peak / threshold


class Exceedance(NamedTuple):
    """What samples did against the threshold."""

    threshold: Float32  # (n, R) the one each sample was compared with
    above: Bool  # (n, R)


@dataclass(slots=True)
class ThresholdState:
    """The bounded memory of one stream: ``R`` rows of errors."""

    history: Float32  # (R, H) smoothed errors of normal samples, a ring per row
    written: npt.NDArray[np.int64]  # (R,) errors ever put into each ring
    block: Float32  # (U, R) smoothed errors since the last update
    block_above: Bool  # (U, R)
    pending: int  # rows of the block in use
    threshold: Float32  # (R,) in force
    changed: set[int]  # parts of the history changed since they were last saved


class DynamicThreshold:
    """Finds and applies the threshold of each error row; holds settings, no memory."""

    def __init__(self, settings: Threshold) -> None:
        self._settings = settings
        self._floor = np.asarray(settings.floor, np.float32)
        count = round((settings.z_max - settings.z_min) / settings.z_step) + 1
        self._z = np.linspace(settings.z_min, settings.z_max, max(count, 1))

    def start(self) -> ThresholdState:
        """Return the state before the first sample: the floor alone decides."""
        rows, settings = len(self._floor), self._settings
        return ThresholdState(
            history=np.zeros((rows, settings.history_samples), np.float32),
            written=np.zeros(rows, np.int64),
            block=np.full((settings.update_samples, rows), np.nan, np.float32),
            block_above=np.zeros((settings.update_samples, rows), np.bool_),
            pending=0,
            threshold=self._floor.copy(),
            changed=set(),
        )

    @property
    def block_samples(self) -> int:
        """Samples between two updates."""
        return self._settings.update_samples

    def compare(self, state: ThresholdState, smoothed: Float32) -> Exceedance:
        """Compare ``smoothed`` (n, R) with the threshold in force.

        At most ``block_samples - state.pending`` rows a call: ``update`` is due when the block
        is full. NaN (nothing to score) is never above and never enters the history.
        """
        begin, end = state.pending, state.pending + len(smoothed)
        threshold = np.broadcast_to(state.threshold.copy(), smoothed.shape)
        above = smoothed > threshold
        state.block[begin:end] = smoothed
        state.block_above[begin:end] = above
        state.pending = end
        return Exceedance(threshold, above)

    def update(self, state: ThresholdState, hold: bool) -> list[Found]:
        """Find each row's threshold anew and move the full block's normal errors to the history.

        Returns what only this showed to be anomalous. With ``hold`` (an anomaly is open) the
        block is dropped, and threshold and history stay as they are.
        """
        state.pending = 0
        if hold:
            return []
        sequences = []
        for row in range(len(self._floor)):
            errors, above = state.block[:, row], state.block_above[:, row]
            known = ~np.isnan(errors)
            kept = self._kept(state, row)
            found, state.threshold[row] = self._select(
                row, kept, np.where(known & ~above, errors, np.nan)
            )
            if found.any():
                peak = int(np.nanargmax(np.where(found, errors, np.nan)))
                score = float(errors[peak] / state.threshold[row])
                sequences.append(Found(row, int(np.argmax(found)), peak, score))
            self._remember(state, row, errors[known & ~above & ~found])
        return sequences

    def _kept(self, state: ThresholdState, row: int) -> Float32:
        """The row's history in order of time, oldest first."""
        size = state.history.shape[1]
        written = int(state.written[row])
        if written <= size:
            return state.history[row, :written]
        return np.roll(state.history[row], -(written % size))

    def _remember(self, state: ThresholdState, row: int, errors: Float32) -> None:
        size = state.history.shape[1]
        columns = (int(state.written[row]) + np.arange(len(errors))) % size
        state.history[row, columns] = errors
        state.written[row] += len(errors)
        state.changed.update((columns // PART_COLUMNS).tolist())

    def _select(self, row: int, kept: Float32, recent: Float32) -> tuple[Bool, np.float32]:
        """Which of ``recent`` are anomalous, and the threshold for the samples to come.

        Only errors of the block can be found: the history has been judged.
        """
        floor = self._floor[row]
        none = np.zeros(len(recent), np.bool_)
        known = ~np.isnan(recent)
        errors = np.concatenate([kept, recent[known]]).astype(np.float64)
        if len(errors) < self._settings.update_samples:
            return none, floor
        mean, deviation = errors.mean(), errors.std()
        quiet = np.float32(max(floor, mean + self._z[-1] * deviation))
        if not (recent[known] > np.float32(max(floor, mean + self._z[0] * deviation))).any():
            return none, quiet
        chosen = np.float32(max(floor, _most_telling(errors, mean, deviation, self._z)))
        found = known & (recent > chosen)
        normal = errors[errors <= chosen]
        found &= _stands_out(recent, found, normal.max(initial=0.0), self._settings.prune_drop)
        return found, chosen if found.any() else quiet


def _most_telling(errors: Float64, mean: float, deviation: float, z: Float64) -> float:
    """The candidate with the best (Δmean/mean + Δdeviation/deviation) / (sequences² + errors)."""
    best, best_merit = mean + z[-1] * deviation, 0.0
    if mean <= 0 or deviation <= 0:  # a constant history: nothing to weigh
        return float(best)
    for factor in z:
        candidate = mean + factor * deviation
        above = errors > candidate
        count = int(above.sum())
        if count == 0:
            break  # no higher candidate has any either
        if count * 2 >= len(errors):
            continue
        normal = errors[~above]
        drop = (mean - normal.mean()) / mean + (deviation - normal.std()) / deviation
        sequences = int(above[0]) + int((above[1:] & ~above[:-1]).sum())
        merit = drop / (sequences**2 + count)
        if merit >= best_merit:
            best, best_merit = candidate, merit
    return float(best)


def _stands_out(recent: Float32, found: Bool, normal_max: float, prune_drop: float) -> Bool:
    """Prune the sequences of ``found`` that do not stand out from what is normal.

    The sequences' maxima and the largest normal error in descending order: going down, all
    that lie below the last drop of at least ``prune_drop`` (relative) are normal after all.
    """
    starts = np.flatnonzero(found & ~np.concatenate([[False], found[:-1]]))
    ends = np.flatnonzero(found & ~np.concatenate([found[1:], [False]])) + 1
    peaks = np.array([recent[a:b].max() for a, b in zip(starts, ends, strict=True)], np.float64)
    order = np.argsort(-peaks)
    ladder = np.append(peaks[order], normal_max)
    drops = (ladder[:-1] - ladder[1:]) / ladder[:-1]
    large = np.flatnonzero(drops >= prune_drop)
    kept = np.zeros_like(found)
    for sequence in order[: large[-1] + 1 if len(large) else 0]:
        kept[starts[sequence] : ends[sequence]] = True
    return kept
