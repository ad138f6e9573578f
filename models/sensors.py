"""Trouble of the sensor itself, told apart from trouble of the machine: stuck and missing.

A person sent to a machine at 3 a.m. should know whether to bring a wrench or a new sensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.bundle import StreamRules
from models.messages import Float32

Int64 = npt.NDArray[np.int64]
SensorKind = Literal["stuck", "missing"]
SENSOR_KINDS: tuple[SensorKind, ...] = ("stuck", "missing")

NEVER = np.iinfo(np.int64).max


class SensorRuns(NamedTuple):
    """Length of the current run at each of ``n`` samples, per channel: (n, C) each."""

    stuck: Int64  # equal values in a row, this one included; 0 while missing
    missing: Int64  # samples in a row without a value


@dataclass(slots=True)
class SensorState:
    """The runs in progress of one stream."""

    last: Float32  # (C,) value of the last sample, NaN where missing
    stuck: Int64  # (C,)
    missing: Int64  # (C,)


class SensorChecks:
    """Counts runs of equal and of missing values; holds the limits, no memory."""

    def __init__(self, manifest: StreamRules) -> None:
        limits = [channel.stuck_samples or NEVER for channel in manifest.channels]
        self.limits: dict[SensorKind, Int64] = {
            "stuck": np.array(limits, np.int64),
            "missing": np.full(len(limits), manifest.sampling.missing_samples, np.int64),
        }

    def start(self) -> SensorState:
        """Return the state before the first sample."""
        channels = len(self.limits["stuck"])
        return SensorState(
            last=np.full(channels, np.nan, np.float32),
            stuck=np.zeros(channels, np.int64),
            missing=np.zeros(channels, np.int64),
        )

    def step(self, state: SensorState, values: Float32) -> SensorRuns:
        """Count on through ``values`` (n, C); ``state`` moves on."""
        if len(values) == 0:
            empty = np.empty(values.shape, np.int64)
            return SensorRuns(empty, empty)
        missing = np.isnan(values)
        if len(values) == 1:  # a live stream's common case, in a quarter of the time
            stuck = np.where(values == state.last, state.stuck + 1, np.where(missing, 0, 1))
            runs = SensorRuns(stuck, np.where(missing, state.missing + 1, 0))
            state.last = values[0].copy()
            state.stuck, state.missing = runs.stuck[0].copy(), runs.missing[0].copy()
            return runs
        before = np.concatenate([state.last[None, :], values[:-1]])
        runs = SensorRuns(
            # a first value is a run of one, so a run restarts at 1, a missing one at 0
            stuck=_runs(values == before, state.stuck, np.where(missing, 0, 1)),
            missing=_runs(missing, state.missing, np.zeros(values.shape, np.int64)),
        )
        state.last = values[-1].copy()
        state.stuck, state.missing = runs.stuck[-1].copy(), runs.missing[-1].copy()
        return runs


def _runs(goes_on: npt.NDArray[np.bool_], before: Int64, restart: Int64) -> Int64:
    """Per column: one more than the row above where the run goes on, else ``restart``."""
    index = np.arange(1, len(goes_on) + 1)[:, None]
    broken_at = np.maximum.accumulate(np.where(goes_on, 0, index), axis=0)
    base = np.concatenate([before[None, :], restart])
    runs: Int64 = index - broken_at + np.take_along_axis(base, broken_at, axis=0)
    return runs
