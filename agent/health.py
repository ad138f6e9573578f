"""What the agent measures of itself: latency and memory."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path

LATENCIES_KEPT = 4096

_STATUS = Path("/proc/self/status")


class Latencies:
    """The newest reading-to-commit times; bounded."""

    def __init__(self) -> None:
        self._kept_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)

    def add(self, seconds: float) -> None:
        """Take in one."""
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


def rss_mb() -> float:
    """Return this process's resident memory."""
    return _status_mb("VmRSS:")


def rss_max_mb(pid: int | str = "self") -> float:
    """Return the largest resident memory a process has had."""
    return _status_mb("VmHWM:", Path(f"/proc/{pid}/status"))


def _status_mb(key: str, status: Path = _STATUS) -> float:
    for line in status.read_text().splitlines():
        if line.startswith(key):
            return round(int(line.split()[1]) / 1024, 1)
    raise AssertionError(f"{status} has no {key}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
