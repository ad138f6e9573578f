"""What channels tell of each other: the inputs by hand, corrections, plans, the manifest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.bundle import Bundle
from models.coupling import INPUT_MAX, Coupling, distances, inputs
from models.families import detector_of
from models.manifest import Channel, CouplingPart, ForecastPart, TelemanomManifest
from models.messages import Forecast

MakeBundle = Callable[..., Bundle]
LEADS = 4  # of the small forecaster; they are at 1, 3, 6 and 12 steps


def coupling(channels: int, **changes: Any) -> dict[str, Any]:
    """Return a part with spans of 1 and 2 steps that adds nothing, changed."""
    part: dict[str, Any] = {
        "spans_steps": [1, 2],
        "weights": np.zeros((LEADS, channels, 2 * channels + 1)).tolist(),
        "plannable": [],
        "effects": np.zeros((LEADS, channels, 0)).tolist(),
    }
    return part | changes


def part_with(bundle: Bundle, **changes: Any) -> ForecastPart:
    manifest = bundle.telemanom
    assert manifest.forecaster is not None
    given = manifest.forecaster.model_dump() | {
        "coupling": coupling(len(manifest.scored), **changes)
    }
    return ForecastPart.model_validate(given)


def test_inputs_are_means_of_the_newest_steps_and_a_constant() -> None:
    steps = np.array([[1, 10], [2, 9], [4, math.nan]], np.float32)
    found = inputs(steps, np.array([2, 0]), [1, 2])
    assert found[0].tolist() == [4, 0, 3, 9, 1]  # a missing value is the middle
    assert found[1].tolist() == [1, INPUT_MAX, 1, INPUT_MAX, 1]  # there is only one step


def test_a_value_far_from_all_that_was_learnt_is_held_at_a_bound() -> None:
    steps = np.array([[1e6], [-1e6]], np.float32)
    assert inputs(steps, np.array([0, 1]), [1]).tolist() == [[INPUT_MAX, 1], [-INPUT_MAX, 1]]


def test_distances_are_at_each_lead_and_on_average_up_to_it() -> None:
    off = np.array([[1.0, 3.0, 5.0, 7.0]])
    assert distances(off, np.array([1, 2, 4])).tolist() == [[1, 1], [3, 2], [7, 4]]


@pytest.fixture
def small(forecasting_bundle: MakeBundle) -> Bundle:
    return forecasting_bundle()


def channels_of(bundle: Bundle) -> list[Channel]:
    return [bundle.manifest.channels[at] for at in bundle.manifest.scored]


def test_a_correction_is_in_units_and_linear_between_leads(small: Bundle) -> None:
    channels = channels_of(small)
    count = len(channels)
    weights = np.zeros((LEADS, count, 2 * count + 1))
    weights[:, 1, 0] = [0.0, 2.0, 2.0, 2.0]  # the second channel by the newest step of the first
    part = part_with(small, weights=weights.tolist())
    assert part.coupling is not None
    one = Coupling(part, part.coupling, channels)
    context = np.tile(np.array([each.center for each in channels], np.float32), (24, 1))
    assert not one.correction(context).any()
    context[-1, 0] += 3 * channels[0].scale
    found = one.correction(context) / channels[1].scale
    np.testing.assert_allclose(found[1, [0, 1, 2, 11]], [0.0, 3.0, 6.0, 6.0], atol=1e-4)
    assert not np.delete(found, 1, axis=0).any()


def test_a_plan_is_followed_and_the_others_move_with_it(small: Bundle) -> None:
    channels = channels_of(small)
    count = len(channels)
    effects = np.zeros((LEADS, count, 2))
    effects[:, 0, 0] = 0.5  # by the distance at the lead
    effects[:, 2, 1] = -1.0  # by the mean distance up to it
    part = part_with(small, plannable=[3], effects=effects.tolist())
    assert part.coupling is not None
    one = Coupling(part, part.coupling, channels)
    assert one.plannable == (channels[3].name,)
    quantiles = np.zeros((count, 12, 7), np.float32) + np.linspace(-1, 1, 7, dtype=np.float32)
    plan = np.full(12, 2 * channels[3].scale, np.float32)
    moved = one.planned(quantiles, {channels[3].name: plan})
    np.testing.assert_allclose(moved[3], np.tile(plan[:, None], 7))
    np.testing.assert_allclose(moved[0] - quantiles[0], channels[0].scale, rtol=1e-4)
    np.testing.assert_allclose(moved[2] - quantiles[2], -2 * channels[2].scale, rtol=1e-4)
    np.testing.assert_array_equal(moved[1], quantiles[1])
    np.testing.assert_array_equal(one.planned(quantiles, {}), quantiles)


def test_a_forecaster_adds_the_correction_to_every_quantile(small: Bundle) -> None:
    count = len(small.manifest.scored)
    weights = np.zeros((LEADS, count, 2 * count + 1))
    weights[:, 4, -1] = 1.5  # the constant
    part = part_with(small, weights=weights.tolist())
    manifest = small.telemanom.model_copy(update={"forecaster": part})
    coupled = Bundle(manifest, manifest.to_bytes(), dict(small.parts), None, "coupled")
    context = np.tile(np.array([each.center for each in channels_of(small)]), (24, 1))
    found = []
    for bundle in (small, coupled):
        forecaster = detector_of(bundle).forecaster
        assert forecaster is not None
        made = forecaster.forecast(context.astype(np.float32), 100, forecaster.intervals.start())
        assert isinstance(made, Forecast)
        found.append(made.quantiles)
    scale = channels_of(small)[4].scale
    np.testing.assert_allclose(found[1][4] - found[0][4], 1.5 * scale, rtol=1e-3)
    np.testing.assert_array_equal(np.delete(found[1], 4, axis=0), np.delete(found[0], 4, axis=0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": [[[1.0]]]}, r"coupling.weights are not \(4, 8, 17\)"),
        ({"effects": [[[1.0]]]}, r"coupling.effects are not \(4, 8, 0\)"),
        (
            {"plannable": [9], "effects": np.zeros((LEADS, 8, 2)).tolist()},
            "has an index that no scored channel has",
        ),
        (
            {"plannable": [1, 1], "effects": np.zeros((LEADS, 8, 4)).tolist()},
            "has an index twice",
        ),
    ],
)
def test_a_coupling_that_does_not_fit_is_refused(
    small: Bundle, changes: dict[str, Any], said: str
) -> None:
    part = part_with(small, **changes)
    document = small.telemanom.model_dump() | {"forecaster": part.model_dump()}
    with pytest.raises(ValidationError, match=said):
        TelemanomManifest.model_validate(document)


def test_too_many_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match="List should have at most 8 items"):
        CouplingPart(spans_steps=list(range(1, 10)), weights=[], plannable=[], effects=[])


def test_a_manifest_of_before_has_the_same_bytes(small: Bundle) -> None:
    part = small.telemanom.forecaster
    assert part is not None and "coupling" not in part.model_dump()
