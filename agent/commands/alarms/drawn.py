"""Draws the window of an alarm in 80 columns: what was observed and expected, score and threshold.

It uses plain characters, as people read it on any terminal, and without colours. A column stands
for the same number of samples everywhere, so an interruption takes one column, marked ``:``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, Final, NamedTuple

from agent.commands.alarms.moments import Moments
from agent.commands.alarms.table import wrapped
from agent.store.window import Seen
from agent.wording.message import Message, Value
from agent.wording.sentence import title_of
from models.cells import cell
from models.times import iso_time, unix_s

_WIDTH, _HEIGHT, _LABEL = 64, 5, 10  # columns, lines and columns
_THRESHOLD_ROW: Final = 3  # of the score: one line is below it
_CHANNELS_MAX: Final = 4
_SLACK_S: Final = 0.001  # the times of alarms are in milliseconds
_OBSERVED, _EXPECTED, _BOTH, _LINE, _ONSET, _BREAK = "*-+=|:"

Values = Sequence[float | None]


class _Span(NamedTuple):
    low: float
    high: float


class _Axis(NamedTuple):
    """The columns of a window, the same for all its panels."""

    columns: list[range]  # the samples of each
    onset: int | None  # the column of the onset
    breaks: frozenset[int]  # columns with an interruption
    number: Callable[[float], str]  # a figure in the reader's language


def lines(seen: Seen, alarm: Mapping[str, Any], moments: Moments) -> Iterator[str]:
    """Yield the drawing of an alarm's window."""
    axis = _axis(seen, alarm["onset"], moments.told.number)
    begin, end = (moments.full(iso_time(seen.times[at])) for at in (0, -1))
    yield from wrapped(_text(moments, "terminal.around", begin=begin, end=end), "")
    if seen.to_come:
        yield from wrapped(_text(moments, "terminal.to_come", count=str(seen.to_come)), "")
    for name, title in _channels(seen, alarm):
        limit = _limit(alarm, name)
        key = "terminal.drawn" if limit is None else "terminal.drawn_limit"
        yield f"  {cell(_text(moments, key, channel=title), 78)}"
        yield from _panel(axis, seen.observed[name], seen.expected[name], limit)
    if any(score is not None for score in seen.score):
        yield f"  {cell(_text(moments, 'terminal.drawn_score'), 78)}"
        yield from _score(axis, seen.score, seen.threshold)
    yield _mark(axis, moments.told.phrase("label.onset", "onset"))


def _text(moments: Moments, key: str, **parameters: Value) -> str:
    return moments.told.text(Message(key, parameters))


