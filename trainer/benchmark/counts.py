"""Compares detections with labels: by event, by point, and over all thresholds.

None of the three metrics uses point adjustment: one detected sample does not mark all samples of
its label as detected. Indices are positions in the scored array. A sequence includes both ends.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from models.messages import Bool, Float32, Float64

VUS_BUFFER_SAMPLES_MAX = 100  # the same for all, to make channels comparable; 1 s per 8,500 samples
_INSTALL = "pip install 'fieldwatch[benchmark]'"

Span = tuple[int, int]  # first and last position


class Alarm(NamedTuple):
    """One alarm, as positions in a judged array; it lasts until ``closed`` or the array's end."""

    kind: str
    onset: int  # where the stretch began; known only when the alarm opened
    opened: int  # where the alarm was raised
    closed: int


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Counts of found labels, missed labels and false detections; instances can be added."""

    tp: int = 0  # labels overlapped by a detection
    fp: int = 0  # detections that overlap no label
    fn: int = 0  # labels that no detection overlaps
    delays: tuple[int, ...] = ()  # steps from a found label's start to the first detection, >= 0
    steps: int = 0  # number of scored steps

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
            self.delays + other.delays,
            self.steps + other.steps,
        )

    @property
    def precision(self) -> float | None:
        """Found labels / (found labels + false detections); None if both are 0."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Found labels / all labels; None without labels."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without labels and detections."""
        return f_score(self.tp, self.fp, self.fn)

    @property
    def f05(self) -> float | None:
        """F0.5, which weighs precision twice as much as recall; None as for ``f1``."""
        return f_score(self.tp, self.fp, self.fn, beta=0.5)

    @property
    def delay_steps_median(self) -> float | None:
        """Median delay of the found labels, in steps; None if no label was found."""
        return float(median(self.delays)) if self.delays else None

    @property
    def false_per_10k(self) -> float | None:
        """False detections per 10,000 scored steps; None if nothing was scored."""
        return _ratio(10_000 * self.fp, self.steps)

    def as_json(self) -> dict[str, float | None]:
        """Return the figures of a channel or of the total, for the benchmark's JSON."""
        return {
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "f05": self.f05,
            "delay_steps_median": self.delay_steps_median,
            "false_per_10k": self.false_per_10k,
        }


@dataclass(frozen=True, slots=True)
class PointCounts:
    """Counts of samples by detection and label; instances can be added."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: PointCounts) -> PointCounts:
        return PointCounts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without labels and detections."""
        return f_score(self.tp, self.fp, self.fn)

    @property
    def far(self) -> float | None:
        """False alarm rate, in percent of the normal samples; None without any."""
        return _ratio(100 * self.fp, self.fp + self.tn)

    @property
    def mar(self) -> float | None:
        """Missed alarm rate, in percent of the labelled samples; None without any."""
        return _ratio(100 * self.fn, self.fn + self.tp)

    def as_json(self) -> dict[str, float | None]:
        """Return the counts and the figures of SKAB's leaderboard."""
        return {
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "tn": self.tn,
            "f1": self.f1,
            "far": self.far,
            "mar": self.mar,
        }


def onset_spans(alarms: Iterable[Alarm]) -> list[Span]:
    """Return the detected sequences from onset to close, as the published rule defines them.

    The onset lies before the opening. The detector finds it only when the alarm opens.
    """
    return union((alarm.onset, alarm.closed) for alarm in alarms)


def opened_spans(alarms: Iterable[Alarm]) -> list[Span]:
    """Return the detected sequences from opening to close, as they were known at the time."""
    return union((alarm.opened, alarm.closed) for alarm in alarms)


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, with overlapping spans merged."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def count_events(detected: Sequence[Span], labels: Sequence[Span], steps: int) -> EventCounts:
    """Count as Telemanom does (Hundman et al., KDD 2018).

    A label that at least one detection overlaps is one true positive, however many detections
    overlap it. A detection that overlaps several labels finds each of them. The delay of a found
    label ends at the earliest start of the detections that overlap it.
    """
    spans, known = _table(detected), _table(labels)
    assert (spans[:, 0] <= spans[:, 1]).all()
    overlap = (spans[:, None, 0] <= known[:, 1]) & (known[:, 0] <= spans[:, None, 1])
    found = overlap.any(axis=0)  # of each label
    first = np.where(overlap, spans[:, None, 0], steps).min(axis=0, initial=steps)
    delays = np.maximum(0, first - known[:, 0])[found]
    tp, false = int(found.sum()), int((~overlap.any(axis=1)).sum())
    return EventCounts(tp, false, len(known) - tp, tuple(delays.tolist()), steps)


