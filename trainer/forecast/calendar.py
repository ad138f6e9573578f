"""Finds what is usual at each hour of the day or of the week, and judges whether to use it.

What is usual is fitted to steps less their mean over the cycle around them (classical
decomposition), by least squares. A cycle is judged at the rolling origins: fitted to the steps
before the first origin, it is taken out of all steps, the closed forms are fitted to what is left,
and their forecasts are judged against those without a cycle. Nothing judged was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.calendar import Calendar, Hours, Places
from models.formats.times import zone_named
from models.manifest import CYCLES, CalendarPart, Channel, Cycle
from models.messages import Float32, Float64
from trainer.config import ForecastTable
from trainer.forecast import origins, stack
from trainer.forecast.stack import Trial
from trainer.forecast.windows import Cutter

KNOWN_SHARE = 0.9  # of the steps around one, which must have a value for their mean to count
CYCLES_MIN = 2  # in the steps that a cycle is fitted to
_SHRINK = 1e-3  # of an hour's steps; only keeps the equations solvable


class Moments(NamedTuple):
    """The times of steps."""

    step_s: float
    learn: int  # number of the first step of training and validation; see ``models.forecaster``
    calibrate: int  # of the calibration part


class Calendars(NamedTuple):
    """The cycles that were judged, and the part of the manifest if one ships."""

    zone: str
    trials: dict[Cycle, Trial]  # without those that too few steps were recorded for
    part: CalendarPart | None

    def as_json(self) -> dict[str, Any]:
        """Return it for the metrics."""
        return {
            "zone": self.zone,
            "chosen": None if self.part is None else self.part.cycle,
            "trials": {cycle: trial.as_json() for cycle, trial in self.trials.items()},
        }


def choose(
    values: Float32,
    trained: int,
    channels: Sequence[Channel],
    moments: Moments,
    settings: ForecastTable,
) -> Calendars:
    """Judge every cycle, and fit the best one that gains enough.

    Args:
        values: steps of training and validation, (n, C), in units.
        trained: number of first steps that the shipped calendar is fitted to.
        channels: of the steps.
        moments: the times of the steps.
        settings: settings of the forecaster, with a zone.

    """
    zone = settings.calendar.zone
    assert zone is not None
    scales = np.array([channel.scale for channel in channels], np.float32)
    plain = _errors(Cutter(values, scales, settings), settings)
    trials: dict[Cycle, Trial] = {}
    first = min(plain, default=0)
    for cycle in settings.calendar.cycles if len(plain) > 1 else ():
        part = fit(values[:first], channels, zone, cycle, moments)
        if part is not None:
            left = less(values, part, channels, moments.learn, moments.step_s)
            found = _errors(Cutter(left, scales, settings), settings)
            trials[cycle] = _trial(plain, found, settings)
    ships = [cycle for cycle, trial in trials.items() if trial.ships]
    best = max(ships, key=lambda cycle: trials[cycle].gain, default=None)
    part = None if best is None else fit(values[:trained], channels, zone, best, moments)
    return Calendars(zone, trials, part)


def less(
    values: Float32, part: CalendarPart, channels: Sequence[Channel], first: int, step_s: float
) -> Float32:
    """Return steps (n, C) from number ``first`` on, without what is usual then; in units."""
    usual = Calendar(part, channels, step_s).usual(np.arange(first, first + len(values)))
    return np.asarray(values - usual, np.float32)


def fit(
    values: Float32, channels: Sequence[Channel], zone: str, cycle: Cycle, moments: Moments
) -> CalendarPart | None:
    """Return what is usual in steps (n, C) of the training part; None: they are too few."""
    hours, step_s = CYCLES[cycle], moments.step_s
    size = round(hours * 3600 / step_s)
    if not 2 <= size <= len(values) / CYCLES_MIN:
        return None
    places = Hours(zone_named(zone), hours, step_s).of(moments.learn + np.arange(len(values)))
    usual = []
    for column, channel in enumerate(channels):
        apart = _detrended(values[:, column].astype(np.float64) / channel.scale, size)
        known = np.flatnonzero(~np.isnan(apart))
        mine = Places(places.before[known], places.after[known], places.share[known])
        found = _solved(mine, apart[known], hours)
        if len(known) < size or found is None:
            return None
        usual.append(np.round(found, 6).tolist())
    return CalendarPart(zone=zone, cycle=cycle, usual=usual)


def _detrended(values: Float64, size: int) -> Float64:
    """Return values (n,) less their mean over ``size`` steps around them; NaN: not known.

    The mean over an even number of steps has half of the first and of the last one more.
    """
    known = ~np.isnan(values)
    weights = np.ones(size + 1 - size % 2)
    if size % 2 == 0:
        weights[[0, -1]] = 0.5
    if len(values) < len(weights):
        return np.full(len(values), np.nan)
    total = _windowed(np.where(known, values, 0.0), weights)
    count = _windowed(known.astype(np.float64), weights)
    mean = np.full(len(values), np.nan)
    half = len(weights) // 2
    mean[half : len(values) - half] = np.where(
        count >= KNOWN_SHARE * size, total / np.maximum(count, 1), np.nan
    )
    return np.asarray(values - mean, np.float64)


def _windowed(values: Float64, weights: Float64) -> Float64:
    """Return the sums over windows of weights that are 1 but at both ends."""
    size = len(weights)
    total = np.concatenate([[0.0], values.cumsum()])
    whole = total[size:] - total[:-size]
    ends = values[: len(whole)] + values[size - 1 :]
    return np.asarray(whole - (1 - weights[0]) * ends, np.float64)


def _solved(places: Places, values: Float64, hours: int) -> Float64 | None:
    """Return what is usual, (hours,), with mean 0, by least squares; None: an hour is missing."""
    before, after, share = places
    squares = np.zeros((hours, hours))
    np.add.at(squares, (before, before), (1 - share) ** 2)
    np.add.at(squares, (after, after), share**2)
    np.add.at(squares, (before, after), share * (1 - share))
    np.add.at(squares, (after, before), share * (1 - share))
    products = np.bincount(before, (1 - share) * values, hours)
    products += np.bincount(after, share * values, hours)
    if not squares.any(axis=1).all():
        return None
    found = np.linalg.solve(squares + _SHRINK * np.eye(hours), products)
    return np.asarray(found - found.mean(), np.float64)


def _errors(cutter: Cutter, settings: ForecastTable) -> dict[int, float]:
    """Return the squared error of the best closed forms at each origin, in scales, by its step.

    Added trends are as large as a context varies, so they would differ: the windows have none.
    """
    rolled = origins.roll(cutter, settings)
    weights = stack.choose(origins.evidence(rolled)).weights
    found = {}
    for origin in rolled:
        missed = origins.errors(cutter.cut(origin.places), origins.mixed(origin.maps, weights))
        found[origin.step] = float(np.square(missed, dtype=np.float64).mean())
    return found


def _trial(
    plain: Mapping[int, float], found: Mapping[int, float], settings: ForecastTable
) -> Trial:
    """Return whether a cycle is worth its place; errors are fractions of the largest one's."""
    largest = max(max(plain.values()), float(np.finfo(np.float32).tiny))
    closed, other = (np.array([each[step] for step in plain]) / largest for each in (plain, found))
    margin = settings.calendar.margin
    return stack.weighed(closed, other, 1.0, settings.choice.model_copy(update={"margin": margin}))
