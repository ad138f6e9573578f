"""Compares the forecasts of a stream with simpler ones, on the same past: its rivals.

    stored samples ─> steps ─> at each origin: what was before ─> each line's forecast ─┐
                         └────────────────────> what came ──────────────────────────────┴─> errors

A line is the bundle in force (or the baseline), the bundle that ran before it, the last value, or
the season. At each origin a line gets only the steps up to it. All lines are compared at the same
origins, leads and values. The intervals are those that a bundle was exported with, because those
that the agent has adapted since have seen what came.

The work is bounded: the newest ``SAMPLES_MAX`` samples are read, and each line makes at most
``ORIGINS_MAX`` forecasts and one of the present.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from agent.bundles.ledger import copy_of_other
from agent.bundles.load import load
from agent.commands.forecast import adapted_offsets
from agent.commands.in_force import Unforeseen, in_force, no_forecast
from agent.commands.life import life
from agent.commands.past_steps import Steps, past_steps
from agent.config import load as configuration
from agent.config.load import AgentConfig, StreamTable
from agent.store.reader import Reader
from agent.wording.message import Message
from models.detector import Detector
from models.errors import BundleError
from models.forecaster import Forecaster
from models.manifest import STEPS_MAX, Channel, ForecastPart, Sampling
from models.messages import Float32, Float64, Forecast, Int64, NoForecast
from models.season_forecast import SEASONS, SeasonForecast, find_season, part_of, season_steps
from models.shown import short
from models.times import iso_time

ORIGINS_MAX: Final = 12  # past times at which all lines forecast
ORIGINS_MIN: Final = 4  # that a rival must leave, as far as there are so many without it
_SEASON_STEPS: Final = 100_000  # in which a season is looked for
_FOUND_SHARE: Final = 0.5  # of the history, the oldest part, in which a season is looked for
_LEVEL: Final = 80  # percent, of the interval whose coverage is shown
_SPARSE: Final = 4  # times more places than steps: gaps prevail, and no season is looked for
_FIRST: Final = -(2**62)  # a number before any step

Name = Literal["forecast", "previous", "last", "season"]
_Made = Mapping[Name, Mapping[int, Forecast | NoForecast]]  # by line and origin
Why = Literal[
    "none_kept",  # no other bundle ran, or its copy is gone
    "refused",  # it is not trusted, or damaged: ``text``
    "no_forecaster",
    "other_steps",  # their length is ``step_s``
    "other_channels",  # it needs ``channel``, which the stream does not have now
    "no_season",  # none is configured, and none was found
    "other_season",  # its ``season_s`` are too few or too many steps
    "same",  # the baseline scores the stream: its forecast is made from the season
    "short_history",  # ``needed_s`` are needed, ``stored_s`` are there
    "gaps",  # it could forecast at ``made`` of ``tried`` origins
]


class Absent(NamedTuple):
    """The reason why a rival is not compared; ``why`` is for programs, ``facts`` belong to it."""

    why: Why
    facts: Mapping[str, str | float]

    def document(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"why": self.why, **self.facts}


class _Line(NamedTuple):
    """One that forecasts."""

    name: Name
    model: str | None  # name and version of its bundle
    forecaster: Forecaster
    columns: list[int]  # its channels among the stream's
    inputs: list[int]  # all that it forecasts from, likewise
    since: int = _FIRST  # number of the first step that it may forecast from

    @property
    def context_steps(self) -> int:
        return self.forecaster.part.context_steps

    def foretold(
        self, steps: Steps, origin: int, horizon: int, offsets: Float32 | None = None
    ) -> Forecast | NoForecast:
        """Forecast from the steps up to an origin; ``offsets``: others than exported."""
        context = steps.rows(origin - self.context_steps + 1, self.context_steps)
        used = self.forecaster.intervals.start() if offsets is None else offsets
        return self.forecaster.forecast(context[:, self.inputs], origin, used, horizon)


class _Seasonal(NamedTuple):
    """The settings of a forecaster of the season; see ``models.forecaster.Foretold``."""

    forecaster: ForecastPart
    channels: list[Channel]
    scored: list[int]
    sampling: Sampling


class _Season(NamedTuple):
    """A season in steps."""

    steps: int
    known: bool  # it was configured; otherwise it was found in the history
    since: int  # number of the first step after those that it was found in


class _Told(NamedTuple):
    """A forecast of the channels in force (``C``), which may lack some: they are NaN."""

    median: Float32  # (C, H)
    bounds: tuple[Float32, Float32] | None  # (C, H) each, of the 80 % interval


class _Score(NamedTuple):
    """Means over all origins and leads, by channel (``C``); NaN: nothing was compared."""

    error: Float64  # (C,) mean absolute error, in the channels' units
    coverage: Float64 | None  # (C,) share of values in the 80 % interval; None: there is none
    compared: Int64  # (C,) values


class _Compared(NamedTuple):
    """The lines at the origins."""

    origins: list[int]  # numbers of steps, rising
    horizon: int
    scores: dict[Name, _Score]


def rivals(config_file: Path, stream: str) -> dict[str, Any]:
    """Return the forecast of a stream beside its rivals, with the errors of each, ready for JSON.

    A rival that cannot be compared is there with the reason.

    Raises:
        ConfigError: there is no such stream, or it has no forecaster.
        DataError: the history is too short for a comparison, or has too many gaps.
        StoreError: the agent's database or its record of bundles cannot be read.
        BundleError: the bundle in force is refused.

    """
    config = configuration.load(config_file)
    table = config.stream(stream)
    with Reader(config.store.directory) as reader:
        scoring = in_force(config, table, reader)
        detector = scoring.detector
        ours = _line("forecast", detector, detector, scoring.sealed)
        assert not isinstance(ours, Absent)
        offsets = adapted_offsets(detector, reader.state(stream))
        steps = past_steps(reader, stream, ours.forecaster, len(detector.manifest.channels))
        watched = life(reader)
    _refuse_short(ours, steps)
    season = _season(table, ours, steps) if scoring.sealed else Absent("same", {})
    candidates: dict[Name, _Line | Absent] = {
        "previous": _previous(config, table, detector),
        "season": _seasonal(season, detector, ours),
    }
    lines, absent = _admitted(ours, candidates, steps)
    compared, gaps = _compared(lines, steps)
    absent |= gaps
    return {
        "stream": stream,
        "bundle_digest": detector.digest,
        **scoring.document(),
        **_when(ours, steps, compared),
        "season": None if isinstance(season, Absent) else _season_document(season, ours),
        "lines": [
            _document(name, compared, lines, absent, ours)
            for name in ("forecast", "previous", "last", "season")
        ],
        "now": _now(lines, absent, steps, offsets),
        "agent": watched._asdict(),
    }


# the lines


def _line(name: Name, detector: Detector, current: Detector, bundle: bool = True) -> _Line | Absent:
    """Return a detector's forecaster as a line over the channels of the current one."""
    forecaster, ours = detector.forecaster, current.forecaster
    assert ours is not None
    if forecaster is None:
        return Absent("no_forecaster", {})
    if (forecaster.step_s, forecaster.part.step_samples) != (ours.step_s, ours.part.step_samples):
        return Absent("other_steps", {"step_s": forecaster.step_s})
    there = {(one.name, one.unit): at for at, one in enumerate(current.manifest.channels)}
    for one in forecaster.inputs:
        if (one.name, one.unit) not in there:
            return Absent("other_channels", {"channel": one.name})
    manifest = detector.manifest
    model = f"{manifest.name} version {manifest.version}" if bundle else None
    inputs = [there[one.name, one.unit] for one in forecaster.inputs]
    return _Line(name, model, forecaster, inputs[: len(forecaster.channels)], inputs)


