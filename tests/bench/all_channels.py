"""Would a Transformer that sees all channels and commands earn its bytes over algebra?

    python -m tests.bench.all_channels pump
    python -m tests.bench.all_channels ett ETTh1.csv [--horizon 96]

The closed forms, the coupling and the commands are fitted as they ship: ``corrected`` knows what
the commands were, ``planned`` also what they will be. Transformers of patches are trained on what
these leave. ``own`` sees the context of the forecast channel, ``all`` those of all channels and
commands, and ``future`` also what the commands will be. Their rival, ``powers``, is a ridge
regression on powers of the commands and their products with the newest values. ``pump`` is the
simulated pump of ``tests.bench.setpoints``. ETT has no commands; the hour of the day and of the
week take their place.

A network learns from the training part. The steps after it stop the training, and the steps after
these, ``validation``, set the share of its output that is added, as in ``trainer.forecast.stack``.
Prints a line of JSON per forecast and per network, with mean squared errors in scales.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from agent.inputs.plant import CHANNELS
from models.forecaster import Forecaster, normalised
from models.manifest import Channel
from models.messages import Float32, Float64, Forecast
from tests.bench.setpoints import channels_of, forecaster_of, of_pump, settings_of
from trainer.benchmark.forecasting import read_config
from trainer.config import ForecastTable
from trainer.datasets import ett
from trainer.forecast.build import build
from trainer.forecast.commands import Recorded
from trainer.forecast.corrections import StepParts
from trainer.forecast.coupling import ridge
from trainer.forecast.network import encoder
from trainer.forecast.stack import convex

STRIDE, STRIDE_ETT, STRIDE_LATER = 2, 4, 4
PUMP_STEPS, PUMP_LATER = 18000, 3000
TRAINED, LEARNT = 0.6, 0.75  # shares of the pump's steps
NARROW = 64  # size of the layer before the outputs
BATCH, EPOCHS, PATIENCE = 64, 20, 3
RATES = (1e-3, 1e-4)  # the better one in the steps that stop the training is used
DROPOUT = 0.3
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of the powers; the best one is used likewise
OWN_STRIDE = 5  # of the rows of single channels; has no divisor in common with the channels
TOKEN_MAX = 10.0  # scales; what a network sees of all channels is clipped to it


class Windows(NamedTuple):
    """Windows of all channels, in units; the scored channels are first."""

    known: Float32  # (n, L, I)
    came: Float32  # (n, H, I)


class Rung(NamedTuple):
    """A forecast without a network."""

    forecaster: Forecaster | None  # None: the last value
    planned: bool  # whether it is given what the commands will be


class Case(NamedTuple):
    """What is forecast from what."""

    name: str
    settings: ForecastTable
    channels: list[Channel]
    rungs: dict[str, Rung]
    train: Windows
    stop: Windows
    share: Windows
    later: Windows

    @property
    def scored(self) -> int:
        """The number of channels that are forecast."""
        return sum(channel.scored for channel in self.channels)


class Rows(NamedTuple):
    """What a network gets and gives."""

    tokens: Float32  # (n, T, F)
    scales: Float32  # (n, O) of its outputs, in scales of the channels
    missed: Float32  # (n, H, O) what the forecast leaves, in scales of the channels


def windows(values: Float32, begin: int, end: int, stride: int, settings: ForecastTable) -> Windows:
    """Return the windows of steps (n, I) whose futures are from ``begin`` to before ``end``."""
    context, horizon = settings.longest_steps, settings.horizon_steps
    starts = np.arange(max(begin, context), end - horizon + 1, stride)
    rows = values[starts[:, None] + np.arange(-context, horizon)]
    return Windows(rows[:, :context], rows[:, context:])


def medians(rung: Rung, given: Windows, scored: int) -> Float32:
    """Return the forecasts (n, H, C) in units."""
    one = rung.forecaster
    if one is None:
        return np.repeat(given.known[:, -1:, :scored], given.came.shape[1], axis=1)
    made = [
        _median(one, known, came, rung.planned)
        for known, came in zip(given.known, given.came, strict=True)
    ]
    return np.stack(made)


def _median(one: Forecaster, known: Float32, came: Float32, planned: bool) -> Float32:
    context = known[:, one.columns]
    made = one.forecast(context, 0, one.intervals.start())
    assert isinstance(made, Forecast)
    if planned:
        names = [channel.name for channel in one.inputs]
        plans = {name: came[:, one.columns[names.index(name)]] for name in one.plannable}
        made = one.planned(made, context, plans)
    return made.quantiles[:, :, one.intervals.middle].T


def missed(rung: Rung, given: Windows, case: Case) -> Float32:
    """Return actual - forecast (n, H, C), in scales."""
    scales = np.array([channel.scale for channel in case.channels[: case.scored]], np.float32)
    off = given.came[:, :, : case.scored] - medians(rung, given, case.scored)
    return np.asarray(off / scales, np.float32)


def rows_of(kind: str, given: Windows, left: Float32, case: Case) -> Rows:
    """Return what a network of this kind gets from windows, and what the forecast leaves of them.

    Each channel is relative to its last value, in scales of its context, as in
    ``trainer.forecast.network``. So a token of its own has the levels, if others are seen.
    """
    size, scored = case.settings.network.patch_steps, case.scored
    center = np.array([channel.center for channel in case.channels], np.float32)
    scale = np.array([channel.scale for channel in case.channels], np.float32)
    past, came = ((part - center) / scale for part in given)
    count = case.settings.context_steps // size
    newest = past[:, -count * size :]
    _, mean, spread = normalised(past[:, :, :scored].transpose(0, 2, 1), case.settings.scale_floor)
    shapes = (newest[:, :, :scored] - newest[:, -1:, :scored]) / spread[:, None]
    if kind == "own":
        own = np.asarray(shapes.transpose(0, 2, 1).reshape(-1, count, size), np.float32)
        return Rows(own, spread.reshape(-1, 1), left.transpose(0, 2, 1).reshape(len(own), -1, 1))
    seen = _patches(np.concatenate([shapes, newest[:, :, scored:]], axis=2), size)
    levels = np.concatenate([past[:, -1, :scored], mean, np.log(spread)], axis=1)[:, None]
    more = [levels]
    if kind == "future":
        more.append(_patches(came[:, :, scored:], size))
    padded = [np.pad(one, ((0, 0), (0, 0), (0, seen.shape[2] - one.shape[2]))) for one in more]
    tokens = np.concatenate([seen, *padded], axis=1)
    return Rows(np.clip(tokens, -TOKEN_MAX, TOKEN_MAX).astype(np.float32), spread, left)


def _patches(steps: Float32, size: int) -> Float32:
    """Return the patches (n, N, P I) of steps (n, N P, I)."""
    return steps.reshape(len(steps), -1, size * steps.shape[2])


def network_of(rows: Rows, settings: ForecastTable) -> Any:
    """Return a network, ``tokens (B, T, F), scales (B, O) -> (B, H, O)``."""
    horizon, outputs = rows.missed.shape[1:]
    tokens, scales = keras.Input(rows.tokens.shape[1:]), keras.Input((outputs,))
    narrow = keras.layers.Dense(NARROW)(keras.layers.Flatten()(encoder(tokens, settings)))
    small = keras.initializers.RandomNormal(stddev=0.01)
    found = keras.layers.Dense(horizon * outputs, kernel_initializer=small)(narrow)
    found = keras.layers.Reshape((horizon, outputs))(found)
    return keras.Model([tokens, scales], found * scales[:, None])


def trained(
    train: Rows, stop: Rows, batch: int, settings: ForecastTable, seed: int
) -> tuple[Any, float, float]:
    """Return the best network, its rate, and its squared error in what stops the training."""
    found = []
    for rate in RATES:
        keras.utils.set_random_seed(seed)
        made = network_of(train, settings)
        made.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), "mse")
        best = keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)
        told = made.fit(
            [train.tokens, train.scales],
            train.missed,
            validation_data=([stop.tokens, stop.scales], stop.missed),
            batch_size=batch,
            epochs=EPOCHS,
            callbacks=[best],
            verbose=0,
        )
        found.append((made, rate, float(min(told.history["val_loss"]))))
    return min(found, key=lambda one: one[2])


def predicted(made: Any, rows: Rows) -> Float32:
    """Return what a network adds, (n, H, O)."""
    return np.asarray(made.predict([rows.tokens, rows.scales], batch_size=512, verbose=0))


def share_of(left: Float32, added: Float32) -> float:
    """Return the share of what a network adds that leaves the least squared error."""
    both = np.stack([left.ravel(), (left - added).ravel()]).astype(np.float64)
    return float(convex(both @ both.T / both.shape[1])[1])


def compared(
    case: Case, seeds: Sequence[int], tries: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each forecast, and of networks on top; ``tries``: kinds by rung."""
    sets = case[4:]
    left = {name: [missed(rung, one, case) for one in sets] for name, rung in case.rungs.items()}
    last = [*left][-1]
    left[f"{last}, powers"] = with_powers([powers(given, case) for given in sets], left[last])
    for name, (_, _, share, later) in left.items():
        alone = {"validation": _square(share), "later": _square(later)}
        yield {"case": case.name, "forecast": name, **alone}
    for name, kinds in tries.items():
        for kind in kinds:
            rows = [rows_of(kind, *one, case) for one in zip(sets, left[name], strict=True)]
            for seed in seeds:
                yield {"case": case.name, "forecast": name, **_tried(kind, rows, case, seed)}


