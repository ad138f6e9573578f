"""The tail of the score: its shape, its limits, and that it is calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Tail
from models.score_tail import FORESIGHT, ScoreTail, StreamTail
from models.tail_fit import fit
from trainer.detector import score_tail as checking


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


HIGH = 1e-6


@pytest.mark.parametrize("samples", [2, 60, 300, 1000, 3000, 9_999])
def test_a_high_severity_can_be_reached_after_any_calibration(samples: int) -> None:
    short = ScoreTail(tail(samples=samples))
    assert short.least > HIGH
    reached = short.score_at(HIGH)
    assert 1 < reached < 29
    assert short.cautious(reached * 1.001) <= HIGH < short.cautious(reached * 0.999)
    (claimed,) = short.probability(np.array([reached]))
    assert claimed == short.least  # what is said of the probability stays what the data can tell


def test_the_shorter_the_calibration_the_larger_must_a_score_be() -> None:
    reached = [ScoreTail(tail(samples=n)).score_at(HIGH) for n in (10_000, 3000, 1000, 400, 60)]
    assert reached == sorted(reached)
    assert reached[0] < 2.4
    assert reached[-1] > 20


@pytest.mark.parametrize("samples", [60, 3000, 10_000_000])
@pytest.mark.parametrize("shape", [0.0, 0.3, 0.8])
def test_a_larger_score_is_never_less_severe(samples: int, shape: float) -> None:
    made = ScoreTail(tail(samples=samples, shape=shape))
    found = [made.cautious(score) for score in np.geomspace(0.01, 1e6, 2000)]
    assert (np.diff(found) <= 0).all()
    claimed = made.probability(np.geomspace(0.01, 1e6, 2000))
    told = claimed > made.least
    assert np.array_equal(np.array(found)[told], claimed[told])


@pytest.mark.parametrize("draw", ["exponential", "pareto", "standard_normal"])
def test_a_short_calibration_seldom_calls_normal_operation_high(draw: str) -> None:
    """In nine of ten calibrations a score of this rarity is not judged to be rarer."""
    random = np.random.default_rng(5)
    make, true = {
        "exponential": (lambda n: random.exponential(0.1, n), 0.1 * np.log(1e6)),
        "pareto": (lambda n: 0.1 * random.pareto(5, n), 0.1 * (1e6 ** (1 / 5) - 1)),
        "standard_normal": (lambda n: 0.2 * np.abs(random.standard_normal(n)), 0.2 * 4.8916),
    }[draw]
    fits = [ScoreTail(fit(make(1500).astype(np.float32))) for _ in range(400)]
    too_rare = np.mean([one.cautious(true) < HIGH / 10 for one in fits])
    assert too_rare < 0.1


def test_of_several_tails_the_largest_probability_counts() -> None:
    calm, restless = ScoreTail(tail()), ScoreTail(tail(scores=[0.3, 0.5, 0.9], samples=300))
    both, scores = StreamTail(calm, restless), np.array([0.1, 0.55, 1.0, 3.0, np.nan])
    expected = np.maximum(calm.probability(scores), restless.probability(scores))
    assert np.array_equal(both.probability(scores), expected, equal_nan=True)
    assert both.probability(scores)[3] == restless.least  # also what short data can tell


def test_the_tail_of_a_stream_changes_no_severity() -> None:
    calm, restless = ScoreTail(tail()), ScoreTail(tail(scores=[0.3, 0.5, 0.9], samples=300))
    for score in (0.1, 0.55, 1.0, 3.0):
        assert StreamTail(calm, restless).cautious(score) == calm.cautious(score)


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
    fitted = fit(make(50_000).astype(np.float32))
    checked = checking.check(fitted, make(500_000).astype(np.float32))
    # a bounded-tail family such as the normal is judged too common, never too rare
    assert (checked.observed < 1.35 * checked.predicted).all()
    assert (checked.observed > 0.6 * checked.predicted).all()


def test_scores_that_never_moved_still_give_a_tail() -> None:
    fitted = fit(np.zeros(600, np.float32))
    probability = ScoreTail(fitted).probability(np.array([0.0, 1.0]))
    assert probability.tolist() == [1.0, 1 / (FORESIGHT * 600)]


def test_a_tail_of_missing_scores_too() -> None:
    scores = np.random.default_rng(1).exponential(0.1, 5000).astype(np.float32)
    with_gaps = np.concatenate([np.full(300, np.nan, np.float32), scores])
    assert fit(with_gaps) == fit(scores)


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
