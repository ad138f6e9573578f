"""The benchmark's figures as tables for a terminal of 120 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from trainer.benchmark import tail_check
from trainer.benchmark.document import NAMES, Style
from trainer.datasets.ims import FAILED

_NAME_WIDTH = 12


class Column(NamedTuple):
    """One figure of a table."""

    title: str
    key: str  # key in the document; a dot separates nested keys
    form: str  # format of its value


PUBLISHED = (
    Column("TP", "tp", "d"),
    Column("FP", "fp", "d"),
    Column("FN", "fn", "d"),
    Column("P", "precision", ".3f"),
    Column("R", "recall", ".3f"),
    Column("F1", "f1", ".3f"),
    Column("95 % from", "f1_interval.low", ".3f"),
    Column("to", "f1_interval.high", ".3f"),
    Column("shifted", "f1_shifted.mean", ".3f"),
    Column("95 % from", "f1_shifted.low", ".3f"),
    Column("to", "f1_shifted.high", ".3f"),
    Column("stuck", "stuck", "d"),
    Column("F1 with", "with_stuck.f1", ".3f"),
    Column("alarm %", "alarm_share", ".2f"),
)
CAUSAL = (
    Column("TP", "causal.tp", "d"),
    Column("FP", "causal.fp", "d"),
    Column("FN", "causal.fn", "d"),
    Column("P", "causal.precision", ".3f"),
    Column("R", "causal.recall", ".3f"),
    Column("F1", "causal.f1", ".3f"),
    Column("F0.5", "causal.f05", ".3f"),
    Column("delay", "causal.delay_steps_median", "g"),
    Column("FP/10k", "causal.false_per_10k", ".2f"),
)
SAMPLES = (
    Column("pt F1", "point_f1", ".3f"),
    Column("shifted", "point_f1_shifted.mean", ".3f"),
    Column("95 % from", "point_f1_shifted.low", ".3f"),
    Column("to", "point_f1_shifted.high", ".3f"),
    Column("FAR %", "far", ".2f"),
    Column("MAR %", "mar", ".2f"),
    Column("VUS-PR", "vus_pr", ".3f"),
    Column("bytes", "model_bytes", "d"),
    Column("µs", "us_per_sample", ".1f"),
)
TAIL = (
    Column("normal samples", "tail.samples", "d"),
    *(
        Column(f"predicted {100 / one_in:g} %", f"tail.{tail_check.key(one_in)}", ".2f")
        for one_in in tail_check.ONE_IN
    ),
)


def _some(columns: Sequence[Column], *keys: str) -> list[Column]:
    by_key = {column.key: column for column in columns}
    return [by_key[key] for key in keys]


CHANNEL = (
    *_some(PUBLISHED, "tp", "fp", "fn"),
    *(one._replace(title="causal TP") for one in _some(CAUSAL, "causal.tp")),
    *_some(CAUSAL, "causal.fp", "causal.fn", "causal.delay_steps_median"),
    *_some(PUBLISHED, "stuck", "alarm_share"),
    *_some(SAMPLES, "point_f1", "far", "mar", "vus_pr", "model_bytes", "us_per_sample"),
)
ENGINES = (
    Column("engines", "engines", "d"),
    Column("warned", "warned", "d"),
    Column("lead, median", "lead.median", "g"),
    Column("10 %", "lead.low", "g"),
    Column("90 %", "lead.high", "g"),
    Column("false alarms", "false", "d"),
    Column("in engines", "engines_false", "d"),
    Column("silent", "silent", "d"),
    Column("alarm %", "alarm_share", ".2f"),
)
BEARINGS = (
    Column("failing", "failing", "d"),
    Column("warned", "warned", "d"),
    Column("first right", "first_right", "d"),
    Column("healthy: before", "before", "d"),
    Column("in all", "false", "d"),
    Column("alarm %", "alarm_share", ".2f"),
)
TESTS = tuple(
    Column(title, f"tests.{test}.{key}", form)
    for test, failed in FAILED.items()
    for title, key, form in (
        (f"{test}: first", "first", ""),
        ("days left", "first_days", ".2f"),
        *((f"bearing {bearing}", f"failing_days.{bearing}", ".2f") for bearing in failed),
    )
)
LIFE = (
    Column("fails", "fails", "d"),
    Column("alarms", "alarms", "d"),
    Column("first, steps before the end", "first_lead", "d"),
    Column("alarm %", "alarm_share", ".2f"),
)


class Look(NamedTuple):
    """The tables of one style of benchmark."""

    totals: Mapping[str, Sequence[Column]]  # by title
    channel: Sequence[Column]
    over_seeds: Sequence[str]


LOOKS: Final[Mapping[Style, Look]] = {
    "events": Look(
        {"published": PUBLISHED, "causal": CAUSAL, "samples, cost": SAMPLES, "tail, %": TAIL},
        CHANNEL,
        ("tp", "fp", "fn", "f1", "causal.f1", "alarm_share", "point_f1"),
    ),
    "engines": Look(
        {"engines": ENGINES, "tail, %": TAIL},
        LIFE,
        ("warned", "lead.median", "false", "engines_false", "silent", "alarm_share"),
    ),
    "bearings": Look(
        {"bearings": BEARINGS, "tests": TESTS, "tail, %": TAIL},
        LIFE,
        ("warned", "first_right", "before", "false", "alarm_share"),
    ),
}


def lines(document: Mapping[str, Any], style: Style = "events") -> Iterator[str]:
    """Yield the totals of all detectors, then the quantized network's figures per channel."""
    if document["quantized"]["total"] is None:
        return
    look = LOOKS[style]
    for title, columns in look.totals.items():
        yield from text(
            [title, *(column.title for column in columns)],
            ([name, *cells(document[name]["total"], columns)] for name in NAMES),
        )
        yield ""
    channels = document["quantized"]["channels"].items()
    yield from text(
        ["quantized", *(column.title for column in look.channel)],
        ([name, *cells(metrics, look.channel)] for name, metrics in channels),
    )


def seeds(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of every seed, and mean ± standard deviation if there are several."""
    several = len(document["seeds"]) > 1
    for seed, found in document["seeds"].items():
        if several:
            yield f"seed {seed}"
        yield from lines(found, document["style"])
        if several:
            yield ""
    if several:
        keys = LOOKS[document["style"]].over_seeds
        yield from text(
            [f"{len(document['seeds'])} seeds", *keys],
            (
                [name, *(_spread(found.get(key)) for key in keys)]
                for name, found in document["over_seeds"].items()
            ),
        )
    if "remaining_life" in document:
        yield ""
        yield from text(
            ["remaining life", "RMSE, cycles", "Saxena's score"],
            (
                [name, format(found["rmse"], ".1f"), format(found["score"], ".0f")]
                for name, found in document["remaining_life"].items()
            ),
        )


def cells(metrics: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    """Return the figures of one row, as text."""
    return [_cell(metrics, column) for column in columns]


def text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table; the first column is left-aligned, the others are right-aligned."""
    table = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[0] = max(widths[0], _NAME_WIDTH)
    for row in table:
        yield _line(row, widths)


def _cell(metrics: Mapping[str, Any], column: Column) -> str:
    value: Any = metrics
    for key in column.key.split("."):
        value = None if value is None else value.get(key)
    return "–" if value is None else format(value, column.form)


def _spread(found: Mapping[str, float] | None) -> str:
    return "–" if found is None else f"{found['mean']:.3f} ± {found['sd']:.3f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = row
    aligned = (cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))
    return "  ".join([name.ljust(widths[0]), *aligned])
