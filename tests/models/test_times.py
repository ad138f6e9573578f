"""Times as text."""

from __future__ import annotations

import doctest

from models import times


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(times)
    assert result.attempted > 0
    assert result.failed == 0


def test_milliseconds_are_always_there() -> None:
    assert times.iso_time(0) == "1970-01-01T00:00:00.000Z"
