"""Line protocols: bytes into lines, lines into readings. Pure: no I/O, no clock.

    bytes ─Framer─> lines ─LineParser─> Readings
                               └──────> counters and last rejects, by cause

Blocks of lines are read as a whole where all are clean, else line by line, with the same result.
A bad line never costs a good neighbour, a bad value never costs a good one in its line.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from agent.config import IGNORED, TIME, InputTable
from models.bundle import Channel
from models.errors import ConfigError
from models.messages import Float32, Float64, Readings

Cause = Literal[
    "not_utf8",  # the line is no text
    "too_long",  # more than line_bytes_max bytes
    "malformed",  # not a line of this format, or a value that is no number
    "truncated",  # the line ends too early
    "bad_time",  # no time, or one before 2000 or after 2100
    "unknown_channel",  # json: a key that is no channel; the line only where no key is one
    "not_finite",  # NaN or infinity in place of a value; the rest of the line is used
    "out_of_range",  # outside the channel's low and high; the rest of the line is used
]

TIME_MIN: Final = 946_684_800.0  # 2000-01-01: before it, a clock that was never set
TIME_MAX: Final = 4_102_444_800.0  # 2100-01-01
EXCERPT_CHARACTERS_MAX: Final = 100

_NOT_FINITE = math.inf  # stands for NaN in a line, as NaN stands for no value at all
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


class Reject(NamedTuple):
    """A line that was not used, or not all of it."""

    time: float  # Unix seconds of its arrival
    cause: Cause
    excerpt: str  # printable and bounded
    channel: str | None  # where one value was not used, its channel or key


class Framer:
    """Cuts a stream of bytes into lines; holds at most one line.

    Args:
        line_bytes_max: A longer line is cut, to one byte more than this.
        skip_first: Drop what comes before the first line end: it may lack its beginning.

    """

    def __init__(self, line_bytes_max: int, skip_first: bool = False) -> None:
        self._kept_max = line_bytes_max + 1
        self._skip = skip_first
        self._rest = b""
        self.lines_cut = 0

    def push(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends; blank ones are dropped."""
        *ended, rest = (self._rest + data).split(b"\n")
        # one byte more than a line: it may be the first of the line's end
        self._rest = rest[: self._kept_max + 1]
        if self._skip and ended:
            self._skip = False
            self.lines_cut += bool(ended.pop(0))
        lines = (line.removesuffix(b"\r")[: self._kept_max] for line in ended)
        return [line for line in lines if line]

    def end(self) -> None:
        """Drop the line in progress: what comes next is not its continuation."""
        self.lines_cut += bool(self._rest)
        self._rest = b""


class LineParser:
    """Reads the lines of one input; one thread uses it.

    Args:
        settings: The format and its limits.
        channels: Of the stream's bundle; their order is that of the readings' values.

    Raises:
        ConfigError: the settings name a channel that the bundle does not have.

    """

    def __init__(self, settings: InputTable, channels: Sequence[Channel]) -> None:
        names = [channel.name for channel in channels]
        self._rejects = _Rejects(settings.rejects_kept)
        self._protocol: _Protocol = (
            _Csv(settings, names, self._rejects)
            if settings.format == "csv"
            else _Json(settings, names, self._rejects)
        )
        self._line_bytes_max = settings.line_bytes_max
        self._names = names
        self._low = _limits((channel.low for channel in channels), -np.inf)
        self._high = _limits((channel.high for channel in channels), np.inf)

    @property
    def counters(self) -> Counter[Cause]:
        """Lines and values that were not used, by cause."""
        return self._rejects.counters

    def rejects(self) -> list[Reject]:
        """Return the last rejects of each cause, oldest first."""
        kept = (reject for of_cause in self._rejects.kept.values() for reject in of_cause)
        return sorted(kept, key=lambda reject: reject.time)

    def parse(self, lines: Sequence[bytes], arrived_s: float) -> Readings:
        """Return the readings in ``lines``, in their order.

        ``arrived_s`` (Unix seconds) is their time where the lines have none of their own.
        """
        self._rejects.arrived_s = arrived_s
        rows = self._block(lines) or self._one_by_one(lines)
        times = rows.times
        if times is None:
            times = np.full(len(rows.lines), arrived_s)
        else:
            rows, times = self._with_good_time(rows, times)
        return Readings(times, self._good_values(rows))

    def _block(self, lines: Sequence[bytes]) -> _Rows | None:
        """Read all lines at once; None where that cannot be, for whatever reason."""
        if not lines or max(map(len, lines)) > self._line_bytes_max:
            return None
        return self._protocol.block(lines)

    def _one_by_one(self, lines: Iterable[bytes]) -> _Rows:
        read = []
        for line in lines:
            text = self._text(line)
            row = self._protocol.line(line, text) if text is not None else None
            if row is not None:
                read.append((line, row))
        return _rows(
            [line for line, _ in read],
            [row.time for _, row in read] if self._protocol.has_time else None,
            np.array([row.values for _, row in read]).reshape(-1, len(self._names)),
        )

    def _text(self, line: bytes) -> str | None:
        if len(line) > self._line_bytes_max:
            self._rejects.add("too_long", line)
            return None
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self._rejects.add("not_utf8", line)
            return None
        return text if text.strip() else None

    def _with_good_time(self, rows: _Rows, times: Float64) -> tuple[_Rows, Float64]:
        good = (times >= TIME_MIN) & (times <= TIME_MAX)
        if good.all():
            return rows, times
        for index in np.flatnonzero(~good):
            self._rejects.add("bad_time", rows.lines[index])
        lines = [rows.lines[index] for index in np.flatnonzero(good)]
        return _Rows(lines, times[good], rows.values[good]), times[good]

    def _good_values(self, rows: _Rows) -> Float32:
        """Return the values (n, C) with NaN in place of those that are none."""
        with np.errstate(over="ignore"):  # too large for a float32 is not finite
            values = rows.values.astype(np.float32)
        for cause, bad in (
            ("not_finite", np.isinf(values)),
            ("out_of_range", (rows.values < self._low) | (rows.values > self._high)),
        ):
            ...
        return values


def _limits(limits: Iterable[float | None], default: float) -> Float64:
    return np.array([default if limit is None else limit for limit in limits])