def powers(given: Windows, case: Case) -> Float64:
    """Return what an algebraic rival of ``future`` gets, (n, F).

    It is the powers of what the commands will be and were last, and the last values of all channels
    with their products with the last commands.
    """
    center = np.array([channel.center for channel in case.channels])
    scale = np.array([channel.scale for channel in case.channels])
    past, came = ((part - center) / scale for part in given)
    count, scored = len(past), case.scored
    now, last = past[:, -1, :scored], past[:, -1, scored:]
    plan = np.concatenate([last, came[:, :, scored:].reshape(count, -1)], axis=1)
    both = (now[:, :, None] * last[:, None]).reshape(count, -1)
    return np.concatenate([np.ones((count, 1)), now, both, plan, plan**2, plan**3], axis=1)


def with_powers(inputs: Sequence[Float64], left: Sequence[Float32]) -> list[Float32]:
    """Return what a ridge regression leaves, added by a share as a network is.

    What stops a network chooses its penalty.
    """
    flat = [part.reshape(len(part), -1) for part in left]
    found = [ridge(inputs[0], flat[0], penalty) for penalty in PENALTIES]
    weights = min(found, key=lambda one: _square(flat[1] - inputs[1] @ one))
    added = [np.asarray(one @ weights, np.float32) for one in inputs]
    share = np.float32(share_of(flat[2], added[2]))
    return [
        (part - share * more).reshape(whole.shape)
        for part, more, whole in zip(flat, added, left, strict=True)
    ]


