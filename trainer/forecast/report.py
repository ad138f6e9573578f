"""The evaluation of a forecaster for people: its table, its charts, its section of a report."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.shown import shown
from trainer import pages
from trainer.forecast import figures
from trainer.forecast.evaluate import Told

if TYPE_CHECKING:
    from trainer.forecast.bundle import Foretold

_COLUMNS = (
    ("MSE", "mse", ".4f"),
    ("MAE", "mae", ".4f"),
    ("RMSE", "rmse", ".4f"),
    ("MASE", "mase", ".3f"),
    ("sMAPE %", "smape", ".1f"),
    ("MAPE %", "mape", ".1f"),
    ("R²", "r2", ".3f"),
    ("pinball", "pinball", ".4f"),
    ("80 % covers", "coverage_80", ".1%"),
    ("95 % covers", "coverage_95", ".1%"),
    ("width of 80 %", "width_80", ".3f"),
    ("in naive errors", "scaled_width_80", ".2f"),
    ("bytes", "model_bytes", ",.0f"),
    ("ms per forecast", "ms_per_forecast", ".2f"),
)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the figures of several forecasters; a dash marks a missing figure."""
    return pages.table(("", *(title for title, _, _ in _COLUMNS)), _rows(found))


def _rows(found: Mapping[str, Mapping[str, Any]]) -> Iterable[Sequence[object]]:
    for name, row in found.items():
        cells = (shown(row.get(key), form, absent="–") for _, key, form in _COLUMNS)
        yield name.replace("_", " "), *cells


def drawings(
    by_lead: figures.Leads, fans: Sequence[Told], channels: Sequence[str]
) -> Iterator[str]:
    """Yield charts of coverage and error by lead time, and fan charts with actual values."""
    yield pages.image(figures.coverage_by_lead(by_lead), "coverage of the intervals by lead time")
    yield pages.image(figures.error_by_lead(by_lead), "squared error by lead time")
    for told in fans:
        yield pages.image(figures.fans(told, channels), "forecast fans over what came")


def evidence(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the chosen forecaster and the reasons, from the metrics of its training."""
    choice, network = metrics["choice"], metrics["network"]
    yield "<h3>How it was chosen</h3>"
    weights = ", ".join(f"{weight:g} of {name}" for name, weight in choice["weights"].items())
    yield (
        "<p>Every candidate was fitted before each origin and judged after it. The figures are"
        " squared errors, as fractions of that of the last season repeated (without a season: the"
        f" last value). In closed form ships: {weights}.</p>"
    )
    errors = dict(choice["errors"])
    if network is not None and network["closed"]:
        errors["network on top"] = network["network"]
    count = max(map(len, errors.values()))
    yield pages.table(
        ("candidate", *(f"origin {number}" for number in range(1, count + 1)), "mean"),
        (_errors(name, values, count) for name, values in errors.items()),
    )
    if network is not None:
        yield (
            f"<p>The network gains {network['gain']:.4f} at the origins where it was tried, with a"
            f" standard error of {network['standard_error']:.4f}{_plainly(network)}. It"
            f" {'ships' if network['ships'] else 'does not ship'}.</p>"
        )


def _plainly(network: Mapping[str, Any]) -> str:
    gain = network.get("plain_gain")  # bundles of earlier versions have none
    return "" if gain is None else f", and {gain:.4f} in windows without added trends"


def commands(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield what each channel that is not scored is worth as an input, if there are any."""
    for told in metrics.get("left_out", ()):
        yield f"<p>{html.escape(told[:1].upper() + told[1:])}.</p>"
    found = metrics["commands"]
    if found is None:
        return
    yield "<h3>Commands</h3>"
    yield (
        "<p>What a command was corrects every forecast, what it will be only forecasts with a plan"
        " of it. A gain is the squared error that it saves at the origins, as above. What gains"
        " enough alone ships if it gains enough on top of better ones, too.</p>"
    )
    yield pages.table(
        ("command", "", "gain", "standard error", "result"),
        (
            _gain(name, what, trial, name in found[part]["chosen"])
            for part, what in (("history", "what it was"), ("plan", "what it will be"))
            for name, trial in found[part]["alone"].items()
        ),
    )


def _gain(name: str, what: str, trial: Mapping[str, Any], ships: bool) -> Sequence[object]:
    figures = (f"{trial[key]:.4f}" for key in ("gain", "standard_error"))
    return name, what, *figures, "ships" if ships else "does not ship"


def _errors(name: str, values: Sequence[float], count: int) -> Sequence[object]:
    """Return a row; values for fewer origins belong to the last origins."""
    cells = ["–"] * (count - len(values)) + [f"{value:.4f}" for value in values]
    return [name, *cells, f"{sum(values) / len(values):.4f}"]


def section(foretold: Foretold) -> Iterator[str]:
    """Yield the forecaster's section of a bundle's report."""
    metrics = foretold.metrics
    yield "<h2>What is forecast, and how well</h2>"
    yield (
        "<p>On the test part, in standard deviations of the channels; steps of"
        f" {metrics['step_s']:g} s. A forecaster that does not beat the last value has learnt"
        " little.</p>"
    )
    yield table(metrics["accuracy"])
    yield pages.table(
        ("channel", "mean absolute error", "80 % covers", "95 % covers"),
        (
            (name, row["mae"], shown(row["coverage_80"], ".1%"), shown(row["coverage_95"], ".1%"))
            for name, row in metrics["channels"].items()
        ),
    )
    quantiles = metrics["quantiles"].items()
    yield pages.table(
        ("quantile", "actual values at or below it"),
        ((level, shown(share, ".1%")) for level, share in quantiles),
    )
    yield from drawings(foretold.by_lead, foretold.fans, foretold.channels)
    yield from evidence(metrics)
    yield from commands(metrics)
    yield "<h3>How it is stored</h3>"
    yield pages.table(
        ("form", "bytes", "ms per window", "squared error grows", "between interpreters", "result"),
        map(_trial, metrics["quantization"]),
    )


def _trial(trial: Mapping[str, Any]) -> Sequence[object]:
    forms = {
        "size_bytes": ",.0f",
        "window_ms": "g",
        "error_change": ".2%",
        "interpreter_change": ".2g",
    }
    cells = [shown(trial[key], form, absent="–") for key, form in forms.items()]
    verdict = "passes" if trial["passed"] else f"fails: {trial['reason']}"
    return [trial["quantization"], *cells, verdict]
