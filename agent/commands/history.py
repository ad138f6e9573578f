"""The command ``history``: shows a stream's past from the gateway's store.

It only reads, and does not need a running agent.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.commands.life import life
from agent.config.location import store_directory
from agent.store.reader import Reader
from agent.store.timeline import History
from models.cells import cell, columns
from models.errors import ConfigError
from models.printable import printable
from models.settings import nearest
from models.shown import short, shown
from models.times import iso_time

_AGO: Final = re.compile(r"-(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhd])")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LEVELS: Final = {None: "samples", 60.0: "minutes", 3600.0: "hours"}
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_LETTERS: Final = "_.-=+*#@"  # for terminals without block characters
_SCORE: Final = "score (1 is the threshold)"
_STATISTICS: Final = ("min", "mean", "max")


def parse_time(text: str, now_s: float) -> float:
    """Return the Unix seconds of an RFC 3339 time, or of a time before now such as ``-3h``.

    Raises:
        ValueError: it is neither.

    """
    if match := _AGO.fullmatch(text):
        return now_s - float(match["count"]) * _UNIT_S[match["unit"]]
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r}: must be a time such as 2026-11-29T08:00:00Z, or -3h for 3 hours ago"
        ) from error


def history(
    config_file: Path,
    stream: str,
    from_s: float,
    to_s: float,
    points_max: int,
    channels: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the history of a stream, ready for JSON; all its channels if none is named.

    Raises:
        ConfigError: there is no such stream or channel.
        StoreError: the agent's database cannot be read.

    """
    with Reader(store_directory(config_file)) as reader:
        known = reader.history_streams()
        if stream not in known:
            raise ConfigError(unknown_stream(stream, known))
        found = reader.history(stream, from_s, to_s, points_max)
        watched = life(reader)
    for name in channels:
        if name not in found.channels:
            advice = nearest(name, found.channels) or f"; there are {', '.join(found.channels)}"
            raise ConfigError(f"--channel {name}: stream {stream} has no such channel{advice}")
    return {
        "stream": stream,
        "from": iso_time(from_s),
        "to": iso_time(to_s),
        "interval_s": found.interval_s,
        "level": _LEVELS[found.level_s],
        "channels": list(channels) or found.channels,
        "points": list(_points(found, list(channels) or found.channels)),
        "agent": watched._asdict(),
    }


def unknown_stream(stream: str, known: Sequence[str]) -> str:
    """Return why there is no history of this stream; ``known`` have one."""
    if not known:
        return "no stream has a history yet; has an agent of this version run?"
    there = nearest(stream, known) or f"; there are {', '.join(known)}"
    return f"there is no history of stream {stream!r}{there}"


def _points(found: History, channels: Sequence[str]) -> Iterator[dict[str, Any]]:
    points = found.points
    columns = [(name, found.channels.index(name)) for name in channels]
    for row, begin_s in enumerate(points.times.tolist()):
        yield {
            "time": iso_time(begin_s),
            "samples": int(points.rows[row]),
            "score_max": short(points.score_max[row]),
            "channels": {
                name: {
                    "count": int(points.counts[row, column]),
                    "min": short(points.low[row, column]),
                    "mean": short(points.mean[row, column]),
                    "max": short(points.high[row, column]),
                }
                for name, column in columns
            },
        }


def as_csv(document: dict[str, Any]) -> str:
    """Return the points as CSV with a header, without the last line end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{printable(name)}.{what}" for name in document["channels"] for what in _STATISTICS]
    writer.writerow(["time", "samples", "score_max", *names])
    for point in document["points"]:
        values = [one[what] for one in point["channels"].values() for what in _STATISTICS]
        writer.writerow([point["time"], point["samples"], point["score_max"], *values])
    return text.getvalue().rstrip("\n")


def describe(document: dict[str, Any], blocks: bool) -> Iterator[str]:
    """Yield the history as text: a line per channel, or a table if one channel was chosen."""
    points = document["points"]
    yield (
        f"{document['stream']}: {document['from']} to {document['to']}, {len(points)} points of"
        f" {document['interval_s']:.6g} s, from {document['level']}"
    )
    if not points:
        yield "nothing was stored in this period"
    elif len(document["channels"]) == 1:
        yield from _table(document, document["channels"][0])
    else:
        yield from chart(document, blocks)


def _table(document: dict[str, Any], channel: str) -> Iterator[str]:
    yield f"{'time':<24}  {'samples':>8}  {'min':>10}  {'mean':>10}  {'max':>10}  {'score':>8}"
    for point in document["points"]:
        values = [_text(point["channels"][channel][what]) for what in _STATISTICS]
        columns = "  ".join(f"{value:>10}" for value in values)
        score = _text(point["score_max"])
        yield f"{point['time']:<24}  {point['samples']:>8}  {columns}  {score:>8}"


def chart(
    document: dict[str, Any], blocks: bool, score: str = _SCORE, to: str = "to"
) -> Iterator[str]:
    """Yield a line for each channel and for the score, from its lowest to its highest value.

    Args:
        document: Of ``history``.
        blocks: Whether the terminal has block characters.
        score: What the line of the score is called.
        to: The word between the lowest and the highest value.

    """
    points = document["points"]
    first_s = _unix_s(points[0]["time"])
    places = [
        round((_unix_s(point["time"]) - first_s) / document["interval_s"]) for point in points
    ]
    rows = {
        name: [point["channels"][name]["mean"] for point in points] for name in document["channels"]
    }
    rows[score] = [point["score_max"] for point in points]
    width = max(map(columns, rows))
    for name, values in rows.items():
        known = [value for value in values if value is not None]
        low, high = (min(known), max(known)) if known else (None, None)
        line = _line(places, values, _BLOCKS if blocks else _LETTERS)
        yield f"{cell(name):<{width}}  {_text(low):>10} {to} {_text(high):<10}  {line}"


def _line(places: Sequence[int], values: Sequence[float | None], steps: str) -> str:
    known = [value for value in values if value is not None]
    line = [" "] * (places[-1] + 1)
    for place, value in zip(places, values, strict=True):
        if value is not None:
            span = max(known) - min(known)
            share = (value - min(known)) / span if span else 0.0
            line[place] = steps[min(int(share * len(steps)), len(steps) - 1)]
    return "".join(line)


def _unix_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _text(value: float | None) -> str:
    return shown(value, ".5g", absent="-")


def time_range(
    from_text: str | None, to_text: str | None, hours: float, now_s: float | None = None
) -> tuple[float, float]:
    """Return begin and end in Unix seconds; ``hours`` is the length if there is no begin.

    Raises:
        ValueError: one is not a time, or the end is not after the begin.

    """
    now_s = time.time() if now_s is None else now_s
    to_s = now_s if to_text is None else parse_time(to_text, now_s)
    from_s = to_s - hours * 3600 if from_text is None else parse_time(from_text, now_s)
    if from_s >= to_s:
        raise ValueError(
            f"{iso_time(from_s)} to {iso_time(to_s)}: the end must be after the beginning"
        )
    return from_s, to_s
