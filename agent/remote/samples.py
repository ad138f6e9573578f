"""Samples for central ops: a stream's past around an alarm or between two times, in parts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.dialects import answered
from agent.remote.message import Rejected, done, refused
from agent.store.reader import Reader
from agent.store.window import Seen
from agent.store.windows import window
from models.errors import StoreError
from models.quality import GOOD, MISSING, QUALITIES
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
    runs = _runs(reader, arguments, begin, end, wanted)
    return [done(part) for part in _split(runs, part_bytes_max)]


class _Run(NamedTuple):
    """Consecutive rows of one kind."""

    rows: list[list[Any]]  # see ``agent.dialects.answered``
    quality: list[list[int]] | None = None  # a code per channel; None: the rows are means


class _Runs(NamedTuple):
    """The rows of an answer."""

    head: dict[str, Any]  # what each part says, too
    runs: list[_Run]  # in the order of their times, at least one


def _runs(
    reader: Reader, arguments: Mapping[str, Any], begin: float, end: float, wanted: int
) -> _Runs:
    """Return all samples between two times if they are not too many, otherwise means."""
    stream, number = str(arguments["stream"]), arguments.get("number")
    head: dict[str, Any] = {"stream": stream}
    if (all_of_them := reader.stretch(stream, begin, end, wanted)) is not None:
        _, times, values, scores, quality = all_of_them
        head |= {"channels": all_of_them.channels, "interval_s": (end - begin) / wanted}
        return _Runs(head, [_Run(answered.rows_of(times, scores, values), quality.tolist())])
    found = reader.history(stream, begin, end, wanted)
    head |= {"channels": found.channels, "interval_s": found.interval_s}
    means = _Run(_means(found.points))
    if number is not None and found.level_s is not None:  # the samples are no longer in the ring
        if (seen := window(reader.query_records, stream, number)) is not None:
            kept = _kept(seen, found.channels, begin, end)
            return _Runs(head, _with_window(means, kept, found.interval_s, wanted))
    return _Runs(head, [means])


def _means(points: Any) -> list[list[Any]]:
    """Return a row per point: time, highest score, and the mean of each channel; None: unknown."""
    return [
        [float(time), _finite(score), *map(_finite, means)]
        for time, score, means in zip(points.times, points.score_max, points.mean, strict=True)
    ]


def _kept(seen: Seen, channels: Sequence[str], begin: float, end: float) -> _Run:
    """Return the samples of a window between two times."""
    none, absent = [None] * len(seen.times), [QUALITIES[MISSING]] * len(seen.times)
    columns = [seen.observed.get(name, none) for name in channels]
    words = [seen.quality.get(name, absent) for name in channels]
    rows = [
        [*row]
        for row in zip(seen.times, seen.score, *columns, *words, strict=True)
        if begin <= row[0] <= end
    ]
    width = 2 + len(channels)
    quality = [
        [
            MISSING if value is None and word == QUALITIES[GOOD] else QUALITIES.index(word)
            for value, word in zip(row[2:width], row[width:], strict=True)
        ]
        for row in rows
    ]
    return _Run([row[:width] for row in rows], quality)


def _with_window(means: _Run, kept: _Run, interval_s: float, rows_max: int) -> list[_Run]:
    """Return means with the samples of an alarm's window in their time, if these are not too many.

    Args:
        means: Of a history, each of which covers ``interval_s``.
        kept: Samples of the window, in order.
        interval_s: Seconds.
        rows_max: Return at most so many rows, or ``means`` as they are.

    """
    if not kept.rows:
        return [means]
    before = _Run([row for row in means.rows if row[0] + interval_s <= kept.rows[0][0]])
    after = _Run([row for row in means.rows if row[0] > kept.rows[-1][0]])
    together = [run for run in (before, kept, after) if run.rows]
    return together if sum(len(run.rows) for run in together) <= rows_max else [means]


def _finite(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.7g}") if math.isfinite(number) else None


def _split(found: _Runs, bytes_max: int) -> Iterator[dict[str, Any]]:
    """Yield parts of one kind of rows, whose JSON has at most ``bytes_max`` bytes, or one row."""
    for rows, quality in found.runs:
        begin = 0
        for end in _ends(rows, quality, bytes_max):
            part = found.head | {"rows": rows[begin:end]}
            if quality is not None:
                part["samples"] = True
                if any(map(any, quality[begin:end])):
                    part["quality"] = quality[begin:end]
            yield part
            begin = end


def _ends(
    rows: Sequence[list[Any]], quality: Sequence[list[int]] | None, bytes_max: int
) -> Iterator[int]:
    """Yield where each part ends; there is at least one."""
    size = codes = 0  # bytes of the rows of a part, and of their codes, if it has any
    with_codes = False
    for at, row in enumerate(rows):
        row_size, code_size = _size(row), 0 if quality is None else _size(quality[at])
        needs_codes = quality is not None and any(quality[at])
        together = size + row_size + (codes + code_size if with_codes or needs_codes else 0)
        if size and together > bytes_max:
            yield at
            size, codes, with_codes = 0, 0, False
        size, codes, with_codes = size + row_size, codes + code_size, with_codes or needs_codes
    yield len(rows)


def _size(row: Sequence[Any]) -> int:
    """Return the bytes of a row and the comma after it, as ``agent.remote.message`` writes it."""
    return len(json.dumps(row, separators=(",", ":"))) + 1


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
