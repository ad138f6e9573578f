"""CSV with a header, a line of the file or message that names the columns."""

from __future__ import annotations

from collections.abc import Sequence

from agent.config.inputs import InputTable
from agent.parsing.formats import Csv, Row, Rows, expect, stacked
from agent.parsing.rejects import Rejects
from models.formats.cells import IGNORED, TIME
from models.formats.header import Wanted, is_header, names_in, plain


class HeadedCsv:
    """Values below a header; a later header may name other columns.

    A line is a header if it names the time (if there is a ``time_key``) and a channel. Lines before
    the first header are malformed.
    """

    block_counts_nothing = False  # a header is a line without a row

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        expect(settings, "keys", settings.keys, names)
        self._settings, self._names, self._rejects = settings, names, rejects
        # older versions of ``probe`` proposed column names with their quotes
        self._meaning = {plain(settings.keys.get(name, name)): name for name in names}
        time_key = None if settings.time_key is None else plain(settings.time_key)
        self._wanted = Wanted(time_key, frozenset(self._meaning))
        self.has_time = time_key is not None
        if time_key is not None:
            self._meaning[time_key] = TIME
        self._header = b""
        self._csv: Csv | None = None

    def go_on_below(self, before: HeadedCsv) -> None:
        """Continue with the header that another reader of the same lines found."""
        if before._header:
            self.line(before._header, before._header.decode())

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Read all lines at once, below the known header or an identical one."""
        if self._csv is None:
            return None
        rows = lines[1:] if lines[0] == self._header else lines
        return self._csv.block(rows) if rows else stacked([], len(self._names))

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected, or is a header."""
        columns = self._columns(text)
        if columns is not None:
            self._header = line
            self._csv = Csv(self._settings, columns, self._names, self._rejects)
            return None
        if self._csv is None:
            self._rejects.add("malformed", line)
            return None
        return self._csv.line(line, text)

    def _columns(self, text: str) -> list[str] | None:
        """Return each column's meaning if this is a header; of equal names the first counts."""
        cells = names_in(text, self._settings.separator or ",")
        if not is_header(cells, self._wanted):
            return None
        columns: list[str] = []
        for cell in cells:
            meaning = self._meaning.get(cell, IGNORED)
            columns.append(IGNORED if meaning in columns else meaning)
        return columns
