"""The benchmark's report: the totals, every channel's figures, and a plot of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer import pages
from trainer.benchmark import figures, tables
from trainer.benchmark.outcome import DETECTORS, Outcome, WorkDirectory


def write(
    document: Mapping[str, Any], outcomes: Sequence[Outcome], work: WorkDirectory, path: Path
) -> None:
    """Write the report of a run; the curves of the plots lie in ``work``."""
    title = f"Benchmark {document['benchmark']}: {len(outcomes)} channels"
    path.parent.mkdir(parents=True, exist_ok=True)
    pages.write(path, title, _body(title, document, outcomes, work))


def _body(
    title: str, document: Mapping[str, Any], outcomes: Sequence[Outcome], work: WorkDirectory
) -> Iterator[str]:
    yield f"<h1>{pages.text(title)}</h1>"
    yield f'<p class="lead">{pages.text(document["protocol"])}</p>'
    if document["failed"]:
        yield "<h2>Failed</h2>"
        yield pages.table(("channel", "reason"), document["failed"].items())
    if outcomes:
        yield "<h2>All channels together</h2>"
        yield _table("detector", ((name, document[name]["total"]) for name in DETECTORS))
        yield "<h2>Each channel, quantized network</h2>"
        yield _table("channel", document["quantized"]["channels"].items())
        yield "<h2>What happened</h2>"
        for outcome in outcomes:
            yield from _plot(outcome, work)
    yield "<h2>Where it comes from</h2>"
    yield pages.table(("", ""), _origin(document))


def _table(title: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    header = (title, *(column.title for column in tables.COLUMNS))
    return pages.table(header, ((name, *tables.cells(metrics)) for name, metrics in rows))


def _plot(outcome: Outcome, work: WorkDirectory) -> Iterator[str]:
    curves = work.curves(outcome.name)
    events = outcome.detectors["quantized"].events
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


def _origin(document: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "sha256 of the configuration", document["config_digest"]
    yield "seed", document["seed"]
    yield from document["software"].items()
