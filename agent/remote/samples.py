"""Samples for central ops: a stream's past around an alarm or between two times, in parts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent.remote.message import Rejected, done, refused
from agent.store.reader import Reader
from agent.store.window import Seen
from agent.store.windows import window
from models.errors import StoreError
from models.times import unix_s

_KEYS: Final = frozenset({"stream", "number", "at", "before_s", "after_s", "points"})
_SPAN_S_MAX: Final = 366 * 86_400.0


def parts(
    directory: Path, arguments: Mapping[str, Any], points_max: int, part_bytes_max: int
) -> list[dict[str, Any]]:
    """Return the outcome in parts; if it is refused, the only part has the reason."""
    try:
        with Reader(directory) as reader:
            return _read(reader, arguments, points_max, part_bytes_max)
    except Rejected as error:
        return [refused("arguments", str(error))]
    except StoreError as error:
        return [refused("not_stored", f"the samples cannot be read: {error}")]


def _read(
    reader: Reader, arguments: Mapping[str, Any], points_max: int, part_bytes_max: int
) -> list[dict[str, Any]]:
    if arguments.keys() - _KEYS:
        raise Rejected("malformed", f"samples accepts these arguments: {', '.join(sorted(_KEYS))}")
    stream = arguments.get("stream")
    if not isinstance(stream, str) or reader.layout(stream) is None:
        raise Rejected("malformed", "the gateway has no samples of this stream")
    wanted = min(int(_number(arguments, "points", 500.0, 1.0, 1e6)), points_max)
    at_s = _moment(reader, stream, arguments)
    begin = at_s - _number(arguments, "before_s", 300.0, 0.0, _SPAN_S_MAX)
    end = at_s + _number(arguments, "after_s", 300.0, 0.0, _SPAN_S_MAX)
    if not begin < end:
        raise Rejected("malformed", "the period is empty: give before_s or after_s")
    found = reader.history(stream, begin, end, wanted)
    rows = rows_of(found.points)
    number = arguments.get("number")
    if number is not None and found.level_s is not None:  # the samples are no longer in the ring
        if (seen := window(reader.query_records, stream, number)) is not None:
            kept = [row for row in _rows_in(seen, found.channels) if begin <= row[0] <= end]
            rows = with_window(rows, kept, found.interval_s, wanted)
    head = {"stream": stream, "channels": found.channels, "interval_s": found.interval_s}
    return [done(head | {"rows": some}) for some in _split(rows, part_bytes_max)]


def rows_of(points: Any) -> list[list[Any]]:
    """Return a row per point: time, highest score, and the mean of each channel; None: unknown."""
    return [
        [float(time), _finite(score), *map(_finite, means)]
        for time, score, means in zip(points.times, points.score_max, points.mean, strict=True)
    ]


def _rows_in(seen: Seen, channels: Sequence[str]) -> list[list[Any]]:
    none = [None] * len(seen.times)
    columns = [seen.observed.get(name, none) for name in channels]
    return [list(row) for row in zip(seen.times, seen.score, *columns, strict=True)]


def with_window(
    rows: list[list[Any]], kept: list[list[Any]], interval_s: float, rows_max: int
) -> list[list[Any]]:
    """Return the rows with those of an alarm's window in their time, if these are not too many.

    Args:
        rows: Of a history, each of which covers ``interval_s``.
        kept: Samples of the window, in order.
        interval_s: Seconds.
        rows_max: Return at most so many rows, or ``rows`` as they are.

    """
    if not kept:
        return rows
    before = [row for row in rows if row[0] + interval_s <= kept[0][0]]
    after = [row for row in rows if row[0] > kept[-1][0]]
    together = before + kept + after
    return together if len(together) <= rows_max else rows


def _finite(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.7g}") if math.isfinite(number) else None


def _split(rows: list[list[Any]], bytes_max: int) -> list[list[list[Any]]]:
    """Split rows into parts whose JSON has at most ``bytes_max`` bytes, or one row."""
    split: list[list[list[Any]]] = [[]]
    size = 0
    for row in rows:
        length = len(json.dumps(row)) + 1
        if split[-1] and size + length > bytes_max:
            split.append([])
            size = 0
        split[-1].append(row)
        size += length
    return split


def _moment(reader: Reader, stream: str, arguments: Mapping[str, Any]) -> float:
    number = arguments.get("number")
    if number is None:
        return _number(arguments, "at", None, 0.0, 1e11)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**53:
        raise Rejected("malformed", "number must be that of an alarm")
    alarm = reader.alarm(stream, number)
    if alarm is None:
        raise Rejected("malformed", f"{stream} has no alarm {number}")
    return unix_s(alarm["onset"])


def _number(
    arguments: Mapping[str, Any], key: str, default: float | None, least: float, most: float
) -> float:
    value = arguments.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Rejected("malformed", f"{key} must be a number from {least:g} to {most:g}")
    return float(value)
