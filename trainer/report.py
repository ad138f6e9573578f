"""Writes the report beside a bundle: one self-contained HTML file.

It begins with the verdict, the faults found, the delays and the false events. Then come the
figures, and at the end the origin of the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.manifest import Code, DataUsed, Feature, Manifest
from models.shown import shown
from trainer import figures, gates, pages
from trainer.detector import score_tail
from trainer.evaluate import Judged, Judgement


def write(bundle: Bundle, judged: Judgement, sections: Iterable[str], path: Path) -> None:
    """Write the report of a sealed bundle to ``path``; ``sections`` (HTML) are its family's."""
    manifest = bundle.manifest
    title = f"{manifest.name}, version {manifest.version}"
    body = [
        f"<h1>{pages.text(title)}</h1>",
        f'<p class="quiet">{pages.text(manifest.created)} · digest {bundle.digest}</p>',
        f'<p class="lead">{pages.text(summary(manifest.metrics))}</p>',
        *_verdict(manifest.metrics["verdict"]),
        *_found(manifest.metrics, judged),
        *(_tail(manifest) if manifest.tail is not None else []),
        *_forecast(manifest, judged),
        *(_features(manifest) if manifest.sources else []),
        *sections,
        *_measured_on(manifest.metrics.get("measured_on"), manifest.metrics),
        *_data(manifest.metrics["data"]),
        *_lineage(manifest),
    ]
    pages.write(path, title, body)


def summary(metrics: dict[str, Any]) -> str:
    """Return a summary of the metrics in some sentences; the verdict is the first."""
    return f"{gates.summary(metrics['verdict'])} {_found_in_short(metrics)}"


def _found_in_short(metrics: dict[str, Any]) -> str:
    normal, labelled = metrics["normal"], metrics.get("labelled")
    sentences = [
        f"{normal['days'] * 24:.1f} h of normal operation outside the training data:"
        f" {_count(normal['events'], 'event')}, highest score {shown(normal['score_max'], '.2f')}"
        " (1 is the threshold)."
    ]
    if labelled is None:
        return sentences[0] + " There are no labelled recordings of faults."
    labels = labelled["true_positives"] + labelled["false_negatives"]
    sentences.append(
        f"Labelled recordings: {labelled['true_positives']} of {_count(labels, 'fault')} found,"
        f" {_count(labelled['false_positives'], 'false event')}."
    )
    return " ".join(sentences)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _verdict(verdict: dict[str, Any]) -> Iterable[str]:
    yield "<h2>Verdict</h2>"
    yield "<p>Measured with the sealed file on the test part, to which nothing was fitted.</p>"
    yield pages.table(
        ("gate", "found", "at most", "result", "what to do"),
        (
            (
                row["what"],
                "not measured" if row["found"] is None else f"{row['found']:.3g}",
                f"{row['limit']:g}",
                "passes" if row["passed"] else "fails",
                "" if row["passed"] else row["advice"],
            )
            for row in verdict["gates"]
        ),
    )


def _found(metrics: dict[str, Any], judged: Judgement) -> Iterable[str]:
    labelled = metrics.get("labelled")
    if labelled:
        yield "<h2>Faults found</h2>"
        yield pages.table(
            ("fault", "labelled", "found", "delay, median", "delay, longest"),
            (
                (
                    kind,
                    row["labels"],
                    row["found"],
                    _s(row["delay_s_median"]),
                    _s(row["delay_s_max"]),
                )
                for kind, row in labelled["kinds"].items()
            ),
        )
        yield pages.table(
            ("precision", "recall", "F1"),
            [tuple(pages.or_dash(labelled[name]) for name in ("precision", "recall", "f1"))],
        )
    yield "<h2>Score against threshold</h2>"
    for recording in (judged.normal, *judged.labelled):
        yield _score(recording)


def _score(recording: Judged) -> str:
    return f"<h3>{pages.text(recording.name)}</h3>" + pages.image(
        figures.score(recording), f"score over time, {recording.name}"
    )


def _tail(manifest: Manifest) -> Iterable[str]:
    tail = manifest.metrics["tail"]
    yield "<h2>Are the probabilities of scores right?</h2>"
    yield (
        "<p>Every score has a probability: how often normal operation exceeds it. The calibration"
        " part sets it. This table checks it on the test part, to which nothing was fitted.</p>"
    )
    yield pages.table(
        ("predicted share of exceedances", *(shown(share, "g") for share in tail["predicted"])),
        [("observed share", *(shown(share, "g") for share in tail["observed"]))],
    )
    if any(tail["observed"]):
        yield pages.image(
            figures.exceedance(tail["predicted"], tail["observed"]),
            "observed share of exceedances against the predicted one",
        )
    for warning in score_tail.warnings(manifest):
        yield f"<p>Warning: {pages.text(warning)}.</p>"


def _forecast(manifest: Manifest, judged: Judgement) -> Iterable[str]:
    yield "<h2>Forecast, one sample ahead</h2>"
    yield pages.table(
        (
            "channel",
            "unit",
            "mean absolute error",
            "that of repeating the last value",
            "MAPE %",
            "R²",
        ),
        (
            (
                name,
                row["unit"],
                *(pages.or_dash(row.get(key)) for key in ("mae", "last_value_mae", "mape", "r2")),
            )
            for name, row in manifest.metrics["forecast"].items()
        ),
    )
    yield pages.image(
        figures.forecasts(judged.normal, manifest.channels), "observed and expected, per channel"
    )


