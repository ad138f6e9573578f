"""Measures what was guessed to be channels, on all data, read as the training reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from models.columns import Sought
from models.formats.moments import rounded
from models.formats.recording import Layout
from models.messages import Float32
from models.plain_names import plain_name
from trainer.config import ColumnTable, DataTable
from trainer.datasets import Recording
from trainer.survey.guess import Column, Guess

_NAMES_A_NUMBER: Final = re.compile(
    r"(.*_)?(id|nr|no|num|number|nummer|serial|index|row|zeile|seq|lfd|counter)(_.*)?", re.I
)
_LEVELS_MAX: Final = 8  # different values of a state
_LEVELS_ROWS: Final = 100  # fewer rows do not tell
# loggers write these in place of a missing value
_SENTINELS: Final = (-999.0, -9999.0, -99999.0, 9999.0, 99999.0, 32767.0, -32768.0, 65535.0)
_SENTINEL_SPANS: Final = 3.0  # how far from the other values, in their range
_STEADY: Final = 0.05  # relative difference from the usual step
_PERIOD_LEAST_S: Final = 1e-6

Read = Callable[[Sought, Sequence[ColumnTable], Layout], Recording]


class Figures(NamedTuple):
    """What a channel shows in the data."""

    low: float
    high: float
    missing_share: float
    levels: int | None  # number of different values, if they are few
    sentinels: tuple[float, ...]  # values that seem to mean "missing"


class Measured(NamedTuple):
    """What the data show when they are read with the guessed settings."""

    rows: Mapping[str, int]  # of each recording, by its name
    rejected: Counter[str]
    period_s: float | None  # None: the data do not tell
    steady_share: float  # of the steps that are as long as the usual one
    channels: Mapping[str, Figures]  # of those that remain
    left_out: dict[str, str]  # columns, and why they are no channels


def measure(found: Guess, sources: Sequence[Read]) -> Measured:
    """Read all sources, and measure each channel.

    Raises:
        DataError, ConfigError: a source cannot be read with the guessed settings.

    """
    tables = [ColumnTable(name=one.name, column=one.source) for one in found.channels]
    listed = [{"name": one.name, "column": one.source} for one in found.channels]
    data = DataTable.model_validate(dict(found.settings) | {"files": ["-"], "channels": listed})
    recordings = [read(data.sought, tables, data.layout) for read in sources]
    values = np.concatenate([recording.readings.values for recording in recordings])
    steps = _steps(recordings, long=data.channel_column is not None)
    usual = float(np.median(steps)) if len(steps) else 0.0
    steady = np.abs(steps - usual) <= _STEADY * usual
    figures, left_out = _figures(found.channels, values)
    return Measured(
        {recording.name: len(recording.readings.times) for recording in recordings},
        sum((Counter(recording.rejected) for recording in recordings), Counter()),
        rounded(usual) if usual > _PERIOD_LEAST_S else None,
        float(steady.mean()) if len(steps) else 0.0,
        figures,
        left_out,
    )


def _steps(
    recordings: Sequence[Recording], long: bool
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the times between rows; in the long form, between two values of the same channel."""
    parts = []
    for times, values in (recording.readings for recording in recordings):
        if not long:
            parts.append(np.diff(times))
            continue
        for column in values.T:
            parts.append(np.diff(times[~np.isnan(column)]))
    steps = np.concatenate(parts) if parts else np.empty(0)
    return np.asarray(steps[steps > 0])


def _figures(
    channels: Sequence[Column], values: Float32
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Return the figures of each channel, and which columns are none, with the reason."""
    figures: dict[str, Figures] = {}
    left_out: dict[str, str] = {}
    for at, channel in enumerate(channels):
        column = values[:, at]
        why = _no_channel(channel, column) or _repeats(channels, values, at, left_out)
        if why is None:
            figures[channel.name] = _measured(column)
        else:
            left_out[channel.source] = why
    return figures, left_out


def _no_channel(channel: Column, column: Float32) -> str | None:
    """Return why a column is no channel; None if it may be one."""
    known = column[~np.isnan(column)]
    if not len(known):
        return "it has no value"
    if known.min() == known.max():
        return f"it is always {known[0]:g}"
    whole = bool((known == np.round(known)).all())
    steps = np.diff(known)
    if whole and len(known) > 2 and (steps == steps[0]).all():
        return "it counts the rows"
    if whole and _NAMES_A_NUMBER.fullmatch(plain_name(channel.source)):
        return "it seems to be an identifier: whole numbers, and its name says so"
    return None


def _repeats(
    channels: Sequence[Column], values: Float32, at: int, left_out: Mapping[str, str]
) -> str | None:
    """Return which earlier column a column repeats; None if it repeats none."""
    for before in range(at):
        if channels[before].source in left_out:
            continue
        if np.array_equal(values[:, before], values[:, at], equal_nan=True):
            return f"it has the same values as {channels[before].source}"
    return None


def _measured(column: Float32) -> Figures:
    known = column[~np.isnan(column)]
    sentinels = tuple(one for one in _SENTINELS if _is_apart(known, one))
    rest = known[~np.isin(known, np.array(sentinels, np.float32))]
    different = np.unique(rest)
    return Figures(
        float(rest.min()),
        float(rest.max()),
        1 - len(rest) / len(column),
        len(different) if len(different) <= _LEVELS_MAX and len(rest) >= _LEVELS_ROWS else None,
        sentinels,
    )


def _is_apart(known: Float32, sentinel: float) -> bool:
    """Whether a value that loggers write for "missing" is there, and far from the others."""
    others = known[known != sentinel]
    if len(others) == len(known) or len(others) < len(known) / 2:
        return False
    low, high = np.quantile(others, [0.001, 0.999])
    return bool(min(abs(sentinel - low), abs(sentinel - high)) > _SENTINEL_SPANS * (high - low))
