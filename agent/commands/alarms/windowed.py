"""The windows of labelled alarms as CSV files: what the agent saw, expected and scored."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.store.reader import Reader
from agent.store.window import Seen
from agent.store.windows import window
from models.files import replace
from models.times import iso_time


class Written(NamedTuple):
    """What was written, and of which labels there is no window."""

    files: list[Path]
    gone: list[dict[str, Any]]


def write(reader: Reader, labels: Sequence[dict[str, Any]], directory: Path) -> Written:
    """Write a file for each labelled alarm of which a window is kept.

    Raises:
        StoreError: the database cannot be read.
        OSError: the directory cannot be written.

    """
    directory.mkdir(parents=True, exist_ok=True)
    written = Written([], [])
    for one in labels:
        seen = window(reader.query_records, one["stream"], one["number"]) if one["number"] else None
        if seen is None:
            written.gone.append(one)
            continue
        path = directory / f"{one['stream']}-{one['number']}-{one['label']}.csv"
        replace(path, as_csv(seen).encode())
        written.files.append(path)
    return written


def as_csv(seen: Seen) -> str:
    """Return a window as CSV: time, each channel with its expected value and quality, the score.

    Each figure has as many digits as tell it from its neighbours. A missing one is an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{name}{what}" for name in seen.observed for what in ("", ".expected", ".quality")]
    writer.writerow(["time", *columns, "score", "threshold"])
    writer.writerows(_rows(seen))
    return text.getvalue()


def _rows(seen: Seen) -> Iterator[list[Any]]:
    channels = [
        (seen.observed[name], seen.expected[name], seen.quality[name]) for name in seen.observed
    ]
    for at, (time, score) in enumerate(zip(seen.times, seen.score, strict=True)):
        cells = [column[at] for channel in channels for column in channel]
        yield [iso_time(time), *cells, score, seen.threshold]
