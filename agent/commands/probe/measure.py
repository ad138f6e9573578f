"""Parses lines as the agent does, and measures the result: readings, rejects, ranges, period."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agent.config.inputs import InputTable
from agent.parsing.lines import LineParser
from agent.parsing.measurement import Raw
from models.manifest import Channel
from models.messages import Float64
from models.shown import short

REJECTS_SHOWN = 3  # per cause


class Arrival(NamedTuple):
    """One line or measurement."""

    source: str  # the MQTT topic; empty for other inputs
    arrived_s: float | None  # monotonic seconds; None if it existed before the probe
    line: Raw


def measured(
    table: InputTable, channels: Sequence[Channel], arrivals: Sequence[Arrival]
) -> dict[str, Any]:
    """Return how many lines became readings, why the others did not, and the values' ranges."""
    parser = LineParser(table.model_copy(update={"rejects_kept": REJECTS_SHOWN}), channels)
    parts = [parser.parse([arrival.line], arrival.arrived_s or 0.0) for arrival in arrivals]
    width = len(channels)
    values = np.concatenate([part.values for part in parts] or [np.empty((0, width), np.float32)])
    times = np.concatenate([part.times for part in parts] or [np.empty(0)])
    if not parser.has_time:
        times = np.array([one.arrived_s for one in arrivals if one.arrived_s is not None])
    return {
        "lines": len(arrivals),
        "readings": len(values),
        "rejected": dict(parser.counters),
        "rejects": [
            {"cause": reject.cause, "line": reject.excerpt, "channel": reject.channel}
            for reject in parser.rejects()
        ],
        "backwards": int(np.count_nonzero(np.diff(times) < 0)),
        "period_s": _period_s(times, steady=parser.has_time),
        "channels": {channel.name: _range(values[:, at]) for at, channel in enumerate(channels)},
    }


def plain_channels(names: Sequence[str]) -> list[Channel]:
    """Return channels with these names and without limits."""
    return [Channel(name=name, unit="", center=0.0, scale=1.0) for name in names]


def _period_s(times: Float64, steady: bool) -> float | None:
    """Return the time between two readings in seconds; None if it cannot be measured.

    For the device's own times (``steady``) this is the median step. Arrivals come in bursts, and
    the first burst may have waited long. So for arrivals it is the mean step after that burst.
    """
    steps = np.diff(times)
    if len(steps) == 0:
        return None
    if steady:
        steps = steps[steps > 0]
        period_s = float(np.median(steps)) if len(steps) else 0.0
    else:
        after = int(np.count_nonzero(times > times[0]))
        period_s = float(times[-1] - times[0]) / max(1, after)
    return float(f"{period_s:.3g}") if period_s > 0 else None


def _range(values: np.ndarray[Any, Any]) -> dict[str, float | None]:
    known = [value for value in map(short, values.tolist()) if value is not None]
    return {
        "low": min(known, default=None),
        "high": max(known, default=None),
        "last": known[-1] if known else None,
    }
