"""The formats of a line: text into numbers, which are not checked yet.

Each format reads a block of clean lines at once and any line by itself, with the same result.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from agent.config.inputs import IGNORED, TIME, InputTable
from agent.parsing.measurement import Raw
from agent.parsing.rejects import Cause, Rejects
from models.errors import ConfigError
from models.formats.cells import ABSENT, NOT_FINITE, Cells, NotANumber, NoValue, json_number
from models.formats.times import NO_TIME, Times
from models.messages import Float64

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")  # of RFC 6901


class Row(NamedTuple):
    """One line, or measurement, as numbers, not yet checked."""

    line: Raw
    time: float  # Unix seconds; NaN if the line should have one but has not
    values: list[float]  # one per channel; ``ABSENT`` and ``NOT_FINITE`` as such


class Rows(NamedTuple):
    """``n`` lines, or measurements, as numbers, not yet checked."""

    lines: Sequence[Raw]
    times: Float64  # (n,)
    values: Float64  # (n, C)


class Format(Protocol):
    """How the text of a line contains numbers."""

    has_time: bool
    block_counts_nothing: bool  # because a block is either clean or not read at all

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once; None, and nothing counted, if that is impossible."""

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected (and counted) or has no readings."""


class Values:
    """Reads the values of a row cell by cell. A bad cell costs only its own value."""

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        self.cells = Cells(settings.decimal, settings.missing_words)
        self._names, self._rejects = names, rejects

    def read(self, cells: Iterable[tuple[int, str]]) -> tuple[list[float], list[Fault]]:
        """Return a value for each channel, and why some are missing; nothing is counted yet.

        ``cells`` has the number of a channel and its text.
        """
        return self._read(cells, self.cells.value)

    def read_json(self, values: Iterable[tuple[int, object]]) -> tuple[list[float], list[Fault]]:
        """Do the same for values of JSON."""
        return self._read(values, self.cells.json_value)

    def _read(
        self, cells: Iterable[tuple[int, Any]], value: Callable[[Any], float]
    ) -> tuple[list[float], list[Fault]]:
        values = [ABSENT] * len(self._names)
        faults = []
        for channel, cell in cells:
            try:
                values[channel] = value(cell)
            except NoValue:
                faults.append(Fault(channel, "no_value"))
            except NotANumber:
                faults.append(Fault(channel, "not_a_number"))
        return values, faults

    def count(self, line: bytes, faults: Iterable[Fault]) -> None:
        """Count the faults of a row that is used."""
        for channel, cause in faults:
            self._rejects.add(cause, line, self._names[channel])


class Fault(NamedTuple):
    """Why a cell gives no value."""

    channel: int
    cause: Cause


class Columns:
    """Fields of text in a fixed order: one is the time, others are channels, the rest ignored."""

    def __init__(self, columns: Sequence[str], names: Sequence[str], times: Times) -> None:
        self.width = len(columns)
        self._seconds = times.seconds
        self._numeric = times.numbers_are_times
        self._time = columns.index(TIME) if TIME in columns else None
        self.has_time = self._time is not None
        channels = [names.index(name) if name in names else None for name in columns]
        self._used = [at for at, channel in enumerate(channels) if channel is not None]
        self._order = [channel for channel in channels if channel is not None]
        self._channels = len(names)
        first = self._used[0] if self._used else 0
        side_by_side = self._used == list(range(first, first + len(self._used)))
        self._read_from = slice(first, first + len(self._used)) if side_by_side else self._used
        self._in_order = self._order == list(range(len(names)))

    def block(self, lines: Sequence[bytes], fields: list[str], has_nan: bool = True) -> Rows | None:
        """Read the fields of all lines; None if a used one is not a plain number.

        ``has_nan``: whether one may be NaN.
        """
        if not self._numeric:
            return self._by_column(lines, fields)
        try:
            table = np.array(list(map(float, fields))).reshape(len(lines), -1)
        except ValueError:
            return self._by_column(lines, fields)
        return Rows(lines, *self._judged(table, has_nan))

    def _by_column(self, lines: Sequence[bytes], fields: list[str]) -> Rows | None:
        """Read a block with times that are not numbers, or with unused columns."""
        table = np.zeros((len(lines), self.width))
        try:
            for at in self._used:
                table[:, at] = list(map(float, fields[at :: self.width]))
        except ValueError:
            return None
        if self._time is not None:
            table[:, self._time] = list(map(self._seconds, fields[self._time :: self.width]))
        return Rows(lines, *self._judged(table, True))

    def _judged(self, table: Float64, has_nan: bool) -> tuple[Float64, Float64]:
        """Return times and values of a table of all columns."""
        times = np.empty(0) if self._time is None else table[:, self._time]
        values = table[:, self._read_from]
        if has_nan:
            values[np.isnan(values)] = NOT_FINITE
        if self._in_order:
            return times, values
        ordered = np.full((len(table), self._channels), ABSENT)
        ordered[:, self._order] = values
        return times, ordered

    def used(self, fields: Sequence[str]) -> list[tuple[int, str]]:
        """Return the fields of one line that are channels, each with the channel's number."""
        return [(channel, fields[at]) for at, channel in zip(self._used, self._order, strict=True)]

    def time(self, fields: Sequence[str]) -> float:
        """Return the time of one line as ``Times`` reads it; NaN if it has none."""
        return NO_TIME if self._time is None else self._seconds(fields[self._time])


