"""The coupling of channels: it ships where one tells of another, and what-if follows it."""

from __future__ import annotations

import numpy as np
import pytest

from models.coupling import Coupling
from models.messages import Float32
from tests.trainer.forecast.conftest import channels
from trainer.config import ForecastTable
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.corrections import StepParts
from trainer.forecast.coupling import spans, worth
from trainer.forecast.stack import judge

HORIZON, DELAY = 8, 4
GIVEN = {
    "context_steps": 16,
    "horizon_steps": HORIZON,
    "choice": {"network": False},
    "coupling": {"spans_steps": [1, 2, 3, 4, 8], "plannable": ["variable_0"]},
    "parity": {"quantizations": ["dynamic-range-int8"]},
    "network": {"patch_steps": 4},
    "fit": {"trend_share": 0.0},
}


def driven(rows: int, seed: int) -> Float32:
    """Return two channels: a slow random walk that returns, and one that follows it, delayed."""
    random = np.random.default_rng(seed)
    drive = np.zeros(rows + DELAY)
    for row in range(1, len(drive)):
        drive[row] = 0.9 * drive[row - 1] + random.normal(0, 0.5)
    other = drive[:-DELAY] + random.normal(0, 0.1, rows)
    return np.stack([drive[DELAY:], 10 + 2 * other], axis=1).astype(np.float32)


def built(values: Float32, settings: ForecastTable) -> BuiltForecaster:
    known = [
        each.model_copy(update={"center": center})
        for each, center in zip(channels(1.0, 2.0), (0.0, 10.0), strict=True)
    ]
    rows = len(values)
    parts = StepParts(values[: rows * 2 // 3], rows // 2, values[rows * 2 // 3 :])
    return build(settings, known, parts, None, lambda line: None)


@pytest.fixture(scope="module")
def settings() -> ForecastTable:
    return ForecastTable.model_validate(GIVEN)


@pytest.fixture(scope="module")
def coupled(settings: ForecastTable) -> BuiltForecaster:
    return built(driven(3000, seed=1), settings)


def test_a_channel_that_tells_of_another_ships(coupled: BuiltForecaster) -> None:
    trial = coupled.corrected.coupling
    assert trial is not None and trial.ships
    assert np.mean(trial.network) < 0.8 * np.mean(trial.closed)
    assert coupled.shipped.part.coupling is not None
    assert coupled.metrics()["coupling"] == trial.as_json()


def test_a_network_is_tried_on_what_the_coupling_leaves(settings: ForecastTable) -> None:
    """It starts from the error that the coupling has left, at the newest origin at least."""
    given = settings.model_copy(
        update={
            "choice": settings.choice.model_copy(update={"network": True}),
            "fit": settings.fit.model_copy(update={"epochs": 1, "steps_per_epoch_max": 5}),
        }
    )
    found = built(driven(3000, seed=1), given)
    assert found.corrected.coupling is not None and found.corrected.coupling.ships
    assert found.network is not None
    assert found.network.closed[-1] == pytest.approx(found.corrected.coupling.network[-1], rel=0.1)
    assert found.network.closed[-1] < 0.9 * found.corrected.coupling.closed[-1]


def test_channels_that_have_nothing_to_do_with_each_other_stay_alone(
    settings: ForecastTable,
) -> None:
    walks = np.random.default_rng(2).normal(size=(3000, 2)).cumsum(axis=0)
    alone = built(walks.astype(np.float32), settings)
    assert alone.corrected.coupling is not None and not alone.corrected.coupling.ships
    assert alone.shipped.part.coupling is None


def test_one_channel_has_nothing_to_be_coupled_with(settings: ForecastTable) -> None:
    values = driven(1500, seed=3)[:, :1]
    parts = StepParts(values[:1000], 750, values[1000:])
    single = settings.model_copy(
        update={"coupling": settings.coupling.model_copy(update={"plannable": []})}
    )
    found = build(single, channels(1.0), parts, None, lambda line: None)
    assert found.corrected.coupling is None


def test_the_intervals_are_those_of_what_is_left(
    coupled: BuiltForecaster, settings: ForecastTable
) -> None:
    """The first steps of the channel that follows are known from the other: narrow intervals."""
    alone = settings.model_copy(
        update={"coupling": settings.coupling.model_copy(update={"tried": False})}
    )
    other = built(driven(3000, seed=1), alone)
    assert other.corrected.coupling is None
    widths = []
    for one in (coupled, other):
        offsets = np.array(one.shipped.part.intervals.offsets)  # (Q, C, G)
        widths.append(offsets[5, 1, 0] - offsets[1, 1, 0])
    assert widths[0] < widths[1]


def test_what_follows_a_plan_has_its_delay_and_its_size(coupled: BuiltForecaster) -> None:
    part = coupled.shipped.part
    assert part.coupling is not None
    one = Coupling(part, part.coupling, channels(1.0, 2.0))
    quantiles = np.zeros((2, HORIZON, 7), np.float32)
    moved = one.planned(quantiles, {"variable_0": np.ones(HORIZON, np.float32)})[1, :, 3]
    assert abs(moved[:DELAY].mean()) < 0.5  # nothing follows before the delay
    assert 1.2 < moved[-1] < 2.8  # 2 in the end


def test_recordings_that_lie_apart_are_coupled_and_judged_too(settings: ForecastTable) -> None:
    """Steps without a value between recordings are no time to judge at."""
    values = driven(3000, seed=4)
    apart = np.full((20_000, 2), np.nan, np.float32)
    whole = np.concatenate([values[:1900], apart, values[1900:2000]])
    parts = StepParts(whole, 1500, values[2000:])
    found = build(settings, channels(1.0, 2.0), parts, None, lambda line: None)
    assert len(found.choice.errors["last"]) == settings.choice.origins


def test_the_longest_span_is_the_context(settings: ForecastTable) -> None:
    assert spans(settings, 16) == [1, 2, 3, 4, 8, 16]
    assert spans(settings, 3) == [1, 2, 3]


# squared errors at four origins, as fractions of the naive forecast's. The first are ETTh1's at 192
# steps: the gain is 1.9 standard errors there, and later the coupling was 24 % worse than nothing.
CHANCE = (0.62367, 0.679165, 0.883649, 0.735423), (0.631886, 0.656529, 0.857332, 0.684273)
PUMP = (0.405598, 0.430826, 0.403193, 0.418077), (0.207083, 0.271448, 0.212895, 0.210074)


@pytest.mark.parametrize(("errors", "ships"), [(CHANCE, False), (PUMP, True)])
def test_a_gain_that_four_origins_can_show_by_chance_is_not_enough(
    settings: ForecastTable, errors: tuple[tuple[float, ...], ...], ships: bool
) -> None:
    closed, coupled = np.array(errors)
    # the error of a full share equals that of the best mix, as where the map was shrunk enough
    products = np.stack([[[a, b], [b, b]] for a, b in zip(closed, coupled, strict=True)])
    assert judge(products, settings.choice).ships
    assert worth(products, settings).ships is ships


def test_a_coupling_that_is_too_large_for_a_bundle_is_left_out_before_it_is_fitted(
    settings: ForecastTable,
) -> None:
    count = 64
    values = np.repeat(driven(900, seed=1), count // 2, axis=1)
    said: list[str] = []
    parts = StepParts(values[:600], 450, values[600:])
    found = build(settings, channels(*[1.0] * count), parts, None, said.append)
    assert found.corrected.coupling is None
    assert found.shipped.part.coupling is None
    (told,) = found.metrics()["left_out"]
    assert told in said
    assert told.startswith("the coupling of the channels is left out: it would have 1")
