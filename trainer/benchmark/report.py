"""The benchmark's report: the totals, every channel's figures, and a plot of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer import pages
from trainer.benchmark import figures, tables
from trainer.benchmark.counts import count_causal
from trainer.benchmark.document import HEADLINE, NAMES
from trainer.benchmark.outcome import Outcome, WorkDirectory
from trainer.benchmark.runs import Run


def write(document: Mapping[str, Any], run: Run, path: Path) -> None:
    """Write the report of a benchmark.

    Args:
        document: of all seeds.
        run: of the first seed; its curves are drawn.
        path: of the page.

    """
    title = f"Benchmark {document['benchmark']}"
    path.parent.mkdir(parents=True, exist_ok=True)
    pages.write(path, title, _body(title, document, run))


def _body(title: str, document: Mapping[str, Any], run: Run) -> Iterator[str]:
    yield f"<h1>{pages.text(title)}</h1>"
    yield f'<p class="lead">{pages.text(document["protocol"])}</p>'
    for seed, found in document["seeds"].items():
        yield f"<h2>Seed {pages.text(seed)}</h2>"
        if found["failed"]:
            yield "<h3>Failed</h3>"
            yield pages.table(("channel", "reason"), found["failed"].items())
        if found["quantized"]["total"] is not None:
            yield from _figures(found)
    outcomes = run.in_order()
    if outcomes:
        yield "<h2>What happened, first seed</h2>"
        for outcome in outcomes:
            yield from _plot(outcome, run.work)
    yield "<h2>Where it comes from</h2>"
    yield pages.table(("", ""), document["software"].items())


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    yield "<h3>All channels together</h3>"
    for title, columns in tables.TOTALS.items():
        yield _table(title, columns, ((name, found[name]["total"]) for name in NAMES))
    yield "<h3>Each channel, quantized network</h3>"
    yield _table("channel", tables.CHANNEL, found["quantized"]["channels"].items())


def _table(
    title: str, columns: Sequence[tables.Column], rows: Iterable[tuple[str, Mapping[str, Any]]]
) -> str:
    header = (title, *(column.title for column in columns))
    return pages.table(header, ((name, *tables.cells(metrics, columns)) for name, metrics in rows))


def _plot(outcome: Outcome, work: WorkDirectory) -> Iterator[str]:
    curves = work.curves(outcome.name)
    alarms = outcome.detectors["quantized"].of(HEADLINE)
    events = count_causal(alarms, outcome.rows, outcome.steps)
    yield f"<h3>{pages.text(outcome.name)}</h3>"
    yield (
        f'<p class="quiet">{events.tp} of {len(outcome.labels)} labelled sequences found,'
        f" {events.fp} false; quantization: {pages.text(outcome.quantization)}</p>"
    )
    if curves is None:
        yield f'<p class="quiet">Its curves are missing in {pages.text(work.path)}.</p>'
        return
    drawn = figures.channel(outcome, curves)
    yield pages.image(drawn, f"signal, error, labels and detections of {outcome.name}")
