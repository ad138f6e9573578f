"""Rolling origins: candidates are fitted before each origin and judged after it.

Windows have added trends as in training (``forecast.fit.trend_share``), the same for all
candidates. So the candidates are also judged by how well they follow a drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Float32, Float64
from trainer.config import ChoiceTable, ForecastTable
from trainer.forecast import maps
from trainer.forecast.stack import Evidence, Trial, gains_enough, judge_network
from trainer.forecast.windows import Cutter, Int64, Windows, some_of

DECIMALS = 9  # of the evidence; rounded, so that the written evidence leads to the same choice
BEFORE_SHARE = 0.5  # share of the steps before the first origin


class Origin(NamedTuple):
    """One origin, and the candidates fitted before it."""

    step: int  # first step that is judged
    places: Int64  # places of the windows that are judged
    judged: Windows  # the windows at these places
    plain: Windows  # the same without added trends
    maps: dict[str, Float32]  # (L, H) by name
    naive: float  # squared error of repeating the last season or the last value


def roll(cutter: Cutter, settings: ForecastTable) -> list[Origin]:
    """Fit every closed form before each origin.

    Args:
        cutter: cutter of the training and validation steps.
        settings: settings of the forecaster.

    Raises:
        DataError: no origin has windows both before and after it.

    """
    random = np.random.default_rng(settings.fit.seed)
    moments, origins, before = maps.Moments.empty(settings), list[Origin](), 0
    for step, end in _edges(cutter.known(), settings):
        new = some_of(cutter.ending(before, step), _windows_max(settings))
        moments.add(cutter, new, settings.fit.trend_share, random)
        before = step
        places = some_of(cutter.forecast_from(step, end), settings.fit.validation_windows_max)
        if not moments.squares.any() or len(places) == 0:
            continue
        judged = cutter.cut_with_trends(places, settings.fit.trend_share, random)
        fitted = maps.fitted(moments, settings)
        naive = fitted.get("season", fitted["last"])
        squared = _squared(errors(judged, naive))
        origins.append(Origin(step, places, judged, cutter.cut(places), fitted, squared))
    if not origins:
        raise DataError(
            "too little data for the forecaster: no part of the training part can be forecast from"
            " what is before it; make forecast.context_steps or forecast.horizon_steps shorter, or"
            " give longer recordings"
        )
    return origins


def _edges(known: Int64, settings: ForecastTable) -> list[tuple[int, int]]:
    """Return, for each origin, the range of steps at which judged futures begin.

    ``known``: the steps that have a value. Only these count, because there may be days between
    recordings.
    """
    last = len(known) - settings.horizon_steps + 1
    first = min(round(BEFORE_SHARE * len(known)), last - 1)
    places = np.linspace(first, last, settings.choice.origins + 1).round().astype(int)
    edges = np.append(known, known[-1] + 1)[places]
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _windows_max(settings: ForecastTable) -> int:
    return max(1, maps.WINDOWS_MAX // settings.choice.origins)


def evidence(origins: Sequence[Origin]) -> Evidence:
    """Return the mean products of the errors of all closed forms."""
    names = tuple(origins[0].maps)
    found = [
        products([errors(one.judged, one.maps[name]) for name in names], one) for one in origins
    ]
    rounded = np.round(np.stack(found), DECIMALS).astype(np.float64)
    return Evidence(names, rounded)


def mixed(fitted: Mapping[str, Float32], weights: Mapping[str, float]) -> Float32:
    """Return the weighted sum of maps, which is also a map."""
    total = sum(weights.values())
    parts = [np.float32(weight / total) * fitted[name] for name, weight in weights.items()]
    return np.asarray(sum(parts), np.float32)


def errors(windows: Windows, weights: Float32) -> Float32:
    """Return forecast - actual of a map, (n, H), in scales of the channels; 0: not known."""
    return errors_of(windows, windows.context @ weights)


def errors_of(windows: Windows, forecasts: Float32) -> Float32:
    """Return forecast - actual, (n, H), in scales of the channels; 0: not known."""
    found = (forecasts - windows.future) * windows.scale[:, None]
    return np.asarray(np.nan_to_num(found), np.float32)


def forecasts(windows: Windows, weights: Float32, held: Sequence[int] = ()) -> Float32:
    """Return the forecasts (n, H) of a map (L, H), or the last value of channels that are held.

    The contexts have at least L steps.
    """
    made: Float32 = windows.context[:, -len(weights) :] @ weights
    mine = np.isin(windows.channel, held)
    made[mine] = windows.context[mine, -1:]
    return made


def _squared(found: Float32) -> float:
    tiny = float(np.finfo(np.float32).tiny)
    return max(float(np.square(found, dtype=np.float64).mean()), tiny)


def products(found: Sequence[Float32], origin: Origin) -> Float64:
    """Return the mean products (J, J) of the errors (n, H) of J candidates.

    They are in units of the naive forecast's squared error.
    """
    flat = np.stack([one.ravel() for one in found]).astype(np.float64)
    return np.asarray(flat @ flat.T / flat.shape[1] / origin.naive, np.float64)


def try_network(
    origins: Sequence[Origin],
    weights: Mapping[str, float],
    fit: Callable[[int, Origin, Float32], Callable[[Windows], Float32]],
    settings: ChoiceTable,
) -> Trial:
    """Judge a network on top of a closed form at the origins, the newest first.

    It must gain with added trends and without: else it could learn little but the trends that were
    added. If its gain is too small at one origin, it is not fitted at earlier origins.

    Args:
        origins: origins in chronological order.
        weights: weights of the closed form's mix.
        fit: fits a network before an origin, given its place in ``origins`` and itself, on top of a
            map (L, H), and returns what forecasts the origin's windows, (n, H), until the next fit.
        settings: see ``stack.judge_network``.

    """
    trended, plain = list[Float64](), list[Float64]()
    for number, origin in reversed(list(enumerate(origins))):
        closed = mixed(origin.maps, weights)
        forecast = fit(number, origin, closed)
        for found, windows in ((trended, origin.judged), (plain, origin.plain)):
            both = [errors(windows, closed), errors_of(windows, forecast(windows))]
            found.insert(0, products(both, origin))
        if not all(gains_enough(found[0][None], settings) for found in (trended, plain)):
            break
    return judge_network(np.stack(trended), np.stack(plain), settings)