def _tried(kind: str, rows: Sequence[Rows], case: Case, seed: int) -> dict[str, Any]:
    train, stop, share, later = rows
    batch = BATCH
    if kind == "own":  # about as many steps per epoch
        train = Rows(*(part[::OWN_STRIDE] for part in train))
        batch = BATCH * case.scored // OWN_STRIDE
    made, rate, stopped = trained(train, stop, batch, case.settings, seed)
    added = predicted(made, share)
    part = share_of(share.missed, added)
    return {
        "network": kind,
        "seed": seed,
        "parameters": made.count_params(),
        "rate": rate,
        "stopping": [_square(stop.missed), round(stopped, 4)],
        "share": round(part, 3),
        "validation": _square(share.missed - part * added),
        "later": _square(later.missed - part * predicted(made, later)),
    }


def _square(left: Float32 | Float64) -> float:
    return round(float(np.square(left, dtype=np.float64).mean()), 4)


def _sized(settings: ForecastTable, d_model: int) -> ForecastTable:
    """Return the settings with the size of the encoder."""
    sizes = {"d_model": d_model, "feed_forward": 2 * d_model, "layers": 2, "dropout": DROPOUT}
    return settings.model_copy(update={"network": settings.network.model_copy(update=sizes)})


def _built(settings: ForecastTable, channels: Sequence[Channel], parts: StepParts) -> Forecaster:
    scored = [channel for channel in channels if channel.scored]
    return forecaster_of(build(settings, scored, parts, None, lambda line: None), channels)


