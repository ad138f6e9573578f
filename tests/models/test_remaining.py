"""The remaining life: the smoothed values by hand, the map, its intervals, and its saved state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.manifest import RemainingPart
from models.remaining import INPUT_MAX, Remaining
from models.state import StateMismatch

# the life is 50 h less 10 h for each unit of the smoothed value of the first of two channels
PART: dict[str, Any] = {
    "unit": "h",
    "unit_samples": 1.0,
    "cap": 100.0,
    "spans_samples": [3.0],
    "by_age": False,
    "mean": [0.0, 5.0],
    "scale": [1.0, 0.0],
    "weights": [-10.0, 0.0, 0.0, 0.0, 50.0],
    "stride_samples": 1,
    "levels": [0.1, 0.5, 0.9],
    "offsets": [[-5.0, 0.0, 5.0], [-20.0, 0.0, 30.0]],
}
NAN = float("nan")


def model(**changes: Any) -> Remaining:
    return Remaining(RemainingPart(**(PART | changes)), ("wear", "other"))


def after(one: Remaining, *rows: tuple[float, float]) -> Any:
    state = one.start()
    for row in rows:
        one.take(state, np.array([row], np.float32))
    return state


def test_a_mean_is_exponentially_weighted_and_unbiased_from_the_first_sample() -> None:
    one = model()  # a span of 3 samples: the newest value has a weight of 1/2
    first, second = after(one, (1.0, 0.0)), after(one, (1.0, 0.0), (4.0, 0.0))
    assert one.predict(first).predicted == pytest.approx(50 - 10 * 1.0)  # type: ignore[union-attr]
    mean = (0.25 * 1.0 + 0.5 * 4.0) / 0.75
    assert one.predict(second).predicted == pytest.approx(50 - 10 * mean)  # type: ignore[union-attr]


def test_it_does_not_matter_how_samples_come() -> None:
    one, values = model(), np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    values[7, 0] = values[20:25, 1] = NAN
    by_one, at_once = one.start(), one.start()
    for row in values:
        one.take(by_one, row[None])
    one.take(at_once, values[:13])
    one.take(at_once, values[13:])
    np.testing.assert_allclose(at_once.total, by_one.total)
    np.testing.assert_allclose(at_once.weight, by_one.weight)
    assert at_once.age == by_one.age == 40


def test_without_a_value_for_too_long_nothing_is_predicted() -> None:
    one = model()
    assert one.predict(one.start()) is None
    state = after(one, (1.0, 0.0), (NAN, 0.0))
    assert one.predict(state) is not None
    one.take(state, np.full((20, 2), NAN, np.float32))
    assert one.predict(state) is None
    one.take(state, np.array([[2.0, NAN]], np.float32))  # the other channel is not used
    assert one.predict(state).predicted == pytest.approx(30.0)  # type: ignore[union-attr]


def test_a_life_lies_between_0_and_the_cap_and_so_do_its_quantiles() -> None:
    one = model()
    worn, new = one.predict(after(one, (9.0, 0.0))), one.predict(after(one, (-9.0, 0.0)))
    assert worn is not None and new is not None
    assert (worn.predicted, worn.quantiles.tolist()) == (0.0, [0.0, 0.0, 5.0])
    assert (new.predicted, new.quantiles.tolist()) == (100.0, [80.0, 100.0, 100.0])


def test_each_part_of_the_life_has_quantiles_of_its_own() -> None:
    one = model()
    near, far = one.predict(after(one, (2.0, 0.0))), one.predict(after(one, (-1.0, 0.0)))
    assert near is not None and near.quantiles.tolist() == [25.0, 30.0, 35.0]
    assert far is not None and far.quantiles.tolist() == [40.0, 60.0, 90.0]


def test_an_input_far_from_all_that_was_learnt_is_held_at_a_bound() -> None:
    one = model(weights=[-1.0, 0.0, 0.0, 0.0, 50.0])
    life = one.predict(after(one, (1e30, 0.0)))
    assert life is not None and life.predicted == 50.0 - INPUT_MAX


def test_the_age_is_the_samples_or_what_is_known_better() -> None:
    one = model(
        by_age=True,
        mean=[0.0, 5.0, 0.0],
        scale=[0.0, 0.0, 1.0],
        weights=[0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 60.0],
    )
    state = after(one, *[(0.0, 0.0)] * 4)
    assert one.predict(state).predicted == 56.0  # type: ignore[union-attr]
    assert one.predict(state, 7.5).predicted == 52.5  # type: ignore[union-attr]


def test_a_saved_state_goes_on() -> None:
    one = model()
    state = after(one, (1.0, 0.0), (4.0, 0.0))
    restored = one.restore(one.to_bytes(state))
    np.testing.assert_array_equal(restored.total, state.total)
    np.testing.assert_array_equal(restored.weight, state.weight)
    assert restored.age == 2


def test_another_bundle_keeps_the_age_alone() -> None:
    one = model()
    other = Remaining(one.part, ("wear", "power"))
    restored = other.restore(one.to_bytes(after(one, (1.0, 0.0))))
    assert restored.age == 1
    assert other.predict(restored) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"age": "x"}', b"\xff"])
def test_a_damaged_state_is_refused(data: bytes) -> None:
    with pytest.raises(StateMismatch, match="the saved remaining life is damaged"):
        model().restore(data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": [0.1, 0.5, 0.8]}, "levels are not symmetric about 0.5"),
        ({"levels": [0.1, 0.4, 0.6, 0.9]}, "levels lack 0.5"),
        ({"scale": [1.0]}, "scale and weights do not fit 2 inputs"),
        ({"offsets": [[0.0, 1.0]]}, "offsets must have 3 values in each part"),
        ({"offsets": [[5.0, 0.0, -5.0]]}, "offsets do not rise"),
    ],
)
def test_a_part_that_does_not_fit_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RemainingPart(**(PART | changes))
