"""The steps of the preparation, and how many values each of them touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.messages import QUALITIES, Samples
from trainer.datasets import Recording

Mask = npt.NDArray[np.bool_]


class Step(NamedTuple):
    """What one step of the preparation touched."""

    what: str  # a sentence part for people, e.g. "filled, linear"
    touched: int
    unit: str  # values, rows or samples
    channels: Mapping[str, int] = {}  # of the values; empty: they are not counted by channel

    def as_json(self) -> dict[str, Any]:
        """Return the step for the metrics."""
        return self._asdict() | {"channels": dict(self.channels)}


def by_channel(what: str, mask: Mask, names: Sequence[str]) -> Step:
    """Return the step that touched the values (n, C) in ``mask``."""
    counts = np.count_nonzero(mask, axis=0).tolist()
    touched = {name: count for name, count in zip(names, counts, strict=True) if count}
    return Step(what, sum(counts), "values", touched)


def of_recordings(recordings: Sequence[Recording]) -> Iterator[Step]:
    """Yield what the reading of recordings could not use, by cause."""
    outside = sum(recording.out_of_range for recording in recordings)
    yield Step("out of range, set to missing", outside, "values")
    causes = sorted({cause for recording in recordings for cause in recording.rejected})
    for cause in causes:
        count = sum(recording.rejected.get(cause, 0) for recording in recordings)
        yield Step(f"not read: {cause.replace('_', ' ')}", count, "cells or rows")


def of_grid(samples: Samples, counters: Mapping[str, int], names: Sequence[str]) -> Iterator[Step]:
    """Yield what the grid left out and made up; ``counters`` are those of the alignment."""
    for cause, count in sorted(counters.items()):
        yield Step(f"not on the grid: {cause.replace('_', ' ')}", count, "rows")
    if samples.quality is not None:
        for code, quality in enumerate(QUALITIES[1:], 1):
            yield by_channel(f"{quality} on the grid", samples.quality == code, names)


def of_split(removed: int, count: int, parts: Sequence[Samples]) -> Iterator[Step]:
    """Yield what is in no part; ``removed``: samples that labels cut out, ``count``: left in."""
    yield Step("cut out by labels", removed, "samples")
    between = count - sum(len(part.times) for part in parts)
    yield Step("between two parts, in neither", between, "samples")
