"""The formats of a line: text into numbers, which are not checked yet.

Each format reads a block of clean lines at once and any line by itself, with the same result.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from agent.config.inputs import IGNORED, TIME, InputTable
from agent.parsing.measurement import Raw
from agent.parsing.rejects import Rejects
from models.errors import ConfigError
from models.messages import Float64

ABSENT = math.nan  # no value at all
NOT_FINITE = math.inf  # a value that is NaN or infinite; NaN means absent already
NO_TIME = math.nan

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")  # of RFC 6901
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


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


class Columns:
    """Fields of text in a fixed order: one is the time, others are channels, the rest ignored."""

    def __init__(self, columns: Sequence[str], names: Sequence[str]) -> None:
        self.width = len(columns)
        self._time = columns.index(TIME) if TIME in columns else None
        self.has_time = self._time is not None
        channels = [names.index(name) if name in names else None for name in columns]
        self._used = [at for at, channel in enumerate(channels) if channel is not None]
        self._order = [channel for channel in channels if channel is not None]
        self._blank = [ABSENT] * len(names)
        first = self._used[0] if self._used else 0
        side_by_side = self._used == list(range(first, first + len(self._used)))
        self._read_from = slice(first, first + len(self._used)) if side_by_side else self._used
        self._in_order = self._order == list(range(len(names)))

    def block(self, lines: Sequence[bytes], fields: list[str], has_nan: bool = True) -> Rows | None:
        """Read the fields of all lines; None if a used one is not a plain number.

        ``has_nan``: whether one may be NaN.
        """
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
            table[:, self._time] = list(map(unix_time, fields[self._time :: self.width]))
        return Rows(lines, *self._judged(table, True))

    def _judged(self, table: Float64, has_nan: bool) -> tuple[Float64, Float64]:
        """Return times and values of a table of all columns."""
        times = np.empty(0) if self._time is None else table[:, self._time]
        values = table[:, self._read_from]
        if has_nan:
            values[np.isnan(values)] = NOT_FINITE
        if self._in_order:
            return times, values
        ordered = np.full((len(table), len(self._blank)), ABSENT)
        ordered[:, self._order] = values
        return times, ordered

    def row(self, line: bytes, fields: Sequence[str]) -> Row:
        """Read the fields of one line; raises ValueError if a used one is not a number."""
        values = self._blank.copy()
        for at, channel in zip(self._used, self._order, strict=True):
            values[channel] = value_in(fields[at])
        return Row(line, NO_TIME if self._time is None else unix_time(fields[self._time]), values)


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
        self._columns = Columns(columns, names)
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
        """Read one line; None if it was rejected, or is the header."""
        fields = self.split(text)
        if len(fields) != self._columns.width:
            short = len(fields) < self._columns.width
            self._rejects.add("truncated" if short else "malformed", line)
            return None
        try:
            return self._columns.row(line, fields)
        except ValueError:
            if not self._is_header(fields):
                self._rejects.add("malformed", line)
            return None

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
            values = [_json_value(document.get(key)) for key in keys.channels]
        except ValueError:
            self._rejects.add("malformed", line)
            return None
        if not document.keys() <= self._expected:
            for key in sorted(document.keys() - self._expected):
                self._rejects.add("unknown_channel", line, key)
        for at, name, key in self._qualities:
            if not math.isnan(values[at]) and not self._is_good(document.get(key)):
                self._rejects.add("bad_quality", line, name)
                values[at] = ABSENT
        time = _json_time(document.get(keys.time)) if keys.time else NO_TIME
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


def value_in(field: str) -> float:
    """Return the number in a field of text; raises ValueError if there is none."""
    if not field or field.isspace():
        return ABSENT
    number = _number(field)
    return NOT_FINITE if math.isnan(number) else number


def _number(text: str) -> float:
    """Like ``float``, which accepts more than devices should send: 1_000, digits of any script."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def unix_time(text: str) -> float:
    """Return Unix seconds from a number of them or from RFC 3339; NaN from anything else."""
    text = text.strip()
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).timestamp()
        return _number(text)
    except ValueError:
        return NO_TIME


def _json_value(value: object) -> float:
    """Return a JSON value that is a number; raises ValueError if it is not."""
    if type(value) is float:
        return value if math.isfinite(value) else NOT_FINITE
    if value is None:
        return ABSENT
    if type(value) is not int:  # a bool is not a number
        raise ValueError(value)
    return _from_int(value)


def _json_time(value: object) -> float:
    if type(value) is str:
        return unix_time(value)
    if type(value) is float:
        return value
    return _from_int(value) if type(value) is int else NO_TIME


def _from_int(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return NOT_FINITE


def expect(settings: InputTable, key: str, named: Iterable[str], names: Sequence[str]) -> None:
    """Raise a ConfigError if ``named`` has a name that is not a channel of the bundle."""
    for name in sorted(set(named) - set(names)):
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(
            f"input {settings.name}: {key}: {name!r} is not a channel of stream"
            f" {settings.stream}'s bundle; {advice}"
        )
