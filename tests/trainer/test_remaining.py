"""The fit of the remaining life: what it finds, what it is worth on machines it has not seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from models.errors import DataError
from models.messages import Float32
from models.remaining import Life, Remaining
from trainer.config import RemainingTable
from trainer.remaining import Fitted, accuracy, check, fit, remaining

CHANNELS = ("noise", "wear", "still")


def settings(**changes: Any) -> RemainingTable:
    given: dict[str, Any] = {"unit_samples": 2.0, "cap": 60.0, "spans_samples": [5.0, 20.0]}
    return RemainingTable.model_validate(given | changes)


def machines(count: int, seed: int) -> list[Float32]:
    """Return lives of 200 to 400 samples: one channel wears, one is noise, one never changes."""
    random = np.random.default_rng(seed)
    lives = []
    for life in random.integers(200, 400, count).tolist():
        left = np.arange(life - 1, -1, -1)
        wear = 5 / (1 + np.exp(left / 25)) + random.normal(0, 0.1, life)
        rows = np.stack([random.normal(size=life), wear, np.full(life, 7.0)], axis=1)
        lives.append(rows.astype(np.float32))
    return lives


def last(fitted: Fitted, life: Float32) -> Life:
    model = Remaining(fitted.part, CHANNELS)
    state = model.start()
    model.take(state, life)
    found = model.predict(state)
    assert found is not None
    return found


def test_the_fit_finds_the_wear_on_machines_that_it_has_not_seen() -> None:
    fitted, random = fit(machines(20, seed=1), settings()), np.random.default_rng(3)
    left = random.integers(4, 100, 60)
    lives = [life[:-rest] for life, rest in zip(machines(60, seed=2), left, strict=True)]
    found = [last(fitted, life) for life in lives]
    actual = np.minimum(left / 2.0, 60.0)
    error = accuracy(np.array([one.predicted for one in found]), actual)
    assert error.rmse < 8 < 12 < accuracy(np.full(60, np.median(actual)), actual).rmse
    inside = [
        one.quantiles[1] <= each <= one.quantiles[3]
        for one, each in zip(found, actual, strict=True)
    ]
    assert 0.65 <= np.mean(inside) <= 0.95  # 80 %; three standard errors of 60 are 0.15


def test_the_metrics_are_of_machines_left_out() -> None:
    fitted = fit(machines(10, seed=1), settings())
    assert fitted.metrics["lives"] == 10
    assert fitted.metrics["rmse"] < fitted.metrics["rmse_constant"] / 2
    noise = [np.random.default_rng(seed).normal(size=(300, 2)) for seed in range(8)]
    learnt = fit([one.astype(np.float32) for one in noise], settings(by_age=False))
    assert learnt.metrics["rmse"] > 0.8 * learnt.metrics["rmse_constant"]  # nothing to learn


def test_a_channel_that_never_changes_is_not_used() -> None:
    part = fit(machines(6, seed=1), settings()).part
    assert part.scale[2] == part.scale[5] == 0.0
    assert all(scale > 0 for at, scale in enumerate(part.scale) if at not in (2, 5))


def test_missing_values_are_left_out() -> None:
    lives = machines(6, seed=1)
    for life in lives:
        life[:50, 1] = math.nan
    assert np.isfinite(fit(lives, settings()).part.weights).all()
    lives = [np.full_like(life, math.nan) for life in lives]
    with pytest.raises(DataError, match="no recording to failure has a value of every channel"):
        fit(lives, settings())


def test_with_too_few_machines_there_is_nothing_to_measure_errors_on() -> None:
    with pytest.raises(DataError, match=r"remaining.files: 3 recordings to failure, at least 4"):
        check(3)
    with pytest.raises(DataError, match="at least 4"):
        fit(machines(3, seed=1), settings())


def test_the_remaining_life_is_capped_and_in_its_unit() -> None:
    assert remaining(4, settings(cap=1.2)).tolist() == [1.2, 1.0, 0.5, 0.0]


def test_too_much_is_worse_than_too_little() -> None:
    found = accuracy(np.array([50.0, 60.0]), np.array([63.0, 50.0]))
    assert found.rmse == pytest.approx(((13**2 + 10**2) / 2) ** 0.5)
    assert found.score == pytest.approx(2 * (math.e - 1))
    assert accuracy(np.ones(3), np.ones(3)) == (0, 0)


def test_the_middle_quantile_is_the_prediction() -> None:
    fitted = fit(machines(10, seed=1), settings())
    for offsets in fitted.part.offsets:
        assert offsets[2] == 0.0
        assert offsets == sorted(offsets)
