"""Writes guesses as a configuration that a person reads and edits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from models.printable import printable
from models.toml import toml_value
from trainer.config import DataTable
from trainer.survey.guess import Column, Guess
from trainer.survey.measure import Figures, Measured

_PERIOD_S: Final = 1.0  # if the data do not tell
_STEADY_SHARE: Final = 0.9
_MISSING_TOLD: Final = 0.01  # share
_FEW: Final = 2  # levels of a switch
_SETTINGS: Final = (  # of [data], in this order
    *("time_column", "clock_column", "time_format", "time_zone", "channel_column"),
    *("value_column", "row_period_s", "encoding", "decimal"),  # the header tells the separator
)


def questions(found: Guess, measured: Measured) -> list[str]:
    """Return what could not be guessed, as sentences."""
    unsure = list(found.unsure)
    if measured.period_s is None:
        unsure.append(f"the data do not tell a period; {_PERIOD_S:g} s is proposed")
    elif measured.steady_share < _STEADY_SHARE:
        unsure.append(
            f"only {100 * measured.steady_share:.0f} % of the rows are {measured.period_s:g} s"
            " after the one before: check sampling.period_s"
        )
    no_unit = [one.name for one in found.channels if not one.unit and one.name in measured.channels]
    if no_unit:
        unsure.append(f"no unit was found for {', '.join(no_unit)}")
    return unsure


def configuration(
    name: str,
    files: Sequence[str],
    queries: Sequence[Mapping[str, Any]],
    found: Guess,
    measured: Measured,
) -> str:
    """Return the configuration as TOML, with what was guessed and why as comments.

    Args:
        name: of the bundle.
        files: paths, relative to the configuration.
        queries: tables of ``[[data.queries]]``.
        found: the settings and channels.
        measured: their figures.

    """
    return "\n".join(_lines(name, files, queries, found, measured)) + "\n"


def _lines(
    name: str,
    files: Sequence[str],
    queries: Sequence[Mapping[str, Any]],
    found: Guess,
    measured: Measured,
) -> Iterator[str]:
    yield "# Proposed by fieldwatch-trainer init. These are guesses: read each line, correct it,"
    yield "# then: fieldwatch-trainer train THIS_FILE"
    rows = ", ".join(f"{where}: {count} rows" for where, count in measured.rows.items())
    yield from _comment(f"Read: {rows}")
    for cause, count in sorted(measured.rejected.items()):
        yield from _comment(f"not used: {count} {cause.replace('_', ' ')}")
    for line in questions(found, measured):
        yield from _comment(f"NOT SURE: {line}")
    yield from ("", "[bundle]", f"name = {toml_value(name)}", "", "[data]")
    if files:
        yield f"files = {toml_value(files)}"
    usual = DataTable.model_fields
    for key in _SETTINGS:
        if key in found.settings and found.settings[key] != usual[key].default:
            yield f"{key} = {toml_value(found.settings[key])}"
    for query in queries:
        yield from ("", "[[data.queries]]")
        yield from (f"{key} = {toml_value(value)}" for key, value in query.items())
    for channel in found.channels:
        if channel.name in measured.channels:
            yield from _channel(channel, measured.channels[channel.name])
    left_out = {**found.left_out, **measured.left_out}
    if left_out:
        yield from ("", "# Left out; add one as [[data.channels]] if it is a channel:")
        for column, why in left_out.items():
            yield from _comment(f"  {column!r}: {why}")
    yield from ("", "[sampling]")
    yield f"period_s = {toml_value(measured.period_s or _PERIOD_S)}"


def _comment(text: str) -> Iterator[str]:
    yield f"# {printable(text, 1000)}"


def _channel(channel: Column, figures: Figures) -> Iterator[str]:
    yield from ("", "[[data.channels]]", f"name = {toml_value(channel.name)}")
    if channel.source != channel.name:
        yield f"column = {toml_value(channel.source)}"
    yield f"unit = {toml_value(channel.unit)}"
    low, high = limits(figures.low, figures.high)
    yield f"low = {toml_value(low)}  # seen: {figures.low:g} to {figures.high:g}"
    yield f"high = {toml_value(high)}"
    if figures.sentinels:
        words = " and ".join(f"{one:g}" for one in figures.sentinels)
        yield f"# {words} seem to mean a missing value: low and high reject them"
    if figures.missing_share >= _MISSING_TOLD:
        yield f"# {100 * figures.missing_share:.0f} % of the rows have no value"
    if figures.levels is not None:
        what = "a switch" if figures.levels <= _FEW else "a command, set point or state"
        yield f"# only {figures.levels} different values: is it {what}? Then: scored = false"


def limits(low: float, high: float) -> tuple[float, float]:
    """Return a range around what was seen: as much again on each side, rounded outwards.

    >>> limits(2.0, 9.5), limits(-0.2, 0.3)
    ((-6.0, 20.0), (-0.7, 0.9))
    """
    span = high - low
    return _rounded(low - span, math.floor), _rounded(high + span, math.ceil)


def _rounded(value: float, to_whole: Any) -> float:
    """Return a number with one digit, rounded outwards."""
    if value == 0:
        return 0.0
    digit = 10.0 ** math.floor(math.log10(abs(value)))
    return float(f"{to_whole(value / digit) * digit:.6g}")
