"""Makes room in a crowded outbox: summaries of a stream that follow each other become one.

The longer summary says what the shorter ones said together, with a number of its own; its
``merged`` has their numbers, so that a collector that got some of them all the same can tell.
Alarms are never merged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.store.envelope import Envelope, Outgoing
from agent.store.ranges import Ranges

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

# in one commit, which must not keep the loop from its work
_ROWS_READ = 30  # of a stream
_STREAMS_TRIED = 2
_MERGED_MAX = 60  # summaries in one: an hour of the default minutes

_NEXT_OF_A_STREAM = """
    SELECT seq, body FROM outbox WHERE kind = 'summary' AND seq > :after AND topic = (
        SELECT topic FROM outbox WHERE kind = 'summary' AND seq > :after ORDER BY seq LIMIT 1)
    ORDER BY seq LIMIT :rows"""

Document = Mapping[str, Any]


class Compacted(NamedTuple):
    """What a step did."""

    merged: int  # rows that are gone
    written: int  # rows in their place
    last_seq: int
    after: int  # where the next step begins; 0 is the oldest row


def compact(outbox: Connection, envelope: Envelope, last_seq: int, after: int) -> Compacted:
    """Merge some of one stream's summaries after ``after``, within the caller's transaction."""
    for _ in range(_STREAMS_TRIED):
        rows = outbox.execute(_NEXT_OF_A_STREAM, {"after": after, "rows": _ROWS_READ}).fetchall()
        if not rows:
            return Compacted(0, 0, last_seq, 0)
        group = next(_groups([json.loads(body) for _, body in rows]), None)
        if group is not None:
            _replace(group, outbox, envelope, last_seq + 1)
            return Compacted(len(group), 1, last_seq + 1, after)
        after = rows[0][0]
    return Compacted(0, 0, last_seq, after)


def _replace(group: Sequence[Document], outbox: Connection, envelope: Envelope, seq: int) -> None:
    message = merge(group)
    topic = envelope.topic(message.kind, message.stream)
    body = envelope.numbered(message, seq, group[-1]["clock"])
    outbox.executemany("DELETE FROM outbox WHERE seq = ?", [(one["seq"],) for one in group])
    outbox.execute(
        "INSERT INTO outbox (seq, kind, topic, body) VALUES (?, ?, ?, ?)",
        (seq, message.kind, topic, body),
    )


def _groups(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Yield what may be merged: of one stream and one detector, following each other."""
    mergeable = (one for one in documents if "from" in one["data"])
    by_stream = sorted(mergeable, key=lambda one: (one["stream"], one["data"]["from"]))
    for _, run in groupby(by_stream, key=_likeness):
        group: list[Document] = []
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


def _likeness(document: Document) -> tuple[object, ...]:
    names = ("stream", "bundle", "detector", "clock")
    return (*(document[name] for name in names), tuple(document["data"]["channels"]))


def _count(document: Document) -> int:
    """Return how many summaries it was once."""
    return 1 + len(Ranges(map(tuple, document["data"].get("merged", []))))


def merge(documents: Sequence[Document]) -> Outgoing:
    """Return the summary of what these say together; they are of one stream and detector."""
    all_data = [document["data"] for document in documents]
    last = max(documents, key=lambda one: one["data"]["to"])
    scored = sum(data["scored"] for data in all_data)
    anomalous = sum(data["scored"] * (data["share_anomalous"] or 0) for data in all_data)
    scores = [data["score_max"] for data in all_data if data["score_max"] is not None]
    numbers = Ranges((document["seq"], document["seq"]) for document in documents)
    for data in all_data:
        for first, end in data.get("merged", []):
            numbers.add(first, end)
    data = last["data"] | {
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
    time = datetime.fromisoformat(last["time"]).timestamp()
    return Outgoing("summary", last["stream"], time, data, last["bundle"], last["detector"])


def _channel(parts: Sequence[tuple[int, Document]]) -> dict[str, float | int | None]:
    """Combine counts, means and squares; a part is its samples and its statistics."""
    counts = {"missing": sum(one["missing"] for _, one in parts)}
    for name in ("held", "interpolated"):  # left out where there are none
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
