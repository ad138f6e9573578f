"""Formats the comparison of a forecast with its rivals as text: a table per channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.commands.forecast_text import stand_in
from models.shown import shown

Document = Mapping[str, Any]

_NAMES: Final = {
    "forecast": "forecast",
    "previous": "previous bundle",
    "last": "last value",
    "season": "season",
}
_WHY: Final = {
    "none_kept": "no other bundle ran on this gateway, or its copy is gone",
    "refused": "it is refused: {text}",
    "no_forecaster": "it has no forecaster",
    "other_steps": "its steps are {step_s:g} s, so it forecasts other values",
    "other_channels": "it needs the channel {channel}, which the stream does not have",
    "no_season": "none is configured, and none was found in the older half of the history",
    "other_season": "a season of {season_s:g} s has too few or too many steps",
    "same": "the baseline's own forecast is made from the season and the last value",
    "short_history": "it needs {needed_s:g} s of history, {stored_s:g} s are stored",
    "gaps": "the history has too many gaps: it could forecast at {made:g} of {tried:g} times",
}
_NONE: Final = "-"


def describe(document: Document) -> Iterator[str]:
    """Yield the result of ``forecast --rivals``, line by line."""
    origins = document["origins"]
    yield f"{document['stream']}: the forecast and its rivals"
    yield from stand_in(document)
    yield (
        f"each forecast {document['compared_s']:g} s ahead at {len(origins)} past times,"
        f" {origins[0]} to {origins[-1]} (UTC), from what was stored until then"
    )
    present = [line for line in document["lines"] if line["absent"] is None]
    for name in present[0]["channels"]:
        yield ""
        yield from _channel(name, present, document)
    yield ""
    for line in document["lines"]:
        if line["absent"] is not None:
            yield f"{_NAMES[line['line']]}: not compared: {absence(line['absent'])}"
    yield "held: how much of what came was within the 80 % interval, as the bundle was exported"


def absence(absent: Document) -> str:
    """Return why a rival is not compared."""
    return _WHY[absent["why"]].format_map(absent)


def _channel(name: str, lines: list[Document], document: Document) -> Iterator[str]:
    unit, ahead = lines[0]["channels"][name]["unit"], f"in {document['compared_s']:g} s"
    at = round(document["compared_s"] / document["step_s"]) - 1
    yield f"{name}, {unit or 'no unit'}"
    yield f"  {'':<32}{'off by':>12}{'of last value':>16}{'80 % held':>12}{ahead:>12}"
    for line in lines:
        one, model = line["channels"][name], line["model"]
        title = f"{_NAMES[line['line']]}{f' ({model})' if model else ''}"
        to_last = _share(one["to_last"])
        now = document["now"].get(line["line"], {}).get(name)
        figures = f"{shown(one['mae'], absent=_NONE):>12}{to_last:>16}"
        yield (
            f"  {title:<32}{figures}{_share(one['coverage_80']):>12}"
            f"{_NONE if now is None else shown(now[at], absent=_NONE):>12}"
        )


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{shown(100 * value, '.0f')} %"
