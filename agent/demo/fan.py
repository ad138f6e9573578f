"""A forecast as a text chart: recent values, the fan of the intervals, and the limits as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

HEIGHT = 8  # rows; the widest line, with a limit's name, has 80 columns
PAST_COLUMNS, AHEAD_COLUMNS = 20, 36
_PAST, _MEDIAN, _INNER, _OUTER, _LIMIT = "•", "━", "▒", "░", "╌"


def fan(
    history: Sequence[float], channel: Mapping[str, Any], limits: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Draw a channel's recent steps and its forecast; the 80 % interval is darker than the 95 %.

    Args:
        history: values of the recent steps, newest last; NaN where missing.
        channel: the channel's part of the forecast command's document.
        limits: the limits of this channel in that document.

    """
    past = _columns([value for value in history if not math.isnan(value)], PAST_COLUMNS)
    ahead = {
        level: _columns(values, AHEAD_COLUMNS) for level, values in channel["quantiles"].items()
    }
    values = [limit["value"] for limit in limits]
    shown = [*past, *ahead["0.025"], *ahead["0.975"], *values]
    low, high = min(shown), max(shown)
    step = (high - low) / (HEIGHT - 1) or 1.0
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        at = low + row * step
        limit = next((limit for limit in limits if _row(limit["value"], low, step) == row), None)
        blank = " " if limit is None else _LIMIT
        before = "".join(_PAST if _row(value, low, step) == row else blank for value in past)
        after = "".join(_cell(ahead, column, at, step, blank) for column in range(AHEAD_COLUMNS))
        name = "" if limit is None else f" {limit['level']} {limit['value']:g}"
        lines.append(f"  {at:8.1f} {before.rjust(PAST_COLUMNS, blank)}|{after}{name}")
    return lines


def _columns(values: Sequence[float], count: int) -> list[float]:
    """Return at most ``count`` of the values, evenly spaced; the last one is among them."""
    if len(values) <= count:
        return list(values)
    return [values[round((at + 1) * len(values) / count) - 1] for at in range(count)]


def _row(value: float, low: float, step: float) -> int:
    return round((value - low) / step)


def _cell(
    ahead: Mapping[str, Sequence[float]], column: int, at: float, step: float, blank: str
) -> str:
    def within(low: str, high: str) -> bool:
        return ahead[low][column] - step / 2 <= at <= ahead[high][column] + step / 2

    if column >= len(ahead["0.5"]):
        return blank
    if abs(ahead["0.5"][column] - at) <= step / 2:
        return _MEDIAN
    if within("0.1", "0.9"):
        return _INNER
    return _OUTER if within("0.025", "0.975") else blank
