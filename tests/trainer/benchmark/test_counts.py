"""Counting detections against labels: by hand, by event, by point and by VUS-PR."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.benchmark.counts import (
    Bool,
    Detected,
    EventCounts,
    PointCounts,
    count_events,
    count_points,
    point_mask,
    vus_pr,
    vus_pr_missing,
)

LABELS = [(100, 199), (300, 399), (600, 699)]
STEPS = 2_000


def detected(*sequences: tuple[int, int]) -> list[Detected]:
    return [Detected(start, end, start) for start, end in sequences]


@pytest.mark.parametrize(
    ("sequences", "tp", "fp", "fn"),
    [
        ([], 0, 0, 3),
        ([(100, 199), (300, 399), (600, 699)], 3, 0, 0),
        ([(0, 99)], 0, 1, 3),  # ends one sample before
        ([(0, 100)], 1, 0, 2),  # touches the first sample
        ([(199, 250)], 1, 0, 2),  # touches the last
        ([(200, 299)], 0, 1, 3),  # lies exactly between two
        ([(110, 120), (130, 140), (150, 160)], 1, 0, 2),  # three in one label find it once
        ([(150, 350)], 2, 0, 1),  # one in two labels finds both
        ([(0, STEPS - 1)], 3, 0, 0),
        ([(100, 110), (210, 220), (800, 900)], 1, 2, 2),
    ],
)
def test_events_are_counted_by_overlap(
    sequences: list[tuple[int, int]], tp: int, fp: int, fn: int
) -> None:
    counts = count_events(detected(*sequences), LABELS, STEPS)
    assert (counts.tp, counts.fp, counts.fn) == (tp, fp, fn)
    assert counts.steps == STEPS


@pytest.mark.parametrize(
    ("events", "delays"),
    [
        ([Detected(110, 150, 117)], (17,)),
        ([Detected(90, 150, 95)], (0,)),  # opened before the label: no delay, not a negative one
        ([Detected(130, 140, 133), Detected(110, 120, 118)], (18,)),  # the earliest counts
        ([Detected(190, 230, 215)], (115,)),  # opened when the label was over
        ([Detected(150, 310, 160)], (60, 0)),
        ([Detected(210, 220, 211)], ()),
    ],
)
def test_the_delay_runs_from_the_label_s_start_to_the_opening(
    events: list[Detected], delays: tuple[int, ...]
) -> None:
    assert count_events(events, LABELS, STEPS).delays == delays


def test_the_figures_are_those_worked_out_by_hand() -> None:
    counts = EventCounts(tp=6, fp=2, fn=4, delays=(0, 3, 5, 10, 30, 100), steps=40_000)
    assert counts.precision == pytest.approx(6 / 8)
    assert counts.recall == pytest.approx(6 / 10)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert counts.f05 == pytest.approx(1.25 * 0.75 * 0.6 / (0.25 * 0.75 + 0.6))
    assert counts.delay_steps_median == 7.5
    assert counts.false_per_10k == 0.5


def test_the_json_has_the_agreed_keys() -> None:
    said = EventCounts(tp=1, fp=1, fn=0, delays=(4,), steps=100).as_json()
    assert json.loads(json.dumps(said)) == {
        "tp": 1,
        "fp": 1,
        "fn": 0,
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "f05": pytest.approx(1.25 / 2.25),
        "delay_steps_median": 4.0,
        "false_per_10k": 100.0,
    }


def test_what_is_undefined_is_none_and_what_is_bad_is_zero() -> None:
    nothing = EventCounts()
    assert set(nothing.as_json().values()) == {0, None}
    assert nothing.f1 is nothing.precision is nothing.recall is nothing.false_per_10k is None
    silent = count_events([], LABELS, STEPS)
    assert (silent.precision, silent.recall, silent.f1, silent.f05) == (None, 0.0, 0.0, 0.0)
    noisy = count_events(detected((0, 1)), [], STEPS)
    assert (noisy.precision, noisy.recall, noisy.f1, noisy.f05) == (0.0, None, 0.0, 0.0)


def test_totals_are_counts_of_all_and_no_means_of_ratios() -> None:
    first = count_events([Detected(100, 120, 110)], [(100, 130)], 1_000)
    second = count_events([Detected(0, 5, 5), Detected(40, 45, 45)], [(20, 25)], 3_000)
    total = sum([first, second], start=EventCounts())
    assert total == EventCounts(tp=1, fp=2, fn=1, delays=(10,), steps=4_000)
    assert total.precision == pytest.approx(1 / 3)
    assert total.false_per_10k == 5.0


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 9)), max_size=8),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 9)), max_size=8),
)
def test_every_label_is_found_or_missed_and_masks_agree(
    events: list[tuple[int, int]], labels: list[tuple[int, int]]
) -> None:
    found = detected(*((start, start + length) for start, length in events))
    known = [(start, start + length) for start, length in labels]
    counts = count_events(found, known, 100)
    assert counts.tp + counts.fn == len(known)
    seen = point_mask([(event.start, event.end) for event in found], 100)
    assert counts.tp == sum(bool(seen[start : end + 1].any()) for start, end in known)
    labelled = point_mask(known, 100)
    assert counts.fp == sum(not labelled[e.start : e.end + 1].any() for e in found)


def test_a_mask_holds_both_ends() -> None:
    assert np.flatnonzero(point_mask([(2, 4), (9, 9)], 10)).tolist() == [2, 3, 4, 9]


def test_points_are_counted_one_by_one() -> None:
    labels = point_mask([(10, 19)], 50)
    counts = count_points(point_mask([(18, 21)], 50), labels)
    assert counts == PointCounts(tp=2, fp=2, fn=8, tn=38)  # the rest of the label stays missed
    assert counts.f1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 8))
    assert counts.far == pytest.approx(5.0)
    assert counts.mar == pytest.approx(80.0)
    total = counts + count_points(~labels, ~labels)
    assert total == PointCounts(tp=42, fp=2, fn=8, tn=48)
    assert set(total.as_json()) == {"tp", "fp", "fn", "tn", "f1", "far", "mar"}


def test_point_rates_without_samples_of_a_kind_are_none() -> None:
    assert (PointCounts().f1, PointCounts().far, PointCounts().mar) == (None, None, None)
    assert PointCounts(tn=5).far == 0.0
    assert PointCounts(tp=5).far is None


@pytest.fixture(scope="module")
def labelled() -> Bool:
    return point_mask([(500, 649), (900, 959), (1_400, 1_589)], STEPS)


def noise(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).random(STEPS)


def test_vus_pr_of_known_cases(labelled: Bool) -> None:
    base_rate = labelled.mean()
    perfect = vus_pr(labelled, labelled + 0.1 * noise(1))
    late = vus_pr(labelled, np.roll(labelled, 30) + 0.1 * noise(1))
    far_off = vus_pr(labelled, np.roll(labelled, 200) + 0.1 * noise(1))
    random = vus_pr(labelled, noise(2))
    assert perfect is not None and late is not None and random is not None
    assert far_off is not None
    assert 0.9 < perfect <= 1.0
    assert base_rate - 0.05 < random < base_rate + 0.1
    assert far_off < base_rate < 0.5 < late < perfect


def test_vus_pr_asks_only_for_the_order(labelled: Bool) -> None:
    score = labelled + noise(3)
    assert vus_pr(labelled, np.exp(20 * score)) == vus_pr(labelled, score)
    assert vus_pr(labelled, score.astype(np.float32)) == pytest.approx(vus_pr(labelled, score))


def test_vus_pr_takes_nan_as_lowest_and_infinity_as_highest(labelled: Bool) -> None:
    score = labelled + noise(4)
    lowest, highest = np.argmin(score), np.argmax(score)
    odd = score.copy()
    odd[lowest], odd[highest] = np.nan, np.inf
    assert vus_pr(labelled, odd) == vus_pr(labelled, score)
    warm_up = score.copy()
    warm_up[:400] = np.nan  # normal samples: to score them lowest can only help
    before, after = vus_pr(labelled, score), vus_pr(labelled, warm_up)
    assert before is not None and after is not None
    assert after > before


def test_vus_pr_where_there_is_nothing_to_tell_apart(labelled: Bool) -> None:
    assert vus_pr(np.zeros(STEPS, np.bool_), noise(5)) is None
    assert vus_pr(np.ones(STEPS, np.bool_), noise(5)) is None
    assert vus_pr(labelled, np.full(STEPS, 0.3)) == 0.0
    assert vus_pr(labelled, np.full(STEPS, np.nan)) == 0.0


def test_vus_pr_can_be_computed_here() -> None:
    assert vus_pr_missing() is None
