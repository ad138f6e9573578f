"""The sections of a report that only bundles with a network have: the network and its parity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from models.bundle import Bundle
from models.manifest import TelemanomManifest
from models.shown import shown
from trainer import figures, pages
from trainer.epochs import Epoch
from trainer.forecast import report as forecast_report
from trainer.forecast.bundle import Foretold


def sections(bundle: Bundle, epochs: Sequence[Epoch], foretold: Foretold | None) -> Iterator[str]:
    """Yield the sections, HTML, of a sealed bundle; ``foretold`` is for its forecaster."""
    manifest = bundle.telemanom
    yield from _network(manifest, epochs)
    yield from _quantization(manifest.metrics)
    yield from _parity(manifest.metrics)
    if foretold is not None:
        yield from forecast_report.section(foretold)
    yield from _remaining(manifest.metrics)


def _network(manifest: TelemanomManifest, epochs: Sequence[Epoch]) -> Iterable[str]:
    network, fit = manifest.metrics["network"], manifest.metrics["fit"]
    yield "<h2>Network and training</h2>"
    yield pages.table(
        ("", ""),
        (
            ("LSTM cells per layer", ", ".join(map(str, manifest.network.layers))),
            ("heads", ", ".join(manifest.network.heads)),
            ("quantization", manifest.network.quantization),
            ("file, float file", f"{network['size_bytes']:,} B, {network['float_size_bytes']:,} B"),
            ("weights as 8-bit integers", f"{network['integer_weights']:,}"),
            ("weights as floats", f"{network['float_weights']:,}"),
            ("operators, all builtin", ", ".join(network["operators"])),
            ("epochs, epoch kept", f"{fit['epochs']}, {fit['best_epoch']}"),
            ("seconds", f"{sum(epoch.seconds for epoch in epochs):.0f}"),
        ),
    )
    yield pages.image(figures.training_curve(epochs), "loss over epochs")


def _quantization(metrics: dict[str, Any]) -> Iterable[str]:
    yield "<h2>How the network is stored</h2>"
    yield (
        "<p>Every form scored the calibration part, unchanged and with added disturbances, and was"
        " compared with float32. The smallest form that passed ships. It is the first.</p>"
    )
    yield pages.table(
        ("form", "bytes", "µs per step", "change", "between interpreters", "same events", "result"),
        (
            (
                row["quantization"],
                "–" if row["size_bytes"] is None else f"{row['size_bytes']:,}",
                pages.or_dash(row["step_us"]),
                shown(row["change"], ".2g", absent="–"),
                shown(row["interpreter_change"], ".2g", absent="–"),
                row["events"] or "–",
                "passes" if row["passed"] else f"fails: {row['reason']}",
            )
            for row in metrics["quantization"]
        ),
    )


def _parity(metrics: dict[str, Any]) -> Iterable[str]:
    yield "<h2>Are the scores the same everywhere?</h2>"
    yield (
        "<p>The largest change of a score, |a − b| / (1 + |b|), by quantization (against the float"
        " network, on LiteRT) and by another interpreter (against LiteRT).</p>"
    )
    yield pages.table(
        (
            "change",
            "network",
            "interpreter",
            "in the test part",
            "in faults",
            "same events, to the sample",
        ),
        (
            (
                row["change"],
                row["network"],
                row["runtime"],
                f"{row['difference']:.2g}",
                f"{row['difference_in_faults']:.2g}",
                f"in {row['identical']} of {row['recordings']} recordings",
            )
            for row in metrics["parity"]
        ),
    )
    if not any(row["change"] == "interpreter" for row in metrics["parity"]):
        yield "<p>Only LiteRT was checked, as no Python with tflite-runtime was given.</p>"


def _remaining(metrics: dict[str, Any]) -> Iterable[str]:
    """Yield the section about the remaining life, if the bundle predicts it."""
    if (found := metrics.get("remaining")) is None:
        return
    yield "<h2>Remaining life</h2>"
    rmse, constant, unit = found["rmse"], found["rmse_constant"], pages.text(found["unit"])
    yield (
        f"<p>From {found['lives']} machines that ran until they failed. On machines that the fit"
        f" had not seen, the root mean squared error is {rmse:.3g} {unit}; a constant has"
        f" {constant:.3g} {unit}.</p>"
    )
