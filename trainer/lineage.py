"""The lineage of a training's data: digests of the values themselves, not of their files.

The digest of a channel is the sha256 of its known values, in order of time: first all times (UTC
nanoseconds, int64), then all values (float64), little-endian. So it is the same for any file
format, for any order of rows and columns, and however the values are divided among files. It is
taken of the recordings as they were read, before the grid, the scaling and the other preparation.

A time is rounded to a microsecond, as a double of Unix seconds has no more. Values are float32, as
everywhere in training, in the form of a double.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.manifest import DataPart, DataSource, DataUsed
from models.messages import Float32, Float64, Samples
from models.times import iso_time
from trainer.datasets import Label, Recording

Int64 = npt.NDArray[np.int64]
_US_PER_S = 1e6
_NS_PER_US = 1000
_NS_PER_S = 1e9


class Values(NamedTuple):
    """What recordings contain."""

    names: Sequence[str]  # of the C columns
    ns: Int64  # (n,) UTC
    values: Float32  # (n, C); NaN where there is none

    def among(self, rows: npt.NDArray[np.bool_]) -> Values:
        """Return some of the rows."""
        return Values(self.names, self.ns[rows], self.values[rows])

    def channels(self) -> dict[str, DataPart]:
        """Return the digest and the extent of each column."""
        return {
            name: _channel(self.ns, self.values[:, column])
            for column, name in enumerate(self.names)
        }

    def part(self) -> DataPart:
        """Return the digest and the extent of all columns."""
        known = self.ns[~np.isnan(self.values).all(axis=1)]
        digests = {name: part.digest for name, part in self.channels().items()}
        return _part(_digest_of_all(digests), known)


def values_of(recordings: Sequence[Recording], names: Sequence[str]) -> Values:
    """Return the values of recordings, whose columns have these names."""
    times = np.concatenate([recording.readings.times for recording in recordings])
    values = np.concatenate([recording.readings.values for recording in recordings])
    return Values(names, _ns(times), values)


def parts_of_split(
    values: Values,
    parts: Mapping[str, Samples],
    cuts: Sequence[tuple[float, float]],
    period_s: float,
) -> dict[str, DataPart]:
    """Return digest and extent of what each part of a split was made from.

    Args:
        values: of all recordings.
        parts: the samples of each part, by its name.
        cuts: begin and end (inclusive, Unix seconds) of what is in no part.
        period_s: seconds between two samples.

    """
    found = {}
    for name, samples in parts.items():
        first, last = samples.times[[0, -1]] + [-period_s / 2, period_s / 2]
        found[name] = values.among(_between(values.ns, first, last, cuts)).part()
    return found


def part_of_each(
    recordings: Iterable[Recording],
    names: Sequence[str],
    labels: Iterable[Sequence[Label]] = (),
) -> DataPart:
    """Return one part for recordings that do not continue each other, in any order.

    Args:
        recordings: their columns have these names.
        names: of the channels.
        labels: of each recording; they count in the digest.

    """
    each = [values_of([recording], names).part() for recording in recordings]
    digests = [part.digest for part in each]
    marks = [part_of_labels(one).digest for one in labels] or [""] * len(each)
    lines = sorted(f"{digest} {mark}\n" for digest, mark in zip(digests, marks, strict=True))
    return DataPart(
        digest=hashlib.sha256("".join(lines).encode()).hexdigest(),
        rows=sum(part.rows for part in each),
        first=min((part.first for part in each if part.rows), default=""),
        last=max((part.last for part in each if part.rows), default=""),
    )


def part_of_labels(labels: Sequence[Label]) -> DataPart:
    """Return digest and extent of labels."""
    ends = _ns(np.array([[label.start, label.end] for label in labels]).reshape(-1, 2))
    lines = sorted(
        f"{begin} {end} {label.finding} {label.kind}\n"
        for label, (begin, end) in zip(labels, ends.tolist(), strict=True)
    )
    return _part(hashlib.sha256("".join(lines).encode()).hexdigest(), ends)


def used(
    channels: Mapping[str, DataPart], parts: Mapping[str, DataPart], sources: Sequence[DataSource]
) -> DataUsed:
    """Return the whole lineage of the data.

    Its digest is that of the channels, and of the parts with recordings of their own.
    """
    own = {name: part for name, part in parts.items() if name in OWN_RECORDINGS}
    digests = {f"channel {name}": part.digest for name, part in channels.items()}
    digests |= {f"part {name}": part.digest for name, part in own.items()}
    return DataUsed(
        digest=_digest_of_all(digests),
        channels=dict(channels),
        parts=dict(parts),
        sources=list(sources),
    )


OWN_RECORDINGS = ("lives", "evaluate", "labels")  # parts that are not cut out of ``data.files``


def differences(
    found: Mapping[str, DataPart], expected: Mapping[str, DataPart], what: str
) -> list[str]:
    """Return a sentence for each part or channel that differs; none if the data are the same.

    Args:
        found: by name.
        expected: those of the training.
        what: they are: "part" or "channel".

    """
    names = dict.fromkeys([*expected, *found])
    return [
        f"{what} {name}: {_difference(found.get(name), expected.get(name))}"
        for name in names
        if found.get(name) != expected.get(name)
    ]


def _difference(found: DataPart | None, expected: DataPart | None) -> str:
    if found is None:
        return "it is missing"
    if expected is None:
        return "the training had none"
    if found.model_copy(update={"digest": ""}) == expected.model_copy(update={"digest": ""}):
        return f"as many rows at the same times, {_extent(expected)}, but other values"
    return f"{_extent(found)}, but the training had {_extent(expected)}"


def _extent(part: DataPart) -> str:
    return f"{part.rows} rows from {part.first} to {part.last}" if part.rows else "no rows"


def _between(
    ns: Int64, first: float, last: float, cuts: Sequence[tuple[float, float]]
) -> npt.NDArray[np.bool_]:
    rows = (ns >= first * _NS_PER_S) & (ns < last * _NS_PER_S)
    for begin, end in cuts:
        rows &= (ns < begin * _NS_PER_S) | (ns > end * _NS_PER_S)
    return rows


def _ns(times: Float64) -> Int64:
    """Return UTC nanoseconds of Unix seconds, to the microsecond."""
    return np.rint(times * _US_PER_S).astype(np.int64) * _NS_PER_US


def _channel(ns: Int64, values: Float32) -> DataPart:
    known = ~np.isnan(values)
    ns, exact = ns[known], values[known].astype(np.float64) + 0.0  # -0.0 is 0.0
    if not (np.diff(ns) > 0).all():
        order = np.lexsort((exact, ns))
        ns, exact = ns[order], exact[order]
    digest = hashlib.sha256(np.ascontiguousarray(ns, "<i8").data)
    digest.update(np.ascontiguousarray(exact, "<f8").data)
    return _part(digest.hexdigest(), ns)


def _digest_of_all(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _part(digest: str, ns: Int64) -> DataPart:
    if ns.size == 0:
        return DataPart(digest=digest, rows=0)
    rows = 1 + int(np.count_nonzero(np.diff(np.sort(ns)))) if ns.ndim == 1 else len(ns)
    first, last = (iso_time(end / _NS_PER_S) for end in (ns.min(), ns.max()))
    return DataPart(digest=digest, rows=rows, first=first, last=last)
