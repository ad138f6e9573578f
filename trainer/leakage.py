"""Finds data to test on that repeats data to learn from, and refuses it.

A bundle that is judged on what it has learnt looks better than it is. Two recordings of the same
time are found by their times. Rows that were copied to another time or another file are found by
their values: a measured machine does not repeat a long stretch bit for bit. A stretch counts if at
least half of its rows differ from each other, as a machine at rest may repeat itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import LeakageError
from models.messages import Float32, Samples
from models.times import iso_time
from trainer.datasets import Recording

UInt64 = npt.NDArray[np.uint64]
_DIFFERENT_SHARE: Final = 0.5  # of the rows of a stretch
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
_BLOCK: Final = 10_000  # stretches that are compared at once


class Repeat(NamedTuple):
    """Rows of one part that are equal to rows of another."""

    first: int  # row of the part to learn from
    again: int  # row of the part to test on
    rows: int


class Part(NamedTuple):
    """A part, and the recordings that it was cut out of."""

    name: str  # for people, e.g. "the test part"
    samples: Samples
    recordings: Sequence[Recording]


def check_times(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that overlap in time; they are in order of their first times.

    Raises:
        LeakageError: the text names the rows of both.

    """
    for before, after in itertools.pairwise(recordings):
        first, last = after.readings.times.min(), before.readings.times.max()
        if last >= first:
            until = min(last, after.readings.times.max())
            raise LeakageError(
                f"{before.name} and {after.name} overlap in time:"
                f" {_rows(before, first, until)} and {_rows(after, first, until)} are both from"
                f" {iso_time(float(first))} to {iso_time(float(until))}. The same rows would be in"
                " two parts: leave one recording out, or cut the rows out of one"
            )


def check_values(learnt: Sequence[Part], tested: Sequence[Part], longest: int) -> None:
    """Refuse parts to test on that repeat parts to learn from.

    Args:
        learnt: what the bundle learns from.
        tested: what it is judged on. A part in both is compared with those before it only.
        longest: samples that may be repeated in a row.

    Raises:
        LeakageError: the text names the rows of both.

    """
    for part in tested:
        for other in learnt:
            if other is part:
                break
            found = repeat(other.samples.values, part.samples.values, longest + 1)
            if found is not None:
                raise LeakageError(_told(part, other, found, longest))


def repeat(learnt: Float32, tested: Float32, rows: int) -> Repeat | None:
    """Return the first stretch of at least ``rows`` rows of ``tested`` (m, C) that ``learnt`` has.

    ``learnt`` is (n, C). NaN equals NaN. None: there is no such stretch.
    """
    if min(len(learnt), len(tested)) < rows:
        return None
    hashes, seen = _hashes(learnt), _hashes(tested)
    there, here = _of_stretches(hashes, rows), _of_stretches(seen, rows)
    for again in _varied(seen, np.flatnonzero(np.isin(here, there)), rows):
        first = int(np.flatnonzero(there == here[again])[0])
        same = _same(learnt[first:], tested[again:])
        if same >= rows:
            return Repeat(first, again, same)
    return None


def _hashes(values: Float32) -> UInt64:
    """Return a number per row that equal rows share."""
    bits = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0))
    total = np.zeros(len(values), np.uint64)
    for column in np.ascontiguousarray(bits).view(np.uint32).T:
        total = (total ^ column.astype(np.uint64)) * _BASE
        total ^= total >> np.uint64(29)
    return total


def _of_stretches(hashes: UInt64, rows: int) -> UInt64:
    """Return a number per stretch of ``rows`` rows, by the row that it begins with."""
    count = len(hashes) - rows + 1
    total = np.zeros(count, np.uint64)
    for row in range(rows):
        total = total * _BASE + hashes[row : row + count]
    return total


def _varied(hashes: UInt64, begins: npt.NDArray[np.intp], rows: int) -> Sequence[int]:
    """Return those stretches that vary enough."""
    windows = np.lib.stride_tricks.sliding_window_view(hashes, rows)
    found: list[int] = []
    for at in range(0, len(begins), _BLOCK):
        block = begins[at : at + _BLOCK]
        ordered = np.sort(windows[block], axis=1)
        different = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1)
        found += block[different >= _DIFFERENT_SHARE * rows].tolist()
    return found


def _same(one: Float32, other: Float32) -> int:
    """Return the number of equal rows at the beginning."""
    count = min(len(one), len(other))
    a, b = one[:count], other[:count]
    equal = ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
    return count if equal.all() else int(np.argmin(equal))


def _told(part: Part, other: Part, found: Repeat, longest: int) -> str:
    return (
        f"{part.name} repeats {other.name}: {_place(part, found.again, found.rows)} have, value for"
        f" value, what {_place(other, found.first, found.rows)} have. The bundle would be judged on"
        " what it has learnt: leave one of them out. If this machine does repeat itself exactly,"
        f" raise split.repeated_samples_max, which is {longest}"
    )


def _place(part: Part, begin: int, rows: int) -> str:
    """Return the rows of the recordings that samples of a part were made from."""
    times = part.samples.times[begin : begin + rows]
    first, last = float(times[0]), float(times[-1])
    of = [
        _rows(recording, first, last)
        for recording in part.recordings
        if recording.readings.times[0] <= last and recording.readings.times[-1] >= first
    ]
    return f"{' and '.join(of)} (from {iso_time(first)} to {iso_time(last)})"


def _rows(recording: Recording, first: float, last: float) -> str:
    """Return the rows between two times, counted from 1 in order of time."""
    times = np.sort(recording.readings.times)
    begin = int(np.searchsorted(times, first, "left"))
    end = int(np.searchsorted(times, last, "right"))
    return f"rows {begin + 1} to {max(end, begin + 1)} of {recording.name}"


def check_split(
    parts: Mapping[str, Samples],
    recordings: Sequence[Recording],
    labelled: Mapping[str, tuple[Samples, Recording]],
    longest: int,
) -> None:
    """Refuse a split whose parts, or labelled recordings, repeat what is learnt from.

    Args:
        parts: ``train``, ``calibrate`` and ``test``, in this order.
        recordings: that the parts were cut out of.
        labelled: recordings to test on, by name, with their samples.
        longest: samples that may be repeated in a row.

    Raises:
        LeakageError: the text names the rows of both.

    """
    cut = [Part(f"the {name} part", samples, recordings) for name, samples in parts.items()]
    train, calibrate, test = cut
    others = [Part(name, samples, [one]) for name, (samples, one) in labelled.items()]
    check_values([train, calibrate], [calibrate, test, *others], longest)
