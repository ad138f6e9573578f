"""Commands as inputs of a forecast: columns by hand, corrections, plans, the manifest, a stream."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.bundle import Bundle
from models.commands import encoded, held, lagged
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import FORECASTER, Channel, TelemanomManifest
from models.messages import Float32, Forecast, Samples

MakeBundle = Callable[..., Bundle]
VALVE = Channel(name="valve", unit="%", center=50.0, scale=10.0, scored=False)
LEADS, CONTEXT, HORIZON = 4, 24, 12  # of the small forecaster; its leads are at 1, 3, 6, 12 steps


def test_a_number_is_in_its_scale_and_a_level_is_one_at_itself() -> None:
    values = np.array([[70, 0], [40, 1], [math.nan, 3], [50, 2], [50, math.nan]], np.float32)
    found = encoded(values, [VALVE, VALVE], [[], [0.0, 1.0, 3.0]])
    expected = [[2, 0, 0], [-1, 1, 0], [math.nan, 0, 1], [0, 0.5, 0.5], [0, math.nan, math.nan]]
    np.testing.assert_allclose(found, expected)


def test_a_command_without_a_value_has_its_last_one() -> None:
    values = np.array([[math.nan, 1], [5, math.nan], [math.nan, 2]], np.float32)
    np.testing.assert_array_equal(held(values), [[math.nan, 1], [5, 1], [5, 2]])


def test_lags_count_back_from_each_step_and_nothing_is_before_the_first() -> None:
    off = np.array([[1.0, 2.0, 4.0, 8.0]])
    found = lagged(off, np.array([1, 3, 4]), [1, 3])
    np.testing.assert_allclose(found, [[[1, 0], [4, 1.5], [8, 3]]])


@pytest.fixture
def small(forecasting_bundle: MakeBundle) -> Bundle:
    return forecasting_bundle()


def commanded(bundle: Bundle, **changes: Any) -> Bundle:
    """Return a forecasting bundle with a valve as its last channel, which can be planned.

    The valve moves nothing, unless the part is changed. The detector's network does not know it.
    """
    manifest = bundle.telemanom
    assert manifest.forecaster is not None
    part = {
        "channels": [len(manifest.channels)],
        "levels": [[]],
        "spans_steps": [1],
        "weights": [],
        "plannable": [0],
        "expected": np.zeros((1, LEADS, 2)).tolist(),
        "taps_steps": [2, 4],
        "response": np.zeros((len(manifest.scored), 1, 2)).tolist(),
    }
    document = manifest.model_dump()
    document["channels"] = [*document["channels"], VALVE.model_dump()]
    document["forecaster"] |= {"commands": part | changes}
    changed = TelemanomManifest.model_validate(document)
    return Bundle(changed, changed.to_bytes(), dict(bundle.parts), None, "commands")


def forecaster_of(bundle: Bundle) -> Forecaster:
    return Forecaster(bundle.telemanom, ForecastNetwork(bundle.parts[FORECASTER]))


def contexts(one: Forecaster, valve: float) -> Float32:
    """Return a context at the channels' centers, with the valve at a value."""
    row = [each.center for each in one.channels]
    return np.tile(np.array([*row, valve], np.float32), (CONTEXT, 1))


def medians(one: Forecaster, context: Float32) -> tuple[Forecast, Float32]:
    made = one.forecast(context, 100, one.intervals.start())
    assert isinstance(made, Forecast)
    return made, made.quantiles


def test_what_a_command_was_corrects_every_quantile(small: Bundle) -> None:
    count = len(small.manifest.scored)
    weights = np.zeros((LEADS, count, 2))
    weights[:, 4, 0] = [0.0, 2.0, 2.0, 2.0]
    one = forecaster_of(commanded(small, weights=weights.tolist()))
    assert [each.name for each in one.inputs[count:]] == ["valve"]
    (_, before), (_, after) = (medians(one, contexts(one, valve)) for valve in (50.0, 65.0))
    moved = (after - before) / one.channels[4].scale
    np.testing.assert_allclose(moved[4, [0, 1, 2, 11], 0], [0.0, 1.5, 3.0, 3.0], atol=1e-4)
    assert np.ptp(moved[4], axis=1).max() < 1e-4
    assert not np.delete(moved, 4, axis=0).any()


