"""Reads a stream's history between two times, with as many points as a chart can show.

It reads one of three levels: the ring's samples, minutes or hours. It uses the finest one that does
not have too many entries per point. So the cost depends on the points, not on the samples. It reads
what a level lacks from the next finer one, so every result includes the newest samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from agent.store.aggregates import Entries, between, from_bytes, joined, merged, of_samples
from agent.store.layouts import Part, Query, parts_of
from agent.store.migrations import Level
from agent.store.open_blocks import BLOCK_S, ENTRY_S, HOUR_S, MINUTE_S, key_of
from models.messages import GOOD, MISSING, Float32, Float64, Int64, Uint8, stored_samples

ENTRIES_PER_POINT_MAX: Final = 64


class History(NamedTuple):
    """A stream's history; a point covers ``interval_s``, and points without samples are absent."""

    channels: list[str]
    interval_s: float
    level_s: float | None  # length of the entries that were read; None: samples
    points: Entries


class Stretch(NamedTuple):
    """Samples of a stream as they are stored: ``n`` of ``C`` channels."""

    channels: list[str]  # C
    times: Float64  # (n,) Unix seconds
    values: Float32  # (n, C) in the channels' units; NaN: none
    scores: Float32  # (n,) dimensionless; NaN: not scored
    quality: Uint8  # (n, C) codes of ``models.quality``


def history(query: Query, stream: str, from_s: float, to_s: float, points_max: int) -> History:
    """Return at most ``points_max`` points, the last of which may end after ``to_s``.

    Raises:
        ValueError: the period is empty, or ``points_max`` is below 1.

    """
    if not from_s < to_s or points_max < 1:
        raise ValueError("a history must cover a period above 0 s and have at least one point")
    past = [_Past(query, stream, part) for part in parts_of(query, stream)]
    level = _level(past, from_s, to_s, points_max)
    level_s = None if level is None else ENTRY_S[level]
    origin_s = from_s if level_s is None else from_s // level_s * level_s
    found = [one.entries(level, origin_s, to_s) for one in past]
    names = list(dict.fromkeys(name for one in past for name in one.part.channels))
    entries = _together(
        [_widened(one, of.part.channels, names) for one, of in zip(found, past, strict=True)],
        len(names),
    )
    interval_s = max((to_s - origin_s) / points_max, level_s or 0.0)
    points = merged(entries, interval_s, origin_s, points_max) if len(entries.times) else entries
    return History(names, interval_s, level_s, points)


def stored(
    query: Query, stream: str, from_s: float, to_s: float, samples_max: int
) -> Stretch | None:
    """Return the samples between two times, both included, in the order of their times.

    None if the ring has lost some of them, or if they are more than ``samples_max``.
    """
    past = [_Past(query, stream, part) for part in parts_of(query, stream)]
    if _level(past, from_s, to_s, samples_max) is not None:
        return None
    names = list(dict.fromkeys(name for one in past for name in one.part.channels))
    found = [one.stretch(names, from_s, to_s) for one in past]
    if not found or sum(len(one.times) for one in found) > samples_max:
        return None
    times = np.concatenate([one.times for one in found])
    order = np.argsort(times, kind="stable")
    values, scores, quality = (
        np.concatenate(columns)[order]
        for columns in zip(*((one.values, one.scores, one.quality) for one in found), strict=True)
    )
    return Stretch(names, times[order], values, scores, quality)


def _level(past: Sequence[_Past], from_s: float, to_s: float, points_max: int) -> Level | None:
    """Return the finest level with few enough entries; None means the samples themselves."""
    entries_max = ENTRIES_PER_POINT_MAX * points_max
    if (to_s - from_s) / MINUTE_S > entries_max:
        return "hours"
    minutes_since = min((one.begin_s("minutes") for one in past), default=np.inf)
    hours_since = min((one.begin_s("hours") for one in past), default=np.inf)
    if from_s < minutes_since - HOUR_S and hours_since < minutes_since - HOUR_S:
        return "hours"
    if all(one.has_samples(from_s) for one in past):
        rows = sum(int(one.entries("minutes", from_s, to_s).rows.sum()) for one in past)
        if rows <= entries_max:
            return None
    return "minutes"


