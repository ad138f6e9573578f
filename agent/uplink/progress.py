"""How far the lane of samples has come: what outlives uplink and process. It needs no numpy."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

_MARKS_MAX: Final = 1000
SAMPLES: Final = "_samples"  # a key among the streams' states; no stream's name begins with _


class At(NamedTuple):
    """How far the samples are sent."""

    next: int | None = None  # number of the first sample that is not; None: never began
    day: int = 0  # the last day with a chunk, in days since 1970 (UTC)
    bytes: int = 0  # sent on that day
    sent: int = 0  # samples, confirmed
    missed: int = 0  # samples that the ring dropped before
    refused: int = 0  # samples in chunks that broker or collector do not accept


class _Counted:
    """Counts the samples of some streams up to any number, which counts those of all streams.

    It is exact at its marks, which are commits, and in proportion between them and before.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[int, int]] = []  # number, count; replaced, so that others may read

    def add(self, number: int, count: int) -> None:
        """Add a mark, at a number that is not below the last one."""
        before = self._marks
        if before and before[-1][0] >= number:
            before = before[:-1]
        if len(before) >= _MARKS_MAX:
            before = [before[0], *before[1:-1:2], before[-1]]
        self._marks = [*before, (number, count)]

    def between(self, first: int, end: int) -> int:
        """Return how many samples there are from a number to before another one."""
        marks = self._marks
        return round(_at(marks, end) - _at(marks, first))


def _at(marks: Sequence[tuple[int, int]], number: int) -> float:
    if len(marks) < 2:
        return float(number)
    at = min(max(bisect_left(marks, (number,)), 1), len(marks) - 1)
    before, after = marks[at - 1], marks[at]
    if not before[0] <= number <= after[0]:  # before the first mark: as it was since then
        before, after = marks[0], marks[-1]
    share = (after[1] - before[1]) / (after[0] - before[0])
    return after[1] - share * (after[0] - number)


class Progress:
    """How far the samples are sent, over all uplinks.

    The sender's thread changes ``at``, the loop's thread the others.
    """

    def __init__(self, at: At = At()) -> None:  # noqa: B008 - it cannot change
        self.at = at
        self._stored = at
        self.newest = 1  # number of the next sample
        # samples below this number are on the disk, so that no other gets their number
        self.durable = 0
        self.ring_epoch = ""  # ``ReadingsFile.ring_epoch``; "": not known yet
        self._streams: Collection[str] | None = None  # whose samples are sent; None: all
        self._stored_by: Mapping[str, int] = {}
        self._counted = _Counted()  # of these streams
        self.timely = True  # whether their times will not be corrected

    @classmethod
    def of(cls, data: bytes | None) -> Progress:
        """Return the stored progress; None: there is none."""
        said = {} if data is None else json.loads(data)
        return cls(At(**{name: said[name] for name in At._fields if name in said}))

    def see(
        self,
        newest: int,
        durable: int,
        ring_epoch: str = "",
        stored_by: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Follow a commit of samples.

        Args:
            newest: number of the next sample.
            durable: samples below this number are on the disk.
            ring_epoch: see ``ReadingsFile.ring_epoch``.
            stored_by: how many samples of each stream were stored since the start.

        """
        self._stored_by = stored_by
        self._count(newest)
        self.ring_epoch = ring_epoch  # before the numbers that belong to it
        self.newest, self.durable = newest, durable

    def _count(self, newest: int) -> None:
        if self._streams is not None:
            count = sum(self._stored_by.get(stream, 0) for stream in self._streams)
            self._counted.add(newest, count)

    def between(self, first: int, end: int) -> int:
        """Return how many samples that are sent there are from a number to before another one.

        If only some streams are sent, it is exact at commits since the start.
        """
        return end - first if self._streams is None else self._counted.between(first, end)

    def begin(self, streams: Collection[str] | None = None) -> None:
        """Begin with the next sample, unless samples were sent before; ``streams`` are sent."""
        if streams != self._streams:
            self._streams, self._counted = streams, _Counted()
            self._count(self.newest)
        if self.at.next is None:
            self.at = self.at._replace(next=self.newest)

    def news(self) -> bytes | None:
        """Return it for the loop to store; None if that is not new."""
        at = self.at
        if at == self._stored:
            return None
        self._stored = at
        return json.dumps(at._asdict()).encode()
