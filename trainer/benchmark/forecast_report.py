"""The forecasting benchmark as a page: figures, fans over what came, coverage by lead time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer import pages
from trainer.benchmark.forecasting import Outcome
from trainer.forecast import figures

_COLUMNS = (
    ("MSE", "mse", ".4f"),
    ("MAE", "mae", ".4f"),
    ("RMSE", "rmse", ".4f"),
    ("MASE", "mase", ".3f"),
    ("sMAPE %", "smape", ".1f"),
    ("pinball", "pinball", ".4f"),
    ("80 % covers", "coverage_80", ".1%"),
    ("95 % covers", "coverage_95", ".1%"),
    ("width of 80 %", "width_80", ".3f"),
    ("bytes", "model_bytes", ",d"),
    ("ms per forecast", "ms_per_forecast", ".2f"),
)


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
        yield pages.table(("", *(title for title, _, _ in _COLUMNS)), _rows(outcome))
        yield _before(outcome)
        yield pages.image(
            figures.coverage_by_lead(outcome.by_lead), "coverage of the intervals by lead time"
        )
        yield pages.image(figures.error_by_lead(outcome.by_lead), "squared error by lead time")
        for told in outcome.fans:
            yield pages.image(
                figures.fans(told, channels),
                "forecast fans over what came",
            )
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


def _rows(outcome: Outcome) -> Iterable[Sequence[object]]:
    for name, row in outcome.figures.items():
        cells = (format(row[key], form) if key in row else "–" for _, key, form in _COLUMNS)
        yield name.replace("_", " "), *cells


def _before(outcome: Outcome) -> str:
    before = outcome.figures["quantized"]["before_adaptation"]
    return (
        "<p>Without adaptation on the gateway the intervals of the quantized network would cover"
        f" {before['coverage_80']:.1%} and {before['coverage_95']:.1%}.</p>"
    )