def _previous(config: AgentConfig, table: StreamTable, current: Detector) -> _Line | Absent:
    path = copy_of_other(config.store.directory, table.name, current.digest)
    if path is None:
        return Absent("none_kept", {})
    keys, signature = config.keys.directory, config.bundles.require_signature
    try:
        _, detector = load(path, config.runtime.interpreter, keys, signature)
    except BundleError as error:
        return Absent("refused", {"text": str(error)})
    return _line("previous", detector, current)


def _season(table: StreamTable, ours: _Line, steps: Steps) -> _Season | Absent:
    """Return the configured season, or the one of the oldest part of the history."""
    known = ours.forecaster.part.imputation.season_steps
    if known is None and table.baseline and "season_s" in table.baseline.model_fields_set:
        known = season_steps(table.baseline.season_s, ours.forecaster.step_s)
    if known is not None:
        return _Season(known, True, _FIRST)
    first, places = int(steps.numbers[0]), int(steps.numbers[-1] - steps.numbers[0]) + 1
    since = first + int(_FOUND_SHARE * places)
    begin = max(first, since - _SEASON_STEPS)
    found = None
    if places <= _SPARSE * len(steps.numbers):
        found = find_season(steps.rows(begin, since - begin)[:, ours.columns])
    return Absent("no_season", {}) if found is None else _Season(found, False, since)


def _seasonal(season: _Season | Absent, current: Detector, ours: _Line) -> _Line | Absent:
    if isinstance(season, Absent):
        return season
    samples, channels = ours.forecaster.part.step_samples, ours.forecaster.channels
    part = None
    if SEASONS * season.steps <= STEPS_MAX:
        part = part_of(samples, season.steps, len(channels))
    if part is None:
        return Absent("other_season", {"season_s": season.steps * ours.forecaster.step_s})
    scored = list(range(len(channels)))
    settings = _Seasonal(part, channels, scored, current.manifest.sampling)
    forecaster = Forecaster(settings, SeasonForecast(season.steps))
    return _Line("season", None, forecaster, ours.columns, ours.columns, season.since)


