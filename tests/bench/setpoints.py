"""Do commands, channels that are not scored, help a forecast, and does knowing their future?

    python -m tests.bench.setpoints pump
    python -m tests.bench.setpoints smap FOLDER NAME...

Prints a line of JSON per case: the mean squared error, in scales, on later data without commands,
with what they were, and with what they will be; and what the rolling origins said of each. ``pump``
is the simulated pump, asked for another speed every 2 to 10 minutes. ``smap`` forecasts the
telemetry of a channel of NASA's SMAP data, such as ``P-1``, from its command columns, trains on the
first file and judges on the second. No network is trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import Channel, ForecastPart, Sampling
from models.messages import Float32, Forecast
from trainer.config import ForecastTable
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.commands import Recorded
from trainer.forecast.corrections import StepParts

CONTEXT, HORIZON = 48, 24
STEP = 50  # samples of the pump, 10 s
JUDGED_MAX = 300  # forecasts
TRAINED, LEARNT = 0.6, 0.75  # shares of the first data


class Machine(NamedTuple):
    """What a forecaster needs to know of a bundle."""

    forecaster: ForecastPart | None
    channels: list[Channel]
    scored: list[int]
    sampling: Sampling


def settings_of(names: Sequence[str], commands: bool) -> ForecastTable:
    """Return the settings: closed forms only; all commands may be planned."""
    return ForecastTable.model_validate(
        {
            "context_steps": CONTEXT,
            "horizon_steps": HORIZON,
            "choice": {"network": False},
            "coupling": {"plannable": list(names), "commands": commands},
            "parity": {"quantizations": ["dynamic-range-int8"]},
            "network": {"patch_steps": 8},
            "fit": {"trend_share": 0.0},
        }
    )


def channels_of(values: Float32, names: Sequence[str], scored: int) -> list[Channel]:
    """Return the channels of steps (n, C), of which the first are scored."""
    return [
        Channel(
            name=name,
            unit="",
            center=float(middle),
            scale=max(float(apart), 1e-3),
            scored=at < scored,
        )
        for at, (name, middle, apart) in enumerate(
            zip(names, values.mean(axis=0), values.std(axis=0), strict=True)
        )
    ]


def trained(values: Float32, channels: Sequence[Channel], commands: bool) -> BuiltForecaster:
    """Return the forecaster of steps (n, C)."""
    scored = sum(channel.scored for channel in channels)
    names = [channel.name for channel in channels[scored:]]
    edge, own = round(LEARNT * len(values)), list(range(scored, len(channels)))
    recorded = Recorded(
        list(channels[scored:]), own, values[:edge, scored:], values[edge:, scored:]
    )
    known = values[:, :scored]
    parts = StepParts(known[:edge], round(TRAINED * len(values)), known[edge:], None, recorded)
    settings = settings_of(names, commands)
    return build(settings, channels[:scored], parts, None, lambda line: None)


def forecaster_of(found: BuiltForecaster, channels: Sequence[Channel]) -> Forecaster:
    """Return the forecaster as it runs on a gateway."""
    sampling = Sampling(
        period_s=1.0,
        hold_samples_max=5,
        missing_samples=25,
        reset_gap_samples=25,
        warm_up_samples=1,
    )
    scored = [at for at, channel in enumerate(channels) if channel.scored]
    machine = Machine(found.shipped.part, list(channels), scored, sampling)
    return Forecaster(machine, ForecastNetwork(found.shipped.network))


def error(one: Forecaster, later: Float32, planned: bool) -> float:
    """Return the mean squared error on later steps (n, C), in scales."""
    names = [channel.name for channel in one.inputs]
    scales = np.array([channel.scale for channel in one.channels])
    last = len(later) - CONTEXT - HORIZON
    squares = []
    for begin in np.linspace(0, last, min(JUDGED_MAX, last)).astype(int):
        context, came = np.split(later[begin : begin + CONTEXT + HORIZON], [CONTEXT])
        known = context[:, one.columns]
        made = one.forecast(known, 0, one.intervals.start())
        assert isinstance(made, Forecast)
        if planned:
            plans = {name: came[:, one.columns[names.index(name)]] for name in one.plannable}
            made = one.planned(made, known, plans)
        median = made.quantiles[:, :, one.intervals.middle].T
        squares.append(np.square((median - came[:, one.scored]) / scales).mean())
    return float(np.mean(squares))


def compared(
    name: str, values: Float32, later: Float32, names: Sequence[str], scored: int
) -> dict[str, Any]:
    """Return the figures of a case."""
    channels = channels_of(values, names, scored)
    without, found = (trained(values, channels, commands) for commands in (False, True))
    plain, known = (forecaster_of(one, channels) for one in (without, found))
    return {
        "case": name,
        "without": error(plain, later, False),
        "known": error(known, later, False),
        "planned": error(known, later, True),
        "plannable": known.plannable,
        "evidence": found.metrics()["commands"],
    }


def of_pump(seed: int, count: int) -> Float32:
    """Return the steps of a pump, and the speeds that it was asked for."""
    random = np.random.default_rng(seed)
    asked = np.repeat(random.uniform(0.55, 1.0, count), random.integers(12, 60, count))[:count]

    def plan(time_s: Any) -> Any:
        numbers = np.floor((time_s + PERIOD_S / 2) / (STEP * PERIOD_S)).astype(int)
        return asked[np.minimum(numbers, count - 1)]

    values = Pump(seed, plan=plan).run(STEP * count)
    means = values.reshape(-1, STEP, values.shape[1]).mean(axis=1)
    return np.concatenate([means, asked[:, None]], axis=1).astype(np.float32)


def of_smap(folder: Path, name: str) -> dict[str, Any]:
    """Return the figures of a channel of SMAP."""
    train, test = (
        np.load(folder / part / f"{name}.npy").astype(np.float32) for part in ("train", "test")
    )
    used = [at for at in range(1, train.shape[1]) if train[:, at].std() > 0]
    names = ["telemetry", *(f"command_{at}" for at in used)]
    own = [0, *used]
    return compared(name, train[:, own], test[:, own], names, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("pump")
    more = kinds.add_parser("smap")
    more.add_argument("folder", type=Path)
    more.add_argument("names", nargs="+")
    given = parser.parse_args(arguments)
    if given.kind == "pump":
        names = [*(channel.name for channel in CHANNELS), "speed"]
        print(
            json.dumps(compared("pump", of_pump(1, 4800), of_pump(2, 1500), names, len(CHANNELS)))
        )
        return
    for name in given.names:
        print(json.dumps(of_smap(given.folder, name)), flush=True)


if __name__ == "__main__":
    main()
