"""Ranges against plain sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.store.ranges import Ranges, parse

PAIRS = st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda one: (one[0], sum(one)))


def numbers(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(st.lists(st.tuples(st.booleans(), PAIRS)), PAIRS, st.integers(0, 40))
def test_ranges_are_sets(
    steps: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int], low: int
) -> None:
    ranges, plain = Ranges(), set[int]()
    for adds, (first, last) in steps:
        (ranges.add if adds else ranges.remove)(first, last)
        plain = plain | {*range(first, last + 1)} if adds else plain - {*range(first, last + 1)}
    assert numbers(ranges) == plain
    assert ranges.total() == len(plain)
    gaps = [b[0] - a[1] for a, b in zip(list(ranges), list(ranges)[1:], strict=False)]
    assert all(gap > 1 for gap in gaps)
    assert all((number in ranges) == (number in plain) for number in range(50))
    missing = {n for first, last in ranges.missing(*asked) for n in range(first, last + 1)}
    assert missing == {*range(asked[0], asked[1] + 1)} - plain
    within = {n for first, last in ranges.within(*asked) for n in range(first, last + 1)}
    assert within == plain & {*range(asked[0], asked[1] + 1)}
    end = low
    while end + 1 in plain:
        end += 1
    assert ranges.take_through(low) == end
    assert numbers(ranges) == {number for number in plain if number > end}


@pytest.mark.parametrize(
    "wrong",
    [None, {}, [1], [[1]], [[1, 2, 3]], [[2, 1]], [[True, 3]], [[1.5, 3]], [["1", "2"]],
     [[5, 6], [6, 7]], [[0, 2]], [[3, 4], [1, 2]], [[1, 1]] * 11],
)  # fmt: skip
def test_what_is_no_list_of_rising_ranges_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="range"):
        parse(wrong, 0, 10)
    assert parse([[1, 2], [4, 4]], 0, 10) == [(1, 2), (4, 4)]
