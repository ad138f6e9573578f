"""Deletes the oldest files of samples: whole days, by the name of their folders."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

_LOOK_S: Final = 3600.0
_DAY: Final = "day="
_DAY_S: Final = 86_400.0


class Keeping(NamedTuple):
    """How much of the files is kept; None means no limit."""

    days_max: float | None = None  # by the day of the samples
    bytes_max: int | None = None  # of all files


class Tidying:
    """Keeps the files below a folder within limits."""

    def __init__(self, folder: Path, keeping: Keeping) -> None:
        self._folder = folder
        self._days_max, self._bytes_max = keeping
        self._next_look_s = -math.inf  # monotonic

    def look(self) -> int:
        """Delete what is too old or too much, once in an hour; return how many files."""
        now = time.monotonic()
        if now < self._next_look_s or (self._days_max is None and self._bytes_max is None):
            return 0
        self._next_look_s = now + _LOOK_S
        days = sorted(_days(self._folder))
        oldest = "" if self._days_max is None else _day_of(time.time() - self._days_max * _DAY_S)
        room = math.inf if self._bytes_max is None else float(self._bytes_max)
        excess = sum(size for _, _, size in days) - room
        count = 0
        for day, folder, size in days:
            if day >= oldest and excess <= 0:
                break
            count += _delete(folder)
            excess -= size
        return count


def _days(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Yield the day, the folder, and its size in bytes, of each stream's days."""
    for path in folder.glob(f"gateway=*/stream=*/{_DAY}*"):
        size = 0
        with contextlib.suppress(OSError):  # it is gone
            size = sum(file.stat().st_size for file in os.scandir(path))
        yield path.name.removeprefix(_DAY), path, size


def _day_of(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"


def _delete(folder: Path) -> int:
    """Delete the files of a folder, and the folder; return how many."""
    count = 0
    with contextlib.suppress(OSError):  # the next look tries again
        for file in sorted(folder.glob("*.parquet*")):
            file.unlink()
            count += 1
        folder.rmdir()
    return count
