"""Evaluates a sealed bundle: its predictions, and its events against labels.

``models.families`` opens and runs the sealed file as on a gateway. The bundle does not change, and
no setting depends on the labels.

Events are counted as Telemanom counts them, without point adjustment. A label in which an event
opens is one true positive. A label without an event is a false negative. An event that opens
outside all labels is a false positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from models import bundle as bundles
from models.bundle import Bundle
from models.columns import Sought, of_bundle
from models.detector import DetectorOf, M, Result
from models.errors import DataError
from models.families import detector_of
from models.formats.recording import Layout
from models.manifest import Channel, Manifest, Tail
from models.messages import Event, Float32, Samples
from trainer.config import LABELS_SUFFIX, EvaluateTable
from trainer.datasets import FALSE, Label, Recording
from trainer.datasets.labels import read_labels
from trainer.datasets.raw import Ranged
from trainer.datasets.recordings import LAYOUT as LAYOUT
from trainer.datasets.recordings import labels_path, read_recording
from trainer.detector import score_tail
from trainer.forecast import evaluate as forecasts
from trainer.prepare import Grid, Parts, align, parts_of

DAY_S = 86400.0
SEALED_LATER = ("mape", "r2")  # metrics that older bundles do not have
_ACTUAL_MIN = 0.01  # of a channel's scale: the least denominator of MAPE


class Labelled(NamedTuple):
    """A recording on the sampling grid, with its known faults."""

    name: str
    samples: Samples
    labels: Sequence[Label]
    recording: Recording | None = None  # that the samples were made of


class Detection(NamedTuple):
    """A label and the first event that opened in it."""

    label: Label
    event: Event | None

    @property
    def delay_s(self) -> float | None:
        """Seconds from the fault's start to the event's opening."""
        return None if self.event is None else self.event.opened - self.label.start


@dataclass(eq=False, frozen=True, slots=True)
class Judged:
    """The results of a bundle on one recording."""

    name: str
    samples: Samples
    result: Result
    events: list[Event]  # each once, in its last state
    detections: list[Detection]
    false: list[Event]  # those that opened outside all labels

    @property
    def scored_days(self) -> float:
        """Duration of the samples with a score, in days."""
        period_s = float(np.median(np.diff(self.samples.times)))
        return int(np.count_nonzero(~np.isnan(self.result.scores.score))) * period_s / DAY_S


class Judgement(NamedTuple):
    """The results on the test part, which has no faults, and on the labelled recordings."""

    normal: Judged
    labelled: list[Judged]


def read_labelled(
    path: Path,
    sought: Sought,
    channels: Sequence[Ranged],
    grid: Grid,
    layout: Layout = LAYOUT,
) -> Labelled:
    """Read a recording and the labels beside it.

    Raises:
        DataError: the recording or its labels cannot be read.

    """
    recording = read_recording(path, sought, channels, layout)
    samples, _ = align([recording], grid)
    return Labelled(path.stem, samples, read_labels(labels_path(path), layout), recording)


def evaluate(
    source: Path,
    recordings: Sequence[Path],
    labels: Path | None,
    time_column: str | None,
    grace_s: float,
    trained_on: Sequence[Path] = (),
    layout: Layout = LAYOUT,
    clock_column: str | None = None,
) -> dict[str, Any]:
    """Evaluate a sealed bundle on recordings; return the metrics, ready for JSON.

    Args:
        source: the bundle.
        recordings: CSV files with a column per channel of the bundle, named as in its training or
            like the channel. Features have a column per source instead.
        labels: the labels of a single recording; None: those of X.csv are in X.labels.csv. A
            recording without labels counts as free of faults.
        time_column: the time column of the recordings; None: that of the training, or ``time``.
        grace_s: seconds, see ``judge``.
        trained_on: all recordings that the bundle was trained on, in any order. Their test part
            is evaluated as in the training.
        layout: the format of the recordings.
        clock_column: the column of the time of day, if ``time_column`` has only the date.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: a recording or its labels cannot be read, a recording gets no score, or
            ``trained_on`` are not the recordings of the training.

    """
    bundle = bundles.read(source)
    detector, manifest = detector_of(bundle), bundle.manifest
    sought = of_bundle(manifest, time_column, clock_column)
    channels = manifest.source_channels
    judged = []
    for path in recordings:
        if path.name.endswith(LABELS_SUFFIX):  # X*.csv on a command line matches both
            continue
        beside = labels or labels_path(path)
        samples, _ = align([read_recording(path, sought, channels, layout)], Grid.of(manifest))
        marks = read_labels(beside, layout) if labels or beside.exists() else []
        judged.append(judge(detector, Labelled(path.stem, samples, marks), grace_s))
        _refuse_unscored(path, judged[-1], manifest)
    if recordings and not judged:
        raise DataError(f"{recordings[0]}: these are only labels; name a recording, too")
    figures: dict[str, Any] = {
        "bundle": bundle.digest,
        "evaluated_digest": bundle.evaluated_digest,
        "recordings": [recording_metrics(each) for each in judged],
        "labelled": label_metrics(judged),
    }
    if trained_on:
        learnt = [read_recording(path, sought, channels, layout) for path in trained_on]
        found = test_part_metrics(bundle, parts_of(learnt, manifest))
        figures |= {"test_part": found, "as_sealed": as_sealed(found, manifest.metrics)}
    return figures


def _refuse_unscored(path: Path, judged: Judged, manifest: Manifest) -> None:
    """Refuse a recording without any score: its zero events would look like a result."""
    if np.isnan(judged.result.scores.score).all():
        raise DataError(
            f"{path}: no sample gets a score. It has {len(judged.samples.times)} samples, but the"
            f" first {manifest.sampling.warm_up_samples} after a start or a gap get none: use a"
            " longer recording"
        )


def test_part_metrics(bundle: Bundle, parts: Parts) -> dict[str, Any]:
    """Return the metrics of a sealed bundle on the test part of its own recordings."""
    detector = detector_of(bundle)
    normal = judge(detector, Labelled("test part", parts.test, []), grace_s=0.0)
    found = metrics(Judgement(normal, []), bundle.manifest)
    if detector.forecaster is not None:
        found["forecaster"] = forecasts.judge(bundle, parts).metrics
    return found


def as_sealed(found: Any, sealed: Any) -> bool:
    """Whether metrics are equal, bit for bit, to those of a bundle, which may have more.

    Metrics of ``SEALED_LATER`` may be missing there.
    """
    if isinstance(found, dict):
        return isinstance(sealed, dict) and all(
            as_sealed(value, sealed[key]) if key in sealed else key in SEALED_LATER
            for key, value in found.items()
        )
    return bool(found == sealed)


def judge_all(
    bundle: Bundle, test: Samples, labelled: Sequence[Labelled], settings: EvaluateTable
) -> Judgement:
    """Evaluate a bundle on its test part and on the labelled recordings."""
    detector = detector_of(bundle)
    return Judgement(
        judge(detector, Labelled("test part", test, []), settings.grace_s),
        [judge(detector, recording, settings.grace_s) for recording in labelled],
    )


def metrics(judged: Judgement, manifest: Manifest) -> dict[str, Any]:
    """Return the metrics of an evaluation, ready for JSON."""
    found: dict[str, Any] = {
        "forecast": forecast_metrics(judged.normal, manifest.channels),
        "normal": normal_metrics(judged.normal),
    }
    if manifest.tail is not None:
        found["tail"] = tail_metrics(judged.normal, manifest.tail)
    if judged.labelled:
        found["labelled"] = label_metrics(judged.labelled)
    return found


def judge(detector: DetectorOf[M], recording: Labelled, grace_s: float) -> Judged:
    """Score a recording from a fresh state, and compare its events with its labels.

    An event that opens within ``grace_s`` seconds after a label's end belongs to the label.
    """
    name, samples, labels, _ = recording
    result = detector.step(detector.start(), samples)
    opened = each_once(result.events)
    detections, false = match(opened, labels, grace_s)
    return Judged(name, samples, result, opened, detections, false)


def match(
    opened: Sequence[Event], labels: Sequence[Label], grace_s: float
) -> tuple[list[Detection], list[Event]]:
    """Return each fault with the first event that opened in it, and the false events.

    An event is false if it opens outside all labels, or in one with the finding ``false``. In one
    with ``nothing-found`` it counts neither way.
    """
    detections = [
        Detection(label, next((event for event in opened if _in(event, label, grace_s)), None))
        for label in labels
        if label.is_fault
    ]
    known = [label for label in labels if label.finding != FALSE]
    false = [event for event in opened if not any(_in(event, label, grace_s) for label in known)]
    return detections, false


def each_once(events: Sequence[Event]) -> list[Event]:
    """Return every event in its last state, in order of opening."""
    return list({event.number: event for event in events}.values())


def _in(event: Event, label: Label, grace_s: float) -> bool:
    return label.start <= event.opened <= label.end + grace_s


def forecast_metrics(judged: Judged, channels: Sequence[Channel]) -> dict[str, dict[str, Any]]:
    """Return the mean absolute error of each channel, one sample ahead, in its unit.

    ``last_value_mae`` is the error of repeating the last value. A network that is not better has
    learnt little about that channel. ``mape`` is in percent; an actual value nearer to zero than
    1 % of the channel's scale counts as that. ``r2`` is None for a channel that does not change.
    """
    values, predicted = judged.samples.values, judged.result.scores.predicted
    errors = np.abs(values - predicted)[1:]
    repeated = np.abs(np.diff(values, axis=0))
    both = ~np.isnan(errors) & ~np.isnan(repeated)
    errors, repeated = np.where(both, errors, np.nan), np.where(both, repeated, np.nan)
    return {
        channel.name: {
            "unit": channel.unit,
            "mae": _mean(errors[:, column]),
            "last_value_mae": _mean(repeated[:, column]),
            "mape": _mape(errors[:, column], values[1:, column], channel.scale),
            "r2": _r2(errors[:, column], values[1:, column]),
        }
        for column, channel in enumerate(channels)
    }


def _mape(errors: Float32, actual: Float32, scale: float) -> float | None:
    found = _mean(errors / np.maximum(np.abs(actual), np.float32(_ACTUAL_MIN * scale)))
    return None if found is None else _rounded(100 * found)


def _r2(errors: Float32, actual: Float32) -> float | None:
    known = ~np.isnan(errors)
    squared = np.square(errors[known], dtype=np.float64).sum()
    spread = (
        np.square(actual[known] - actual[known].mean(dtype=np.float64)).sum() if known.any() else 0
    )
    return _rounded(float(1 - squared / spread)) if spread else None


def normal_metrics(judged: Judged) -> dict[str, Any]:
    """Return the metrics of a recording without faults, where all events are false."""
    days = judged.scored_days
    score = judged.result.scores.score
    return {
        "days": round(days, 4),
        "events": len(judged.events),
        "events_per_day": round(len(judged.events) / days, 3) if days else None,
        "score_max": _rounded(float(np.nanmax(score, initial=0.0))),
    }


def tail_metrics(judged: Judged, fitted: Tail) -> dict[str, Any]:
    """Return the probabilities of the tail, and the shares observed in a normal recording."""
    found = score_tail.check(fitted, judged.result.scores.score)
    return {
        "predicted": [float(share) for share in found.predicted],
        "observed": [float(f"{share:.3g}") for share in found.observed],
        "samples": found.samples,
    }


def recording_metrics(judged: Judged) -> dict[str, Any]:
    """Return the comparison of a recording's events with its labels; ``hours`` are scored hours."""
    return {
        "name": judged.name,
        "hours": _rounded(judged.scored_days * 24),
        "faults": len(judged.detections),
        "found": sum(detection.event is not None for detection in judged.detections),
        "false_events": len(judged.false),
        "score_max": _rounded(float(np.nanmax(judged.result.scores.score, initial=0.0))),
    }


