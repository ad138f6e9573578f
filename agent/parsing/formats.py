"""The formats of a line: they convert text to numbers, which are not validated yet.

Each format parses a block of clean lines at once, or any line by itself, with the same result.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from agent.config.inputs import InputTable
from agent.parsing.measurement import Raw
from agent.parsing.rejects import Rejects
from models.errors import ConfigError
from models.formats.cells import ABSENT, CLOCK, IGNORED, TIME, Cells, Fault, json_number
from models.formats.separated import ReadRow, Separated
from models.formats.times import NO_TIME, Times
from models.messages import Float64

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")  # of RFC 6901


class Row(NamedTuple):
    """One line or measurement as numbers, not validated yet."""

    line: Raw
    time: float  # Unix seconds; NaN if a required time is missing
    values: list[float]  # one per channel; ``ABSENT`` and ``NOT_FINITE`` as such


class Rows(NamedTuple):
    """``n`` lines or measurements as numbers, not validated yet."""

    lines: Sequence[Raw]
    times: Float64  # (n,)
    values: Float64  # (n, C)


class Format(Protocol):
    """Extracts numbers from the text of a line."""

    has_time: bool
    block_counts_nothing: bool  # because it only reads blocks that are clean

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once; if that is impossible, return None and count nothing."""

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected (and counted) or has no readings."""


class Values:
    """Parses the values of a row cell by cell. A bad cell affects only its own value."""

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        self.cells = Cells(settings.decimal, settings.missing_words)
        self._names, self._rejects = names, rejects

    def read(self, line: bytes, cells: Iterable[tuple[int, str]]) -> list[float]:
        """Return a value for each channel; count the cells that have none.

        ``cells`` yields the index of a channel and its text.
        """
        values, faults = self.cells.row(cells, len(self._names))
        self.count(line, faults)
        return values

    def read_json(self, line: bytes, values: Iterable[tuple[int, object]]) -> list[float]:
        """Do the same for JSON values."""
        read, faults = self.cells.json_row(values, len(self._names))
        self.count(line, faults)
        return read

    def count(self, line: bytes, faults: Iterable[Fault]) -> None:
        """Count the faults of a row that is used."""
        for channel, cause in faults:
            self._rejects.add(cause, line, self._names[channel])


class Csv:
    """Values with a separator between them, in configured columns; a header is ignored."""

    block_counts_nothing = True

    def __init__(
        self,
        settings: InputTable,
        columns: Sequence[str],
        names: Sequence[str],
        rejects: Rejects,
    ) -> None:
        expect(settings, "columns", set(columns) - {TIME, CLOCK, IGNORED}, names)
        self._rejects = rejects
        self._values = Values(settings, names, rejects)
        self._separated = Separated(
            columns,
            names,
            settings.separator or ",",
            settings.decimal == ",",
            self._values.cells,
            times_of(settings),
            settings.may_be_damaged,
        )
        self.has_time = self._separated.has_time

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Parse all lines at once, if each is complete and has a number in every column used."""
        table = self._separated.block(lines)
        return None if table is None else Rows(lines, *table)

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected, or is the header."""
        match self._separated.line(text):
            case "header":
                return None
            case "truncated" | "malformed" as cause:
                self._rejects.add(cause, line)
                return None
            case ReadRow(time, values, faults, cut):
                if cut:
                    self._rejects.add("truncated", line)
                self._values.count(line, faults)
                return Row(line, time, values)


class Keys:
    """The keys of a line that are read, and their meaning.

    Raises:
        ConfigError: a key is configured for a channel that the bundle does not have.

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
        # A line is one whole object if its only braces are at its ends. No string can span a line
        # end, so these braces are not inside a string.
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
            values = self._values.read_json(line, enumerate(map(document.get, keys.channels)))
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
        """Whether a quality is good; a missing quality counts as good."""
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
    """Join single rows into one block."""
    return Rows(
        [row.line for row in rows],
        np.array([row.time for row in rows], np.float64),
        np.array([row.values for row in rows], np.float64).reshape(-1, channels),
    )


def times_of(settings: InputTable) -> Times:
    """Return the parser of an input's times."""
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
