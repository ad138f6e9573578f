"""Finds the header of a file, below title lines and above lines with units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from models.formats.cells import number, ungrouped
from models.formats.encodings import Encoding, transcoded
from models.formats.separated import SEPARATORS, split

LINES_MAX: Final = 100  # the header must be among these

_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.DOTALL)  # as spreadsheets write it
_DATE_OR_CLOCK = re.compile(r"\d+[-./]\d+[-./]\d+|\d+:\d\d", re.ASCII)
_BOM: Final = "\ufeff"


class Wanted(NamedTuple):
    """The expected content of a header."""

    time: str | None = None  # name of the time column; None: not required
    names: frozenset[str] = frozenset()  # channels' columns; it has at least one; empty: unknown


def names_in(text: str, separator: str) -> list[str]:
    """Return the cells of a header, without blanks, quotes and byte order mark."""
    return [plain(cell) for cell in split(text.removeprefix(_BOM), separator)]


def plain(name: str) -> str:
    """Return a column's name without blanks and quotes around it."""
    name = name.strip()
    return name[1:-1].strip() if len(name) > 1 and name[0] == name[-1] == '"' else name


def is_header(cells: Sequence[str], wanted: Wanted) -> bool:
    """Whether cells without blanks and quotes are a header, by known names or by their form."""
    if wanted.time is not None and wanted.time not in cells:
        return False
    if wanted.names:
        return not wanted.names.isdisjoint(cells)
    return wanted.time is not None or looks_like_names(cells)


def looks_like_names(cells: Sequence[str]) -> bool:
    """Whether all cells have different text, and none is a number or a time."""
    return all(cells) and len(set(cells)) == len(cells) and not any(map(is_value, cells))


def is_value(cell: str) -> bool:
    """Whether a cell is a number or begins like a time."""
    cell = plain(cell)
    try:
        number(cell.replace(",", "."))
    except ValueError:
        apart = ungrouped(cell, True) or ungrouped(cell, False)
        return apart is not None or bool(_DATE_OR_CLOCK.match(cell))
    return cell.strip("+-").upper() not in ("NAN", "INF", "INFINITY")


class Preamble:
    """Finds the header of a file, line by line.

    If no name in it is known, the header is the first line that looks like names and has as many
    cells as the first row below it.

    Args:
        wanted: The expected content of the header.
        separator: None: the one that makes a line the header, or that a line ``sep=;`` names.
        encoding: The encoding of the lines.

    Attributes:
        header: The names of the columns; None until they are found.
        line: The unchanged header.
        separator: The separator between cells; None until it is known.

    """

    def __init__(self, wanted: Wanted, separator: str | None, encoding: Encoding = "utf-8") -> None:
        self._wanted = wanted
        self._encoding = encoding
        self._by_looks = wanted == Wanted()
        self._candidates: dict[int, bytes | None] = {}  # by number of cells; None: a row came first
        self._seen = 0
        self.header: list[str] | None = None
        self.line: bytes | None = None
        self.separator = separator

    @property
    def given_up(self) -> bool:
        """Whether there was no header among the first lines."""
        return self._seen > LINES_MAX

    def takes(self, line: bytes) -> bool:
        """Return whether a line belongs to the preamble; the first that does not is a row.

        If the first ``LINES_MAX`` lines have no header, the following lines are rows.
        """
        text = self._text(line)
        if self.header is not None:
            return not any(map(is_value, split(text, self.separator or ",")))
        self._seen += 1
        if self.given_up:
            return False
        if match := _SEPARATOR_LINE.fullmatch(text):
            self.separator = self.separator or match[1]
            return True
        if self._by_looks:
            return self._looks_on(line, names_in(text, self.separator or ","))
        for separator in SEPARATORS if self.separator is None else [self.separator]:
            cells = names_in(text, separator)
            if is_header(cells, self._wanted):
                self.header, self.line, self.separator = cells, line, separator
                break
        return True

    def _looks_on(self, line: bytes, cells: list[str]) -> bool:
        """Keep lines that look like a header, until a row with as many cells confirms one."""
        if not any(map(is_value, cells)):
            if looks_like_names(cells):
                self._candidates.setdefault(len(cells), line)
            return True
        self.line = self._candidates.setdefault(len(cells), None)
        if self.line is None:  # a line of the title, or there is no header
            return True
        self.header = names_in(self._text(self.line), self.separator or ",")
        return False

    def _text(self, line: bytes) -> str:
        return transcoded(line, self._encoding).decode(errors="replace").removeprefix(_BOM)