class Csv:
    """Values with a separator in between, each column as configured; a header is ignored."""

    block_counts_nothing = True

    def __init__(
        self,
        settings: InputTable,
        columns: Sequence[str],
        names: Sequence[str],
        rejects: Rejects,
    ) -> None:
        expect(settings, "columns", set(columns) - {TIME, IGNORED}, names)
        self._rejects = rejects
        self._names = columns
        self._columns = Columns(columns, names, times_of(settings))
        self._values = Values(settings, names, rejects)
        self._may_be_damaged = settings.may_be_damaged
        self.has_time = self._columns.has_time
        self._separator = settings.separator or ","
        self._decimal_comma = settings.decimal == ","

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once, if each is whole and has a number in every column used."""
        joined = b"\n" + (self._separator.encode() + b"\n").join(lines)
        if b"_" in joined or not joined.isascii():  # which float accepts, in its own way
            return None
        if self._separator == " ":
            if any(len(line.split()) != self._columns.width for line in lines):
                return None
            fields = self.split(joined.decode())
        else:
            fields, width, count = self.split(joined.decode()), self._columns.width, len(lines)
            # each line has its columns if all line ends, which float passes over, are before a
            # first field
            if not (
                len(fields) == count * width
                and "".join(fields[::width]).count("\n") == count == joined.count(b"\n")
            ):
                return None
        return self._columns.block(lines, fields, b"n" in joined or b"N" in joined)

    def split(self, text: str) -> list[str]:
        """Return the fields of a line."""
        if self._decimal_comma:
            text = text.replace(",", ".")
        return text.split() if self._separator == " " else text.split(self._separator)

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected, or is the header.

        If it may be cut off, its last field may be a part of a number, and is not used.
        """
        fields = self.split(text)
        lacking = self._columns.width - len(fields)
        if lacking < 0 or (lacking and (self._may_be_damaged or len(fields) == 1)):
            self._rejects.add("truncated" if lacking > 0 else "malformed", line)
            return None
        if lacking:
            fields = [*fields[:-1], *[""] * (lacking + 1)]
        used, time = self._columns.used(fields), self._columns.time(fields)
        values, faults = self._values.read(used)
        if (
            faults
            and math.isnan(time)
            and [fault.cause for fault in faults].count("not_a_number") == len(used)
        ):
            if not self._is_header(fields):
                self._rejects.add("malformed", line)
            return None
        if lacking:
            self._rejects.add("truncated", line)
        self._values.count(line, faults)
        return Row(line, time, values)

    def _is_header(self, fields: Sequence[str]) -> bool:
        return all(
            column in (IGNORED, field.strip())
            for column, field in zip(self._names, fields, strict=True)
        )


class Keys:
    """Which keys of a line are read, and what they are.

    Raises:
        ConfigError: a key is named for a channel that the bundle does not have.

    """

    def __init__(self, settings: InputTable, names: Sequence[str]) -> None:
        expect(settings, "keys", settings.keys, names)
        self.channels = [settings.keys.get(name, name) for name in names]
        self.time = settings.time_key
        self.read = [*self.channels, *([self.time] if self.time else [])]
        self.known = frozenset(self.channels)
        self.expected = frozenset([*self.read, *settings.ignore_keys])