def _axis(seen: Seen, onset: str, number: Callable[[float], str]) -> _Axis:
    count = len(seen.times)
    width = min(count, _WIDTH)
    edges = [column * count // width for column in range(width + 1)]
    columns = [range(a, b) for a, b in pairwise(edges)]
    steps = [b - a for a, b in pairwise(seen.times)]
    usual = 1.5 * median(steps) if steps else 0.0
    broken = {at for at, step in enumerate(steps, 1) if step > usual}
    return _Axis(
        columns,
        _onset(seen.times, columns, unix_s(onset)),
        frozenset(at for at, own in enumerate(columns) if broken.intersection(own)),
        number,
    )


def _onset(times: Sequence[float], columns: Sequence[range], onset_s: float) -> int | None:
    """Return the column of the onset; None if the window begins after it."""
    if onset_s < times[0] - _SLACK_S:
        return None
    first = next((at for at, time in enumerate(times) if time >= onset_s - _SLACK_S), None)
    if first is None:
        return len(columns) - 1
    return next(at for at, own in enumerate(columns) if first in own)


def _channels(seen: Seen, alarm: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the channels to draw with their titles; of a silence, the first of the stream."""
    named = [
        (one["channel"], f"{title_of(one)} {one['unit']}".strip())
        for one in alarm["channels"]
        if one["channel"] in seen.observed
    ]
    return (named or [(name, name) for name in seen.observed])[:_CHANNELS_MAX]


def _limit(alarm: Mapping[str, Any], name: str) -> float | None:
    limit = alarm.get("limit")
    return limit["value"] if limit and alarm["channels"][0]["channel"] == name else None


def _panel(axis: _Axis, observed: Values, expected: Values, limit: float | None) -> Iterator[str]:
    """Yield the lines of a channel: all its values, and the means of what was expected."""
    seen, wanted = _spans(axis, observed), _means(axis, expected)
    known = [value for span in seen if span for value in span]
    known += [value for value in (*wanted, limit) if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    row = partial(_row, low=low, high=high)
    grid = _grid(axis)
    for column, value in enumerate(wanted):
        if value is not None:
            grid[row(value)][column] = _EXPECTED
    _draw(grid, seen, row)
    labels = {row(one): one for one in (high, low) if known}
    if limit is not None:
        labels[row(limit)] = limit
        _level(grid[row(limit)])
    yield from _written(axis, grid, labels)


def _score(axis: _Axis, score: Values, threshold: float) -> Iterator[str]:
    """Yield the lines of the score, above and below a line for the threshold."""
    spans, grid = _spans(axis, score), _grid(axis)
    high = max(span.high for span in spans if span)
    _draw(grid, spans, partial(_score_row, high=high, threshold=threshold))
    _level(grid[_THRESHOLD_ROW])
    labels = {_THRESHOLD_ROW: threshold} | ({0: high} if high > threshold else {})
    yield from _written(axis, grid, labels)


def _score_row(value: float, high: float, threshold: float) -> int:
    """Return the line of a score: logarithmic above the threshold, one line for all below it."""
    if value <= threshold:
        return _HEIGHT - 1
    share = math.log(value / threshold) / math.log(high / threshold)
    return _THRESHOLD_ROW - 1 - min(int(share * _THRESHOLD_ROW), _THRESHOLD_ROW - 1)


def _spans(axis: _Axis, values: Values) -> list[_Span | None]:
    """Return the lowest and highest value of each column; None where there is none."""
    found: list[_Span | None] = []
    for own in axis.columns:
        known = [value for at in own if (value := values[at]) is not None]
        found.append(_Span(min(known), max(known)) if known else None)
    return found


def _means(axis: _Axis, values: Values) -> list[float | None]:
    found: list[float | None] = []
    for own in axis.columns:
        known = [value for at in own if (value := values[at]) is not None]
        found.append(sum(known) / len(known) if known else None)
    return found


def _grid(axis: _Axis) -> list[list[str]]:
    """Return empty lines with the onset and the interruptions."""
    row = [" "] * len(axis.columns)
    for column in axis.breaks:
        row[column] = _BREAK
    if axis.onset is not None:
        row[axis.onset] = _ONSET
    return [row.copy() for _ in range(_HEIGHT)]


def _row(value: float, low: float, high: float) -> int:
    """Return the line of a value; 0 is at the top."""
    share = (value - low) / (high - low) if high > low else 0.5
    return _HEIGHT - 1 - min(int(share * _HEIGHT), _HEIGHT - 1)


def _draw(
    grid: list[list[str]], spans: Sequence[_Span | None], row_of: Callable[[float], int]
) -> None:
    for column, span in enumerate(spans):
        if span is not None:
            for row in range(row_of(span.high), row_of(span.low) + 1):
                there = grid[row][column]
                grid[row][column] = _BOTH if there == _EXPECTED else _OBSERVED


def _level(row: list[str]) -> None:
    """Draw a threshold or a limit where nothing else is."""
    row[:] = [_LINE if there in f" {_ONSET}{_BREAK}" else there for there in row]


def _written(
    axis: _Axis, grid: Sequence[Sequence[str]], labels: Mapping[int, float]
) -> Iterator[str]:
    for at, row in enumerate(grid):
        label = axis.number(labels[at]) if at in labels else ""
        yield f"  {label:>{_LABEL}} {''.join(row)}".rstrip()


def _mark(axis: _Axis, onset: str) -> str:
    """Return the line that marks the onset below the panels."""
    if axis.onset is None:
        return f"  {'':{_LABEL}} < {onset}"
    begin = " " * axis.onset
    fits = axis.onset + 2 + len(onset) <= _WIDTH
    told = f"{begin}^ {onset}" if fits else f"{begin[len(onset) + 1 :]}{onset} ^"
    return f"  {'':{_LABEL}} {told}"
