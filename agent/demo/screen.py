"""Draws the demo's screen as plain text from a snapshot, so that tests can check it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.printable import printable

CHART_WIDTH = 64
CHART_HEIGHT = 8
COLUMN_SAMPLES = 4  # a column shows the highest score of this many samples
SCORE_TOP = 2.0  # the chart's upper edge, in thresholds
_TEXT_MAX = 2000  # characters
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_RED, _DIM, _BOLD, _OFF = "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


@dataclass(slots=True)
class View:
    """Everything the screen shows; times are seconds since the demo began."""

    elapsed_s: float = 0.0
    seconds: float = 0.0
    readings: int = 0
    readings_per_s: float = 0.0
    scores: Sequence[float] = ()  # newest last; NaN where not scored
    fault: str = ""
    fault_at_s: float = 0.0
    alarms: list[str] = field(default_factory=list)
    published: int = 0
    acknowledged: int = 0
    outbox: int = 0
    link: str = "starting"
    ops: list[str] = field(default_factory=list)
    speed: float = 1.0  # of the pump's clock
    fan: list[str] = field(default_factory=list)  # a forecast, drawn
    page: str | None = None  # where the web page is


def chart(scores: Sequence[float], color: bool) -> list[str]:
    """Draw the newest scores, one per column; the dashed row is the threshold."""
    newest = list(scores)[-CHART_WIDTH:]
    padded = [math.nan] * (CHART_WIDTH - len(newest)) + newest
    threshold_row = round(CHART_HEIGHT / SCORE_TOP)  # counted from the bottom
    lines = []
    for row in range(CHART_HEIGHT - 1, -1, -1):
        at_threshold = row == threshold_row
        cells = [_cell(score, row, at_threshold) for score in padded]
        if color:
            cells = [
                f"{_RED}{cell}{_OFF}" if score > 1 and cell not in " -" else cell
                for cell, score in zip(cells, padded, strict=True)
            ]
        label = "threshold" if at_threshold else ""
        lines.append(f"  {label:>9} |{''.join(cells)}|")
    return lines


def _cell(score: float, row: int, at_threshold: bool) -> str:
    blank = "-" if at_threshold else " "
    if math.isnan(score):
        return blank
    filled = min(score, SCORE_TOP) / SCORE_TOP * CHART_HEIGHT - row
    eighths = max(0, min(8, math.ceil(filled * 8)))
    return blank if eighths == 0 else _EIGHTHS[eighths]


def screen(view: View, color: bool, columns: int = 80, rows: int = 24) -> list[str]:
    """Return the screen line by line; it has the newest alarms and messages that fit."""
    top, picture = head(view, color), _picture(view, color, columns)
    link = (
        f"  MQTT         {view.link}; {view.published} published,"
        f" {view.acknowledged} acknowledged, {view.outbox} waiting"
    )
    room = rows - len(top) - len(picture) - 3  # for the link and two titles
    alarms = _newest(view.alarms, columns, room - 1)
    ops = _newest(view.ops, columns, min(5, room - len(alarms)))
    blocks = [
        top,
        picture,
        ["  alarms on the gateway", *alarms],
        [link, "  central ops receives", *ops],
    ]
    if sum(map(len, blocks)) + len(blocks) - 1 <= rows:
        blocks = [[*block, ""] for block in blocks[:-1]] + blocks[-1:]
    return [line for block in blocks for line in block]


def head(view: View, color: bool) -> list[str]:
    """Return the demo's state in some lines: title, serial line, fault, page."""
    bold, off = (_BOLD, _OFF) if color else ("", "")
    to_fault = view.fault_at_s - view.elapsed_s
    fault = (
        f"{view.fault} in {to_fault:.0f} s"
        if to_fault > 0
        else f"{bold}{view.fault} since {-to_fault:.0f} s{off}"
    )
    return [
        f"{bold}Fieldwatch demo{off}   {view.elapsed_s:5.1f} of {view.seconds:.0f} s",
        f"  serial line  {view.readings_per_s:6.1f} readings/s, {view.readings} in all",
        f"  fault        {fault}",
        *([] if view.page is None else [f"  page         {view.page}"]),
    ]


def _picture(view: View, color: bool, columns: int) -> list[str]:
    """Return the chart of the score; for a drift, that of the forecast."""
    dim, off = (_DIM, _OFF) if color else ("", "")
    if view.speed == 1.0:
        return [f"  {dim}{_caption(view.scores)}{off}", *chart(view.scores, color)]
    caption = f"forecast of fluid_temperature; the pump's clock runs {view.speed:.0f} times as fast"
    fan = [part for line in view.fan or ["  (nothing yet)"] for part in _wrapped(line, columns)]
    return [f"  {dim}{caption}{off}", *fan]


def _caption(scores: Sequence[float]) -> str:
    if all(math.isnan(score) for score in scores):
        return "the network warms up: it needs some samples before it can score"
    return "score, newest on the right; scores above the dashed line are abnormal"


def _newest(texts: Sequence[str], columns: int, rows: int) -> list[str]:
    """Return the newest texts that fit, oldest first; the newest one may be cut."""
    shown: list[str] = []
    for text in reversed(texts):
        lines = _wrapped(f"    {printable(text, _TEXT_MAX)}", columns)
        if shown and len(lines) + len(shown) > rows:
            break
        shown = lines + shown
    return shown[: max(1, rows)] or ["    (nothing yet)"]


def _wrapped(line: str, columns: int) -> list[str]:
    """Wrap a line to the width of the screen; a line that fits stays unchanged."""
    if len(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line.strip(), columns, initial_indent=indent, subsequent_indent=indent)
