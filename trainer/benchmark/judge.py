"""One detector on one test array, in one run: its alarms as positions, and what it cost.

Kept are the alarms that say something of the values: ``anomaly``, and ``stuck``, a value that does
not change for far longer than it ever did. ``missing`` and ``silent`` say nothing of the values.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import NamedTuple

from models.detector import DetectorOf, M, Result
from models.messages import Event, Float64, Samples
from trainer.benchmark.counts import Alarm, Span, point_mask, vus_pr
from trainer.benchmark.outcome import Judged
from trainer.evaluate import each_once

KINDS = ("anomaly", "stuck")


class Scored(NamedTuple):
    """A run over a test array."""

    result: Result
    events: list[Event]  # opened or closed in the array, or open throughout
    us_per_sample: float


def watched(detector: DetectorOf[M], before: Samples | None) -> M:
    """Return the state of a detector that has scored ``before``, or nothing yet."""
    state = detector.start()
    if before is not None:
        detector.step(state, before)
    return state


def score(detector: DetectorOf[M], samples: Samples, since: M) -> Scored:
    """Score ``samples``, and take the processor time.

    ``since`` is the state that the detector goes on from; it stays as it is. Its open alarms count
    if they last on.
    """
    state = copy.deepcopy(since)
    lasting = detector.open_events(state)
    began = time.process_time()
    result = detector.step(state, samples)
    us_per_sample = (time.process_time() - began) / len(samples.times) * 1e6
    return Scored(result, lasting + result.events, us_per_sample)


def judge(scored: Scored, labels: Sequence[Span], period_s: float, model_bytes: int) -> Judged:
    """Return what is kept of a run; it is counted later.

    Args:
        scored: samples one period apart.
        labels: first and last position of each labelled sequence, for ``vus_pr``.
        period_s: of the samples.
        model_bytes: size of the detector's network.

    """
    result, events, us_per_sample = scored
    labelled = point_mask(labels, len(result.scores.times))
    return Judged(
        alarms=alarms(events, result.scores.times, period_s),
        vus_pr=vus_pr(labelled, result.scores.score),
        model_bytes=model_bytes,
        us_per_sample=us_per_sample,
    )


def alarms(events: Sequence[Event], times: Float64, period_s: float) -> list[Alarm]:
    """Return the alarms in positions, by their opening.

    ``times`` are the samples' own; what began before them begins with the first. An alarm that
    never closed lasts to the end.
    """

    def position(time: float | None) -> int:
        last = len(times) - 1
        return last if time is None else min(max(round((time - times[0]) / period_s), 0), last)

    found = [
        Alarm(event.kind, position(event.onset), position(event.opened), position(event.closed))
        for event in each_once(events)
        if event.kind in KINDS
    ]
    return sorted(found, key=lambda alarm: alarm.opened)
