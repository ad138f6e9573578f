"""Chance levels and intervals: shifted alarms, random alarms, and one alarm over the whole array.

The figures of a detector have a meaning only in comparison with these levels. Every draw is
seeded, so the same outcomes always produce the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.messages import Bool, Float64
from trainer.benchmark.counts import Alarm, Span, count_published, f_score, point_mask

DRAWS: Final = 1000  # number of draws for the chance level and for the bootstrap
RANDOM_DRAWS: Final = 201  # draws of random alarms; odd, so that a median draw exists
_SEED: Final = 1
_PERCENTILES: Final = (2.5, 97.5)

Counts = npt.NDArray[np.int64]  # (..., 3): true positives, false positives, false negatives


class Range(NamedTuple):
    """The mean of several draws, and the bounds of their central 95 %."""

    mean: float
    low: float
    high: float


class Row(NamedTuple):
    """The labels of one row of a label file, and the detections, over ``steps`` steps."""

    detected: Sequence[Span]
    labels: Sequence[Span]
    steps: int


def shifted_f1(channels: Sequence[Sequence[Row]]) -> Range | None:
    """Return the F1 of detections that are shifted by a random time; the shift wraps around.

    The number, lengths and distances of the detections do not change. Only their agreement with
    the labels is random. Each channel has its own random shift, which its rows share.

    Returns:
        None if nothing is labelled or detected.

    """
    random = np.random.default_rng(_SEED)
    total = np.zeros((DRAWS, 3), np.int64)
    for rows in channels:
        offsets = random.integers(0, rows[0].steps, DRAWS)
        for row in rows:
            total += shifted_counts(row, offsets)
    return _range(total)


def shifted_point_f1(masks: Sequence[tuple[Bool, Bool]]) -> Range | None:
    """Return the point-wise F1 of randomly shifted detections; the shift wraps around.

    Args:
        masks: for each channel, (n,) each: the detected samples and the labelled samples.

    """
    random = np.random.default_rng(_SEED)
    total = np.zeros((DRAWS, 3), np.int64)
    for detected, labelled in masks:
        offsets = random.integers(0, len(detected), DRAWS)
        found = agreement(detected, labelled)[offsets]
        false = np.count_nonzero(detected) - found
        total += np.stack([found, false, np.count_nonzero(labelled) - found], axis=1)
    return _range(total)


def bootstrap_f1(counts: Sequence[tuple[int, int, int]]) -> Range | None:
    """Return the bootstrap F1: each draw samples as many channels with replacement and sums them.

    Args:
        counts: true positives, false positives and false negatives of each channel.

    Returns:
        None if no draw has labels or detections.

    """
    random = np.random.default_rng(_SEED)
    table = np.array(counts, np.int64).reshape(-1, 3)
    drawn = random.integers(0, len(table), (DRAWS, len(table)))
    return _range(table[drawn].sum(axis=1))


def always(steps: int) -> list[Alarm]:
    """Return one alarm from the first to the last sample."""
    return [Alarm("anomaly", 0, 0, steps - 1)]


def random_alarms(
    alarms: Mapping[str, Sequence[Alarm]], steps: Mapping[str, int], random: np.random.Generator
) -> dict[str, list[Alarm]]:
    """Return alarms of the same number and lengths, each at a random place of a random channel.

    Every step of all channels is equally likely as the onset. An alarm that extends beyond the end
    of its new channel is cut.
    """
    names = list(steps)
    ends = np.cumsum([steps[name] for name in names])
    found: dict[str, list[Alarm]] = {name: [] for name in names}
    for alarm in (alarm for each in alarms.values() for alarm in each):
        at = int(random.integers(0, ends[-1]))
        place = int(np.searchsorted(ends, at, side="right"))
        name = names[place]
        onset = min(at - int(ends[place] - steps[name]), steps[name] - 1)
        last = steps[name] - 1
        opened, closed = (
            min(onset + position - alarm.onset, last) for position in (alarm.opened, alarm.closed)
        )
        found[name].append(Alarm(alarm.kind, onset, opened, closed))
    return found


def middle_draw(
    alarms: Mapping[str, Sequence[Alarm]],
    rows: Mapping[str, Sequence[Sequence[Span]]],
    steps: Mapping[str, int],
) -> dict[str, list[Alarm]]:
    """Return the draw of random alarms with the median F1."""
    random = np.random.default_rng(_SEED)
    draws = [random_alarms(alarms, steps, random) for _ in range(RANDOM_DRAWS)]

    def f1(draw: Mapping[str, Sequence[Alarm]]) -> float:
        counts = [count_published(draw[name], rows[name], steps[name]) for name in steps]
        sums = (sum(getattr(one, part) for one in counts) for part in ("tp", "fp", "fn"))
        return f_score(*sums) or 0.0

    return sorted(draws, key=f1)[RANDOM_DRAWS // 2]


def shifted_counts(row: Row, offsets: npt.NDArray[np.int64]) -> Counts:
    """Return the counts of one row (draws, 3) with its detections shifted by each offset."""
    starts, lengths = _arrays(row.detected)
    begins, sizes = _arrays(row.labels)
    moved = starts[None, :] + offsets[:, None]  # (draws, detections)
    behind = (begins[None, None, :] - moved[:, :, None]) % row.steps
    ahead = (moved[:, :, None] - begins[None, None, :]) % row.steps
    overlap = (behind < lengths[None, :, None]) | (ahead < sizes[None, None, :])
    found = overlap.any(axis=1).sum(axis=1)
    false = (~overlap.any(axis=2)).sum(axis=1)
    return np.stack([found, false, len(row.labels) - found], axis=1).astype(np.int64)


def _arrays(spans: Sequence[Span]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the starts and the lengths of spans."""
    table = np.array(list(spans), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1] - table[:, 0] + 1


def agreement(detected: Bool, labelled: Bool) -> npt.NDArray[np.int64]:
    """Return the number of samples that agree for each circular shift 0, 1, … of ``detected``."""
    count = len(detected)
    spectrum = np.conj(np.fft.rfft(detected)) * np.fft.rfft(labelled)
    agreed: npt.NDArray[np.int64] = np.rint(np.fft.irfft(spectrum, count)).astype(np.int64)
    return agreed


def _range(counts: Counts) -> Range | None:
    """Return mean and bounds of the F1 over draws (draws, 3); skip draws without an F1."""
    found, missed = counts[:, 0], counts[:, 1] + counts[:, 2]
    known = found + missed > 0
    if not known.any():
        return None
    return of_values((2 * found / np.maximum(2 * found + missed, 1))[known])


def of_values(values: Iterable[float] | Float64) -> Range:
    """Return mean and bounds of values, at least one."""
    table = np.array(list(values), np.float64)
    low, high = np.percentile(table, _PERCENTILES)
    return Range(float(table.mean()), float(low), float(high))


def masks(alarms: Iterable[Alarm], labels: Iterable[Span], steps: int) -> tuple[Bool, Bool]:
    """Return which samples lie in an open alarm, and which lie in a label, (steps,) each."""
    opened = ((alarm.opened, alarm.closed) for alarm in alarms)
    return point_mask(opened, steps), point_mask(labels, steps)
