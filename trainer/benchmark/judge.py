"""Runs one detector over one test array; returns its alarms as positions, and its cost.

It keeps only the alarms that concern values: ``anomaly``, and ``stuck``, a value that stays
constant far longer than ever before. ``missing`` and ``silent`` do not concern values.
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
from trainer.benchmark.tail_check import exceeding, normal
from trainer.evaluate import each_once

KINDS = ("anomaly", "stuck")


class Scored(NamedTuple):
    """The result of a run over a test array."""

    result: Result
    events: list[Event]  # opened or closed in the array, or open during all of it
    us_per_sample: float


def watched(detector: DetectorOf[M], before: Samples | None) -> M:
    """Return the state of a detector after it has scored ``before``; None: its initial state."""
    state = detector.start()
    if before is not None:
        detector.step(state, before)
    return state


def score(detector: DetectorOf[M], samples: Samples, since: M) -> Scored:
    """Score ``samples`` and measure the processor time.

    The detector continues from the state ``since``, which does not change. Alarms that are open in
    it count if they stay open.
    """
    state = copy.deepcopy(since)
    lasting = detector.open_events(state)
    began = time.process_time()
    result = detector.step(state, samples)
    us_per_sample = (time.process_time() - began) / len(samples.times) * 1e6
    return Scored(result, lasting + result.events, us_per_sample)


def judge(
    scored: Scored,
    labels: Sequence[Span],
    period_s: float,
    model_bytes: int,
    fails: bool = False,
) -> Judged:
    """Return the part of a run that is saved; the figures are computed later.

    Args:
        scored: run over samples that are one period apart.
        labels: first and last position of each labelled sequence, for ``vus_pr`` and the tail.
        period_s: period of the samples, in seconds.
        model_bytes: size of the detector's network.
        fails: whether the machine fails at the end of the array.

    """
    result, events, us_per_sample = scored
    steps = len(result.scores.times)
    labelled = point_mask(labels, steps)
    return Judged(
        alarms=alarms(events, result.scores.times, period_s),
        vus_pr=vus_pr(labelled, result.scores.score),
        model_bytes=model_bytes,
        us_per_sample=us_per_sample,
        tail=exceeding(result.scores.probability, normal(labels, steps, fails)),
    )


def alarms(events: Sequence[Event], times: Float64, period_s: float) -> list[Alarm]:
    """Return the alarms as positions, in order of their openings.

    ``times`` are the times of the samples. An alarm that began earlier begins at the first sample.
    An alarm that never closed lasts to the end.
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
