"""The first look at a source: its columns, with some of their cells as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.errors import DataError
from models.formats.cells import has_decimal_comma
from models.formats.encodings import Encoding, as_utf8, likely
from models.formats.header import (
    LINES_MAX,
    Preamble,
    Wanted,
    is_value,
    looks_like_names,
    names_in,
)
from models.formats.lines import whole_lines
from models.formats.separated import SEPARATORS
from models.times import iso_time
from trainer.datasets import read_bytes
from trainer.datasets.arrays import ArrayFile
from trainer.datasets.parquet import SUFFIXES, ParquetFile
from trainer.datasets.tables import Moments, Numbers, Table
from trainer.datasets.unpacked import unpacked

_FIRST: Final = 200  # rows
_SPREAD: Final = 800  # rows, evenly over the rest
_TRIED: Final = 20  # rows, to find the separator


class Looked(NamedTuple):
    """The columns of a source."""

    names: list[str]
    cells: list[list[str]]  # of each column, some rows, in order; "": no value
    units: Mapping[str, str]  # of the columns that have one in a line of units
    settings: Mapping[str, Any]  # of the table [data], as far as the form of the file tells


def look(path: Path) -> Looked:
    """Look at a file.

    Raises:
        ConfigError: the extra is not installed.
        DataError: it cannot be read, or has no header or no rows.

    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or path.is_dir():
        return look_at(ParquetFile(path))
    if suffix in (".npy", ".npz"):
        return look_at(ArrayFile(path))
    return _csv(path)


def look_at(table: Table) -> Looked:
    """Look at a table with typed columns.

    Raises:
        DataError: it has no rows, or a column cannot be read.

    """
    if not table.rows:
        raise DataError(f"{table.where}: there are no rows")
    rows = _some(table.rows)
    return Looked(list(table.names), [_texts(table, name, rows) for name in table.names], {}, {})


def _texts(table: Table, name: str, rows: Sequence[int]) -> list[str]:
    try:
        column = table.column(name)
    except DataError:  # of a type that is no channel
        return ["?"] * len(rows)
    match column:
        case Numbers(values):
            return ["" if np.isnan(value) else f"{value:.15g}" for value in values[rows]]
        case Moments(seconds, local):
            times = seconds[rows].tolist()
            return ["" if t != t else iso_time(t).rstrip("Z" if local else "") for t in times]
    return [column[row] or "" for row in rows]


def _some(count: int) -> list[int]:
    """Return the first rows, and others evenly over the rest."""
    first = list(range(min(_FIRST, count)))
    if count <= _FIRST:
        return first
    spread = np.linspace(_FIRST, count - 1, min(_SPREAD, count - _FIRST)).astype(int)
    return first + [int(row) for row in np.unique(spread)]


def _csv(path: Path) -> Looked:
    data = unpacked(path, read_bytes(path))
    encoding: Encoding = likely(data)
    try:
        lines, _ = whole_lines(as_utf8(data, encoding))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    lines = [line for line in lines if line.strip()]
    found = max((_Split.by(lines, separator) for separator in SEPARATORS), key=_Split.fitness)
    if not found.header:
        raise DataError(
            f"{path}: no header was found among its first {LINES_MAX} lines: a line above the rows"
            " must have the columns' names"
        )
    rows = lines[found.begin :]
    texts = [rows[row].decode(errors="replace") for row in _some(len(rows))]
    split = [names_in(text, found.separator) for text in texts]
    cells = [cells for cells in split if len(cells) == len(found.header)]
    columns = [list(column) for column in zip(*cells, strict=True)]
    settings: dict[str, Any] = {} if encoding == "utf-8" else {"encoding": encoding}
    settings["separator"] = found.separator
    comma = found.separator != "," and has_decimal_comma(one for row in cells for one in row)
    settings["decimal"] = "," if comma else "."
    return Looked(found.header, columns, found.units(lines), settings)


class _Split(NamedTuple):
    """The lines of a file, split by one separator."""

    separator: str
    header: list[str]  # empty: there is none
    begin: int  # index of the first row
    share: float  # of the first rows' cells that are numbers or times

    @classmethod
    def by(cls, lines: Sequence[bytes], separator: str) -> _Split:
        """Split the lines by a separator."""
        preamble = Preamble(Wanted(), separator)
        begin = next((at for at, line in enumerate(lines) if not preamble.takes(line)), len(lines))
        if preamble.header is None:
            begin, header = _with_index(lines, separator)
        else:
            header = preamble.header
        if not header:
            return cls(separator, [], len(lines), 0.0)
        some = [
            names_in(line.decode(errors="replace"), separator)
            for line in lines[begin : begin + _TRIED]
        ]
        whole = [cell for cells in some if len(cells) == len(header) for cell in cells]
        known = [cell for cell in whole if cell]
        fitting = sum(len(cells) == len(header) for cells in some) / max(1, len(some))
        share = fitting * sum(map(is_value, known)) / max(1, len(known))
        return cls(separator, header, begin, share)

    def fitness(self) -> tuple[float, int]:
        """Return how well the separator fits; the highest is right."""
        return self.share if len(self.header) > 1 else 0.0, len(self.header)

    def units(self, lines: Sequence[bytes]) -> dict[str, str]:
        """Return the units in a line between header and rows, by column."""
        above = [
            names_in(line.decode(errors="replace"), self.separator)
            for line in lines[max(0, self.begin - LINES_MAX) : self.begin]
        ]
        if self.header not in above:
            return {}
        for cells in above[above.index(self.header) + 1 :]:
            if len(cells) == len(self.header):
                return {name: cell for name, cell in zip(self.header, cells, strict=True) if cell}
        return {}


def _with_index(lines: Sequence[bytes], separator: str) -> tuple[int, list[str]]:
    """Return the first row, and a header whose first column has no name, as pandas writes it."""
    for at, line in enumerate(lines[:LINES_MAX]):
        cells = names_in(line.decode(errors="replace"), separator)
        if len(cells) > 1 and not cells[0] and looks_like_names(cells[1:]):
            return at + 1, cells
    return 0, []
