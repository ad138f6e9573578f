"""The text of a CSV file in blocks of whole lines, so that few lines are in memory as objects."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from models.columns import Found, Sought, cut
from models.formats.encodings import as_utf8
from models.formats.header import LINES_MAX
from models.formats.lines import ends_with_cr
from models.formats.recording import Layout, Recorded, without_last_cell

BLOCK_BYTES: Final = 8 * 2**20
_HEAD_LINES: Final = LINES_MAX + 1000  # the header, and rows that show the decimal sign


class Block(NamedTuple):
    """Whole lines of a file, each with its end."""

    data: bytes
    number: int  # of the first line in the file, from 1


class CsvText:
    """A file whose header is known.

    Attributes:
        head: header, separator, decimal sign, and the first rows.
        found: which columns are read.

    Raises:
        ValueError: see ``models.formats.recording.recorded``.

    """

    def __init__(self, data: bytes, sought: Sought, layout: Layout) -> None:
        data = as_utf8(data, layout.encoding)
        if ends_with_cr(data) or (b"\n" not in data and data.endswith(b"\r")):
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        begin = _after_lines(data, _HEAD_LINES)
        self.head, self.found = _cut(data, begin, sought, layout)
        if not self.head.rows and begin < len(data):  # so many blank lines
            self.head, self.found = _cut(data, len(data), sought, layout)
        self._data = data
        self._blocks: list[tuple[int, int]] = []  # number of the first line, and its place
        self._lines: tuple[int, list[bytes]] = (0, [])  # of the last block that was asked for

    def blocks(self) -> Iterator[Block]:
        """Yield the rows; a last line without an end loses its last cell, which may be cut."""
        if not self.head.rows:
            return
        number = self.head.numbers[0]
        place = _after_lines(self._data, number - 1)
        while place < len(self._data):
            end = self._data.find(b"\n", min(place + BLOCK_BYTES, len(self._data) - 1)) + 1
            data = self._data[place : end or len(self._data)]
            if not end and not data.endswith(b"\n"):
                data = self._mended(data)
            self._blocks.append((number, place))
            yield Block(data, number)
            number, place = number + data.count(b"\n"), end or len(self._data)

    def _mended(self, data: bytes) -> bytes:
        """Return a block whose last line has no end, with that line's last cell empty."""
        before, _, last = data.rpartition(b"\n")
        last = last if not last.strip() else without_last_cell(last, self.head.separator)
        return (before + b"\n" if before else b"") + last + b"\n"

    def line(self, number: int) -> str:
        """Return the text of a line of a block that was yielded."""
        at = bisect_right(self._blocks, (number, len(self._data))) - 1
        first, place = self._blocks[at]
        if self._lines[0] != first:
            end = self._blocks[at + 1][1] if at + 1 < len(self._blocks) else len(self._data)
            self._lines = first, self._data[place:end].split(b"\n")
        return self._lines[1][number - first].rstrip(b"\r").decode(errors="replace")


def _cut(data: bytes, end: int, sought: Sought, layout: Layout) -> tuple[Recorded, Found]:
    return cut(data[:end], sought, layout._replace(encoding="utf-8"))


def _after_lines(data: bytes, count: int) -> int:
    """Return the place after so many lines, or that of the end."""
    place = 0
    for _ in range(count):
        place = data.find(b"\n", place) + 1
        if not place:
            return len(data)
    return place
