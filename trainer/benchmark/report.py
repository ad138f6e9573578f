"""The benchmark's report: the totals, every channel's figures, and a plot of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trainer import pages
from trainer.benchmark import figures, lives, tables
from trainer.benchmark.counts import count_causal
from trainer.benchmark.document import NAMES, Style
from trainer.benchmark.outcome import HEADLINE, Outcome, Watched, WorkDirectory
from trainer.benchmark.runs import Run

PLOTS_MAX: Final = 60


def write(document: Mapping[str, Any], run: Run, path: Path) -> None:
    """Write the report of a benchmark.

    Args:
        document: figures of all seeds.
        run: run of the first seed, whose curves are drawn.
        path: file of the page.

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
            yield from _figures(found, tables.LOOKS[document["style"]])
    outcomes = run.in_order()
    if outcomes:
        yield "<h2>What happened, first seed</h2>"
        yield from plots(outcomes if len(outcomes) <= PLOTS_MAX else wrong(run), run.work)
    if "remaining_life" in document:
        yield "<h2>Remaining life, test engines</h2>"
        yield pages.table(
            ("", "RMSE, cycles", "Saxena's score"),
            ((name, *found.values()) for name, found in document["remaining_life"].items()),
        )
    yield "<h2>Where it comes from</h2>"
    yield pages.table(("", ""), document["software"].items())


def plots(outcomes: Sequence[Outcome], work: WorkDirectory) -> Iterator[str]:
    """Yield a plot of each outcome, at most ``PLOTS_MAX`` in total."""
    for outcome in outcomes[:PLOTS_MAX]:
        yield from _plot(outcome, work)
    if len(outcomes) > PLOTS_MAX:
        yield f"<p>{len(outcomes) - PLOTS_MAX} more are not drawn.</p>"


def wrong(run: Run) -> list[Outcome]:
    """Return the outcomes with a missed label or a false alarm of the quantized network."""
    return [each for each in run.in_order() if is_wrong(each, run.benchmark.style)]


def is_wrong(outcome: Outcome, style: Style) -> bool:
    """Return whether the quantized network missed a label or raised a false alarm."""
    judged = outcome.detectors["quantized"]
    if style == "events":
        counts = count_causal(judged.of(HEADLINE), outcome.rows, outcome.steps)
        return counts.fp + counts.fn > 0
    if style == "engines":
        figures = lives.engines([Watched(outcome, judged)])
        return not figures["warned"] or figures["false"] > 0
    return bool(judged.of(HEADLINE)) is not outcome.fails


def _figures(found: Mapping[str, Any], look: tables.Look) -> Iterator[str]:
    yield "<h3>All channels together</h3>"
    for title, columns in look.totals.items():
        yield _table(title, columns, ((name, found[name]["total"]) for name in NAMES))
    yield "<h3>Each channel, quantized network</h3>"
    yield _table("channel", look.channel, found["quantized"]["channels"].items())


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
