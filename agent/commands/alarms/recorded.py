"""The stored readings around labels, as a recording that ``fieldwatch-trainer`` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from agent.store.reader import Reader
from agent.store.window import Seen
from agent.store.windows import window
from models.errors import StoreError
from models.messages import GOOD, QUALITIES, Float32, Float64, stored_samples
from models.printable import printable
from models.times import iso_time, unix_s

Interval = tuple[float, float]  # begin and end, Unix seconds


class Recorded(NamedTuple):
    """A recording, and how much of what was labelled is in it."""

    text: str  # CSV without the last line end
    samples: int
    gone: list[dict[str, Any]]  # labels of which no reading is stored any more


def recorded(
    reader: Reader, stream: str, labels: Sequence[dict[str, Any]], around_s: float, now_s: float
) -> Recorded:
    """Return the stored readings of a stream during its labels and ``around_s`` before and after.

    What the ring of samples has lost comes from the windows of the labelled alarms. A value that
    was not measured is an empty cell, so that the trainer fills it as its configuration says.

    Raises:
        StoreError: no agent of this version has stored samples of the stream, or the store cannot
            be read.

    """
    layout = reader.layout(stream)
    if layout is None:
        raise StoreError(f"there are no stored readings of stream {stream!r}")
    names, _ = layout
    text, count = io.StringIO(), 0
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *map(printable, names)])
    spans = {id(one): _span(one, now_s) for one in labels}
    times, kept = np.empty(0), _windows(reader, stream, labels, names)
    for begin, end in merged([(a - around_s, b + around_s) for a, b in spans.values()]):
        stored = _readings(reader, stream, len(names), begin, end)
        times_here, values = _filled(*stored, *_between(*kept, begin, end))
        times = np.concatenate([times, times_here])
        for time, row in zip(times_here.tolist(), values.tolist(), strict=True):
            writer.writerow([iso_time(time), *("" if v != v else f"{v:.7g}" for v in row)])
        count += len(times_here)
    gone = [one for one in labels if not _any_in(times, spans[id(one)])]
    return Recorded(text.getvalue().rstrip("\n"), count, gone)


def merged(intervals: Sequence[Interval]) -> Iterator[Interval]:
    """Yield the union of intervals, in order.

    >>> list(merged([(5, 9), (1, 2), (8, 12)]))
    [(1, 2), (5, 12)]
    """
    now: Interval | None = None
    for begin, end in sorted(intervals):
        if now is not None and begin <= now[1]:
            now = now[0], max(now[1], end)
            continue
        if now is not None:
            yield now
        now = begin, end
    if now is not None:
        yield now


def _span(label: dict[str, Any], now_s: float) -> Interval:
    begin = unix_s(label["start"])
    return begin, now_s if label["end"] is None else max(begin, unix_s(label["end"]))


def _any_in(times: Float64, span: Interval) -> bool:
    return bool(((times >= span[0]) & (times <= span[1])).any())


def _readings(
    reader: Reader, stream: str, channels: int, begin: float, end: float
) -> tuple[Float64, Float32]:
    """Return times (n,) and measured values (n, C) between two times."""
    width = 4 * channels
    chunks = [
        (one.times, one.values, one.quality)
        for one in reader.samples_between(stream, begin, end)
        if len(one.values) == len(one.times) // 8 * width  # of the present channels
    ]
    if not chunks:
        return np.empty(0), np.empty((0, channels), np.float32)
    samples = stored_samples(chunks, channels)
    values = samples.values.copy()
    if samples.quality is not None:
        values[samples.quality != GOOD] = np.nan
    return _between(samples.times, values, begin, end)


def _windows(
    reader: Reader, stream: str, labels: Sequence[dict[str, Any]], names: Sequence[str]
) -> tuple[Float64, Float32]:
    """Return times (n,) and measured values (n, C) of the windows of the labelled alarms."""
    numbers = sorted(one["number"] for one in labels if one["number"])
    found = (window(reader.query_records, stream, number) for number in numbers)
    parts = {one.number: one for one in found if one is not None}.values()
    times = np.array([time for one in parts for time in one.times])
    values = [_measured(one, name) for one in parts for name in names]
    rows = [
        np.column_stack(values[at : at + len(names)]) for at in range(0, len(values), len(names))
    ]
    times, first = np.unique(times, return_index=True)
    together = np.concatenate([np.empty((0, len(names)), np.float32), *rows])
    return times, together[first].astype(np.float32)


def _measured(seen: Seen, name: str) -> Float32:
    """Return the values (n,) of a channel; NaN where it was not measured."""
    if name not in seen.observed:
        return np.full(len(seen.times), np.nan, np.float32)
    good = np.array(seen.quality[name]) == QUALITIES[GOOD]
    values = np.array([np.nan if one is None else one for one in seen.observed[name]], np.float32)
    return np.where(good, values, np.float32(np.nan))


def _between(times: Float64, values: Float32, begin: float, end: float) -> tuple[Float64, Float32]:
    inside = (times >= begin) & (times <= end)
    return times[inside], values[inside]


def _filled(
    times: Float64, values: Float32, more_times: Float64, more: Float32
) -> tuple[Float64, Float32]:
    """Return rows in order, with those of ``more`` whose times are not there."""
    new = ~np.isin(more_times, times)
    times = np.concatenate([times, more_times[new]])
    order = np.argsort(times, kind="stable")
    return times[order], np.concatenate([values, more[new]])[order]