# the origins


def _horizon(lines: Sequence[_Line]) -> int:
    """Return the steps that all lines forecast; the season goes on as far as wanted."""
    return min(one.forecaster.part.horizon_steps for one in lines if one.name != "season")


def _begin(lines: Sequence[_Line], steps: Steps) -> int:
    """Return the number of the first step that all lines may forecast from."""
    contexts = [int(steps.numbers[0]) + one.context_steps - 1 for one in lines]
    return max(*contexts, *(one.since for one in lines))


def _candidates(lines: Sequence[_Line], steps: Steps) -> Int64:
    """Return the steps from which the agent could have forecast, and whose horizon is over."""
    numbers, part = steps.numbers, lines[0].forecaster.part
    begin, end = _begin(lines, steps), numbers[-1] - _horizon(lines)
    at = (numbers >= begin) & (numbers <= end) & (numbers % part.stride_steps == 0)
    return np.asarray(numbers[at])


def _refuse_short(ours: _Line, steps: Steps) -> None:
    if not len(steps.numbers) or not len(_candidates([ours], steps)):
        needed, stored = _needed_s([ours], steps, 1)
        lengths = {"stored": f"{stored:g}", "needed": f"{needed:g}"}
        raise Unforeseen(Message("forecast.rivals_short", lengths))


def _needed_s(lines: Sequence[_Line], steps: Steps, origins: int) -> tuple[float, float]:
    """Return how long a history must be for so many origins, and how long it is, in seconds."""
    step_s, stride = lines[0].forecaster.step_s, lines[0].forecaster.part.stride_steps
    if not len(steps.numbers):
        context, stored = lines[0].context_steps, 0
    else:
        context = _begin(lines, steps) - int(steps.numbers[0]) + 1
        stored = int(steps.numbers[-1] - steps.numbers[0]) + 1
    return (context + _horizon(lines) + origins * stride) * step_s, stored * step_s


def _admitted(
    ours: _Line, candidates: Mapping[Name, _Line | Absent], steps: Steps
) -> tuple[list[_Line], dict[Name, Absent]]:
    """Return the lines that leave enough origins, and why the others are absent."""
    lines, absent = [ours], dict[Name, Absent]()
    least = min(ORIGINS_MIN, len(_candidates(lines, steps)))
    for name, one in candidates.items():
        if isinstance(one, Absent):
            absent[name] = one
        elif len(_candidates([*lines, one], steps)) < least:
            needed, stored = _needed_s([*lines, one], steps, least)
            absent[name] = Absent("short_history", {"needed_s": needed, "stored_s": stored})
        else:
            lines.append(one)
    return lines, absent


# the comparison


def _compared(lines: Sequence[_Line], steps: Steps) -> tuple[_Compared, dict[Name, Absent]]:
    """Compare the lines where all of them forecast; one that seldom does is left out."""
    horizon, tried = _horizon(lines), _spread(_candidates(lines, steps))
    made = {one.name: {at: one.foretold(steps, at, horizon) for at in tried} for one in lines}
    shared, absent = _shared(made, tried)
    ours = lines[0]
    came = np.stack([steps.rows(at + 1, horizon)[:, ours.columns].T for at in shared])
    told = {
        one.name: [_told(one, made[one.name][at], ours) for at in shared]
        for one in lines
        if one.name not in absent
    }
    told["last"] = [_last(made["forecast"][at], horizon) for at in shared]
    scores = {name: _score(one, came) for name, one in told.items()}
    return _Compared(shared, horizon, scores), absent


def _spread(candidates: Int64) -> list[int]:
    """Return so many of them as are tried, evenly spaced, with the oldest and the newest."""
    last = len(candidates) - 1
    places = np.linspace(0, last, min(ORIGINS_MAX, last + 1)).round().astype(int)
    return [int(number) for number in candidates[places]]


def _shared(made: _Made, tried: Sequence[int]) -> tuple[list[int], dict[Name, Absent]]:
    """Return the origins at which all lines forecast, without those that seldom do."""
    shared = _able(made["forecast"], tried)
    if not shared:
        refused = made["forecast"][tried[-1]]
        assert isinstance(refused, NoForecast)
        raise no_forecast("rivals_none", refused, tried=str(len(tried)))
    absent, usual = dict[Name, Absent](), len(shared)
    for name, ones in made.items():
        able = _able(ones, shared)
        if 2 * len(able) < usual:
            absent[name] = Absent("gaps", {"made": len(able), "tried": usual})
        else:
            shared = able
    return shared, absent


