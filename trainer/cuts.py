"""Cuts out of the recordings what people labelled as not normal, or not explained yet.

    file of labels (fieldwatch-agent labels export) ─> cut ─┬─> samples of normal operation
                                                            └─> Cuts, for the report

A cut is a jump in the samples' times, as a gap is: no sequence of the training and no score goes
across it. Only samples with the finding ``false``, a false alarm, stay in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models.messages import Samples
from models.times import iso_time
from trainer.config import Config
from trainer.datasets import FALSE, Label
from trainer.datasets.labels import read_labels
from trainer.prepare import without


class Cut(NamedTuple):
    """A label, and how many samples it cut out."""

    label: Label
    samples: int  # without those that an earlier cut took


class Cuts(NamedTuple):
    """What was cut out of the recordings."""

    file: str
    margin_s: float  # around each label
    found: Sequence[Cut]
    false_alarms: int  # labels whose samples stay in
    remaining: int  # samples
    labels: Sequence[Label] = ()  # all of the file

    @property
    def removed(self) -> int:
        """Number of samples that were cut out."""
        return sum(one.samples for one in self.found)

    def spans(self) -> list[tuple[float, float]]:
        """Return begin and end of each cut, with its margin, in Unix seconds."""
        return [_interval(one.label, self.margin_s) for one in self.found if one.samples]

    def intervals(self) -> list[tuple[str, str]]:
        """Return the spans as texts, for the lineage."""
        return [(iso_time(begin), iso_time(end)) for begin, end in self.spans()]

    def metrics(self) -> dict[str, Any]:
        """Return the table of cuts, ready for JSON."""
        return {
            "labels": self.file,
            "margin_s": self.margin_s,
            "cuts": [
                {
                    "label": one.label.finding,
                    "kind": one.label.kind,
                    "from": iso_time(one.label.start),
                    "to": iso_time(one.label.end),
                    "samples": one.samples,
                }
                for one in self.found
            ],
            "false_alarms": self.false_alarms,
            "removed": self.removed,
            "remaining": self.remaining,
        }

    def lines(self) -> list[str]:
        """Return sentences for people: the sum, and each label that cuts out nothing."""
        told = (
            f"{self.file}: labels cut out {self.removed} of {self.removed + self.remaining}"
            f" samples; false alarms that stay in: {self.false_alarms}"
        )
        unused = (one.label for one in self.found if not one.samples)
        return [
            told,
            *(
                f"{self.file}: {label.finding} from {iso_time(label.start)} to"
                f" {iso_time(label.end)} cuts out nothing: no sample is there, or another label"
                " has them all"
                for label in unused
            ),
        ]


def cut(samples: Samples, file: Path, config: Config) -> tuple[Samples, Cuts]:
    """Return the samples (n, C) that the labels of ``file`` leave in, and what they cut out.

    Raises:
        DataError: the file cannot be read as labels; the text has file and line.

    """
    labels = sorted(read_labels(file))
    # half a period more: a sample stands for the time around it
    margin_s = (config.data.labels_margin_samples + 0.5) * config.sampling.period_s
    found = []
    for label in labels:
        if label.finding != FALSE:
            before = len(samples.times)
            samples = without(samples, [_interval(label, margin_s)])
            found.append(Cut(label, before - len(samples.times)))
    kept = len(labels) - len(found)
    return samples, Cuts(file.name, margin_s, found, kept, len(samples.times), labels)


def _interval(label: Label, margin_s: float) -> tuple[float, float]:
    return label.start - margin_s, label.end + margin_s
