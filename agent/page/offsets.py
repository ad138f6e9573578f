"""How far the gateway's clock is from UTC at each time, for charts of summer and winter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_YEARS_BACK: Final = 10  # what is older has the offset of then
_YEARS_AHEAD: Final = 2
_YEAR_S: Final = 31_556_952  # on average
_STEP_S: Final = 7 * 86_400  # no zone changes twice so soon

Offsets = list[tuple[int, int]]


def utc_offsets(now_s: float) -> Offsets:
    """Return since when (Unix seconds) the clock of this host is how many seconds ahead of UTC.

    Args:
        now_s: Unix seconds; 10 years before it are covered, and one year after it.

    """
    return list(_offsets(int(now_s // _YEAR_S), time.tzname))


@lru_cache(maxsize=2)
def _offsets(year: int, _zone: tuple[str, str]) -> tuple[tuple[int, int], ...]:
    begin, end = (year - _YEARS_BACK) * _YEAR_S, (year + _YEARS_AHEAD) * _YEAR_S
    return ((begin, _offset(begin)), *_changes(begin, end))


def _changes(begin: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(begin, end, _STEP_S):
        before, after = at, at + _STEP_S
        if (offset := _offset(after)) == _offset(before):
            continue
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (before, middle) if _offset(middle) == offset else (middle, after)
        yield after, offset


def _offset(at: int) -> int:
    return time.localtime(at).tm_gmtoff