def _features(manifest: Manifest) -> Iterable[str]:
    yield "<h2>Signal features</h2>"
    yield "<p>Computed once per period of the grid, here as on gateways.</p>"
    yield pages.table(
        ("source", "unit", "values per second", "window", "may be missing"),
        (
            (
                source.name,
                source.unit,
                f"{source.rate_hz:g}",
                f"{source.window_samples} ({source.window_samples / source.rate_hz:.3g} s)",
                f"{100 * source.missing_share_max:g} %",
            )
            for source in manifest.sources
        ),
    )
    yield pages.table(
        ("channel", "unit", "source", "feature"),
        (
            (channel.name, channel.unit, feature.source, _what(feature))
            for channel in manifest.channels
            if (feature := channel.feature) is not None
        ),
    )


def _what(feature: Feature) -> str:
    name = feature.kind.replace("_", " ")
    if feature.samples is not None:
        name += f" of {feature.samples}"
    return (
        name if feature.low_hz is None else f"{name}, {feature.low_hz:g} to {feature.high_hz:g} Hz"
    )


def _measured_on(parts: Mapping[str, str] | None, metrics: Mapping[str, Any]) -> Iterable[str]:
    """Yield which part each table of the metrics comes from; older bundles do not say it."""
    if parts is not None:
        yield "<h2>Which part the figures come from</h2>"
        rows = [(name, part) for name, part in parts.items() if name in metrics]
        yield pages.table(("figures", "part"), rows)


def _data(data: dict[str, Any]) -> Iterable[str]:
    yield "<h2>Recordings</h2>"
    yield pages.table(
        ("recording", "rows", "values out of range", "not used"),
        (
            (row["name"], f"{row['rows']:,}", row["out_of_range"], causes(row["rejected"]))
            for row in data["recordings"]
        ),
    )
    if data["rejected"]:
        yield f"<p>Not put on the grid: {pages.text(causes(data['rejected']))}.</p>"
    yield from (f"<p>{pages.text(remark)}.</p>" for remark in data["remarks"])
    yield from changed(data.get("steps", ()))
    if "labels" in data:
        yield from _cuts(data["labels"])


def changed(steps: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Yield the table of what each step of the preparation touched; nothing for older bundles."""
    if not steps:
        return
    yield "<h2>What the preparation changed</h2>"
    yield pages.table(
        ("step", "touched", "", "by channel"),
        (
            (step["what"], f"{step['touched']:,}", step["unit"], _by_channel(step["channels"]))
            for step in steps
        ),
    )


def _by_channel(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "–"


def _cuts(cuts: dict[str, Any]) -> Iterable[str]:
    yield "<h2>What labels cut out of the recordings</h2>"
    yield pages.table(
        ("label", "kind", "from", "to", "samples"),
        (
            (row["label"], row["kind"], row["from"], row["to"], f"{row['samples']:,}")
            for row in cuts["cuts"]
        ),
    )
    told = (
        f"{cuts['removed']:,} samples were cut out, with {cuts['margin_s']:g} s around each label;"
        f" {cuts['remaining']:,} remain. False alarms that stay in: {cuts['false_alarms']}. The"
        f" labels are those of {cuts['labels']}."
    )
    yield f"<p>{pages.text(told)}</p>"


def causes(counts: Mapping[str, int]) -> str:
    """Return counts by cause as a text; – if there is none."""
    told = (f"{count} {cause.replace('_', ' ')}" for cause, count in counts.items())
    return ", ".join(told) or "–"


def _lineage(manifest: Manifest) -> Iterable[str]:
    lineage = manifest.lineage
    yield "<h2>Origin</h2>"
    yield pages.table(
        ("part", "from", "to", "samples"),
        ((name, *extent) for name, extent in lineage.parts.items()),
    )
    if (gap := manifest.metrics["data"].get("gap_samples")) is not None:
        yield (
            f"<p>Between two parts are {gap:,} samples that belong to neither. No part and no"
            " labelled recording repeats a long stretch of what the bundle has learnt from.</p>"
        )
    if lineage.data is not None:
        yield from _used(lineage.data)
    yield pages.table(
        ("", ""),
        (
            ("recordings", ", ".join(lineage.data_files)),
            ("sha256 of the recordings", lineage.data_digest),
            ("sha256 of the configuration", lineage.config_digest),
            *((f"seed of {table}", seed) for table, seed in lineage.seeds.items()),
            *_code(lineage.code),
            *lineage.software.items(),
        ),
    )


def _used(data: DataUsed) -> Iterable[str]:
    yield "<h3>The data that was used</h3>"
    yield (
        "<p>The digests are of the values as they were recorded. They are the same for any file"
        f" format. The digest of all is {data.digest}.</p>"
    )
    yield pages.table(
        ("readings", "rows", "from", "to", "digest, its beginning"),
        (
            (name, f"{part.rows:,}", part.first, part.last, part.digest[:12])
            for name, part in (*data.parts.items(), *data.channels.items())
        ),
    )
    tracked = [(source.name, source.dvc) for source in data.sources if source.dvc is not None]
    if tracked:
        yield pages.table(("recording", "tracked by DVC as"), tracked)


def _code(code: Code | None) -> Iterable[tuple[str, str]]:
    if code is not None and code.commit is not None:
        yield "commit of the code", f"{code.commit}{' with changes' if code.dirty else ''}"


def _s(seconds: float | None) -> str:
    return "–" if seconds is None else f"{shown(seconds, '.1f')} s"