def _able(made: Mapping[int, Forecast | NoForecast], origins: Sequence[int]) -> list[int]:
    return [origin for origin in origins if isinstance(made[origin], Forecast)]


def _told(line: _Line, made: Forecast | NoForecast, ours: _Line) -> _Told:
    """Return what a line says of the channels in force."""
    assert isinstance(made, Forecast)
    quantiles = np.full((len(ours.columns), *made.quantiles.shape[1:]), np.nan, np.float32)
    for row, column in enumerate(ours.columns):
        if column in line.columns:
            quantiles[row] = made.quantiles[line.columns.index(column)]
    pair = line.forecaster.pairs.get(_LEVEL)
    bounds = None if pair is None else (quantiles[..., pair[0]], quantiles[..., pair[1]])
    return _Told(quantiles[..., line.forecaster.intervals.middle], bounds)


def _last(made: Forecast | NoForecast, horizon: int) -> _Told:
    assert isinstance(made, Forecast)
    return _Told(np.repeat(made.last[:, None], horizon, axis=1), None)


def _score(told: Sequence[_Told], came: Float32) -> _Score:
    """Compare forecasts with what came, (O, C, H), NaN where it is unknown."""
    known = ~np.isnan(came)
    compared = known.sum(axis=(0, 2))
    count = np.where(compared > 0, compared, np.nan)
    errors = np.abs(np.stack([one.median for one in told]).astype(np.float64) - came)
    inside = [
        (one.bounds[0] <= values) & (values <= one.bounds[1])
        for one, values in zip(told, came, strict=True)
        if one.bounds is not None
    ]
    missing = np.where(np.isnan(told[0].median[:, 0]), np.nan, 1.0)  # a channel it does not have
    coverage = np.stack(inside).sum(axis=(0, 2)) / count * missing if inside else None
    return _Score(np.where(known, errors, 0).sum(axis=(0, 2)) / count, coverage, compared)


# the document


def _when(ours: _Line, steps: Steps, compared: _Compared) -> dict[str, Any]:
    step_s, newest = ours.forecaster.step_s, int(steps.numbers[-1])
    ahead = newest + np.arange(1, ours.forecaster.part.horizon_steps + 1)
    return {
        "made": iso_time(newest * step_s),
        "step_s": step_s,
        "compared_s": compared.horizon * step_s,
        "origins": [iso_time(origin * step_s) for origin in compared.origins],
        "times": [iso_time(time) for time in (ahead * step_s).tolist()],
    }


def _season_document(season: _Season, ours: _Line) -> dict[str, Any]:
    return {"season_s": season.steps * ours.forecaster.step_s, "found": not season.known}


def _document(
    name: Name,
    compared: _Compared,
    lines: Sequence[_Line],
    absent: Mapping[Name, Absent],
    ours: _Line,
) -> dict[str, Any]:
    model = next((one.model for one in lines if one.name == name), None)
    document: dict[str, Any] = {"line": name, "model": model, "absent": None, "channels": {}}
    if name in absent:
        return document | {"absent": absent[name].document()}
    score, last = compared.scores[name], compared.scores["last"]
    with np.errstate(divide="ignore", invalid="ignore"):
        to_last = score.error / last.error
    channels = ours.forecaster.channels
    document["channels"] = {
        channel.name: {
            "unit": channel.unit,
            "mae": short(score.error[at]),
            "to_last": short(to_last[at]),
            "coverage_80": None if score.coverage is None else short(score.coverage[at]),
            "compared": int(score.compared[at]),
        }
        for at, channel in enumerate(channels)
    }
    return document


def _now(
    lines: Sequence[_Line], absent: Mapping[Name, Absent], steps: Steps, offsets: Float32
) -> dict[str, dict[str, list[float | None]]]:
    """Return the forecasts of the present by line and channel; a line that makes none is absent."""
    ours, newest = lines[0], int(steps.numbers[-1])
    horizon = ours.forecaster.part.horizon_steps
    found: dict[str, dict[str, list[float | None]]] = {}
    for one in lines:
        ahead = horizon if one.name == "season" else min(horizon, _horizon([one]))
        made = one.foretold(steps, newest, ahead, offsets if one is ours else None)
        if one.name in absent or isinstance(made, NoForecast):
            continue
        found[one.name] = _columns(_told(one, made, ours), ours)
        if one is ours:
            found["last"] = _columns(_last(made, horizon), ours)
    return found


def _columns(told: _Told, ours: _Line) -> dict[str, list[float | None]]:
    return {
        channel.name: [short(value) for value in told.median[at].tolist()]
        for at, channel in enumerate(ours.forecaster.channels)
    }