def label_metrics(recordings: Sequence[Judged]) -> dict[str, Any]:
    """Return the comparison of events with labels over all recordings, and per kind of fault."""
    detections = [detection for judged in recordings for detection in judged.detections]
    found = sum(detection.event is not None for detection in detections)
    false = sum(len(judged.false) for judged in recordings)
    precision, recall = _ratio(found, found + false), _ratio(found, len(detections))
    kinds = sorted({detection.label.kind for detection in detections})
    return {
        "recordings": len(recordings),
        "true_positives": found,
        "false_positives": false,
        "false_negatives": len(detections) - found,
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * found, len(detections) + found + false),
        "kinds": {
            kind: _kind_metrics([found for found in detections if found.label.kind == kind])
            for kind in kinds
        },
    }


def _kind_metrics(detections: Sequence[Detection]) -> dict[str, Any]:
    delays = sorted(found.delay_s for found in detections if found.delay_s is not None)
    return {
        "labels": len(detections),
        "found": len(delays),
        "delay_s_median": round(median(delays), 3) if delays else None,
        "delay_s_max": round(delays[-1], 3) if delays else None,
    }


def _mean(column: Float32) -> float | None:
    known = column[~np.isnan(column)]
    return _rounded(float(known.mean())) if len(known) else None


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
