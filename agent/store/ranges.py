"""Stores sets of mostly consecutive integers as ranges: cheap even for millions of numbers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

Range = tuple[int, int]  # first and last, both inclusive


class Ranges:
    """A set of integers; iteration yields its ranges, the lowest first."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def total(self) -> int:
        """Return the number of integers in the set.

        This is not ``__len__``: ``list`` would reserve memory for as many ranges.
        """
        return sum(last - first + 1 for first, last in self)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def add(self, first: int, last: int) -> None:
        """Add all numbers from ``first`` to ``last``; adjacent ranges are joined."""
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first = min(first, self._firsts[begin])
            last = max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def remove(self, first: int, last: int) -> None:
        """Remove all numbers from ``first`` to ``last``."""
        begin = bisect_left(self._lasts, first)
        end = bisect_right(self._firsts, last)
        if begin >= end:
            return
        low, high = self._firsts[begin], self._lasts[end - 1]
        rest = [(low, first - 1)] if low < first else []
        rest += [(last + 1, high)] if high > last else []
        self._firsts[begin:end] = [one for one, _ in rest]
        self._lasts[begin:end] = [one for _, one in rest]

    def missing(self, first: int, last: int) -> Iterator[Range]:
        """Yield the ranges from ``first`` to ``last`` that are not in the set."""
        at = bisect_left(self._lasts, first)
        while first <= last:
            known = at < len(self._firsts) and self._firsts[at] <= last
            before = self._firsts[at] - 1 if known else last
            if first <= before:
                yield first, before
            if not known:
                return
            first, at = self._lasts[at] + 1, at + 1

    def within(self, first: int, last: int) -> list[Range]:
        """Return the part of the set from ``first`` to ``last``."""
        begin = bisect_left(self._lasts, first)
        end = bisect_right(self._firsts, last)
        return [
            (max(first, low), min(last, high))
            for low, high in zip(self._firsts[begin:end], self._lasts[begin:end], strict=True)
        ]

    def count(self) -> int:
        """Return the number of ranges."""
        return len(self._firsts)

    def below(self, number: int) -> int:
        """Return the highest number of the set below the given one; 0 if there is none."""
        at = bisect_left(self._firsts, number) - 1
        return min(self._lasts[at], number - 1) if at >= 0 else 0

    def pop_last(self) -> Range:
        """Drop the highest range, and return it."""
        return self._firsts.pop(), self._lasts.pop()

    def keep_last(self, count: int) -> int:
        """Drop all but the highest ranges; return the highest number dropped, 0 if none was."""
        begin = max(0, len(self._firsts) - count)
        highest = self._lasts[begin - 1] if begin else 0
        del self._firsts[:begin], self._lasts[:begin]
        return highest

    def take_through(self, low: int) -> int:
        """Drop all numbers up to ``low`` and those that directly follow; return where that ends."""
        while self._firsts and self._firsts[0] <= low + 1:
            low = max(low, self._lasts.pop(0))
            self._firsts.pop(0)
        return low


def parse(value: Any, above: int, ranges_max: int) -> list[Range]:
    """Validate decoded JSON: pairs of integers in rising order, none at or below ``above``.

    Raises:
        ValueError: it has another form, or more than ``ranges_max`` ranges.

    """
    if not isinstance(value, list) or len(value) > ranges_max:
        raise ValueError(f"it must be a list of at most {ranges_max} ranges")
    found: list[Range] = []
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair))):
            raise ValueError("a range is a list of two whole numbers")
        first, last = pair
        if not above < first <= last:
            raise ValueError("ranges must rise and not overlap")
        above = last
        found.append((first, last))
    return found


def is_number(value: Any) -> bool:
    """Whether a decoded JSON value is an integer; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
