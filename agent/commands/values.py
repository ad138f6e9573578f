"""The command ``values``: shows the newest values of each stream that the agent stored.

It only reads. Values, scores and qualities come from the store. Units come from the configuration
and its bundles, if these can be read. The reason for a missing value comes from the agent's status.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.alarms.document import span
from agent.commands.life import life
from agent.config import load as configuration
from agent.config.load import AgentConfig, StreamTable
from agent.config.location import store_directory
from agent.store.reader import Reader
from models import bundle as bundles
from models.cells import cell, columns, wrap
from models.errors import ConfigError, FieldwatchError
from models.messages import GOOD, MISSING, QUALITIES, Samples, stored_samples
from models.printable import printable
from models.settings import nearest
from models.shown import short, shown
from models.times import iso_time

THRESHOLD: Final = 1.0  # scores are multiples of the threshold in force
_LOOKED_AT: Final = 3600  # samples per stream; an older value is not current
_WIDTH: Final = 80
_NAME_MAX: Final = 28
_TEXT_MAX: Final = 500


def values(
    config_file: Path, streams: Sequence[str] = (), now_s: float | None = None
) -> dict[str, Any]:
    """Return the newest values of these streams, or of all, ready for JSON.

    Raises:
        ConfigError: there is no such stream.
        StoreError: the agent's database cannot be read, or it has no status.

    """
    now_s = time.time() if now_s is None else now_s
    try:
        config = configuration.load(config_file)
    except ConfigError:  # show values anyway; `check` reports what is wrong
        config = None
    with Reader(store_directory(config_file)) as reader:
        status = reader.status()
        for name in streams:
            if name not in status["streams"]:
                known = status["streams"]
                there = nearest(name, known) or f"; there are {', '.join(known)}"
                raise ConfigError(f"--stream {name}: the agent has no such stream{there}")
        found = [
            _stream(reader, name, status, config, now_s)
            for name in status["streams"]
            if not streams or name in streams
        ]
        return {"streams": found, "agent": life(reader)._asdict()}


def _stream(
    reader: Reader, name: str, status: Mapping[str, Any], config: AgentConfig | None, now_s: float
) -> dict[str, Any]:
    stream = status["streams"][name]
    tables = {table.name: table for table in config.streams} if config else {}
    of = units(tables[name]) if name in tables else {}
    inputs = [source.name for source in config.inputs if source.stream == name] if config else []
    names, samples, scores = _newest(reader, name)
    last_s = float(samples.times[-1]) if len(samples.times) else None
    troubles = list(_troubles(status, inputs))
    return {
        "stream": name,
        "watched": stream.get("watched", True),  # absent in old statuses
        "watched_by": stream["bundle"],
        "last_sample": _time(last_s),
        "age_s": _age(last_s, now_s),
        "score": short(scores[-1]) if len(scores) else None,
        "threshold": THRESHOLD,
        "open_alarms": len(stream["open_alarms"]),
        "input_troubles": troubles,
        "channels": [
            {"channel": channel, "unit": of.get(channel)}
            | _newest_value(samples, column, now_s)
            | {"rejected": _rejected(status, inputs, channel)}
            for column, channel in enumerate(names)
        ],
    }


def _newest(reader: Reader, name: str) -> tuple[Sequence[str], Samples, np.ndarray[Any, Any]]:
    """Return the names of a stream's channels, and its newest samples with their scores."""
    layout = reader.layout(name)
    if layout is None:
        return (), stored_samples([], 0), np.empty(0, np.float32)
    names, since = layout
    chunks = reader.newest_samples(name, _LOOKED_AT, since)
    samples = stored_samples([(c.times, c.values, c.quality) for c in chunks], len(names))
    scores = [np.frombuffer(chunk.scores, np.float32) for chunk in chunks]
    return names, samples, np.concatenate(scores) if scores else np.empty(0, np.float32)


def _newest_value(samples: Samples, column: int, now_s: float) -> dict[str, Any]:
    """Return the newest measured value, and the quality of the newest sample."""
    column_values = samples.values[:, column]
    if samples.quality is None:
        quality = np.where(np.isnan(column_values), MISSING, GOOD)
    else:
        quality = samples.quality[:, column]
    (measured,) = np.nonzero((quality == GOOD) & ~np.isnan(column_values))
    row = int(measured[-1]) if len(measured) else None
    time_s = None if row is None else float(samples.times[row])
    return {
        "value": None if row is None else short(column_values[row]),
        "time": _time(time_s),
        "age_s": _age(time_s, now_s),
        "quality": QUALITIES[int(quality[-1])] if len(quality) else QUALITIES[MISSING],
    }


def units(table: StreamTable) -> dict[str, str]:
    """Return the units of a stream's channels; none if its bundle cannot be read."""
    if table.baseline is not None:
        return {channel.name: channel.unit for channel in table.baseline.channels}
    assert table.bundle is not None
    try:
        channels = bundles.read(table.bundle).manifest.channels
    except FieldwatchError:
        return {}
    return {channel.name: channel.unit for channel in channels}


def _troubles(status: Mapping[str, Any], inputs: Sequence[str]) -> Iterator[str]:
    for name in inputs:
        source = status["inputs"].get(name)
        if source is not None and not source["connected"]:
            yield f"input {name} is not connected: {source['last_error']}"


def _rejected(status: Mapping[str, Any], inputs: Sequence[str], channel: str) -> str | None:
    """Return the newest rejected value of a channel, and why."""
    rejects = [
        reject
        for name in inputs
        for reject in status["inputs"].get(name, {}).get("rejects", ())
        if reject["channel"] == channel
    ]
    if not rejects:
        return None
    newest = max(rejects, key=lambda reject: float(reject["time"]))
    return f"{newest['cause']}: {newest['excerpt']}"


def _time(unix_s: float | None) -> str | None:
    return None if unix_s is None else iso_time(unix_s)


def _age(unix_s: float | None, now_s: float) -> float | None:
    return None if unix_s is None else round(max(0.0, now_s - unix_s), 1)


def describe(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values as text, in lines of 80 characters."""
    for stream in document["streams"]:
        yield from _wrapped(_head(stream), "    ")
        for trouble in stream["input_troubles"]:
            yield from _wrapped(f"    {trouble}", "      ")
        width = min(
            _NAME_MAX, max((columns(one["channel"]) for one in stream["channels"]), default=0)
        )
        for channel in stream["channels"]:
            yield from _channel(channel, width)


def _head(stream: Mapping[str, Any]) -> str:
    name = stream["stream"]
    if not stream["watched"]:
        return f"{name}: NOT WATCHED, its readings are not stored; see status"
    if stream["last_sample"] is None:
        return f"{name}: no sample yet"
    alarms = stream["open_alarms"]
    return (
        f"{name}: score {shown(stream['score'], '.6g', '-')} (threshold {stream['threshold']:g}),"
        f" {span(stream['age_s'])} ago{f', ALARMS OPEN: {alarms}' if alarms else ''}"
    )


def _channel(channel: Mapping[str, Any], width: int) -> Iterator[str]:
    age = "no value" if channel["age_s"] is None else f"{span(channel['age_s'])} ago"
    good = channel["quality"] == QUALITIES[GOOD]
    name, value = cell(channel["channel"], width), shown(channel["value"], ".6g", "-")
    line = f"  {name:<{width}} {value:>12} {cell(channel['unit'] or ''):<8} {age}"
    yield line if good else f"{line}, now {channel['quality']}"
    if not good and channel["rejected"] is not None:
        yield from _wrapped(f"    rejected: {channel['rejected']}", "      ")


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(printable(text, _TEXT_MAX), _WIDTH, others=indent)
