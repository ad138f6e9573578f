"""The benchmark's figures as a table for a terminal of 120 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.benchmark.outcome import DETECTORS

_NAME_WIDTH = 12


class Column(NamedTuple):
    """One figure of a table."""

    title: str
    key: str  # in the document
    form: str  # how its value is written


COLUMNS = (
    Column("TP", "tp", "d"),
    Column("FP", "fp", "d"),
    Column("FN", "fn", "d"),
    Column("P", "precision", ".3f"),
    Column("R", "recall", ".3f"),
    Column("F1", "f1", ".3f"),
    Column("F0.5", "f05", ".3f"),
    Column("delay", "delay_steps_median", "g"),
    Column("FP/10k", "false_per_10k", ".2f"),
    Column("pt F1", "point_f1", ".3f"),
    Column("FAR %", "far", ".2f"),
    Column("MAR %", "mar", ".2f"),
    Column("VUS-PR", "vus_pr", ".3f"),
    Column("bytes", "model_bytes", "d"),
    Column("µs", "us_per_sample", ".1f"),
)


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table: totals of all detectors, then each channel with the quantized network."""
    if document["quantized"]["total"] is None:
        return
    yield from _table("total", ((name, document[name]["total"]) for name in DETECTORS))
    yield ""
    yield from _table("quantized", document["quantized"]["channels"].items())


def cells(metrics: Mapping[str, Any]) -> list[str]:
    """Return the figures of one row, as text."""
    return [
        "–" if metrics[column.key] is None else format(metrics[column.key], column.form)
        for column in COLUMNS
    ]


def _table(title: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    table = [
        [title, *(column.title for column in COLUMNS)],
        *([name, *cells(metrics)] for name, metrics in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[0] = max(widths[0], _NAME_WIDTH)
    for row in table:
        yield _line(row, widths)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = row
    aligned = (cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))
    return "  ".join([name.ljust(widths[0]), *aligned])
