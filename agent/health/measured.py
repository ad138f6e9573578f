"""Measurements and counters of the agent: latency, loop, inference, machine."""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATENCIES_KEPT = 4096

_STATUS = Path("/proc/self/status")
_THERMAL = Path("/sys/class/thermal")
_CPU_ZONES = ("cpu", "soc", "x86_pkg_temp", "k10temp")  # substrings of the types of CPU zones
_LOOK_S = 10.0  # between two reads of the machine's state
_WEIGHT = 0.02  # weight of the newest call in the moving inference time

Document = Mapping[str, Any]


class Latencies:
    """The newest reading-to-commit times; bounded."""

    def __init__(self) -> None:
        self._kept_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)

    def add(self, seconds: float) -> None:
        """Add a latency."""
        self._kept_ms.append(seconds * 1000)

    def percentile(self, percent: float) -> float | None:
        """Return the nearest-rank percentile in ms; None before the first."""
        if not self._kept_ms:
            return None
        ordered = sorted(self._kept_ms)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    def document(self) -> dict[str, float | None]:
        """Return the percentiles that ``status`` shows."""
        return {
            "reading_to_commit_ms_p50": _rounded(self.percentile(50)),
            "reading_to_commit_ms_p99": _rounded(self.percentile(99)),
        }


@dataclass(slots=True)
class LoopTimes:
    """The lag of the loop's tick, and the length of its turns; since the start."""

    lag_s: float = 0.0  # of the last tick
    lag_s_max: float = 0.0
    turn_s_max: float = 0.0  # longest time between two polls of the queue

    def ticked(self, late_s: float) -> None:
        """Record a tick; an early tick, for an alarm, counts as on time."""
        self.lag_s = max(0.0, late_s)
        self.lag_s_max = max(self.lag_s_max, self.lag_s)

    def turned(self, took_s: float) -> None:
        """Record a turn: everything between two polls of the queue."""
        self.turn_s_max = max(self.turn_s_max, took_s)

    def document(self) -> dict[str, float]:
        """Return the values in ms, for ``status``."""
        return {
            "lag_ms_last": round(self.lag_s * 1000, 1),
            "lag_ms_max": round(self.lag_s_max * 1000, 1),
            "turn_ms_max": round(self.turn_s_max * 1000, 1),
        }


@dataclass(slots=True)
class Pace:
    """The time spent on scoring."""

    seconds: float = 0.0
    samples: int = 0
    us_moving: float | None = None  # per sample, over about the last fifty calls

    def add(self, seconds: float, samples: int) -> None:
        """Record one call that scored this number of samples, at least one."""
        self.seconds += seconds
        self.samples += samples
        us = seconds / samples * 1e6
        self.us_moving = (
            us if self.us_moving is None else self.us_moving * (1 - _WEIGHT) + us * _WEIGHT
        )


def inference(paces: Iterable[Pace]) -> dict[str, float | int | None]:
    """Return the scoring time over all detectors, and the slowest one's moving average."""
    paces = list(paces)
    moving = [pace.us_moving for pace in paces if pace.us_moving is not None]
    return {
        "seconds": round(sum(pace.seconds for pace in paces), 6),
        "samples": sum(pace.samples for pace in paces),
        "us_per_sample": _rounded(max(moving, default=None)),
    }


class Machine:
    """The state of the gateway; read only every ``_LOOK_S``, because reading takes time."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is the store's."""
        self._directory = directory
        self._looked_s = -math.inf  # monotonic
        self._seen: dict[str, float | None] = {}

    def document(self) -> dict[str, float | None]:
        """Return temperature and free disk space; None where this machine does not report it."""
        now = time.monotonic()
        if now - self._looked_s >= _LOOK_S:
            self._looked_s = now
            self._seen = {
                "cpu_temperature_c": cpu_temperature_c(),
                "disk_free_mb": disk_free_mb(self._directory),
            }
        return self._seen


def cpu_temperature_c(thermal: Path = _THERMAL) -> float | None:
    """Return the temperature of the CPU's hottest zone; None if there is none."""
    found = [_zone_c(zone) for zone in thermal.glob("thermal_zone*")]
    return max((celsius for celsius in found if celsius is not None), default=None)


def _zone_c(zone: Path) -> float | None:
    try:
        if any(word in (zone / "type").read_text().lower() for word in _CPU_ZONES):
            return int((zone / "temp").read_text()) / 1000
    except (OSError, ValueError):  # a sensor that is off
        pass
    return None


def disk_free_mb(directory: Path) -> float | None:
    """Return the space that the agent may still use on the directory's file system."""
    try:
        found = os.statvfs(directory)
    except OSError:  # the directory is gone; the store reports it
        return None
    return round(found.f_bavail * found.f_frsize / 2**20, 1)


def rejected(inputs: Mapping[str, Document]) -> dict[str, int]:
    """Return the rejects of all inputs by their cause."""
    causes: Counter[str] = Counter()
    for source in inputs.values():
        causes.update(source["rejected"])
    return dict(causes)


def totals(
    inputs: Mapping[str, Document],
    streams: Mapping[str, Document],
    store: Document,
    uplink: Document | None,
) -> dict[str, int]:
    """Return the counters of every stage, over all inputs and streams."""
    counts: Counter[str] = Counter()
    for stream in streams.values():
        counts.update(stream["counters"])
    link = uplink or {}
    return dict(counts) | {
        "lines": sum(source["lines"] for source in inputs.values()),
        "rejected": sum(rejected(inputs).values()),
        "messages_too_large": sum(
            source.get("messages_too_large", 0) for source in inputs.values()
        ),
        "messages_without_topic": sum(
            source.get("messages_without_topic", 0) for source in inputs.values()
        ),
        "reconnects": sum(source["reconnects"] for source in inputs.values())
        + max(0, link.get("connections", 0) - 1),
        "evicted": sum(store["evicted"].values()),
        "published": link.get("published", 0),
        "acknowledged": link.get("acknowledged", 0),
    }


def rss_mb() -> float:
    """Return this process's resident memory in MB."""
    return _status_mb("VmRSS:")


def rss_max_mb(pid: int | str = "self") -> float:
    """Return the peak resident memory of a process in MB."""
    return _status_mb("VmHWM:", Path(f"/proc/{pid}/status"))


def _status_mb(key: str, status: Path = _STATUS) -> float:
    for line in status.read_text().splitlines():
        if line.startswith(key):
            return round(int(line.split()[1]) / 1024, 1)
    raise AssertionError(f"{status} has no {key}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
