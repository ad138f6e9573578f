"""What if the pump ran faster: the forecast against the simulated pump, run with that plan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import Channel, ForecastPart, Sampling
from models.messages import Float32, Float64, Forecast
from tests.trainer.forecast.conftest import channels
from trainer.config import ForecastTable
from trainer.forecast.build import build
from trainer.forecast.corrections import StepParts
from trainer.forecast.windows import Int64

STEP = 50  # samples, 10 s
CONTEXT, HORIZON = 48, 24
NAMES = ("speed", *(channel.name for channel in CHANNELS))
SLOW, FAST = 0.75, 0.95
SETTINGS = {
    "context_steps": CONTEXT,
    "horizon_steps": HORIZON,
    "choice": {"network": False},
    "coupling": {"plannable": ["variable_0"], "penalties": [0.01]},
    "parity": {"quantizations": ["dynamic-range-int8"]},
    "network": {"patch_steps": 8},
    "fit": {"trend_share": 0.0},
}


def steps(values: Float32) -> Float32:
    means: Float32 = values.reshape(-1, STEP, values.shape[1]).mean(axis=1)
    return means


def recording(asked: Float64, seed: int) -> Float32:
    """Return the steps of a pump that is asked for speeds, one per step: (n, 9), speed first."""
    pump = Pump(seed, plan=lambda time_s: asked[_at(time_s, len(asked))])
    values = pump.run(STEP * len(asked))
    return np.concatenate([asked[:, None], steps(values)], axis=1).astype(np.float32)


def _at(time_s: Float64, count: int) -> Int64:
    # the pump draws whole blocks, which may end after the last step
    numbers = np.floor((time_s + PERIOD_S / 2) / (STEP * PERIOD_S))
    return np.asarray(np.minimum(numbers, count - 1), np.int64)


def wandering(count: int, seed: int) -> Float64:
    """Return speeds that stay for 2 to 10 minutes each."""
    random = np.random.default_rng(seed)
    lengths = random.integers(12, 60, count)
    return np.repeat(random.uniform(0.55, 1.0, count), lengths)[:count]


class Machine(NamedTuple):
    """What a forecaster needs to know of a bundle."""

    forecaster: ForecastPart | None
    channels: list[Channel]
    scored: list[int]
    sampling: Sampling


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    values = recording(wandering(4800, seed=1), seed=1)
    known = [
        each.model_copy(update={"center": float(middle)})
        for each, middle in zip(
            channels(*map(float, values.std(axis=0))), values.mean(axis=0), strict=True
        )
    ]
    parts = StepParts(values[:3600], 3000, values[3600:])
    built = build(ForecastTable.model_validate(SETTINGS), known, parts, None, lambda line: None)
    sampling = Sampling(
        period_s=PERIOD_S,
        hold_samples_max=5,
        missing_samples=25,
        reset_gap_samples=25,
        warm_up_samples=1,
    )
    machine = Machine(built.shipped.part, known, list(range(len(known))), sampling)
    return Forecaster(machine, ForecastNetwork(built.shipped.network))


def planned(one: Forecaster, context: Float32, speed: float) -> Float32:
    """Return the medians (H, C) if the pump is asked for a speed from now on."""
    made = one.forecast(context, 0, one.intervals.start())
    assert isinstance(made, Forecast) and one.coupling is not None
    path = np.full(HORIZON, speed, np.float32)
    return one.coupling.planned(made.quantiles, {"variable_0": path})[:, :, 3].T


def test_a_faster_pump_moves_the_other_channels_as_the_machine_does(
    forecaster: Forecaster,
) -> None:
    """The same pump, run twice from the same past: on at one speed, or faster."""
    came, foretold = [], []
    past = wandering(CONTEXT, seed=7)
    for speed in (SLOW, FAST):
        asked = np.concatenate([past, np.full(HORIZON, speed)])
        values = recording(asked, seed=9)
        came.append(values[CONTEXT:])
        foretold.append(planned(forecaster, values[:CONTEXT], speed))
    last = slice(HORIZON // 2, None)  # the machine has settled but for its bearing
    rises = dict(zip(NAMES, (came[1] - came[0])[last].mean(axis=0), strict=True))
    found = dict(zip(NAMES, (foretold[1] - foretold[0])[last].mean(axis=0), strict=True))
    assert rises["flow"] > 15  # of about 75 m3/h
    for name in ("flow", "discharge_pressure", "motor_current", "vibration_x"):
        assert found[name] == pytest.approx(rises[name], rel=0.15), name
    assert found["bearing_temperature"] == pytest.approx(rises["bearing_temperature"], rel=0.4)
    flow = NAMES.index("flow")
    there = came[1][last, flow].mean()
    assert foretold[1][last, flow].mean() == pytest.approx(there, rel=0.1)
