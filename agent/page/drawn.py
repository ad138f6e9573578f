"""Makes the documents of charts: columns of numbers as uPlot takes them, ready for JSON.

Times are Unix seconds. A number that is missing is None. This loads numpy, and for a forecast the
interpreter too, so only the chart worker imports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.commands import forecast as forecasts
from agent.commands import rivals as comparison
from agent.commands.history import unknown_stream
from agent.commands.life import life
from agent.commands.values import units
from agent.config import load as configuration
from agent.config.load import StreamTable
from agent.config.location import store_directory
from agent.config.streams import LimitTable
from agent.page.chart_protocol import SPARK_S, ChartError
from agent.store.aggregates import Entries
from agent.store.reader import Reader
from agent.wording.sentence import plain_name
from models.errors import ConfigError
from models.messages import Float32, Float64
from models.settings import nearest
from models.shown import short
from models.times import unix_s

_GAP_STEPS: Final = 3.0  # times the usual distance of points
_MEDIAN: Final = "0.5"
_SPARK_POINTS_MAX: Final = 60
_LIMITS: Final = tuple(
    (side, level) for side in ("low", "high") for level in ("warning", "critical")
)


def history(
    config_file: Path,
    stream: str,
    from_s: float,
    to_s: float,
    points_max: int,
    channels: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the past of a stream; all its channels if none is named.

    In a gap there is one more point, without values: a line is to break there.

    Raises:
        ChartError: there is no such stream or channel.
        StoreError: the agent's database cannot be read.

    """
    with Reader(store_directory(config_file)) as reader:
        known = reader.history_streams()
        if stream not in known:
            raise ChartError("unknown", unknown_stream(stream, known))
        found = reader.history(stream, from_s, to_s, points_max)
        watched = life(reader)
    for name in channels:
        if name not in found.channels:
            advice = nearest(name, found.channels) or f"; there are {', '.join(found.channels)}"
            raise ChartError("unknown", f"stream {stream} has no channel {name!r}{advice}")
    points = with_gaps(found.points, found.interval_s)
    table, titles = _table(config_file, stream), _titles(config_file, stream, found.channels)
    of, limits = ({}, {}) if table is None else (units(table), _limits(table))
    return {
        "stream": stream,
        "from_s": from_s,
        "to_s": to_s,
        "interval_s": found.interval_s,
        "level_s": found.level_s,
        "times": _times(points),
        "score_max": _numbers(points.score_max),
        "channels": [
            {
                "name": name,
                "title": titles[name],
                "unit": of.get(name),
                "limits": limits.get(name, []),
                "mean": _numbers(points.mean[:, column]),
                "min": _numbers(points.low[:, column]),
                "max": _numbers(points.high[:, column]),
            }
            for column, name in enumerate(found.channels)
            if not channels or name in channels
        ],
        "agent": watched._asdict(),
    }


def with_gaps(points: Entries, interval_s: float) -> Entries:
    """Return the points with an empty one in each gap; ``interval_s`` is what a point covers."""
    steps = np.diff(points.times)
    if not len(steps):
        return points
    usual_s = max(interval_s, float(np.median(steps)))
    after = np.flatnonzero(steps > _GAP_STEPS * usual_s) + 1
    return Entries(
        np.insert(points.times, after, points.times[after - 1] + usual_s),
        np.insert(points.rows, after, 0),
        np.insert(points.score_max, after, np.nan),
        np.insert(points.counts, after, 0, axis=0),
        np.insert(points.low, after, np.nan, axis=0),
        np.insert(points.high, after, np.nan, axis=0),
        np.insert(points.mean, after, np.nan, axis=0),
    )


def _times(points: Entries) -> list[float]:
    return [round(time_s, 3) for time_s in points.times.tolist()]


def _numbers(column: Float32 | Float64) -> list[float | None]:
    return [short(value) for value in column.tolist()]


def _table(config_file: Path, stream: str) -> StreamTable | None:
    """Return the settings of a stream; None if there are none, or they cannot be read."""
    try:
        return configuration.load(config_file).stream(stream)
    except ConfigError:  # a stream that ran once; `check` reports what is wrong
        return None


def _limits(table: StreamTable) -> dict[str, list[tuple[str, str, float]]]:
    """Return side, level and value of each limit, by channel."""
    return {one.channel: list(_given(one)) for one in table.limits}


def _given(table: LimitTable) -> Iterator[tuple[str, str, float]]:
    for side, level in _LIMITS:
        value = getattr(table, f"{side}_{level}")
        if value is not None:
            yield side, level, value


