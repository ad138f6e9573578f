"""Labels: the stretches of a recording on which a person has made a finding, as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from models.errors import DataError
from models.formats.header import Wanted, plain
from models.formats.recording import Layout, Recorded, recorded
from models.formats.separated import split
from models.formats.times import Times
from trainer.datasets import FINDINGS, Finding, Label, read_bytes

LAYOUT: Final = Layout()


def read_labels(path: Path, layout: Layout = LAYOUT) -> list[Label]:
    """Read the labelled intervals of a recording: columns ``start``, ``end``, ``kind``.

    A column ``label`` has the findings; without it, all rows are confirmed faults. Other columns
    are not used.

    Raises:
        DataError: the file cannot be read, or a row is not an interval; the text has file and line.

    """
    try:
        times = Times(layout.time_format, layout.time_zone)
        read = recorded(read_bytes(path), Wanted("start", frozenset(("end",))), layout)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    labels = []
    columns = ["start", "end", "kind", *(["label"] if "label" in read.header else [])]
    for line, (start, end, kind, *more) in _cells(path, read, columns):
        finding = _finding(line, *more)
        label = Label(_time(line, start, times), _time(line, end, times), kind, finding)
        if label.start > label.end:
            raise DataError(f"{line}: the label ends before it starts")
        labels.append(label)
    return labels


def _finding(line: str, cell: str = "confirmed") -> Finding:
    for finding in FINDINGS:
        if cell == finding:
            return finding
    raise DataError(f"{line}: the label is {cell!r}; it must be one of {', '.join(FINDINGS)}")


def _cells(path: Path, read: Recorded, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the cells of ``columns``, row by row."""
    for column in columns:
        if column not in read.header:
            have = ", ".join(read.header)
            raise DataError(f"{path}: no column {column!r}; the header has: {have}")
    for number, row in zip(read.numbers, read.rows, strict=True):
        cells = split(row.decode(errors="replace"), read.separator)
        if len(cells) != len(read.header):
            raise DataError(
                f"{path}:{number}: the row has {len(cells)} cells, but the header has"
                f" {len(read.header)}"
            )
        yield f"{path}:{number}", [plain(cells[read.header.index(column)]) for column in columns]


def _time(where: str, cell: str, times: Times) -> float:
    time_s = times.unix_s(cell)
    if np.isnan(time_s):
        raise DataError(f"{where}: {times.explain(cell)}")
    return time_s
