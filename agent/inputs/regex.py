"""Lines that a regular expression describes: its named groups are channels, or the time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.config import IGNORED, TIME, InputTable
from agent.inputs.formats import Columns, Row, Rows, expect
from agent.inputs.rejects import Rejects


class Regex:
    """One pattern that a whole line must match; see ``agent.line_patterns`` for which may be."""

    block_counts_nothing = True

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        assert settings.pattern is not None  # the configuration sees to it
        expect(settings, "keys", settings.keys, names)
        self._rejects = rejects
        self._pattern = re.compile(settings.pattern)
        self._groups = list(self._pattern.groupindex.values())
        channels = {group: channel for channel, group in settings.keys.items()}
        columns = [channels.get(group, group) for group in self._pattern.groupindex]
        expect(settings, "pattern", set(columns) - {TIME, IGNORED}, names)
        self._columns = Columns(columns, names)
        self.has_time = self._columns.has_time

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once, if each matches and has a plain number in every group used."""
        fields: list[str] = []
        try:
            for line in lines:
                found = self._fields(line.decode())
                if found is None:
                    return None
                fields += found
        except UnicodeDecodeError:
            return None
        # which float takes, in its own way
        if any("_" in field or not field.isascii() for field in fields):
            return None
        return self._columns.block(lines, fields)

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None where it was rejected."""
        fields = self._fields(text)
        try:
            if fields is not None:
                return self._columns.row(line, fields)
        except ValueError:
            pass
        self._rejects.add("malformed", line)
        return None

    def _fields(self, text: str) -> list[str] | None:
        match = self._pattern.fullmatch(text)
        return None if match is None else [match[group] or "" for group in self._groups]
