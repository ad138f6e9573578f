"""Formats a forecast as text: a table per channel, and the times until limits are passed."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from agent.alarms.document import time_to_limit
from models.shown import shown

ROWS = 6  # lead times shown, evenly spaced
_INTERVALS = ("80", "95")  # percent, if the bundle has them
_STANDS_IN = {"previous_bundle": "the bundle that ran before", "baseline": "the baseline"}
_GUESS = "recursive, not calibrated"

Document = Mapping[str, Any]


def describe(document: Document) -> Iterator[str]:
    """Yield the result of the command ``forecast``, line by line."""
    made, supposed = document["forecast"], document["hypothetical"]
    yield f"{document['stream']}: forecast from {made['made']}, times are UTC"
    yield from stand_in(document)
    if made["imputed_values"]:
        yield f"{made['imputed_values']} missing values of the history were filled in"
    changed = {setting["channel"] for setting in document["set"]}
    if supposed is not None:
        yield from _what_if(document)
        if document["coupled"] or document["plan"]:
            changed = set(made["channels"])
    for name in made["channels"]:
        yield ""
        yield from _channel(name, [made, supposed] if name in changed else [made])
    yield ""
    yield from _limits("", made, made["channels"])
    if supposed is not None:
        yield from _limits("what if: ", supposed, changed)


def stand_in(document: Document) -> Iterator[str]:
    """Yield that another detector scores than the configured one, and so forecasts."""
    if document["stands_in"] is not None:
        name = _STANDS_IN[document["stands_in"]]
        yield f"the configured bundle is refused; {name} scores in its place, and forecasts here:"
        yield f"  {document['refused']}"


def _what_if(document: Document) -> Iterator[str]:
    """Yield what was supposed, and what it changes."""
    if document["set"]:
        values = ", ".join(_setting(setting) for setting in document["set"])
        yield f"what if: {values} for the last {document['hold_s']:g} s"
    if document["plan"]:
        yield f"what if: {', '.join(_setting(plan) for plan in document['plan'])} from now on"
        yield "the other channels follow as they did in the recordings of the training"
    elif not document["coupled"]:
        yield (
            "each channel is forecast from its own past only: a hypothetical value changes that"
            " channel's forecast and no other"
        )


def _setting(setting: Document) -> str:
    sign = "+=" if setting["adds"] else "="
    return f"{setting['channel']} {sign} {shown(setting['value'], 'g')}"


def _channel(name: str, forecasts: Sequence[Document]) -> Iterator[str]:
    """Yield the table of one channel, with its forecasts side by side."""
    first = forecasts[0]
    channel = first["channels"][name]
    yield f"{name}, {channel['unit'] or 'no unit'}; last {shown(channel['last'])}"
    intervals = [level for level in _INTERVALS if level in first["intervals"]]
    head = f"{'median':>12}" + "".join(f"{f'{level} % within':>22}" for level in intervals)
    more = f"{'what if':>12}" + head[12:]
    yield f"  {'at':<24}" + head + more * (len(forecasts) - 1)
    for step in _rows(len(first["times"])):
        cells = "".join(_cells(forecast, name, step, intervals) for forecast in forecasts)
        guess = f"  {_GUESS}" if step >= first["trained_steps"] else ""
        yield f"  {first['times'][step]:<24}{cells}{guess}"


def _rows(steps: int) -> list[int]:
    return sorted({-(-(row + 1) * steps // ROWS) - 1 for row in range(ROWS)})


def _cells(forecast: Document, name: str, step: int, intervals: Sequence[str]) -> str:
    quantiles = forecast["channels"][name]["quantiles"]
    median = f"{shown(quantiles['0.5'][step]):>12}"
    bounds = [[quantiles[key][step] for key in forecast["intervals"][one]] for one in intervals]
    return median + "".join(f"{f'{shown(low)} to {shown(high)}':>22}" for low, high in bounds)


def _limits(prefix: str, made: Document, channels: Container[str]) -> Iterator[str]:
    guess = f"; beyond the trained horizon {_GUESS}" * (len(made["times"]) > made["trained_steps"])
    for limit in made["limits"]:
        if limit["channel"] in channels:
            yield f"{prefix}{limit['channel']} {time_to_limit(limit)}{guess}"
