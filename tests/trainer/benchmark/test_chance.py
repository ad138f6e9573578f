"""What chance gives: worked out by hand or by brute force, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.benchmark import chance
from trainer.benchmark.chance import Row
from trainer.benchmark.counts import (
    Alarm,
    Span,
    count_events,
    count_points,
    onset_spans,
    point_mask,
)

STEPS = 1000


def test_a_shifted_detection_finds_by_the_share_of_places_that_do() -> None:
    """Of 1000 places of a detection of 10 samples, 10 + 90 - 1 overlap a label of 90."""
    found = chance.shifted_f1([[Row([(0, 9)], [(500, 589)], STEPS)]])
    assert found is not None
    assert found.mean == pytest.approx(0.099, abs=0.02)
    assert (found.low, found.high) == (0.0, 1.0)


def test_shifts_are_counted_as_the_rule_counts_them() -> None:
    """Every shift, those over the array's end too, beside the rule on the circle laid out."""
    spans, labels = [(0, 4), (30, 31), (90, 99)], [(10, 19), (50, 50), (95, 97)]
    steps = 100
    counts = [
        chance.shifted_counts(Row(spans, labels, steps), np.array([offset]))[0].tolist()
        for offset in range(steps)
    ]
    for offset, (found, false, missed) in enumerate(counts):
        moved = [{(at + offset) % steps for at in range(a, b + 1)} for a, b in spans]
        held = [set(range(a, b + 1)) for a, b in labels]
        assert found == sum(any(each & label for each in moved) for label in held)
        assert false == sum(not any(each & label for label in held) for each in moved)
        assert missed == len(labels) - found


def test_no_shift_is_the_rule_itself() -> None:
    spans: list[Span] = [(5, 9), (40, 60)]
    labels: list[Span] = [(0, 5), (70, 80)]
    [counts] = chance.shifted_counts(Row(spans, labels, 100), np.array([0])).tolist()
    rule = count_events(spans, labels, 100)
    assert counts == [rule.tp, rule.fp, rule.fn]


def test_shifted_samples_are_those_of_a_rolled_mask() -> None:
    random = np.random.default_rng(3)
    detected, labelled = random.random(97) < 0.2, random.random(97) < 0.3
    found = chance.agreement(detected, labelled)
    assert found.tolist() == [
        count_points(np.roll(detected, offset), labelled).tp for offset in range(97)
    ]


def test_nothing_to_find_and_nothing_found_have_no_figure() -> None:
    assert chance.shifted_f1([[Row([], [], STEPS)]]) is None
    assert chance.shifted_point_f1([(np.zeros(9, np.bool_), np.zeros(9, np.bool_))]) is None
    assert chance.bootstrap_f1([(0, 0, 0)]) is None
    nothing_found = chance.shifted_f1([[Row([], [(1, 2)], STEPS)]])
    assert nothing_found == (0.0, 0.0, 0.0)


def test_the_bootstrap_draws_channels() -> None:
    assert chance.bootstrap_f1([(2, 0, 0)] * 5) == (1.0, 1.0, 1.0)
    found = chance.bootstrap_f1([(1, 0, 0)] * 30 + [(0, 1, 1)] * 10)
    assert found is not None
    assert found.low < 2 * 30 / (2 * 30 + 20) < found.high
    assert 0.05 < found.high - found.low < 0.4
    wider = chance.bootstrap_f1([(1, 0, 0)] * 3 + [(0, 1, 1)])
    assert wider is not None
    assert wider.high - wider.low > found.high - found.low


def test_the_same_outcomes_give_the_same_figures() -> None:
    rows = [[Row([(0, 9)], [(500, 589)], STEPS)]] * 3
    assert chance.shifted_f1(rows) == chance.shifted_f1(rows)
    counts = [(1, 0, 2), (3, 1, 0), (0, 0, 1)]
    assert chance.bootstrap_f1(counts) == chance.bootstrap_f1(counts)
    alarms = {"a": [Alarm("anomaly", 3, 4, 9)], "b": []}
    steps, labels = {"a": 50, "b": 90}, {"a": [[(1, 9)]], "b": [[(20, 60)]]}
    assert chance.middle_draw(alarms, labels, steps) == chance.middle_draw(alarms, labels, steps)


def test_random_alarms_are_as_many_and_as_long_and_anywhere() -> None:
    alarms = {"a": [Alarm("anomaly", 10, 12, 19)] * 300, "b": []}
    steps = {"a": 100, "b": 300}
    drawn = chance.random_alarms(alarms, steps, np.random.default_rng(1))
    assert len(drawn["a"]) + len(drawn["b"]) == 300
    assert 40 < len(drawn["a"]) < 110  # a quarter of the steps
    for name, count in steps.items():
        for alarm in drawn[name]:
            assert 0 <= alarm.onset <= alarm.opened <= alarm.closed < count
            assert alarm.closed - alarm.onset == 9 or alarm.closed == count - 1


def test_an_alarm_throughout_finds_every_label() -> None:
    assert onset_spans(chance.always(STEPS)) == [(0, STEPS - 1)]
    assert point_mask(onset_spans(chance.always(STEPS)), STEPS).all()
