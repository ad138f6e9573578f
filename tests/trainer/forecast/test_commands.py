"""Commands as inputs: a made-up plant whose temperature follows a set point, with a delay."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import Channel, ForecastPart, Sampling
from models.messages import Float32, Forecast
from trainer.config import ForecastTable
from trainer.forecast import commands, corrections
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.commands import Recorded, levels_of
from trainer.forecast.corrections import StepParts

CONTEXT, HORIZON, DELAY, LAG = 48, 24, 3, 6.0  # steps
ROWS = 4000
LEARNT, TRAINED, CALIBRATED = 2600, 2100, 3400
MODES = np.array([0.0, 6.0, -4.0])  # effect of mode 0, 1 and 2 on the temperature, in degC
SETTINGS = {
    "context_steps": CONTEXT,
    "horizon_steps": HORIZON,
    "choice": {"network": False},
    "coupling": {"plannable": ["setpoint", "mode", "idle"], "penalties": [0.001, 0.01]},
    "parity": {"quantizations": ["dynamic-range-int8"]},
    "network": {"patch_steps": 8},
    "fit": {"trend_share": 0.0},
}


class Machine(NamedTuple):
    """What a forecaster needs to know of a bundle."""

    forecaster: ForecastPart | None
    channels: list[Channel]
    scored: list[int]
    sampling: Sampling


# the commands are not the last ones: a forecaster must find them among all channels
CHANNELS = [
    Channel(name="setpoint", unit="degC", center=60.0, scale=8.0, scored=False),
    Channel(name="temperature", unit="degC", center=60.0, scale=8.0),
    Channel(name="idle", unit="", center=0.0, scale=1.0, scored=False),
    Channel(name="mode", unit="", center=1.0, scale=0.8, scored=False),
    Channel(name="humidity", unit="%", center=50.0, scale=2.0),
]
SCORED, COMMANDS = [1, 4], [0, 2, 3]


def kept(random: np.random.Generator, values: Any, rows: int) -> Any:
    """Return values that stay for 10 to 50 steps each."""
    return np.repeat(values, random.integers(10, 50, len(values)))[:rows]


def plant(asked: Any, mode: Any, seed: int) -> Float32:
    """Return the steps of all channels, (n, 5)."""
    random = np.random.default_rng(seed)
    rows = len(asked)
    wanted = asked + MODES[mode.astype(int)]
    temperature = np.empty(rows)
    now = wanted[0]
    for row in range(rows):
        now += (wanted[max(0, row - DELAY)] - now) / LAG
        temperature[row] = now + random.normal(0, 0.3)
    humidity = np.zeros(rows)
    for row in range(1, rows):
        humidity[row] = 0.95 * humidity[row - 1] + random.normal(0, 0.6)
    idle = kept(random, random.normal(size=rows), rows)
    return np.stack([asked, temperature, idle, mode, 50 + humidity], axis=1).astype(np.float32)


def recording(rows: int, seed: int, modes: bool) -> Float32:
    random = np.random.default_rng(seed)
    asked = kept(random, random.uniform(45, 75, rows), rows)
    mode = kept(random, random.integers(0, 3, rows) * modes, rows)
    return plant(asked, mode, seed)


def built(values: Float32, **changes: Any) -> BuiltForecaster:
    settings = ForecastTable.model_validate(SETTINGS)
    coupling = settings.coupling.model_copy(update=changes)
    settings = settings.model_copy(update={"coupling": coupling})
    recorded = Recorded(
        [CHANNELS[at] for at in COMMANDS],
        COMMANDS,
        values[:LEARNT, COMMANDS],
        values[LEARNT:CALIBRATED, COMMANDS],
    )
    scored = values[:, SCORED]
    parts = StepParts(scored[:LEARNT], TRAINED, scored[LEARNT:CALIBRATED], None, recorded)
    channels = [CHANNELS[at] for at in SCORED]
    return build(settings, channels, parts, None, lambda line: None)


def forecaster_of(found: BuiltForecaster) -> Forecaster:
    sampling = Sampling(
        period_s=1.0,
        hold_samples_max=5,
        missing_samples=25,
        reset_gap_samples=25,
        warm_up_samples=1,
    )
    machine = Machine(found.shipped.part, CHANNELS, SCORED, sampling)
    return Forecaster(machine, ForecastNetwork(found.shipped.network))


@pytest.fixture(scope="module")
def values() -> Float32:
    return recording(ROWS, seed=1, modes=False)


@pytest.fixture(scope="module")
def found(values: Float32) -> BuiltForecaster:
    return built(values)


@pytest.fixture(scope="module")
def forecaster(found: BuiltForecaster) -> Forecaster:
    return forecaster_of(found)


def median(one: Forecaster, context: Float32, plans: dict[str, Float32] | None = None) -> Float32:
    """Return the medians (C, H) after a context of all channels."""
    known = context[:, one.columns]
    made = one.forecast(known, 0, one.intervals.start())
    assert isinstance(made, Forecast)
    if plans is not None:
        made = one.planned(made, known, plans)
    return made.quantiles[:, :, 3]


def error(one: Forecaster, values: Float32, planned: bool) -> float:
    """Return the mean squared error of the temperature over the test part and all leads."""
    squares = []
    for begin in range(CALIBRATED, ROWS - CONTEXT - HORIZON, 7):
        context, came = np.split(values[begin : begin + CONTEXT + HORIZON], [CONTEXT])
        plans = {"setpoint": came[:, 0]} if planned else None
        squares.append(np.square(median(one, context, plans)[0] - came[:, 1]).mean())
    return float(np.mean(squares))


def test_what_a_command_was_and_will_be_makes_the_forecast_better(
    found: BuiltForecaster, forecaster: Forecaster, values: Float32
) -> None:
    without = forecaster_of(built(values, commands=False))
    assert without.plannable == () and without.commands is None
    alone, known = error(without, values, False), error(forecaster, values, False)
    planned = error(forecaster, values, True)
    assert known < 0.95 * alone
    assert planned < 0.3 * known


def test_a_set_point_moves_the_forecast_as_it_moves_the_machine(forecaster: Forecaster) -> None:
    assert forecaster.plannable == ("setpoint",)
    still = np.full(CONTEXT + HORIZON, 60.0)
    came, told = [], []
    for wanted in (60.0, 70.0):
        asked = still.copy()
        asked[CONTEXT:] = wanted
        machine = plant(asked, np.zeros(len(asked)), seed=3)
        came.append(machine[CONTEXT:, 1])
        plan = {"setpoint": np.full(HORIZON, wanted, np.float32)}
        told.append(median(forecaster, machine[:CONTEXT], plan))
    rise, moved = came[1] - came[0], told[1] - told[0]
    np.testing.assert_allclose(moved[0], rise, atol=1.5)  # of 10 degC
    assert abs(moved[0, : DELAY - 1]).max() < 1.0
    assert moved[0, -1] == pytest.approx(rise[-1], rel=0.1)
    assert not moved[1].any()  # the humidity does not follow


def test_a_command_without_influence_is_left_out_and_the_metrics_say_so(
    found: BuiltForecaster,
) -> None:
    metrics = found.metrics()["commands"]
    assert metrics["plan"]["chosen"] == ["setpoint"]
    assert metrics["follow"] == ["temperature"]
    assert not metrics["plan"]["alone"]["idle"]["ships"]
    assert metrics["plan"]["alone"]["setpoint"]["ships"]
    assert found.shipped.part.commands is not None
    assert found.shipped.part.commands.channels == [0]


def test_a_mode_has_an_effect_for_each_of_its_levels() -> None:
    values = recording(ROWS, seed=2, modes=True)
    assert levels_of(values[:, COMMANDS], 8) == [[], [], [0.0, 1.0, 2.0]]
    assert levels_of(values[:, COMMANDS], 2) == [[], [], []]
    one = forecaster_of(built(values))
    assert one.plannable == ("setpoint", "mode")
    context = plant(np.full(CONTEXT, 60.0), np.zeros(CONTEXT), seed=3)
    told = [
        median(one, context, {"mode": np.full(HORIZON, mode, np.float32)})[0, -1]
        for mode in range(3)
    ]
    np.testing.assert_allclose(np.array(told) - told[0], MODES, atol=1.0)


def test_commands_that_are_too_large_for_a_bundle_are_left_out_before_they_are_fitted(
    values: Float32, found: BuiltForecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = found.corrected.commands
    assert judged is not None and judged.chosen
    size = judged.weights(len(SCORED), ForecastTable.model_validate(SETTINGS))
    part = found.shipped.part.commands
    assert part is not None
    given = np.size(part.weights) + np.size(part.expected) + np.size(part.response)
    assert given <= size  # never fewer than there are
    for module in (corrections, commands):
        monkeypatch.setattr(module, "OFFSETS_MAX", size - 1)
    without = built(values, tried=False)
    assert without.shipped.part.commands is None
    (told,) = without.metrics()["left_out"]
    assert told.startswith(f"the part of the commands is left out: it would have {size} weights")
    assert without.metrics()["commands"]["history"]["alone"]  # the evidence stays