class _Past:
    """Reads one part of a stream's past; a binary search finds its rows."""

    def __init__(self, query: Query, stream: str, part: Part) -> None:
        self._query, self._stream, self.part = query, stream, part
        self._ends = {"minutes": self._end("minutes"), "hours": self._end("hours")}
        settled = query("SELECT settled FROM history", [])
        # between the end of its last row and ``settled`` there are no samples of this stream
        self._open = max([self._ends["minutes"], *(number for (number,) in settled)])

    def _end(self, level: Level) -> int:
        """Return the number of the first sample that is in no row of a level."""
        rows = self._query(
            f"SELECT next FROM {level} WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",  # noqa: S608
            [self._key(0), key_of(self.part.id + 1, 0) - 1],
        )
        return int(rows[0][0]) if rows else self.part.since

    def _key(self, number: int) -> int:
        return key_of(self.part.id, number)

    def begin_s(self, level: Level) -> float:
        """Return when the oldest row of a level begins; infinite where there is none."""
        row = self._row_at(level, 0)
        return np.inf if row is None else row[1]

    def has_samples(self, from_s: float) -> bool:
        """Whether the ring goes back to this time, or as far back as the minutes."""
        ((oldest,),) = self._query("SELECT min(number) FROM samples", [])
        begin = self._number_at("minutes", from_s)
        return begin == self._ends["minutes"] or (oldest is not None and oldest <= begin)

    def entries(self, level: Level | None, from_s: float, to_s: float) -> Entries:
        """Return the entries that begin between two times; the newest come from finer levels."""
        if level is None:
            begin = self._number_at("minutes", from_s)
            end = self._number_at("minutes", to_s + BLOCK_S["minutes"])
            newest = end == self._ends["minutes"]
            return between(self._samples(begin, None if newest else end, to_s), from_s, to_s)
        parts = list(self._blocks(level, self._number_at(level, from_s), self._ends[level], to_s))
        if level == "hours":
            parts += self._blocks("minutes", self._ends["hours"], self._ends["minutes"], to_s)
        parts.append(self._samples(self._open, None, to_s))
        entries = between(_together(parts, len(self.part.channels)), from_s, to_s)
        return merged(entries, ENTRY_S[level]) if len(entries.times) else entries

    def _blocks(self, level: Level, begin: int, end: int, to_s: float) -> Iterator[Entries]:
        last = min(end, self._number_at(level, to_s + BLOCK_S[level]))
        rows = self._query(
            f"SELECT start, data FROM {level} WHERE key >= ? AND key < ? ORDER BY key",  # noqa: S608
            [self._key(begin), self._key(last)],
        )
        for start_s, data in rows:
            yield from_bytes(data, start_s, ENTRY_S[level])

    def stretch(self, names: Sequence[str], from_s: float, to_s: float) -> Stretch:
        """Return the ring's samples between two times, with a column for each of ``names``."""
        own = self.part.channels
        begin = self._number_at("minutes", from_s)
        end = self._number_at("minutes", to_s + BLOCK_S["minutes"])
        rows = list(self._rows(begin, None if end == self._ends["minutes"] else end))
        samples = stored_samples(
            [(times, values, code) for _, times, values, _, code in rows], len(own)
        )
        scores = np.frombuffer(b"".join(score for *_, score, _ in rows), np.float32)
        codes = np.full(samples.values.shape, GOOD, np.uint8)
        if samples.quality is not None:
            codes = samples.quality
        codes = np.where(np.isnan(samples.values) & (codes == GOOD), MISSING, codes)
        inside = (samples.times >= from_s) & (samples.times <= to_s)
        count, at = int(inside.sum()), [names.index(name) for name in own]
        values = np.full((count, len(names)), np.nan, np.float32)
        quality = np.full(values.shape, MISSING, np.uint8)
        values[:, at], quality[:, at] = samples.values[inside], codes[inside]
        return Stretch(list(names), samples.times[inside], values, scores[inside], quality)

    def _rows(
        self, begin: int, end: int | None
    ) -> Iterator[tuple[int, bytes, bytes, bytes, bytes | None]]:
        """Yield number, times, values, scores and quality of the ring's rows of this part."""
        rows = self._query(
            """SELECT number, times, readings, scores, quality FROM samples WHERE number >=
            ifnull((SELECT max(number) FROM samples WHERE number <= ?), 0) AND number < ?
            AND stream = ? ORDER BY number""",
            [begin, self.part.until if end is None else end, self._stream],
        )
        for row in rows:
            if len(row[2]) * 2 == len(row[1]) * len(self.part.channels):  # else of another bundle
                yield row

    def _samples(self, begin: int, end: int | None, to_s: float) -> Entries:
        """Return the ring's samples from a number on, one entry each."""
        channels = len(self.part.channels)
        columns: list[tuple[Float64, Float32, Float32]] = []
        for number, times, values, scores, _ in self._rows(begin, end):
            skipped = max(0, begin - number)
            column = (
                np.frombuffer(times)[skipped:],
                np.frombuffer(values, np.float32).reshape(-1, channels)[skipped:],
                np.frombuffer(scores, np.float32)[skipped:],
            )
            if len(column[0]) and column[0][0] < to_s:
                columns.append(column)
        if not columns:
            return _together([], channels)
        times_s, together, score = map(np.concatenate, zip(*columns, strict=True))
        return _together([of_samples(times_s, together, score)], channels)

    def _number_at(self, level: Level, time_s: float) -> int:
        """Return the first sample's number in the first row that ends after this time."""
        low, high = self.part.since, self._ends[level]
        while low < high:
            middle = (low + high) // 2
            row = self._row_at(level, middle)
            if row is None or row[1] + BLOCK_S[level] > time_s:
                high = middle
            else:
                low = row[0] + 1
        row = self._row_at(level, low)
        return self._ends[level] if row is None else row[0]

    def _row_at(self, level: Level, number: int) -> tuple[int, float] | None:
        """Return number and time of the first row at or after this number."""
        rows = self._query(
            f"SELECT key, start FROM {level} WHERE key >= ? AND key < ? ORDER BY key LIMIT 1",  # noqa: S608
            [self._key(number), self._key(self._ends[level])],
        )
        return (rows[0][0] - self._key(0), rows[0][1]) if rows else None


def _together(parts: Sequence[Entries], channels: int) -> Entries:
    """Join entries in chronological order."""
    if not parts:
        none = np.empty((0, channels))
        return of_samples(np.empty(0), none.astype(np.float32), np.empty(0, np.float32))
    entries = joined(parts)
    return entries.rows_at(np.argsort(entries.times, kind="stable"))


def _widened(entries: Entries, names: Sequence[str], all_names: Sequence[str]) -> Entries:
    """Return entries with a column for each name in ``all_names``; new columns have no values."""
    if list(names) == list(all_names):
        return entries
    rows = len(entries.times)
    counts: Int64 = np.zeros((rows, len(all_names)), np.int64)
    low: Float32 = np.full(counts.shape, np.nan, np.float32)
    high, mean = low.copy(), low.astype(np.float64)
    at = [all_names.index(name) for name in names]
    counts[:, at], low[:, at] = entries.counts, entries.low
    high[:, at], mean[:, at] = entries.high, entries.mean
    return entries._replace(counts=counts, low=low, high=high, mean=mean)
