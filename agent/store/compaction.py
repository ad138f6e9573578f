"""Makes room in a crowded outbox: merges consecutive summaries of a stream into one.

The merged summary contains the information of the originals and has its own number. Its ``merged``
field lists their numbers, so that a collector that received some of them can recognise it.
Alarms are never merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.store.ranges import Ranges
from agent.store.record import COLUMNS, INSERT, Outgoing, Record
from models.times import unix_s

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

# per commit, so that the loop is not blocked for long
_ROWS_READ = 30  # of a stream
_STREAMS_TRIED = 2
_MERGED_MAX = 60  # summaries in one: an hour of the default minutes

_NEXT_OF_A_STREAM = f"""
    SELECT {COLUMNS} FROM outbox WHERE kind = 'summary' AND seq > :after AND stream = (
        SELECT stream FROM outbox WHERE kind = 'summary' AND seq > :after ORDER BY seq LIMIT 1)
    ORDER BY seq LIMIT :rows"""  # noqa: S608 - no input in it

Data = Mapping[str, Any]


class Summary(NamedTuple):
    """A waiting summary with its decoded data."""

    record: Record
    data: Data

    @classmethod
    def of(cls, record: Record) -> Summary:
        """Return a record with its data decoded."""
        return cls(record, record.read())


class Compacted(NamedTuple):
    """The result of one compaction step."""

    merged: int  # rows that were removed
    written: int  # rows that replaced them
    last_seq: int
    after: int  # where the next step begins; 0 is the oldest row


def compact(outbox: Connection, last_seq: int, after: int) -> Compacted:
    """Merge some of one stream's summaries after ``after``, within the caller's transaction."""
    for _ in range(_STREAMS_TRIED):
        rows = outbox.execute(_NEXT_OF_A_STREAM, {"after": after, "rows": _ROWS_READ}).fetchall()
        if not rows:
            return Compacted(0, 0, last_seq, 0)
        group = next(_groups([Summary.of(Record._make(row)) for row in rows]), None)
        if group is not None:
            _replace(group, outbox, last_seq + 1)
            return Compacted(len(group), 1, last_seq + 1, after)
        after = rows[0][0]
    return Compacted(0, 0, last_seq, after)


def _replace(group: Sequence[Summary], outbox: Connection, seq: int) -> None:
    merged = merge(group).numbered(seq, group[-1].record.clock)
    outbox.executemany("DELETE FROM outbox WHERE seq = ?", [(one.record.seq,) for one in group])
    outbox.execute(INSERT, merged)


def _groups(summaries: Sequence[Summary]) -> Iterator[list[Summary]]:
    """Yield groups that may be merged: consecutive summaries of one stream and one detector."""
    mergeable = (one for one in summaries if "from" in one.data)
    by_time = sorted(mergeable, key=lambda one: one.data["from"])
    for _, run in groupby(by_time, key=_likeness):
        group: list[Summary] = []
        count = 0
        for one in run:
            if group and count + _count(one) > _MERGED_MAX:
                if len(group) > 1:
                    yield group
                group, count = [], 0
            group.append(one)
            count += _count(one)
        if len(group) > 1:
            yield group


def _likeness(summary: Summary) -> tuple[object, ...]:
    one = summary.record
    return one.bundle, one.detector, one.clock, tuple(summary.data["channels"])


def _count(summary: Summary) -> int:
    """Return how many original summaries it contains."""
    return 1 + Ranges(map(tuple, summary.data.get("merged", []))).total()


def merge(summaries: Sequence[Summary]) -> Outgoing:
    """Merge summaries of the same stream and detector into one."""
    all_data = [summary.data for summary in summaries]
    last = max(summaries, key=lambda one: one.data["to"])
    scored = sum(data["scored"] for data in all_data)
    anomalous = sum(data["scored"] * (data["share_anomalous"] or 0) for data in all_data)
    scores = [data["score_max"] for data in all_data if data["score_max"] is not None]
    numbers = Ranges((one.record.seq, one.record.seq) for one in summaries)
    for data in all_data:
        for first, end in data.get("merged", []):
            numbers.add(first, end)
    data = dict(last.data) | {
        "from": min(data["from"] for data in all_data),
        "to": max(data["to"] for data in all_data),
        "last_sample": max(data["last_sample"] for data in all_data),
        "n": sum(data["n"] for data in all_data),
        "scored": scored,
        "score_max": max(scores, default=None),
        "share_anomalous": anomalous / scored if scored else None,
        "uncertain": sum(data.get("uncertain", 0) for data in all_data),
        "channels": {
            name: _channel([(data["n"], data["channels"][name]) for data in all_data])
            for name in all_data[0]["channels"]
        },
        "merged": [list(one) for one in numbers],
    }
    one = last.record
    return Outgoing("summary", one.stream, unix_s(one.time), data, one.bundle, one.detector)


def _channel(parts: Sequence[tuple[int, Data]]) -> dict[str, float | int | None]:
    """Combine counts, means and squares; each part is a number of samples and their statistics."""
    counts = {"missing": sum(one["missing"] for _, one in parts)}
    for name in ("held", "interpolated"):  # omitted if zero
        if count := sum(one.get(name, 0) for _, one in parts):
            counts[name] = count
    known = [(n - one["missing"], one) for n, one in parts if n > one["missing"]]
    total = sum(count for count, _ in known)
    if not total:
        return counts | dict.fromkeys(("min", "mean", "max", "std"))
    mean = sum(count * one["mean"] for count, one in known) / total
    squares = sum(count * (one["std"] ** 2 + (one["mean"] - mean) ** 2) for count, one in known)
    statistics = {
        "min": min(one["min"] for _, one in known),
        "mean": mean,
        "max": max(one["max"] for _, one in known),
        "std": math.sqrt(squares / total),
    }
    return counts | {name: float(f"{value:.6g}") for name, value in statistics.items()}
