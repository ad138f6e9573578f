"""The book of one gateway's numbers: which of them are settled.

A number is settled if its message is stored, or if its gateway reported it as gone. The book has at
most ``RANGES_MAX`` ranges beyond ``through``, the lowest ones. Messages above them are stored, too,
and their numbers enter the book once there is room.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from agent.store.ranges import Range, Ranges
from agent.uplink.acknowledgements import ALSO_MAX, GONE_MAX

JUMP_MAX: Final = 1_000_000  # above the known numbers; a week of 100 messages per minute
RANGES_MAX: Final = 10_000  # per set of a book


@dataclass(slots=True)
class Book:
    """The numbers of one source."""

    through: int = 0
    beyond: Ranges = field(default_factory=Ranges)  # settled, above ``through``
    gone: Ranges = field(default_factory=Ranges)  # settled, but never stored
    dropped: Ranges = field(
        default_factory=Ranges
    )  # the part of ``beyond`` that is no longer stored
    cut: int | None = None  # from this number on, the book lacks numbers of the database
    unsure: int = 0  # up to this number, some missing numbers were forgotten

    def expect_gone(self, ranges: Sequence[Range], told: int) -> None:
        """Raise ValueError if a gateway reports more missing numbers than it can have.

        Missing numbers lie between its messages. So a gateway can have as many missing ranges as
        one report holds, plus one for each of its stored messages.

        Args:
            ranges: the missing numbers, the highest last.
            told: the highest number that it has assigned, from its status.

        """
        here = self.through + self.beyond.total() - self.gone.total()
        if self.gone.count() + len(ranges) > GONE_MAX + max(0, here):
            raise ValueError(f"too many numbers are gone between {here} messages")
        known = [self.through, told, *(last for _, last in self._believed(told))]
        if ranges and ranges[-1][1] > (highest := max(known)) + JUMP_MAX:
            raise ValueError(f"{ranges[-1][1]} is gone, and {highest} is the highest known number")

    def jumps(self, seq: int, told: int) -> bool:
        """Whether a new message is too far above all known numbers to be acknowledged."""
        return seq > max(self.through, told, self.beyond.below(seq)) + JUMP_MAX

    def acknowledged(self, told: int) -> list[Range]:
        """Return the lowest settled ranges above ``through``, none of them after a jump."""
        return list(islice(self._believed(told), ALSO_MAX))

    def _believed(self, told: int) -> Iterator[Range]:
        top = max(self.through, told)
        for first, last in self.beyond:
            if first > top + JUMP_MAX:
                return
            yield first, last
            top = max(top, last)

    def ranges(self) -> int:
        """Return how many ranges the book has in memory."""
        return self.beyond.count() + self.gone.count() + self.dropped.count()

    def halve(self) -> None:
        """Forget the older half of the missing numbers; some may then not be settled."""
        self._keep_gone(self.gone.count() // 2)
        self.dropped.keep_last(self.dropped.count() // 2)

    def drop(self, seq: int) -> None:
        """Mark a message as dropped; its number stays settled."""
        if seq > self.through:
            self.dropped.add(seq, seq)

    def _keep_gone(self, count: int) -> None:
        self.unsure = max(self.unsure, self.gone.keep_last(count))

    def has(self, seq: int) -> bool:
        """Whether a number is settled, and was certainly not reported as gone."""
        settled = seq <= self.through or seq in self.beyond
        return settled and seq not in self.gone and seq > self.unsure

    def settle(self, first: int, last: int) -> None:
        """Settle numbers, as far as there is room."""
        if self.cut is not None:
            last = min(last, self.cut - 1)
        if first > last:
            return
        self.beyond.add(first, last)
        self.through = self.beyond.take_through(self.through)
        if self.beyond.count() > RANGES_MAX:
            self.cut, _ = self.beyond.pop_last()

    def has_room_again(self) -> bool:
        """Whether there is room again for numbers of the database that the book lacks."""
        return self.cut is not None and self.beyond.count() < RANGES_MAX // 2

    def row(self) -> tuple[int, str, str | None, float, int]:
        """Return the book's row; it has only the newest ranges of missing numbers."""
        self.dropped.remove(0, self.through)
        self._keep_gone(RANGES_MAX)
        dropped = json.dumps(list(self.dropped)) if self.dropped.count() else None
        return self.through, json.dumps(list(self.gone)), dropped, time.time(), self.unsure