def pump(d_model: int) -> Case:
    """Return the case of the pump."""
    values, later = of_pump(1, PUMP_STEPS), of_pump(2, PUMP_LATER)
    scored, names = len(CHANNELS), [*(channel.name for channel in CHANNELS), "speed"]
    channels = channels_of(values, names, scored)
    first, second = round(TRAINED * len(values)), round(LEARNT * len(values))
    half = (second + len(values)) // 2
    commands = Recorded(
        channels[scored:], [scored], values[:second, scored:], values[second:, scored:]
    )
    parts = StepParts(values[:second, :scored], first, values[second:, :scored], None, commands)
    settings = settings_of(names[scored:], True)
    alone = settings.coupling.model_copy(update={"tried": False, "commands": False})
    whole = _built(settings, channels, parts)
    closed = _built(settings.model_copy(update={"coupling": alone}), channels, parts)
    return Case(
        "pump",
        _sized(settings, d_model),
        channels,
        {
            "last value": Rung(None, False),
            "closed form": Rung(closed, False),
            "corrected": Rung(whole, False),
            "planned": Rung(whole, True),
        },
        windows(values, 0, first, STRIDE, settings),
        windows(values, first, half, STRIDE_LATER, settings),
        windows(values, half, len(values), STRIDE_LATER, settings),
        windows(later, 0, len(later), STRIDE_LATER, settings),
    )


def of_ett(path: Path, horizon: int, d_model: int) -> Case:
    """Return the case of a file of ETT."""
    file = ett.read(path)
    settings, _ = read_config(None, None)
    day = round(86400 / file.period_s)
    settings = settings.model_copy(
        update={
            "horizon_steps": horizon,
            "maps": settings.maps.model_copy(update={"season_steps": day}),
            "choice": settings.choice.model_copy(update={"network": False}),
        }
    )
    scored = file.values.shape[1]
    turns = file.times[:, None] / [86400.0, 7 * 86400.0] * 2 * np.pi
    values = np.concatenate([file.values, np.sin(turns), np.cos(turns)], axis=1).astype(np.float32)
    first, second, third, half = (months * 30 * day for months in (12, 16, 20, 14))
    channels = channels_of(values[:first], [*map(str, range(values.shape[1]))], scored)
    held_out = values[first - settings.longest_steps : second, :scored]
    built = _built(settings, channels, StepParts(values[:second, :scored], first, held_out))
    return Case(
        file.name,
        _sized(settings, d_model),
        channels,
        {"last value": Rung(None, False), "corrected": Rung(built, False)},
        windows(values, 0, first, STRIDE_ETT, settings),
        windows(values, first, half, STRIDE_LATER, settings),
        windows(values, half, second, STRIDE_LATER, settings),
        windows(values, second, third, STRIDE_LATER, settings),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--d-model", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("pump")
    one = kinds.add_parser("ett")
    one.add_argument("file", type=Path)
    one.add_argument("--horizon", type=int, default=96)
    given = parser.parse_args(arguments)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if given.kind == "pump":
        case = pump(given.d_model)
        tries = {
            "planned": ("future",),
            "planned, powers": ("future",),
            "corrected": ("all", "future", "own"),
        }
    else:
        case = of_ett(given.file, given.horizon, given.d_model)
        tries = {"corrected": ("all", "future", "own")}
    for line in compared(case, range(1, given.seeds + 1), tries):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
