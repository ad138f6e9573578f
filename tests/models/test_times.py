"""Times as text: the same as the standard library writes them with a time zone."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models import times
from models.times import iso_time, unix_s


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(times)
    assert result.attempted > 0
    assert result.failed == 0


def test_milliseconds_are_always_there() -> None:
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"


@given(time=st.floats(-6e10, 2.5e11))
@example(time=1_790_000_000.0005)
@example(time=1_790_000_000.9999996)  # a rounded second
@example(time=-0.0005)
@example(time=0.0000005)  # half of a microsecond
def test_a_time_is_rounded_as_datetime_does(time: float) -> None:
    written = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    assert iso_time(time) == written.replace("+00:00", "Z")


@given(ms=st.integers(0, 4 * 10**12))
def test_what_is_read_is_written_as_it_was(ms: int) -> None:
    text = iso_time(ms / 1000)
    assert iso_time(unix_s(text)) == text
    assert text.endswith(f".{ms % 1000:03}Z")


@pytest.mark.parametrize("time", [1e12, -1e12, float("inf"), 1e300])
def test_a_time_beyond_the_calendar_is_refused(time: float) -> None:
    with pytest.raises(OverflowError):
        iso_time(time)
