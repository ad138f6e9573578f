"""The tail of the score: its shape, its limits, and that it is calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Tail
from models.score_tail import FORESIGHT, ScoreTail
from trainer.detector import score_tail as fitting


def tail(**changes: object) -> Tail:
    settings = {
        "scores": [0.2, 0.4, 0.6],
        "shares": [0.5, 0.1, 0.02],
        "shape": 0.0,
        "scale": 0.1,
        "samples": 10_000_000,
    }
    return Tail.model_validate(settings | changes)


def test_the_body_is_interpolated_and_the_tail_begins_where_it_ends() -> None:
    shares = ScoreTail(tail()).probability(np.array([0.0, 0.2, 0.4, 0.6]))
    assert shares.tolist() == pytest.approx([1.0, 0.5, 0.1, 0.02])
    between = ScoreTail(tail()).probability(np.linspace(0, 2, 400))
    assert (np.diff(between) < 0).all()


@pytest.mark.parametrize("shape", [0.0, 0.3])
def test_the_tail_is_generalized_pareto(shape: float) -> None:
    excess = 0.25
    (share,) = ScoreTail(tail(shape=shape)).probability(np.array([0.6 + excess]))
    survival = np.exp(-2.5) if shape == 0 else (1 + shape * 2.5) ** (-1 / shape)
    assert share == pytest.approx(0.02 * survival)


def test_no_tail_claims_to_know_more_than_its_data_allow() -> None:
    (share,) = ScoreTail(tail(samples=500)).probability(np.array([1e6]))
    assert share == 1 / (FORESIGHT * 500)


def test_no_score_has_no_probability() -> None:
    got = ScoreTail(tail()).probability(np.array([np.nan, 0.3]))
    assert np.isnan(got).tolist() == [True, False]


@pytest.mark.parametrize("draw", ["exponential", "pareto", "standard_normal"])
def test_a_fitted_tail_is_calibrated_on_scores_it_has_not_seen(draw: str) -> None:
    random = np.random.default_rng(3)
    make = {
        "exponential": lambda count: random.exponential(0.1, count),
        "pareto": lambda count: 0.1 * random.pareto(5, count),
        "standard_normal": lambda count: np.abs(random.standard_normal(count)) * 0.2,
    }[draw]
    fitted = fitting.fit(make(50_000).astype(np.float32))
    checked = fitting.check(fitted, make(500_000).astype(np.float32))
    # a bounded-tail family such as the normal is judged too common, never too rare
    assert (checked.observed < 1.35 * checked.predicted).all()
    assert (checked.observed > 0.6 * checked.predicted).all()


def test_scores_that_never_moved_still_give_a_tail() -> None:
    fitted = fitting.fit(np.zeros(600, np.float32))
    probability = ScoreTail(fitted).probability(np.array([0.0, 1.0]))
    assert probability.tolist() == [1.0, 1 / (FORESIGHT * 600)]


def test_a_tail_of_missing_scores_too() -> None:
    scores = np.random.default_rng(1).exponential(0.1, 5000).astype(np.float32)
    with_gaps = np.concatenate([np.full(300, np.nan, np.float32), scores])
    assert fitting.fit(with_gaps) == fitting.fit(scores)


@pytest.mark.parametrize(
    "odd",
    [
        {"scores": [0.2, 0.2, 0.6]},
        {"shares": [0.5, 0.5, 0.02]},
        {"shares": [0.5, 0.1]},
        {"shape": -0.1},
        {"shape": 1.0},
        {"scale": 0.0},
        {"samples": 0},
    ],
)
def test_an_impossible_tail_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scores|shares|shape|scale|samples"):
        tail(**odd)
