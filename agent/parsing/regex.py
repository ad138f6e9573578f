"""Lines in a format given by a regular expression: its named groups are channels, or the time.

A line for which matching takes too long is rejected. If there are many, further lines are rejected
without matching, so that slow lines take at most about a tenth of the time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Sequence
from typing import Final

from agent.config.inputs import InputTable
from agent.config.time_limit import LIMIT_S, TIME_LIMIT, TooSlow
from agent.parsing.formats import Row, Rows, Values, expect, times_of
from agent.parsing.rejects import Rejects
from models.formats.cells import IGNORED, TIME
from models.formats.separated import Columns
from models.printable import printable

_LOG = logging.getLogger(__name__)

_USUAL_S: Final = 0.001  # upper limit for a normal line; a hundred times the expected duration
_LIMIT_MET_S: Final = 2 * LIMIT_S  # CPU time by which the limit has taken effect at the latest
_SHARE: Final = 0.1  # share of the time that slow lines may take,
_AHEAD_S: Final = 1.0  # after this much at once


class Regex:
    """One pattern that a whole line must match; see ``config.line_patterns``."""

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
        self._columns = Columns(columns, names, times_of(settings))
        self._values = Values(settings, names, rejects)
        self._decimal_comma = settings.decimal == ","
        self.has_time = self._columns.has_time
        self._rested_s = -math.inf  # monotonic; end of the pause that compensates slow lines
        self._warned = False

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once, if each matches and has a plain number in every group used."""
        fields: list[str] = []
        try:
            for line in lines:
                found = self._fields(line.decode())
                if found is None:
                    return None
                fields += found
        except (UnicodeDecodeError, TooSlow):
            return None
        # float would accept these, but reads them differently
        if any("_" in field or not field.isascii() for field in fields):
            return None
        if self._decimal_comma:
            fields = self._columns.with_points(fields)
        table = self._columns.block(fields)
        return None if table is None else Rows(lines, *table)

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected."""
        try:
            fields = self._fields(text)
        except TooSlow:
            self._rejects.add("too_slow", line)
            return None
        if fields is None:
            self._rejects.add("malformed", line)
            return None
        values = self._values.read(line, self._columns.used(fields))
        return Row(line, self._columns.time(fields), values)

    def _fields(self, text: str) -> list[str] | None:
        """Return the texts of the groups; None if the line does not match.

        Raises:
            TooSlow: matching takes too long, or took too long for too many recent lines.

        """
        began = time.monotonic()
        if self._rested_s > began + _AHEAD_S / _SHARE:
            raise TooSlow
        try:
            match = self._match(text)
        except TooSlow:
            self._rest(began, _LIMIT_MET_S)
            raise
        if time.monotonic() - began > _USUAL_S:
            self._rest(began, self._computing_s(text))
        return None if match is None else [match[group] or "" for group in self._groups]

    def _match(self, text: str) -> re.Match[str] | None:
        TIME_LIMIT.begin()
        try:
            return self._pattern.fullmatch(text)
        finally:
            TIME_LIMIT.end()

    def _computing_s(self, text: str) -> float:
        """Repeat the match of a line that seemed slow; return this thread's CPU time.

        The machine may have been busy with other work.
        """
        began = time.thread_time()
        with contextlib.suppress(TooSlow):
            self._match(text)
        return time.thread_time() - began

    def _rest(self, began: float, took_s: float) -> None:
        if took_s <= _USUAL_S:
            return
        if took_s > LIMIT_S and not self._warned:
            self._warned = True
            _LOG.warning(
                "the pattern %s took more than %g s of CPU time for a line; such lines are"
                " rejected as too_slow, see fieldwatch-agent check",
                printable(self._pattern.pattern),
                LIMIT_S,
            )
        self._rested_s = max(self._rested_s, began) + took_s / _SHARE
