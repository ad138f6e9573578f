"""Patterns for lines: the slow ones are refused, the usual ones not."""

from __future__ import annotations

import re

import pytest

from agent.config.line_patterns import REGEX_BYTES_MAX, channels_in


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (r"T=(?P<t>[\d.]+) P=(?P<p>-?\d+(?:\.\d+)?)", ("t", "p")),
        (r"\$WIMDA,(?P<hpa>[^,]*),.*", ("hpa",)),
        (r"\((?:on|off)\)+ (?P<x>\d{2})+", ("x",)),
        (r"(?i)[+(a)*]+(?P<x>\d+)(?: ?[A-Z]{1,3})?", ("x",)),
        (r".*? (?P<x>\d+).*", ("x",)),
    ],
)
def test_usual_patterns_are_taken(pattern: str, names: tuple[str, ...]) -> None:
    assert channels_in(pattern) == names


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<x>a+)+b",
        r"(?P<x>(?:a|a)*)b",
        r"(?P<x>((a?))*)b",
        r"(?P<x>\d+,){20}",
        r"(?P<x>(?:\w\w?){2,})!",
        r"(?P<x>.*)a.*b.*c",
    ],
)
def test_slow_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is repeated by|more than 2 repeats of"):
        channels_in(pattern)


def test_the_worst_that_is_taken_ends_soon_on_the_longest_line() -> None:
    """It takes 2 ms; a third repeat of "." 0.3 s, a fourth 40 s, a repeat in a repeat for ever."""
    pattern = r"(?P<x>.*)a.*b"
    channels_in(pattern)
    assert re.compile(pattern).fullmatch("a" * REGEX_BYTES_MAX) is None
