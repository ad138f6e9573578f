"""The command ``forecast``: forecasts from the stored history, or from a hypothetical one.

It works like the agent, with the stored samples, the forecaster of the detector that scores the
stream, and the intervals that the agent has adapted. It only reads, and can run while the agent
runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agent.alarms.predicted import LimitWatch
from agent.commands.in_force import Unforeseen, in_force, no_forecast
from agent.commands.life import life
from agent.config import load as configuration
from agent.store.reader import Reader
from agent.wording.message import Message
from models.commands import held
from models.detector import Detector
from models.errors import ConfigError
from models.forecaster import Forecaster, ForecastState
from models.messages import Float32, Forecast, NoForecast, Samples, stored_samples
from models.settings import nearest
from models.shown import short
from models.state import StateMismatch, forecast_offsets
from models.times import iso_time

_SETTING = re.compile(r"(?P<channel>[^=+]+)(?P<sign>\+?)=(?P<value>.+)")


class Setting(NamedTuple):
    """A hypothetical value: ``flow=80`` sets, ``flow+=5`` adds."""

    channel: str
    adds: bool
    value: float


def parse_setting(text: str) -> Setting:
    """Read ``CHANNEL=VALUE`` or ``CHANNEL+=VALUE``.

    Raises:
        ValueError: it is neither.

    """
    match = _SETTING.fullmatch(text)
    try:
        value = float(match["value"]) if match else float("nan")
    except ValueError:
        value = float("nan")
    if match is None or not np.isfinite(value):
        raise ValueError(f"{text!r}: must be CHANNEL=NUMBER or CHANNEL+=NUMBER, such as flow=80")
    return Setting(match["channel"].strip(), bool(match["sign"]), value)


def forecast(
    config_file: Path,
    stream: str,
    settings: Sequence[Setting] = (),
    hold_steps: int | None = None,
    horizon_steps: int | None = None,
    recursive: bool = False,
    plans: Sequence[Setting] = (),
) -> dict[str, Any]:
    """Return the forecast of a stream, and the hypothetical one beside it, ready for JSON.

    Args:
        config_file: the agent's.
        stream: its name.
        settings: hypothetical values of the last steps.
        hold_steps: number of these steps; None for one patch of the network.
        horizon_steps: number of steps to forecast; None for the trained horizon.
        recursive: allow more than the trained horizon.
        plans: future values of channels that people set; the other channels follow.

    Raises:
        ConfigError: there is no such stream, channel or horizon, or a channel cannot be planned.
        DataError: no forecast is possible from this history; the text states why.
        StoreError: the agent's database cannot be read.
        BundleError: the bundle is refused, and nothing stands in for it.

    """
    config = configuration.load(config_file)
    table = config.stream(stream)
    with Reader(config.store.directory) as reader:
        scoring = in_force(config, table, reader)
        detector = scoring.detector
        forecaster = detector.forecaster
        assert forecaster is not None
        _check_horizon(forecaster, horizon_steps, recursive)
        _check_plans(forecaster, plans, horizon_steps)
        offsets = adapted_offsets(detector, reader.state(stream))
        state = _history(detector, _samples(reader, stream, detector))
        watched = life(reader)
    context = forecaster.context(state)
    made = _made(forecaster, context, state, offsets, horizon_steps)
    watch = LimitWatch.of(table.limits, table.prediction, forecaster)
    document: dict[str, Any] = {
        "stream": stream,
        "bundle_digest": detector.digest,
        "interpreter": detector.runtime,
        **scoring.document(),
        "forecast": _document(forecaster, made, watch),
        "hypothetical": None,
        "set": [setting._asdict() for setting in settings],
        "plan": [plan._asdict() for plan in plans],
        "coupled": forecaster.coupling is not None or forecaster.commands is not None,
        "plannable": list(forecaster.plannable),
        "commands": _commands(forecaster, context),
        "agent": watched._asdict(),
    }
    if settings or plans:
        steps = hold_steps or forecaster.part.patch_steps
        changed = _changed(forecaster, context, settings, steps)
        supposed = _made(forecaster, changed, state, offsets, None if plans else horizon_steps)
        supposed = _planned(forecaster, supposed, changed, plans, horizon_steps)
        document["hypothetical"] = _document(forecaster, supposed, watch)
        document["hold_s"] = steps * forecaster.step_s
    return document


def _check_horizon(forecaster: Forecaster, horizon: int | None, recursive: bool) -> None:
    trained, step_s = forecaster.part.horizon_steps, forecaster.step_s
    if horizon is not None and horizon > trained and not recursive:
        raise ConfigError(
            f"--horizon {horizon}: this bundle forecasts {trained} steps of {step_s:g} s; request"
            " fewer, or add --recursive to extrapolate the rest from the forecast itself"
        )


def _check_plans(forecaster: Forecaster, plans: Sequence[Setting], horizon: int | None) -> None:
    if plans and (horizon or 0) > forecaster.part.horizon_steps:
        raise ConfigError(
            "--plan: the effect of a plan is known within the trained horizon only,"
            f" {forecaster.part.horizon_steps} steps: lower --horizon"
        )
    known = forecaster.plannable
    for plan in plans:
        if plan.channel in known:
            continue
        if not known:
            raise ConfigError(
                f"--plan {plan.channel}: this bundle cannot be asked so: name the channels that"
                " people set in forecast.coupling.plannable, and train again; what the training"
                " says of coupling and commands tells whether any moves a forecast"
            )
        raise ConfigError(
            f"--plan {plan.channel}: no such channel can be planned{nearest(plan.channel, known)};"
            f" allowed are {', '.join(known)}"
        )


def _commands(forecaster: Forecaster, context: Float32) -> dict[str, Any]:
    """Return the channels that the forecast knows beside those it forecasts, with last values."""
    scored = len(forecaster.scored)
    return {
        channel.name: {"unit": channel.unit, "last": None if np.isnan(last) else short(last)}
        for channel, last in zip(
            forecaster.inputs[scored:], held(context)[-1, scored:], strict=True
        )
    }


def _planned(
    forecaster: Forecaster,
    made: Forecast,
    context: Float32,
    plans: Sequence[Setting],
    horizon: int | None,
) -> Forecast:
    """Return the forecast that follows the plans."""
    if not plans:
        return made
    paths = {plan.channel: _path(forecaster, made, context, plan) for plan in plans}
    moved = forecaster.planned(made, context, paths)
    return moved._replace(times=made.times[:horizon], quantiles=moved.quantiles[:, :horizon])


def _path(forecaster: Forecaster, made: Forecast, context: Float32, plan: Setting) -> Float32:
    """Return a plan as a value per step; ``+=`` adds to the forecast, or a command's last value.

    Raises:
        Unforeseen: this value is not known.

    """
    steps, value = made.quantiles.shape[1], np.float32(plan.value)
    if not plan.adds:
        return np.full(steps, value, np.float32)
    at = [channel.name for channel in forecaster.inputs].index(plan.channel)
    if at < len(forecaster.scored):
        return np.asarray(made.quantiles[at, :, forecaster.intervals.middle] + value, np.float32)
    last = held(context)[-1, at]
    if np.isnan(last):
        raise Unforeseen(Message("forecast.no_present_value", {"channel": plan.channel}))
    return np.full(steps, last + value, np.float32)


def adapted_offsets(detector: Detector, parts: dict[str, bytes]) -> Float32:
    """Return the intervals adapted by the agent, or the exported ones if it never ran."""
    assert detector.forecaster is not None
    try:
        detector.restore(parts)  # raises if they belong to another bundle or are damaged
        return forecast_offsets(parts)
    except StateMismatch:
        return detector.forecaster.intervals.start()


def _samples(reader: Reader, stream: str, detector: Detector) -> Samples:
    assert detector.forecaster is not None
    part = detector.forecaster.part
    rows = (part.context_steps + 1) * part.step_samples
    chunks = reader.newest_samples(stream, rows)
    parts = [(chunk.times, chunk.values, chunk.quality) for chunk in chunks]
    return stored_samples(parts, len(detector.manifest.channels))


def _history(detector: Detector, samples: Samples) -> ForecastState:
    assert detector.forecaster is not None
    state = detector.forecaster.start()
    detector.forecaster.step(state, samples)
    return state


def _made(
    forecaster: Forecaster,
    context: Float32,
    state: ForecastState,
    offsets: Float32,
    horizon: int | None,
) -> Forecast:
    made = forecaster.forecast(context, state.newest, offsets, horizon)
    if isinstance(made, NoForecast):
        raise no_forecast("none", made)
    return made


def _changed(
    forecaster: Forecaster, context: Float32, settings: Sequence[Setting], steps: int
) -> Float32:
    """Return the context with the hypothetical values in its last steps."""
    names = [channel.name for channel in forecaster.inputs]
    changed = context.copy()
    for setting in settings:
        if setting.channel not in names:
            advice = nearest(setting.channel, names) or f"; allowed are {', '.join(names)}"
            raise ConfigError(f"--set {setting.channel}: no such channel is forecast{advice}")
        column = names.index(setting.channel)
        if setting.adds:
            changed[-steps:, column] += np.float32(setting.value)
        else:
            changed[-steps:, column] = np.float32(setting.value)
    return changed


def _document(forecaster: Forecaster, made: Forecast, watch: LimitWatch) -> dict[str, Any]:
    watch.look(made)
    levels = [f"{level:g}" for level in forecaster.part.quantiles]
    return {
        "made": iso_time(made.time),
        "step_s": forecaster.step_s,
        "times": [iso_time(time) for time in made.times],
        "trained_steps": made.trained_steps,
        "imputed_values": made.imputed,
        "intervals": {
            str(level): [levels[low], levels[high]]
            for level, (low, high) in forecaster.pairs.items()
        },
        "channels": {
            channel.name: {
                "unit": channel.unit,
                "last": short(made.last[column]),
                "quantiles": {
                    level: [short(value) for value in made.quantiles[column, :, position]]
                    for position, level in enumerate(levels)
                },
            }
            for column, channel in enumerate(forecaster.channels)
        },
        "limits": watch.document(0.0),
    }
