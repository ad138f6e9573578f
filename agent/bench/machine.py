"""The kernel's clocks and counters of this process, and a description of the machine."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

_IO = Path("/proc/self/io")
_MOUNTS = Path("/proc/self/mounts")


def thread_cpu_s(thread: threading.Thread) -> float:
    """Return the CPU time of a running thread."""
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def disk_bytes_written() -> int | None:
    """Return the bytes that this process wrote for disks; None if the kernel does not count."""
    try:
        text = _IO.read_text()
    except OSError:
        return None
    counts = dict(line.split(": ") for line in text.splitlines())
    return int(counts["write_bytes"])


def file_system(path: Path) -> str:
    """Return the kind of file system that ``path`` lies on, e.g. ext4."""
    mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(above)[1]


def describe() -> dict[str, Any]:
    """Return cores, architecture and processor."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "arch": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return "unknown"
