"""Which forecaster ships: the season, a ridge map, a mix, or a network, each where it is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.messages import Float32, Float64
from tests.trainer.forecast.conftest import channels
from trainer.config import ChoiceTable, ForecastTable
from trainer.epochs import Epoch
from trainer.family import OnEpoch, unheard
from trainer.forecast import maps, origins, stack
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.corrections import StepParts
from trainer.forecast.stack import STACK, Evidence
from trainer.forecast.windows import Cutter

SETTINGS = {
    "context_steps": 24,
    "horizon_steps": 6,
    "maps": {"contexts_steps": [48], "season_steps": 12},
    "network": {"patch_steps": 4, "d_model": 16, "num_heads": 2, "layers": 1, "dropout": 0},
    "fit": {"epochs": 12, "batch": 64, "learning_rate": 0.005},
    "parity": {"quantizations": ["dynamic-range-int8"]},
}


def season(rows: int) -> Float32:
    """A day without any law within it, other than that it comes again; and rare new days."""
    random = np.random.default_rng(3)
    day = random.normal(size=(3, 12))
    return np.concatenate([day[at // 40 % 3] for at in range(rows // 12)]).astype(np.float32)


def autoregression(rows: int) -> Float32:
    """A damped swing that noise keeps going: what comes is linear in the last two values."""
    noise = np.random.default_rng(4).normal(size=rows)
    values = np.zeros(rows)
    for at in range(2, rows):
        values[at] = 1.6 * values[at - 1] - 0.9 * values[at - 2] + noise[at]
    return values.astype(np.float32)


def chaos(rows: int) -> Float32:
    """A series without any linear law, whose next value is a parabola of the last."""
    values = np.full(rows, 0.3)
    for at in range(1, rows):
        values[at] = 1 - 1.99 * values[at - 1] ** 2
    return values.astype(np.float32)


def built(
    values: Float32, network: bool, on_epoch: OnEpoch = unheard, **changes: object
) -> BuiltForecaster:
    settings = ForecastTable.model_validate(SETTINGS | changes | {"choice": {"network": network}})
    rows, count = values[:, None], len(values)
    parts = StepParts(rows[: count * 3 // 4], count * 2 // 3, rows[count * 3 // 4 :])
    return build(settings, channels(1), parts, None, lambda line: None, on_epoch)


def test_where_days_repeat_the_season_ships() -> None:
    found = built(season(1800), network=False)
    assert found.choice.name == "season"
    assert found.shipped.part.layers == 0
    context = np.arange(48, dtype=np.float32)[None]
    assert maps.forecast(found.linear, context)[0].tolist() == [36, 37, 38, 39, 40, 41]


def test_where_the_law_is_linear_a_ridge_map_ships_and_no_network() -> None:
    found = built(autoregression(3000), network=True)
    assert sum(weight for name, weight in found.choice.weights.items() if "ridge" in name) > 0.9
    assert found.network is not None
    assert not found.network.ships
    assert found.shipped.part.layers == 0
    assert found.epochs == []


def test_where_no_linear_law_is_a_network_ships() -> None:
    heard: dict[str, list[Epoch]] = {}

    def hear(network: str, epoch: Epoch) -> None:
        heard.setdefault(network, []).append(epoch)

    found = built(chaos(3000), network=True, on_epoch=hear, horizon_steps=1)
    assert found.network is not None
    assert found.network.ships
    assert found.shipped.part.layers == 1
    assert len(found.network.closed) == 4
    assert np.mean(found.network.network) < 0.5 * np.mean(found.network.closed)
    assert found.network.gain > found.network.standard_error
    assert list(heard) == [*(f"forecaster.origin-{at}" for at in (4, 3, 2, 1)), "forecaster"]
    assert heard["forecaster"] == found.epochs


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_those_of_the_least_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    errors = random.normal(size=(6, 40)) * random.uniform(0.5, 2, (6, 1)) + random.normal(size=40)
    products = errors @ errors.T / 40
    weights = stack.convex(products)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    least = weights @ products @ weights
    for other in random.dirichlet(np.ones(6), 3000):
        assert least <= other @ products @ other + 1e-3


def gram(*errors: Float64) -> Float64:
    stacked = np.stack(errors)
    return stacked @ stacked.T / stacked.shape[1]


def test_candidates_without_errors_have_weights_too() -> None:
    assert stack.convex(np.zeros((2, 2))).tolist() == [0.5, 0.5]
    one = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.5, 1.0]])
    assert stack.convex(one).tolist() == [1.0, 0.0, 0.0]
    trial = stack.judge(np.zeros((3, 2, 2)), ChoiceTable())
    assert (trial.gain, trial.ships, trial.network) == (0.0, False, [0.0] * 3)


def test_a_mix_ships_where_candidates_err_differently() -> None:
    random = np.random.default_rng(1)
    products = [gram(*random.normal(size=(2, 500))) for _ in range(3)]
    choice = stack.choose(Evidence(("one", "other"), np.stack(products)))
    assert choice.name == STACK
    assert choice.weights["one"] == pytest.approx(0.5, abs=0.05)
    assert np.mean(choice.errors[STACK]) == pytest.approx(0.5, abs=0.1)


def test_a_mix_does_not_ship_for_what_it_gains_in_its_own_sample() -> None:
    # each origin prefers another candidate: what is best at the others is worst here
    good, bad = np.full(50, 0.5), np.full(50, 1.5)
    products = np.stack([gram(good, bad), gram(bad, good)])
    choice = stack.choose(Evidence(("one", "other"), products))
    assert choice.errors[STACK] == [2.25, 2.25]
    assert choice.name != STACK


@pytest.mark.parametrize(
    ("gains", "ships"),
    [
        ((0.1, 0.1, 0.11), True),
        ((0.5, -0.3, 0.1), False),
        ((0.1,), False),
        ((0.001, 0.001, 0.0011), False),  # for certain, but too little
    ],
)
def test_a_network_ships_for_more_than_chance(gains: tuple[float, ...], ships: bool) -> None:
    # errors that agree in sign: no mix is better than the better one
    products = [gram(np.full(9, 1.0), np.full(9, np.sqrt(1 - gain))) for gain in gains]
    trial = stack.judge(np.stack(products), ChoiceTable())
    assert trial.ships == ships


@pytest.mark.parametrize(("plain_gain", "ships"), [(0.1, True), (0.001, False), (-0.2, False)])
def test_a_network_that_only_follows_added_trends_does_not_ship(
    plain_gain: float, ships: bool
) -> None:
    def gains(all_of: Sequence[float]) -> Float64:
        return np.stack([gram(np.full(9, 1.0), np.full(9, np.sqrt(1 - gain))) for gain in all_of])

    plain = gains([plain_gain, plain_gain, plain_gain * 1.01])
    trial = stack.judge_network(gains([0.3, 0.3, 0.31]), plain, ChoiceTable())
    assert trial.ships == ships
    assert trial.plain_gain == pytest.approx(plain_gain, rel=0.02)
    assert trial.as_json()["plain_gain"] == trial.plain_gain


def test_no_origin_sees_what_it_is_judged_by() -> None:
    values = autoregression(600)
    other = values.copy()
    other[450:] += 100
    settings = ForecastTable.model_validate(SETTINGS | {"choice": {"origins": 2}})
    ours, theirs = (
        origins.roll(Cutter(rows[:, None], np.ones(1, np.float32), settings), settings)
        for rows in (values, other)
    )
    assert [one.step for one in ours] == [300, 448]
    for ours_at, theirs_at in zip(ours, theirs, strict=True):
        for name, weights in ours_at.maps.items():
            np.testing.assert_array_equal(weights, theirs_at.maps[name])


def test_intervals_know_other_seasons_than_the_calibration_part() -> None:
    values = autoregression(3000)
    # a calm that is easily forecast: the same swing, which nothing disturbs
    values[3000 * 3 // 4 :] = 3 * np.cos(np.arccos(0.8 / np.sqrt(0.9)) * np.arange(750))
    part = built(values, network=False).shipped.part
    assert part.intervals.aggregated is not None
    upper = np.array(part.intervals.aggregated.widths)[-1, 0]
    assert upper[-1] > 0.8  # in scales of the context; the calm alone would give 0.4


def test_a_map_moves_and_scales_with_the_series() -> None:
    settings = ForecastTable.model_validate(SETTINGS)
    cutter = Cutter(autoregression(600)[:, None], np.ones(1, np.float32), settings)
    moments = maps.Moments.empty(settings)
    moments.add(cutter, cutter.places, 0.0, np.random.default_rng(1))
    for weights in maps.fitted(moments, settings).values():
        np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-4)
    context = np.random.default_rng(2).normal(size=(3, 48)).astype(np.float32)
    moved = maps.forecast(weights, 5 * context + 100)
    np.testing.assert_allclose(moved, 5 * maps.forecast(weights, context) + 100, atol=0.01)
    assert maps.support(weights) == 48
    assert maps.support(maps.fitted(moments, settings)["season"]) == 12
