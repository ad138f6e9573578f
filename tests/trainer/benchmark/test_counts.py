"""Counting detections against labels: by hand, by event, by point and by VUS-PR."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.messages import Bool
from trainer.benchmark.counts import (
    Alarm,
    EventCounts,
    PointCounts,
    Span,
    count_causal,
    count_events,
    count_points,
    count_published,
    onset_spans,
    opened_spans,
    point_mask,
    union,
    vus_pr,
    vus_pr_missing,
)

LABELS = [(100, 199), (300, 399), (600, 699)]
STEPS = 2_000


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
def test_events_are_counted_by_overlap(sequences: list[Span], tp: int, fp: int, fn: int) -> None:
    counts = count_events(sequences, LABELS, STEPS)
    assert (counts.tp, counts.fp, counts.fn) == (tp, fp, fn)
    assert counts.steps == STEPS


def alarm(onset: int, opened: int, closed: int) -> Alarm:
    return Alarm("anomaly", onset, opened, closed)


@pytest.mark.parametrize(
    ("alarms", "published", "causal", "delays"),
    [
        ([], (0, 0, 3), (0, 0, 3), ()),
        ([alarm(110, 117, 150)], (1, 0, 2), (1, 0, 2), (17,)),
        # opened before the label and still open: found, without a delay
        ([alarm(80, 95, 150)], (1, 0, 2), (1, 0, 2), (0,)),
        # dated back into the label, but raised when it was over: found by the published rule only
        ([alarm(190, 215, 230)], (1, 0, 2), (0, 1, 3), ()),
        # raised when one label was over, and still open in the next
        ([alarm(190, 215, 310)], (2, 0, 1), (1, 0, 2), (0,)),
        ([alarm(130, 133, 140), alarm(110, 118, 120)], (1, 0, 2), (1, 0, 2), (18,)),
        # open to the end of the array
        ([alarm(650, 660, STEPS - 1)], (1, 0, 2), (1, 0, 2), (60,)),
        ([alarm(150, 160, 310)], (2, 0, 1), (2, 0, 1), (60, 0)),
        ([alarm(210, 211, 220)], (0, 1, 3), (0, 1, 3), ()),
        # they overlap by their onsets only: one detection, and two by their openings
        ([alarm(210, 211, 230), alarm(225, 240, 250)], (0, 1, 3), (0, 2, 3), ()),
    ],
)
def test_the_two_rules(
    alarms: list[Alarm],
    published: tuple[int, int, int],
    causal: tuple[int, int, int],
    delays: tuple[int, ...],
) -> None:
    one = count_published(alarms, [LABELS], STEPS)
    assert (one.tp, one.fp, one.fn) == published
    two = count_causal(alarms, [LABELS], STEPS)
    assert (two.tp, two.fp, two.fn) == causal
    assert two.delays == delays


def test_the_published_rule_judges_each_row_and_the_causal_rule_the_union() -> None:
    """As the rows of P-2: the labels overlap, and the alarm lies in the first row's only."""
    rows = [[(100, 199)], [(150, 250)]]
    inside, outside = alarm(110, 112, 120), alarm(400, 401, 410)
    published = count_published([inside, outside], rows, STEPS)
    assert (published.tp, published.fp, published.fn) == (1, 3, 1)
    assert published.steps == 2 * STEPS
    causal = count_causal([inside, outside], rows, STEPS)
    assert (causal.tp, causal.fp, causal.fn) == (1, 1, 0)


def test_without_labels_every_alarm_is_false() -> None:
    for counts in (
        count_published([alarm(1, 2, 3)], [[]], STEPS),
        count_causal([alarm(1, 2, 3)], [[]], STEPS),
    ):
        assert (counts.tp, counts.fp, counts.fn) == (0, 1, 0)


def test_spans_that_overlap_are_one() -> None:
    alarms = [alarm(10, 30, 40), alarm(20, 22, 25), alarm(41, 42, 50)]
    assert onset_spans(alarms) == [(10, 40), (41, 50)]
    assert opened_spans(alarms) == [(22, 25), (30, 40), (42, 50)]
    assert union([(5, 9), (1, 5), (11, 12), (6, 7)]) == [(1, 9), (11, 12)]
    assert union([]) == []


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
    noisy = count_events([(0, 1)], [], STEPS)
    assert (noisy.precision, noisy.recall, noisy.f1, noisy.f05) == (0.0, None, 0.0, 0.0)


def test_totals_are_counts_of_all_and_no_means_of_ratios() -> None:
    first = count_events([(110, 120)], [(100, 130)], 1_000)
    second = count_events([(0, 5), (40, 45)], [(20, 25)], 3_000)
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
    found: list[Span] = [(start, start + length) for start, length in events]
    known = [(start, start + length) for start, length in labels]
    counts = count_events(found, known, 100)
    assert counts.tp + counts.fn == len(known)
    seen = point_mask(found, 100)
    assert counts.tp == sum(bool(seen[start : end + 1].any()) for start, end in known)
    labelled = point_mask(known, 100)
    assert counts.fp == sum(not labelled[start : end + 1].any() for start, end in found)


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
