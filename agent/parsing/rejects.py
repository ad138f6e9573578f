"""Counts rejected lines, measurements and values by cause, and keeps the last few."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, Literal, NamedTuple

from agent.parsing.measurement import Raw, as_bytes
from models.printable import printable

Cause = Literal[
    "not_utf8",  # the line is not text in its encoding
    "utf_16",  # the line is UTF-16, which is not read
    "too_long",  # more than line_bytes_max bytes
    "bad_checksum",  # the checksum is missing or wrong
    "malformed",  # not a line of this format
    "not_a_number",  # something else in place of a value; the rest of the line is used
    "no_value",  # a word that means a missing value, such as NA; the rest of the line is used
    "too_slow",  # regex: matching takes too long, or did for recent lines
    "truncated",  # the line ends too early; in a file or message, all but its last value are used
    "bad_time",  # no time, or one before 2000 or after 2100
    "in_future",  # ahead_max_s or more ahead of a correct clock, or of the stream and alone
    "retained",  # mqtt: a retained message without its own time, and so of unknown age
    "unknown_channel",  # json, keyvalue: a key that is not a channel; costs the line if no key is
    "not_its_channel",  # a value for a channel not among the input's channels; the rest is used
    "not_finite",  # NaN or infinity in place of a value; the rest of the line is used
    "out_of_range",  # outside the channel's low and high; the rest of the line is used
    "bad_quality",  # bad quality, by the device or the input; the rest of the row is used
]

EXCERPT_BYTES_MAX: Final = 100
_KEY_CHARACTERS_MAX: Final = 100


class Reject(NamedTuple):
    """A line that was not used, or one value of a line."""

    time: float  # Unix seconds of its arrival
    cause: Cause
    excerpt: str  # printable and bounded
    channel: str | None  # the channel or key of the value; None for the whole line


class Rejects:
    """Counts by cause, and keeps the last few of each, so that one cause cannot hide the others."""

    def __init__(self, kept_max: int) -> None:
        self.counters: Counter[str] = Counter()
        self.arrived_s = 0.0  # Unix seconds, of the lines that are read now
        self._kept_max = kept_max
        self._kept: dict[Cause, deque[tuple[float, bytes, str | None]]] = {}

    def add(self, cause: Cause, line: Raw, channel: str | None = None) -> None:
        """Count a line or measurement, or the value of a channel or key in it."""
        self.counters[cause] += 1
        kept = self._kept.setdefault(cause, deque(maxlen=self._kept_max))
        key = channel and channel[:_KEY_CHARACTERS_MAX]
        kept.append((self.arrived_s, as_bytes(line, channel)[:EXCERPT_BYTES_MAX], key))

    def last(self) -> list[Reject]:
        """Return the last rejects of each cause, the latest at the end."""
        rejects = [
            # a byte becomes at most four characters: \xff
            Reject(
                time, cause, printable(line, 4 * EXCERPT_BYTES_MAX), channel and printable(channel)
            )
            for cause, kept in self._kept.items()
            for time, line, channel in kept
        ]
        return sorted(rejects, key=lambda reject: (reject.time, reject.cause))
