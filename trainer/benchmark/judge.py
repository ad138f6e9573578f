"""One detector on one test array: events and points against the labels, in one run.

Detections are the alarms that say something of the values: ``anomaly``, and ``stuck``, a value that
does not change for far longer than it ever did. Alarms that overlap are one detected sequence.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from models.detector import DetectorOf, M, Result
from models.messages import Event, Float64, Samples
from trainer.benchmark.counts import Detected, count_events, count_points, point_mask, vus_pr
from trainer.benchmark.outcome import Judged
from trainer.evaluate import each_once

KINDS = ("anomaly", "stuck")


class Scored(NamedTuple):
    """A run over a test array."""

    result: Result
    events: list[Event]  # opened or closed in the array, or open throughout
    us_per_sample: float


def score(detector: DetectorOf[M], samples: Samples, before: Samples | None = None) -> Scored:
    """Score ``samples`` from a fresh state, and take the processor time.

    ``before`` are samples that the detector scores first. Its alarms count if they last on.
    """
    state = detector.start()
    if before is not None:
        detector.step(state, before)
    lasting = detector.open_events(state)
    began = time.process_time()
    result = detector.step(state, samples)
    us_per_sample = (time.process_time() - began) / len(samples.times) * 1e6
    return Scored(result, lasting + result.events, us_per_sample)


def judge(
    scored: Scored, labels: Sequence[tuple[int, int]], period_s: float, model_bytes: int
) -> Judged:
    """Compare what was detected with the labels.

    Args:
        scored: samples one period apart.
        labels: first and last position of each labelled sequence.
        period_s: of the samples.
        model_bytes: size of the detector's network.

    """
    result, events, us_per_sample = scored
    steps = len(result.scores.times)
    sequences = detected(events, result.scores.times, period_s)
    labelled = point_mask(labels, steps)
    said = point_mask([(event.opened, event.end) for event in sequences], steps)
    return Judged(
        events=count_events(sequences, labels, steps),
        points=count_points(said, labelled),
        vus_pr=vus_pr(labelled, result.scores.score),
        spans=[(event.start, event.end) for event in sequences],
        model_bytes=model_bytes,
        us_per_sample=us_per_sample,
    )


def detected(events: Sequence[Event], times: Float64, period_s: float) -> list[Detected]:
    """Return the detected sequences as positions: from an onset to the close, or to the end.

    ``times`` are the samples' own; what began before them begins with the first.
    """

    def position(time: float | None) -> int:
        last = len(times) - 1
        return last if time is None else min(max(round((time - times[0]) / period_s), 0), last)

    found: list[Detected] = []
    alarms = [event for event in each_once(events) if event.kind in KINDS]
    for event in sorted(alarms, key=lambda event: event.onset):
        start, end, opened = map(position, (event.onset, event.closed, event.opened))
        if found and start <= found[-1].end:
            before = found.pop()
            start, end = before.start, max(end, before.end)
            opened = min(opened, before.opened)
        found.append(Detected(start=start, end=end, opened=opened))
    return found