def count_published(
    alarms: Sequence[Alarm], rows: Sequence[Sequence[Span]], steps: int
) -> EventCounts:
    """Count as in the published results: from the onsets, separately for each row of the labels.

    A channel with two rows is judged twice, and a detection that overlaps no label of a row is
    false in that row.
    """
    spans = onset_spans(alarms)
    return sum((count_events(spans, row, steps) for row in rows), EventCounts())


def count_causal(
    alarms: Sequence[Alarm], rows: Sequence[Sequence[Span]], steps: int
) -> EventCounts:
    """Count from the openings; merge overlapping labels of all rows.

    An alarm that opened after a label's end does not find it. If it overlaps no other label, it is
    false.
    """
    labels = union(label for row in rows for label in row)
    return count_events(opened_spans(alarms), labels, steps)


def point_mask(sequences: Iterable[Span], steps: int) -> Bool:
    """Return which of ``steps`` samples lie in one of the sequences: (steps,)."""
    mask = np.zeros(steps, np.bool_)
    for start, end in sequences:
        mask[start : end + 1] = True
    return mask


def count_points(detected: Bool, labels: Bool) -> PointCounts:
    """Compare two masks of the same length, sample by sample."""
    assert detected.shape == labels.shape
    return PointCounts(
        tp=int(np.count_nonzero(detected & labels)),
        fp=int(np.count_nonzero(detected & ~labels)),
        fn=int(np.count_nonzero(~detected & labels)),
        tn=int(np.count_nonzero(~detected & ~labels)),
    )


def vus_pr(labels: Bool, score: Float32 | Float64) -> float | None:
    """Return the volume under the precision-recall surface, between 0 and 1.

    Paparrizos et al., PVLDB 15(11), 2022, as ``aeon`` computes it: the area under the
    precision-recall curve, averaged over buffers of 0 to ``VUS_BUFFER_SAMPLES_MAX`` samples
    that soften the ends of each label, with 250 thresholds spread evenly over the ranks of
    the score. A perfect score yields a value near 1 but below it, because half of each buffer
    counts as label. A random score yields about the labelled fraction. A constant score yields 0.

    Args:
        labels: (n,) which samples are labelled.
        score: (n,) a higher score is less normal; NaN ranks below any number.

    Returns:
        None if no sample or every sample is labelled, because the metric is then undefined. Also
        None if the package is not installed; see ``vus_pr_missing``.

    """
    assert labels.shape == score.shape
    if not labels.any() or labels.all() or vus_pr_missing():
        return None
    ranks = _ranks(score)
    if ranks.max() == 0.0:
        return 0.0
    return float(_vus_pr()(labels.astype(np.int64), ranks, VUS_BUFFER_SAMPLES_MAX))


def vus_pr_missing() -> str | None:
    """Return a hint about the missing package of ``vus_pr``; None if it is installed."""
    if importlib.util.find_spec("aeon") is None:
        return f"VUS-PR is left out; to compute it, install the extra 'benchmark': {_INSTALL}"
    return None


def _vus_pr() -> Callable[..., float]:
    from aeon.benchmarking.metrics.anomaly_detection import range_pr_vus_score

    return cast("Callable[..., float]", range_pr_vus_score)


def _ranks(score: Float32 | Float64) -> Float64:
    """Return the ranks, 0 for the lowest value. The metric depends only on ranks."""
    values = np.where(np.isnan(score), -np.inf, score)
    return np.unique(values, return_inverse=True)[1].astype(np.float64)


def _table(spans: Sequence[Span]) -> npt.NDArray[np.int64]:
    """Return the starts and ends of spans, (n, 2)."""
    return np.array(list(spans), np.int64).reshape(-1, 2)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def f_score(tp: int, fp: int, fn: int, beta: float = 1.0) -> float | None:
    """Return the weighted harmonic mean of precision and recall; None where all are zero."""
    weight = beta * beta
    return _ratio((1 + weight) * tp, (1 + weight) * tp + weight * fn + fp)