class Json:
    """One object per line; the values of its keys are numbers, or null for no value."""

    block_counts_nothing = False

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        self._rejects = rejects
        self._keys = Keys(settings, names)
        self._values = Values(settings, names, rejects)
        self._seconds = times_of(settings).json_seconds
        self.has_time = self._keys.time is not None
        expect(settings, "quality_keys", settings.quality_keys, names)
        self._qualities = [
            (names.index(name), name, key) for name, key in settings.quality_keys.items()
        ]
        self._good = frozenset(word.casefold() for word in settings.quality_good)
        keys = [*self._keys.read, *settings.quality_keys.values()]
        self._expected = self._keys.expected | set(keys)
        self._pointers = any(key.startswith("/") for key in keys)

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once, if each is one flat object."""
        joined = b",\n".join(lines)
        # Each line is a whole object, not two or half of one, if it has the only braces at its
        # ends: no string can go over a line end, so these braces are in none.
        if not (
            joined.startswith(b"{")
            and joined.endswith(b"}")
            and joined.count(b"{") == joined.count(b"}") == len(lines)
            and joined.count(b"},\n{") == len(lines) - 1
        ):
            return None
        try:
            documents = json.loads(f"[{joined.decode()}]")
        except (ValueError, RecursionError):
            return None
        rows = map(self._row, lines, documents)
        return stacked([row for row in rows if row], len(self._keys.channels))

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            whole = text.strip()
            cut = whole.startswith("{") and not whole.endswith("}")
            self._rejects.add("truncated" if cut else "malformed", line)
            return None
        if not isinstance(document, dict):
            self._rejects.add("malformed", line)
            return None
        return self._row(line, document)

    def _pointed_at(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values at the expected keys and JSON pointers (RFC 6901)."""
        found = {}
        for key in self._expected:
            value = _at(document, key) if key.startswith("/") else document.get(key, _NOTHING)
            if value is not _NOTHING:
                found[key] = value
        return found

    def _row(self, line: bytes, document: Mapping[str, Any]) -> Row | None:
        if self._pointers:
            document = self._pointed_at(document)
        keys = self._keys
        if keys.known.isdisjoint(document):
            self._rejects.add("unknown_channel", line)
            return None
        try:
            values = [json_number(document.get(key)) for key in keys.channels]
        except ValueError:
            values, faults = self._values.read_json(enumerate(map(document.get, keys.channels)))
            self._values.count(line, faults)
        if not document.keys() <= self._expected:
            for key in sorted(document.keys() - self._expected):
                self._rejects.add("unknown_channel", line, key)
        for at, name, key in self._qualities:
            if not math.isnan(values[at]) and not self._is_good(document.get(key)):
                self._rejects.add("bad_quality", line, name)
                values[at] = ABSENT
        time = self._seconds(document.get(keys.time)) if keys.time else NO_TIME
        return Row(line, time, values)

    def _is_good(self, quality: object) -> bool:
        """Whether a quality is good; without a quality it is."""
        return quality is None or str(quality).casefold() in self._good


_NOTHING: Final = object()


def _at(document: object, pointer: str) -> object:
    for part in pointer[1:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            return _NOTHING
    return document


def stacked(rows: Sequence[Row], channels: int) -> Rows:
    """Return single rows as one block."""
    return Rows(
        [row.line for row in rows],
        np.array([row.time for row in rows], np.float64),
        np.array([row.values for row in rows], np.float64).reshape(-1, channels),
    )


def times_of(settings: InputTable) -> Times:
    """Return how an input's times are read."""
    return Times(settings.time_format, settings.time_zone)


def expect(settings: InputTable, key: str, named: Iterable[str], names: Sequence[str]) -> None:
    """Raise a ConfigError if ``named`` has a name that is not a channel of the bundle."""
    for name in sorted(set(named) - set(names)):
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(
            f"input {settings.name}: {key}: {name!r} is not a channel of stream"
            f" {settings.stream}'s bundle; {advice}"
        )