def spark(config_file: Path, stream: str, now_s: float) -> dict[str, Any]:
    """Return the largest scores of a stream in the last hour, at most one per minute.

    A stream that has no history yet has no points.

    Raises:
        StoreError: the agent's database cannot be read.

    """
    with Reader(store_directory(config_file)) as reader:
        found = reader.history(stream, now_s - SPARK_S, now_s, _SPARK_POINTS_MAX)
    points = with_gaps(found.points, found.interval_s)
    return {"stream": stream, "times": _times(points), "score_max": _numbers(points.score_max)}


def describe(config_file: Path) -> dict[str, Any]:
    """Return what the configuration and the bundles say of each stream, for people.

    Raises:
        ConfigError: the configuration is wrong.

    """
    return {table.name: _described(table) for table in configuration.load(config_file).streams}


def _described(table: StreamTable) -> dict[str, Any]:
    return {
        "title": table.title or plain_name(table.name),
        "channels": {
            name: {"title": table.titles.get(name) or plain_name(name), "unit": unit}
            for name, unit in units(table).items()
        },
        "limits": [
            {"channel": channel, "side": side, "level": level, "value": value}
            for channel, given in _limits(table).items()
            for side, level, value in given
        ],
    }


def forecast(
    config_file: Path,
    stream: str,
    settings: Sequence[str] = (),
    plans: Sequence[str] = (),
    horizon_steps: int | None = None,
) -> dict[str, Any]:
    """Return the forecast of a stream, and the hypothetical one if something is supposed.

    Args:
        config_file: the agent's.
        stream: its name.
        settings: what the last steps are supposed to have been, as ``flow=80`` or ``flow+=5``.
        plans: what channels are supposed to be from now on, in the same form.
        horizon_steps: number of steps; None for the trained horizon.

    Raises:
        ChartError: a supposition cannot be read.
        ConfigError: there is no such stream, channel or horizon, or it cannot be planned.
        DataError: no forecast is possible from this history; the text states why.
        StoreError: the agent's database cannot be read.
        BundleError: the bundle is refused.

    """
    document = forecasts.forecast(
        config_file,
        stream,
        _settings(settings),
        horizon_steps=horizon_steps,
        plans=_settings(plans),
    )
    supposed, commands = document["hypothetical"], document["commands"]
    kept = ("stream", "bundle_digest", "stands_in", "coupled", "plannable", "set", "plan", "agent")
    return {
        **{key: document[key] for key in kept},
        "titles": _titles(config_file, stream, [*document["forecast"]["channels"], *commands]),
        "commands": [{"name": name, **command} for name, command in commands.items()],
        **_foretold(document["forecast"]),
        "hypothetical": None if supposed is None else _foretold(supposed),
    }


def _titles(config_file: Path, stream: str, channels: Iterable[str]) -> dict[str, str]:
    """Return the display name of each channel."""
    table = _table(config_file, stream)
    titles = {} if table is None else table.titles
    return {name: titles.get(name) or plain_name(name) for name in channels}


def _settings(texts: Sequence[str]) -> list[forecasts.Setting]:
    try:
        return [forecasts.parse_setting(text) for text in texts]
    except ValueError as error:
        raise ChartError("request", str(error)) from error


def _foretold(made: dict[str, Any]) -> dict[str, Any]:
    """Return a forecast as columns; its intervals are ordered from the narrowest to the widest."""
    pairs = sorted((float(level), pair) for level, pair in made["intervals"].items())
    return {
        "made_s": unix_s(made["made"]),
        "step_s": made["step_s"],
        "trained_steps": made["trained_steps"],
        "imputed_values": made["imputed_values"],
        "times": [unix_s(time) for time in made["times"]],
        "channels": [
            {
                "name": name,
                "unit": channel["unit"],
                "last": channel["last"],
                "median": channel["quantiles"][_MEDIAN],
                "intervals": [
                    {
                        "percent": level,
                        "low": channel["quantiles"][low],
                        "high": channel["quantiles"][high],
                    }
                    for level, (low, high) in pairs
                ],
            }
            for name, channel in made["channels"].items()
        ],
        "limits": made["limits"],
    }


def rivals(config_file: Path, stream: str) -> dict[str, Any]:
    """Return the forecast of a stream beside its rivals; see ``agent.commands.rivals``.

    Raises:
        ConfigError: there is no such stream, or it has no forecaster.
        DataError: the history is too short for a comparison, or has too many gaps.
        StoreError: the agent's database or its record of bundles cannot be read.
        BundleError: the bundle in force is refused.

    """
    document = comparison.rivals(config_file, stream)
    origins = document["origins"]
    kept = ("stream", "bundle_digest", "step_s", "compared_s", "season", "lines", "now", "agent")
    return {
        **{key: document[key] for key in kept},
        "titles": _titles(config_file, stream, document["lines"][0]["channels"]),
        "made_s": unix_s(document["made"]),
        "origins": len(origins),
        "first_s": unix_s(origins[0]),
        "last_s": unix_s(origins[-1]),
        "times": [unix_s(time) for time in document["times"]],
    }
