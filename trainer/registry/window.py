"""The newest window that no version has seen, and what each version does on it.

    recordings ── after the newest row that any version has used ──┬─ choice ─> who is better
                                                                   └─ final ──> how good the best is

Stored metrics of different data are no comparison. So every version is scored again, from a fresh
state, by the code that gateways run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.bundle import Bundle
from models.columns import of_bundle
from models.errors import DataError
from models.families import detector_of
from models.formats.recording import Layout
from models.messages import Float64, Readings
from models.times import iso_time
from trainer import evaluate
from trainer.datasets import Label, Recording
from trainer.datasets.labels import read_labels
from trainer.datasets.recordings import LAYOUT, labels_path, read_recording
from trainer.evaluate import Judged, Labelled
from trainer.prepare import Grid, align
from trainer.registry.errors import NotComparable
from trainer.registry.settings import Figure, PromotionTable

_HOUR_S: Final = 3600.0


class Window(NamedTuple):
    """A stretch of time, in Unix seconds: after ``begin``, up to ``end``."""

    begin: float
    end: float

    @property
    def text(self) -> str:
        """The window for people."""
        return f"{iso_time(self.begin)} to {iso_time(self.end)}"

    def has(self, times: Float64) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which times are inside."""
        return np.asarray((times > self.begin) & (times <= self.end))


class Windows(NamedTuple):
    """The two parts of the newest window."""

    choice: Window
    final: Window  # after it, with nothing chosen on it


class Result(NamedTuple):
    """What a version does in a window."""

    hours: float  # scored
    figures: Mapping[Figure, float | None]  # None: it cannot be measured; some need labels


def seen_until(bundle: Bundle) -> float:
    """Return the time of the newest row that the making of a bundle used, in Unix seconds.

    All its parts count, the test part too: the verdict was made on it.

    Raises:
        NotComparable: the bundle does not say which rows it used.

    """
    lineage = bundle.manifest.lineage
    ends = [last for _, last, _ in lineage.parts.values()]
    if lineage.data is not None:
        ends += [part.last for part in lineage.data.parts.values()]
        ends += [part.last for part in lineage.data.channels.values()]
    known = [datetime.fromisoformat(end).timestamp() for end in ends if end]
    if not known:
        raise NotComparable(f"{bundle.source}: it does not say which data it was trained on")
    return max(known)


class Recorded(NamedTuple):
    """Recordings of a machine, with labels beside them."""

    paths: Sequence[Path]
    layout: Layout = LAYOUT

    def windows(self, bundles: Sequence[Bundle], rules: PromotionTable) -> Windows:
        """Return the newest windows that none of the bundles has seen.

        Raises:
            NotComparable: the recordings end before, or too little is left of them.
            DataError: a recording cannot be read.

        """
        seen = max(map(seen_until, bundles))
        times = np.concatenate([self._read(bundles[0], path).readings.times for path in self.paths])
        newest = float(times.max())
        begin = max(seen, newest - rules.window_hours_max * _HOUR_S, float(times.min()) - 1e-6)
        hours = max(0.0, newest - begin) / _HOUR_S
        if hours < rules.window_hours_min:
            raise NotComparable(
                f"a version has used data up to {iso_time(seen)}, and these recordings have"
                f" {hours:.3g} hours after that: give recordings of at least"
                f" {rules.window_hours_min:g} hours from then on"
            )
        middle = newest - (newest - begin) * rules.final_share
        return Windows(Window(begin, middle), Window(middle, newest))

    def judged(self, bundle: Bundle, window: Window) -> Result:
        """Score what is in a window by a bundle, each recording from a fresh state.

        Raises:
            DataError: a recording cannot be read, or no sample in the window gets a score.

        """
        detector = detector_of(bundle)
        labelled = list(self._labelled(bundle, window))
        found = [evaluate.judge(detector, one, 0.0) for one in labelled]
        days = sum(one.scored_days for one in found)
        if days == 0:
            raise DataError(f"no sample from {window.text} gets a score: use longer recordings")
        false = sum(len(one.false) for one in found)
        faults = any(one.detections for one in found)
        marks = evaluate.label_metrics(found) if faults else {}
        return Result(
            days * 24,
            {
                "relative_mae": _relative_mae(
                    [_normal(*pair) for pair in zip(found, labelled, strict=True)], bundle
                ),
                "false_events_per_day": false / days,
                "f1": marks.get("f1"),
                "precision": marks.get("precision"),
                "recall": marks.get("recall"),
            },
        )

    def _labelled(self, bundle: Bundle, window: Window) -> Iterator[Labelled]:
        """Yield the part of each recording that is in a window, if there is any."""
        for path in self.paths:
            recording = self._read(bundle, path)
            inside = window.has(recording.readings.times)
            if np.count_nonzero(inside) < 2:
                continue
            readings = Readings(*(column[inside] for column in recording.readings))
            samples, _ = align([recording._replace(readings=readings)], Grid.of(bundle.manifest))
            yield Labelled(path.stem, samples, list(_within(self._labels(path), window)))

    def _labels(self, path: Path) -> Sequence[Label]:
        beside = labels_path(path)
        return read_labels(beside, self.layout) if beside.exists() else []

    def _read(self, bundle: Bundle, path: Path) -> Recording:
        manifest = bundle.manifest
        return read_recording(path, of_bundle(manifest), manifest.source_channels, self.layout)


def _within(labels: Sequence[Label], window: Window) -> Iterator[Label]:
    """Yield the labels of a window; one that is cut by its edge counts neither way."""
    for label in labels:
        if label.end > window.begin and label.start <= window.end:
            whole = label.start > window.begin and label.end <= window.end
            yield label if whole else label._replace(finding="nothing-found")


def _normal(judged: Judged, labelled: Labelled) -> Judged:
    """Return the results without the values inside labels, which a model is not to expect."""
    times, values = judged.samples.times, judged.samples.values.copy()
    for label in labelled.labels:
        values[(times >= label.start) & (times <= label.end)] = np.nan
    return replace(judged, samples=judged.samples._replace(values=values))


def _relative_mae(found: Sequence[Judged], bundle: Bundle) -> float | None:
    """Return the error of the expected values, over that of the last value.

    It is the mean over the scored channels; one that does not change in the window is left out.
    """
    channels = bundle.manifest.channels
    errors = np.zeros((len(channels), 2))
    for one in found:
        measured = evaluate.forecast_metrics(one, channels)
        for position in bundle.manifest.scored:
            row = measured[channels[position].name]
            if row["mae"] is not None and row["last_value_mae"] is not None:
                weight = len(one.samples.times)
                errors[position] += weight * np.array([row["mae"], row["last_value_mae"]])
    changing = errors[:, 1] > 0
    return float(np.mean(errors[changing, 0] / errors[changing, 1])) if changing.any() else None
