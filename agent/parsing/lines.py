"""Converts bytes to lines, and lines or measurements to readings. Pure: no I/O, no clock.

    bytes ─Framer─> lines ─┬─LineParser─> Readings
         measurements ─────┘      └─────> counters and last rejects, by cause

A block of lines is parsed as a whole if all are clean, otherwise line by line, with the same
result. A bad line never affects a good neighbour, and a value out of range affects no other value
of its line. The same holds for measurements; only the conversion to numbers differs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from agent.config.inputs import InputTable
from agent.config.line_patterns import REGEX_BYTES_MAX
from agent.parsing import checksum
from agent.parsing.documents import documents
from agent.parsing.formats import Csv, Format, Json, Rows, expect, stacked, times_of
from agent.parsing.headed import HeadedCsv
from agent.parsing.keyvalue import KeyValue
from agent.parsing.measurement import Raw, as_bytes
from agent.parsing.numbers import Numbers
from agent.parsing.regex import Regex
from agent.parsing.rejects import Cause, Reject, Rejects
from models.formats.encodings import is_utf16, transcoded
from models.formats.times import TIME_MAX
from models.manifest import Channel
from models.messages import FLOAT32_MAX, Bool, Float32, Float64, Readings


class _Source(Protocol):
    """Converts an input's lines or measurements to rows of numbers, not validated yet."""

    has_time: bool
    earliest_s: float  # lower bound of valid times
    block_counts_nothing: bool  # because it only reads blocks that are clean

    def block(self, lines: Sequence[Any]) -> Rows | None:
        """Read all at once; if that is impossible, return None and count nothing."""

    def each(self, lines: Sequence[Any]) -> Rows:
        """Read one by one; count what cannot be used."""

    def in_seconds(self, times: Float64) -> Float64:
        """Convert times (n,) in another unit to Unix seconds; return others unchanged."""


