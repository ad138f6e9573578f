"""The scorer of NAB, the Numenta Anomaly Benchmark.

After Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms – the Numenta Anomaly
Benchmark", ICMLA 2015, and the rules of its published scorer. Every row with a score of at least
the threshold is a detection. The first detection in a window scores up to 1; an earlier detection
scores more. Each detection outside a window reduces the score, but less shortly after a window. A
window without a detection scores -1 or -2, depending on the profile. The first rows of each file
are a probation period and do not count. All files share one threshold, which maximizes the sum. The
sum is scaled: a detector without detections scores 0. A detector that detects every window at its
first row, and nothing else, scores 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from models.messages import Bool, Float64

PROBATION_SHARE: Final = 0.15
_PROBATION_ROWS_MAX: Final = 750  # 15 % of 5000
_STEEPNESS: Final = 5.0
_FAR: Final = 3.0  # window widths after a window: from here, a detection costs the full penalty


class Profile(NamedTuple):
    """The weights of a detection, a false detection and a missed window."""

    name: str
    found: float
    false: float
    missed: float


PROFILES: Final = (
    Profile("standard", 1.0, 0.11, 1.0),
    Profile("reward_low_FP_rate", 1.0, 0.22, 1.0),
    Profile("reward_low_FN_rate", 1.0, 0.11, 2.0),
)


class Rated(NamedTuple):
    """One file with the scores of a detector."""

    scores: Float64  # (n,) NaN never counts as a detection
    windows: Sequence[tuple[int, int]]  # first and last row of each, in order


class Wrong(NamedTuple):
    """The errors in one file at one threshold."""

    missed: int  # windows without a detection
    false_rows: int  # rows detected outside the windows


class Sweep(NamedTuple):
    """The scores of several files at all thresholds that change them, highest threshold first."""

    thresholds: Float64  # (T,) falling; the first is infinite and detects nothing
    sums: Float64  # (T,) not scaled
    windows: int  # number of windows that count
    profile: Profile

    @property
    def best(self) -> float:
        """The threshold with the largest sum; the highest one if several are equal."""
        return float(self.thresholds[int(np.argmax(self.sums))])

    def at(self, threshold: float) -> float:
        """Return the sum at a threshold, not scaled."""
        return float(self.sums[int(np.searchsorted(-self.thresholds, -threshold, "right")) - 1])

    def scaled(self, threshold: float) -> float | None:
        """Return the scaled score at a threshold, at most 100; None if there is no window."""
        nothing = -self.profile.missed * self.windows
        perfect = self.profile.found * self.windows
        if perfect == nothing:
            return None
        return 100.0 * (self.at(threshold) - nothing) / (perfect - nothing)


def sweep(files: Sequence[Rated], profile: Profile) -> Sweep:
    """Return the score of all files together at every threshold."""
    gains, scores, windows = [], [], 0
    for file in files:
        of_rows = _gains(file, profile)
        counted = _counted(file) & ~np.isnan(file.scores)
        gains.append(of_rows[counted])
        scores.append(file.scores[counted])
        windows += _windows_counted(file)
    gain, score = np.concatenate(gains), np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    score, total = score[order], np.cumsum(gain[order])
    last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.array([], int)
    nothing = 0.0 - profile.missed * windows
    return Sweep(
        np.concatenate([[np.inf], score[last]]),
        np.concatenate([[nothing], nothing + total[last]]),
        windows,
        profile,
    )


def wrong(file: Rated, threshold: float) -> Wrong:
    """Return what a threshold misses in a file, and what it detects outside the windows.

    As in the score, the probation period does not count.
    """
    detected = (file.scores >= threshold) & _counted(file)
    counted = [each for each in file.windows if each[1] >= _probation(len(detected))]
    missed = sum(not detected[start : end + 1].any() for start, end in counted)
    for start, end in file.windows:
        detected[start : end + 1] = False
    return Wrong(missed, int(detected.sum()))


def _probation(rows: int) -> int:
    return min(int(PROBATION_SHARE * rows), _PROBATION_ROWS_MAX)


def _counted(file: Rated) -> Bool:
    return np.arange(len(file.scores)) >= _probation(len(file.scores))


def _windows_counted(file: Rated) -> int:
    return sum(end >= _probation(len(file.scores)) for _, end in file.windows)


def _gains(file: Rated, profile: Profile) -> Float64:
    """Return the gain of each row, (n,): it joins the sum when the threshold reaches its score."""
    gains = np.full(len(file.scores), -profile.false)
    for start, end in file.windows:
        behind = np.arange(1, len(gains) - end)
        gains[end + 1 :] = profile.false * _sigmoid(behind / max(end - start, 1))
    for start, end in file.windows:
        gains[start : end + 1] = _window_gains(file, start, end, profile)
    return gains


def _window_gains(file: Rated, start: int, end: int, profile: Profile) -> Float64:
    """Return the gain of each row of a window: its improvement over rows with higher scores."""
    width = end - start + 1
    rows = np.arange(start, end + 1)
    worth = profile.found * _sigmoid(-(end - rows + 1) / width) / _sigmoid(np.array([-1.0]))
    worth[~_counted(file)[rows] | np.isnan(file.scores[rows])] = -profile.missed
    order = np.argsort(-file.scores[rows], kind="stable")  # NaN last
    best = np.maximum.accumulate(np.append(-profile.missed, worth[order]))
    gains = np.zeros(width)
    gains[order] = np.diff(best)
    return gains


def _sigmoid(position: Float64) -> Float64:
    """Return the value, 1 to -1, of a position in window widths from the window's last row."""
    worth = 2.0 / (1.0 + np.exp(_STEEPNESS * position)) - 1.0
    return np.where(position >= _FAR, -1.0, worth)
