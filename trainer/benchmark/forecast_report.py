"""The page of the forecasting benchmark: figures, fan charts with actual values, coverage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer import pages
from trainer.benchmark.forecasting import Outcome
from trainer.forecast import report


def write(
    document: Mapping[str, Any], outcomes: Sequence[Outcome], channels: Sequence[str], path: Path
) -> None:
    """Write the page."""
    pages.write(path, f"Forecasts of {document['file']}", _body(document, outcomes, channels))


def _body(
    document: Mapping[str, Any], outcomes: Sequence[Outcome], channels: Sequence[str]
) -> Iterator[str]:
    yield f"<h1>Forecasts of {document['file']}</h1>"
    yield f'<p class="quiet">{document["protocol"]}</p>'
    for outcome in outcomes:
        yield f"<h2>{outcome.horizon} steps ahead</h2>"
        yield report.table(outcome.figures)
        yield _before(outcome)
        yield from report.evidence(outcome.trained)
        yield from report.drawings(outcome.by_lead, outcome.fans, channels)
    yield "<h2>Where it comes from</h2>"
    software = document["software"].items()
    yield pages.table(
        ("", ""),
        (
            ("sha256 of the file", document["sha256"]),
            ("sha256 of the configuration", document["config_digest"]),
            ("seed", document["seed"]),
            *software,
        ),
    )


def _before(outcome: Outcome) -> str:
    before = outcome.figures["quantized"]["before_adaptation"]
    return (
        "<p>Without adaptation on the gateway the intervals of the quantized form would cover"
        f" {before['coverage_80']:.1%} and {before['coverage_95']:.1%}.</p>"
    )
