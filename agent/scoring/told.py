"""Logs a stream's gaps and the beginning and reason of missing scores, at the level debug."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np

from agent.journal import STREAM
from models.messages import MISSING, Float32, Float64, Samples
from models.times import iso_time

LOG = logging.getLogger(__name__)

_GAP: Final = 1.5  # periods between two samples


def tell(
    name: str, samples: Samples, score: Float32, period_s: float, before: tuple[float, bool] | None
) -> None:
    """Log the changes that one or more samples of a stream cause.

    ``before``: the time of the last sample (Unix seconds), and whether it had a score; None if
    there was no sample.
    """
    extra = {STREAM: name}
    times = samples.times if before is None else np.concatenate([[before[0]], samples.times])
    for begin_s, length_s in _gaps(times, period_s):
        LOG.debug("stream %s: a gap of %.6g s after %s", name, length_s, begin_s, extra=extra)
    scored = not np.isnan(score[-1])
    if before is not None and scored == before[1]:
        return
    at = iso_time(float(samples.times[-1]))
    if scored:
        LOG.debug("stream %s: has a score again, at %s", name, at, extra=extra)
    else:
        LOG.debug("stream %s: no score at %s: %s", name, at, _why(samples), extra=extra)


def _gaps(times: Float64, period_s: float) -> list[tuple[str, float]]:
    steps = np.diff(times)
    return [
        (iso_time(float(times[at])), float(steps[at]))
        for at in np.nonzero(steps > _GAP * period_s)[0]
    ]


def _why(samples: Samples) -> str:
    if samples.quality is not None and (samples.quality[-1] == MISSING).all():
        return "no channel has a value"
    return "the detector needs more samples, as it does after each start and each gap"
