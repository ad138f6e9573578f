"""What every source of recordings returns, and what is done with it in any case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from models.messages import Float32, Float64, Readings
from trainer.datasets import Recording


class Ranged(Protocol):
    """A channel, or a source; values outside its range, in its unit, are missing."""

    @property
    def low(self) -> float | None:
        """The lowest value; None: any."""

    @property
    def high(self) -> float | None:
        """The highest value; None: any."""


class Raw(NamedTuple):
    """Rows of a source, in its order."""

    times: Float64  # (n,) Unix seconds, or seconds since a start
    values: Float32  # (n, C); NaN: no value
    sha256: str  # of the file's bytes, or of what a query returned
    rejected: Counter[str]  # cells and rows that were not used, by cause


def finished(name: str, raw: Raw, channels: Sequence[Ranged]) -> Recording:
    """Return a recording in the order of its times, without values out of range."""
    times, values = raw.times, raw.values
    rejected = Counter(raw.rejected)
    backwards = int((np.diff(times) < 0).sum())
    if backwards:
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        rejected["backwards"] = backwards
    values[~np.isfinite(values)] = np.nan
    out_of_range = _drop_out_of_range(values, channels)
    return Recording(name, Readings(times, values), out_of_range, raw.sha256, +rejected)


def _drop_out_of_range(values: Float32, channels: Sequence[Ranged]) -> int:
    """Set the values that a gateway would reject to missing; return their number."""
    low = np.array([-np.inf if c.low is None else c.low for c in channels], np.float32)
    high = np.array([np.inf if c.high is None else c.high for c in channels], np.float32)
    outside = (values < low) | (values > high)
    values[outside] = np.nan
    return int(outside.sum())