def test_a_plan_moves_the_channels_that_respond_after_their_delay(small: Bundle) -> None:
    count = len(small.manifest.scored)
    response = np.zeros((count, 1, 2))
    response[4, 0, 1] = 0.5  # two lags later, for two steps
    one = forecaster_of(commanded(small, response=response.tolist()))
    assert one.plannable == ("valve",)
    context = contexts(one, 50.0)
    made, before = medians(one, context)
    plan = np.full(HORIZON, 70.0, np.float32)
    plan[3:] = 50.0  # and back
    moved = (one.planned(made, context, {"valve": plan}).quantiles - before) / one.channels[4].scale
    expected = [0, 0, 0.5, 1, 1, 0.5, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(moved[4, :, 3], expected, atol=1e-4)
    assert not np.delete(moved, 4, axis=0).any()
    np.testing.assert_array_equal(one.planned(made, context, {}).quantiles, before)


def test_a_plan_is_compared_with_how_the_command_usually_goes_on(small: Bundle) -> None:
    """The valve is expected to be back at its middle in half of the cases."""
    count = len(small.manifest.scored)
    response = np.zeros((count, 1, 2))
    response[0, 0, 0] = 1.0
    expected = np.zeros((1, LEADS, 2))
    expected[..., 0] = 0.5
    changes = {"response": response.tolist(), "expected": expected.tolist()}
    one = forecaster_of(commanded(small, **changes))
    context = contexts(one, 70.0)
    made, before = medians(one, context)
    stays = one.planned(made, context, {"valve": np.full(HORIZON, 70.0, np.float32)})
    moved = (stays.quantiles - before)[0, :, 3] / one.channels[0].scale
    np.testing.assert_allclose(moved[2:], 1.0, atol=1e-4)  # 2 scales, of which 1 was expected


def test_a_stream_keeps_the_commands_and_forecasts_the_same(small: Bundle) -> None:
    """Samples on the gateway's way, with a command that is sent once, as where it is all known."""
    count = len(small.manifest.scored)
    weights = np.ones((LEADS, count, 2))
    bundle = commanded(small, weights=weights.tolist())
    one = forecaster_of(bundle)
    rows = np.tile(np.array([each.center for each in bundle.manifest.channels]), (25 * 5, 1))
    rows[60:, -1] = 58.0
    sparse = rows.copy()
    sparse[61:, -1] = np.nan
    sparse[5:60, -1] = np.nan
    period_s = bundle.manifest.sampling.period_s
    found = []
    for values in (rows, sparse):
        state, times = one.start(), (1 + np.arange(len(values))) * period_s
        made: list[Forecast] = []
        for begin in range(0, len(values), 7):
            part = slice(begin, begin + 7)
            made += one.step(state, Samples(times[part], values[part].astype(np.float32)))
        assert one.context(state).shape == (CONTEXT, count + 1)
        found.append(made[-1])
    np.testing.assert_allclose(found[0].quantiles, found[1].quantiles, rtol=1e-5)
    assert found[1].imputed == 0
    assert np.isfinite(found[0].quantiles).all()


def test_a_command_that_was_never_sent_is_taken_for_its_middle(small: Bundle) -> None:
    weights = np.ones((LEADS, len(small.manifest.scored), 2))
    one = forecaster_of(commanded(small, weights=weights.tolist()))
    (_, unknown), (_, middle) = (medians(one, contexts(one, valve)) for valve in (math.nan, 50.0))
    np.testing.assert_array_equal(unknown, middle)


def test_beyond_the_horizon_a_command_stays(small: Bundle) -> None:
    weights = np.zeros((LEADS, len(small.manifest.scored), 2))
    weights[:, 4, 0] = 1.0
    one = forecaster_of(commanded(small, weights=weights.tolist()))
    made = one.forecast(contexts(one, 60.0), 100, one.intervals.start(), 2 * HORIZON)
    assert isinstance(made, Forecast) and made.quantiles.shape[1] == 2 * HORIZON
    assert np.isfinite(made.quantiles).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": [0]}, "has a channel that is scored"),
        ({"channels": [99]}, "commands.channels has an index that no channel has"),
        ({"plannable": [1]}, "commands.plannable has an index that no command has"),
        ({"weights": [[[1.0]]]}, r"commands.weights are not \(4, 8, 2\)"),
        ({"response": [[[1.0]]]}, r"commands.response are not \(8, 1, 2\)"),
        ({"expected": []}, r"commands.expected are not \(1, 4, 2\)"),
        ({"levels": []}, "one list per command"),
        ({"levels": [[1.0]]}, "at least two"),
        ({"levels": [[1.0, 0.0]]}, "must rise"),
        ({"taps_steps": [4, 1]}, "taps_steps do not rise"),
    ],
)
def test_commands_that_do_not_fit_are_refused(
    small: Bundle, changes: dict[str, Any], said: str
) -> None:
    document = commanded(small).telemanom.model_dump()
    document["forecaster"]["commands"] |= changes
    with pytest.raises(ValidationError, match=said):
        TelemanomManifest.model_validate(document)


def test_a_manifest_of_before_has_the_same_bytes(small: Bundle) -> None:
    part = small.telemanom.forecaster
    assert part is not None and "commands" not in part.model_dump()