class Text:
    """Converts lines of text to rows of numbers, not validated yet."""

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        self._rejects = rejects
        self._width = len(names)
        self._format = _format(settings, names, rejects)
        self._checksum = settings.checksum
        regex = settings.format == "regex"
        self._line_bytes_max = min(settings.line_bytes_max, REGEX_BYTES_MAX if regex else 65536)
        self._may_be_damaged = settings.may_be_damaged
        self._encoding = settings.encoding
        self._is_json = settings.format == "json"
        times = times_of(settings)
        self.in_seconds, self.earliest_s = times.scaled, times.earliest_s
        self.has_time = self._format.has_time
        self.block_counts_nothing = self._format.block_counts_nothing

    def go_on_below(self, before: object) -> None:
        """Continue with the header that another reader of the same lines found, if there is one."""
        if isinstance(before, Text) and isinstance(before._format, HeadedCsv):
            assert isinstance(self._format, HeadedCsv)
            self._format.go_on_below(before._format)

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once; if that is impossible, return None and count nothing."""
        if not lines or max(map(len, lines)) > self._line_bytes_max:
            return None
        if self._checksum:
            found = [checksum.checked(line, self._checksum) for line in lines]
            lines = [body for body in found if body is not None]
            if len(lines) < len(found):
                return None
        if self._encoding != "utf-8":
            lines = [transcoded(line, self._encoding) for line in lines]
        return self._format.block(lines)

    def each(self, lines: Sequence[bytes]) -> Rows:
        """Read line by line; count what cannot be used."""
        rows = [
            row
            for line in lines
            if (body := self._body(line))
            for part in self._parts(body)
            if (text := self._text(part)) and (row := self._format.line(part, text))
        ]
        return stacked(rows, self._width)

    def _parts(self, line: bytes) -> Sequence[bytes]:
        """Return the objects of a JSON array; otherwise the line."""
        line = transcoded(line, self._encoding)
        return documents(line) if self._is_json and line.lstrip()[:1] == b"[" else [line]

    def _body(self, line: bytes) -> bytes | None:
        """Return the line without its checksum; None if it cannot be used, or is blank."""
        if len(line) > self._line_bytes_max:
            self._rejects.add("too_long", line)
            return None
        if not self._checksum or line.isspace():
            return line
        body = checksum.checked(line, self._checksum)
        if body is None:
            self._rejects.add("bad_checksum", line)
        return body

    def _text(self, line: bytes) -> str | None:
        """Return the line as text; None if it is not text, or blank.

        If the line cannot have been damaged in transit, an undecodable byte affects only its cell.
        """
        if b"\0" in line and is_utf16(line):
            self._rejects.add("utf_16", line)
            return None
        try:
            text = line.decode()
        except UnicodeDecodeError:
            if self._may_be_damaged:
                self._rejects.add("not_utf8", line)
                return None
            text = line.decode(errors="replace")
        return None if text.isspace() else text.removeprefix("\ufeff")  # byte order mark


class LineParser:
    """Parses the lines, or the measurements, of one input; one thread uses it.

    Args:
        settings: The format and its limits.
        channels: The channels of the stream's bundle, in its order.

    Raises:
        ConfigError: the settings name a channel that the bundle does not have.

    """

    def __init__(
        self, settings: InputTable, channels: Sequence[Channel], rejects: Rejects | None = None
    ) -> None:
        """Set up; ``rejects``: those of the parser that this one replaces."""
        self._settings = settings
        self._names = [channel.name for channel in channels]
        self._rejects = rejects or Rejects(settings.rejects_kept)
        self.reads_measurements = settings.format == "readings"
        kind = Numbers if self.reads_measurements else Text
        self._source: _Source = kind(settings, self._names, self._rejects)
        self._earliest_s = self._source.earliest_s
        self.has_time = self._source.has_time  # whether lines, or measurements, have a time
        self._low = _limits((channel.low for channel in channels), -np.inf)
        self._high = _limits((channel.high for channel in channels), np.inf)
        # values beyond float32 are not clean
        self._clean_low = np.maximum(self._low, -FLOAT32_MAX)[None]  # (1, C), as a line's values
        self._clean_high = np.minimum(self._high, FLOAT32_MAX)[None]
        expect(settings, "channels", settings.channels or (), self._names)
        self._foreign = _foreign(settings.channels, self._names)
        self.ahead_max_s = math.inf if settings.ahead_max_s is None else settings.ahead_max_s
        self.layout: Hashable = (
            settings.model_dump_json(include=set(InputTable.model_fields) - {"name", "stream"}),
            settings.may_be_damaged,
            tuple(channel.model_dump_json() for channel in channels),
        )

    def for_channels(self, channels: Sequence[Channel]) -> LineParser:
        """Return a parser of the same input for another bundle with the same channel names.

        It continues this one's counters, and keeps the header.
        """
        following = LineParser(self._settings, channels, self._rejects)
        if isinstance(following._source, Text):
            following._source.go_on_below(self._source)
        return following

    @property
    def counters(self) -> Counter[str]:
        """Lines and values that were not used, by cause."""
        return self._rejects.counters

    def rejects(self) -> list[Reject]:
        """Return the last rejects of each cause, the latest at the end."""
        return self._rejects.last()

    def refuse(self, lines: Sequence[Raw], cause: Cause, arrived_s: float) -> None:
        """Reject whole lines without parsing; ``arrived_s`` is their arrival (Unix seconds)."""
        self._rejects.arrived_s = arrived_s
        for line in lines:
            if as_bytes(line).strip():
                self._rejects.add(cause, line)

    def parse(self, lines: Sequence[Raw], arrived_s: float, latest_s: float = math.inf) -> Readings:
        """Return the readings in ``lines``, in their order.

        ``arrived_s`` (Unix seconds) is their time if lines of this format have none. Lines whose
        own time is after ``latest_s`` are rejected.
        """
        self._rejects.arrived_s = arrived_s
        rows = self._source.block(lines) or self._source.each(lines)
        if self.has_time:
            timely = self._timely(rows.times)
            if not timely.all():
                rows = rows._replace(times=self._source.in_seconds(rows.times))
                rows = self._with_time(rows, self._timely(rows.times), "bad_time")
            rows = self._with_time(rows, rows.times <= latest_s, "in_future")
        if len(self._foreign):
            rows = self._of_its_channels(rows)
        times = rows.times if self.has_time else np.full(len(rows.lines), arrived_s)
        return Readings(times, self._good_values(rows))

    def parse_clean(
        self, lines: Sequence[Raw], arrived_s: Float64 | None, latest_s: float = TIME_MAX
    ) -> Readings | None:
        """Do ``parse`` for lines of any inputs with the same ``layout``, if all are good.

        Args:
            lines: n of them.
            arrived_s: (n,) Unix seconds; not needed if lines have their own time.
            latest_s: Latest valid time.

        Returns:
            A row for each line, in their order. None, and nothing is counted, if a line or a
            value in it would be rejected or ignored, or has a later time.

        """
        rows = self._source.block(lines) if self._source.block_counts_nothing else None
        if rows is None:
            return None
        limited = np.fmax(rows.values, self._clean_low)
        np.fmin(limited, self._clean_high, out=limited)
        if limited.tobytes() != rows.values.tobytes() and not self._is_clean(rows.values):
            return None
        if len(self._foreign) and not np.isnan(rows.values[:, self._foreign]).all():
            return None
        if not self.has_time:
            assert arrived_s is not None
            if arrived_s[-1] > latest_s:
                return None
            return Readings(arrived_s, rows.values.astype(np.float32, order="C"))
        if not self._all_timely(rows.times, min(latest_s, TIME_MAX)):
            rows = rows._replace(times=self._source.in_seconds(rows.times))
            if not self._all_timely(rows.times, min(latest_s, TIME_MAX)):
                return None
        return Readings(rows.times, rows.values.astype(np.float32, order="C"))

    def _all_timely(self, times: Float64, latest_s: float) -> bool:
        """Whether all times can be used; there is at least one."""
        if len(times) == 1:
            return bool(self._earliest_s <= times[0] <= latest_s)
        earliest_s = np.minimum.reduce(times)
        return bool(self._earliest_s <= earliest_s and np.maximum.reduce(times) <= latest_s)

    def _timely(self, times: Float64) -> Bool:
        return np.asarray((times >= self._earliest_s) & (times <= TIME_MAX))

    def _is_clean(self, values: Float64) -> bool:
        """Whether all existing values can be used."""
        inside = (values >= self._clean_low) & (values <= self._clean_high)
        return bool((inside | np.isnan(values)).all())

    def _with_time(self, rows: Rows, good: Bool, cause: Cause) -> Rows:
        """Return the rows whose time is ``good``, (n,)."""
        if good.all():
            return rows
        for index in np.flatnonzero(~good).tolist():
            self._rejects.add(cause, rows.lines[index])
        return _chosen(rows, good)

    def _of_its_channels(self, rows: Rows) -> Rows:
        """Drop values of other channels, and rows that have no value then."""
        refused = ~np.isnan(rows.values[:, self._foreign])
        if not refused.any():
            return rows
        for row, at in np.argwhere(refused).tolist():
            name = self._names[self._foreign[at]]
            self._rejects.add("not_its_channel", rows.lines[row], name)
        values = rows.values.copy()
        values[:, self._foreign] = np.nan
        left: Bool = np.logical_not(refused.any(axis=1) & np.isnan(values).all(axis=1))
        return _chosen(rows._replace(values=values), left)

    def _good_values(self, rows: Rows) -> Float32:
        """Return the values (n, C) with NaN in place of those that cannot be used."""
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            values = rows.values.astype(np.float32, order="C")
        not_finite = np.isinf(values)
        outside = ((rows.values < self._low) | (rows.values > self._high)) & ~not_finite
        self._drop(values, not_finite, "not_finite", rows.lines)
        self._drop(values, outside, "out_of_range", rows.lines)
        return values

    def _drop(self, values: Float32, bad: Bool, cause: Cause, lines: Sequence[Raw]) -> None:
        if bad.any():
            for row, channel in np.argwhere(bad).tolist():
                self._rejects.add(cause, lines[row], self._names[channel])
            values[bad] = np.nan


def _format(settings: InputTable, names: Sequence[str], rejects: Rejects) -> Format:
    match settings.format:
        case "json":
            return Json(settings, names, rejects)
        case "keyvalue":
            return KeyValue(settings, names, rejects)
        case "regex":
            return Regex(settings, names, rejects)
    if settings.header:
        return HeadedCsv(settings, names, rejects)
    assert settings.columns is not None  # the configuration sees to it
    return Csv(settings, settings.columns, names, rejects)


def _foreign(channels: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Return the indices of channels that an input must not deliver."""
    if channels is None:
        return []
    return [at for at, name in enumerate(names) if name not in channels]


def _chosen(rows: Rows, which: Bool) -> Rows:
    lines = [rows.lines[index] for index in np.flatnonzero(which).tolist()]
    times = rows.times[which] if len(rows.times) else rows.times
    return Rows(lines, times, rows.values[which])


def _limits(limits: Iterable[float | None], default: float) -> Float64:
    return np.array([default if limit is None else limit for limit in limits])
