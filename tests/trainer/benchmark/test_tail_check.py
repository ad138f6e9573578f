"""Predicted against observed exceedance of a benchmark's scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainer.benchmark import tables, tail_check
from trainer.benchmark.counts import Span
from trainer.benchmark.document import Style, document
from trainer.benchmark.outcome import Judged, Outcome
from trainer.benchmark.tail_check import Exceeding, exceeding, figures, normal

EVERYTHING = np.ones(5, np.bool_)


def test_samples_outside_the_labels_are_normal() -> None:
    assert normal([(1, 2)], 5, fails=False).tolist() == [True, False, False, True, True]


def test_the_second_half_of_a_life_that_ends_in_failure_is_not_normal() -> None:
    assert normal([], 5, fails=True).tolist() == [True, True, False, False, False]


def test_each_share_is_counted_at_its_limit() -> None:
    probability = np.array([0.1, 0.01, 0.001, 0.11, 1.0])
    assert exceeding(probability, EVERYTHING) == Exceeding(5, (3, 2, 1))


def test_abnormal_samples_and_those_without_a_score_do_not_count() -> None:
    probability = np.array([np.nan, 1e-6, 1e-6, 0.5, 1e-6])
    is_normal = np.array([True, True, False, True, False])
    assert exceeding(probability, is_normal) == Exceeding(2, (1, 1, 1))


def test_without_probabilities_there_is_no_check() -> None:
    assert exceeding(np.full(5, np.nan), EVERYTHING) is None
    assert figures([None]) is None
    assert figures([Exceeding(0, (0, 0, 0))]) is None


def test_arrays_are_pooled_by_their_samples() -> None:
    found = figures([Exceeding(300, (30, 3, 0)), None, Exceeding(100, (50, 1, 1))])
    assert found == {"samples": 400, "one_in_10": 20.0, "one_in_100": 1.0, "one_in_1000": 0.25}


def test_right_probabilities_have_the_predicted_shares() -> None:
    probability = np.random.default_rng(3).uniform(0, 1, 200_000)
    found = figures([exceeding(probability, np.ones(200_000, np.bool_))])
    assert found is not None
    shares = [found[tail_check.key(one_in)] for one_in in tail_check.ONE_IN]
    assert shares == pytest.approx([10, 1, 0.1], rel=0.1)


@pytest.mark.parametrize("style", ["events", "engines", "bearings"])
def test_the_check_stands_in_the_table_of_each_style(
    make_outcome: Callable[..., Outcome], style: Style
) -> None:
    label: list[list[Span]] = [[(500, 700)]]
    checked = Judged(alarms=[], tail=Exceeding(200, (50, 3, 1)))
    outcome = make_outcome("1st/1", quantized=checked, rows=label)
    outcome = outcome.model_copy(update={"seconds": [float(at) for at in range(outcome.steps)]})
    lines = list(tables.lines(document({"benchmark": "x"}, [outcome], {}, style), style))
    [at] = [number for number, line in enumerate(lines) if line.startswith("tail, %")]
    assert lines[at + 1].split() == ["quantized", "200", "25.00", "1.50", "0.50"]
    assert lines[at + 2].split() == ["float", "–", "–", "–", "–"]
