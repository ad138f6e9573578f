"""The scorer of NAB: its rules by hand, and against a count threshold by threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.benchmark.nab_score import PROFILES, Rated, sweep

STANDARD, FEW_FALSE, FEW_MISSED = PROFILES


def rated(rows: int, detections: dict[int, float], *windows: tuple[int, int]) -> Rated:
    scores = np.zeros(rows)
    scores[list(detections)] = list(detections.values())
    return Rated(scores, list(windows))


def sigmoid(position: float) -> float:
    return 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def test_nothing_detected_is_0_and_each_first_row_of_a_window_is_100() -> None:
    file = rated(1000, {200: 1.0, 600: 1.0}, (200, 299), (600, 699))
    for profile in PROFILES:
        swept = sweep([file], profile)
        assert swept.scaled(math.inf) == 0.0
        assert swept.scaled(1.0) == pytest.approx(100.0)


@pytest.mark.parametrize(("row", "position"), [(299, -1 / 100), (250, -0.5), (230, -0.7)])
def test_a_detection_is_worth_the_more_the_earlier_it_is(row: int, position: float) -> None:
    swept = sweep([rated(1000, {299: 0.9} | {row: 1.0}, (200, 299))], STANDARD)
    assert swept.at(1.0) == pytest.approx(sigmoid(position) / sigmoid(-1.0))
    assert swept.at(0.9) == pytest.approx(swept.at(1.0))  # only the first in a window counts


@pytest.mark.parametrize(
    ("row", "worth"), [(190, -1.0), (300, sigmoid(1 / 99)), (398, sigmoid(1.0)), (700, -1.0)]
)
def test_a_false_detection_counts_less_shortly_after_a_window(row: int, worth: float) -> None:
    for profile, false, missed in ((STANDARD, 0.11, 1.0), (FEW_FALSE, 0.22, 1.0)):
        swept = sweep([rated(1000, {row: 1.0}, (200, 299))], profile)
        assert swept.at(1.0) == pytest.approx(-missed + false * worth)


def test_rows_on_probation_do_not_count() -> None:
    assert sweep([rated(1000, {149: 1.0}, (200, 299))], STANDARD).at(1.0) == -1.0
    assert sweep([rated(1000, {150: 1.0}, (200, 299))], STANDARD).at(1.0) == -1.11
    assert sweep([rated(9000, {749: 1.0})], STANDARD).at(1.0) == 0.0  # 750 rows at most
    assert sweep([rated(9000, {750: 1.0})], STANDARD).at(1.0) == -0.11


def test_a_missed_window_counts_twice_for_who_wants_few_missed() -> None:
    assert sweep([rated(1000, {}, (200, 299))], FEW_MISSED).at(math.inf) == -2.0


def test_a_row_without_a_score_is_never_detected() -> None:
    scores = np.full(1000, np.nan)
    scores[250] = 0.5
    swept = sweep([Rated(scores, [(200, 299)])], STANDARD)
    assert swept.thresholds.tolist() == [math.inf, 0.5]
    assert swept.at(0.5) == pytest.approx(sigmoid(-0.5) / sigmoid(-1.0))


def test_without_a_window_there_is_no_scale() -> None:
    assert sweep([rated(1000, {500: 1.0})], STANDARD).scaled(1.0) is None


def test_the_threshold_is_the_highest_of_the_best_sum() -> None:
    file = rated(1000, {210: 0.8, 900: 0.6, 220: 0.7}, (200, 299))
    assert sweep([file], STANDARD).best == 0.8


def test_every_threshold_is_summed_as_if_it_were_the_only_one() -> None:
    draw = np.random.default_rng(3)
    files = [
        Rated(draw.integers(0, 40, rows) / 40.0, windows)
        for rows, windows in ((400, [(30, 90), (200, 240)]), (300, []), (500, [(300, 499)]))
    ]
    for chosen in PROFILES:
        swept = sweep(files, chosen)
        for threshold in swept.thresholds:
            expected = sum(by_hand(file, threshold, *chosen[1:]) for file in files)
            assert swept.at(threshold) == pytest.approx(expected)


def by_hand(file: Rated, threshold: float, found: float, false: float, missed: float) -> float:
    """Return the sum of one file, detection by detection."""
    probation = int(0.15 * len(file.scores))
    rows = [row for row in np.flatnonzero(file.scores >= threshold) if row >= probation]
    total = 0.0
    for start, end in file.windows:
        inside = [row for row in rows if start <= row <= end]
        width = end - start + 1
        worth = (sigmoid(-(end - row + 1) / width) / sigmoid(-1.0) * found for row in inside)
        total += next(worth, -missed)
    for row in rows:
        if any(start <= row <= end for start, end in file.windows):
            continue
        before = [window for window in file.windows if window[1] < row]
        start, end = before[-1] if before else (0, 0)
        position = (row - end) / (end - start) if before else 3.0
        total += false * (-1.0 if position >= 3.0 else sigmoid(position))
    return total
