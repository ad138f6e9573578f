"""Parses a whole recording: its layout, its header and its rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple

from models.formats.cells import IGNORED, MISSING_WORDS, TIME, Decimal, has_decimal_comma
from models.formats.encodings import Encoding, as_utf8
from models.formats.header import Preamble, Wanted, looks_like_names, names_in
from models.formats.lines import ends_with_cr, whole_lines
from models.formats.separated import SEPARATORS, split
from models.formats.times import ELAPSED

# in recordings from gateways; no channel's name has a colon
SCORE: Final = "fieldwatch:score"
QUALITY: Final = ":quality"  # after the channel's name
_OF_TIME: Final = "channel:time"  # of a channel that an older bundle or another sender calls so

_READ_BYTES: Final = 65536
_LOOKED_AT: Final = 1000  # rows, for the decimal sign


def column_of(channel: str) -> str:
    """Return the column of a channel in a recording that has its times in ``time``."""
    return _OF_TIME if channel == TIME else channel


class Long(NamedTuple):
    """The columns of a recording with one value per row: time, channel, value."""

    channel: str  # column of the channels' names
    value: str  # column of the values


class Layout(NamedTuple):
    """The layout of a recording that it does not state itself, and its required quality."""

    encoding: Encoding = "utf-8"
    separator: str | None = None  # None: the one that makes a line the header
    decimal: Decimal | None = None  # None: detected from numbers in the first rows
    missing_words: Sequence[str] = MISSING_WORDS
    time_format: str = ELAPSED
    time_zone: str | None = None
    bad_share_max: float = 0.1  # of rows, or of a column's cells; above it training fails
    long: Long | None = None  # None: a column for each channel
    row_period_s: float | None = None  # seconds from row to row, if the recording has no times


class Recorded(NamedTuple):
    """A recording split into rows."""

    header: list[str]
    separator: str
    decimal_comma: bool
    numbers: list[int]  # (n,) line numbers of the rows in the file, from 1
    rows: list[bytes]  # (n,) UTF-8, without line ends; without blank rows

    def columns(self, meaning: Mapping[str, str]) -> list[str]:
        """Return the meaning of each column; of two equal names the first counts."""
        found: list[str] = []
        for name in self.header:
            what = meaning.get(name, IGNORED)
            found.append(IGNORED if what in found else what)
        return found


def recorded(data: bytes, wanted: Wanted, layout: Layout = Layout()) -> Recorded:  # noqa: B008
    """Split a recording into rows.

    Args:
        data: The whole file.
        wanted: The names expected in its header.
        layout: Its layout.

    Raises:
        ValueError: it is UTF-16, or has no header; the text states what the closest line has.

    """
    lines, cut = whole_lines(as_utf8(data, layout.encoding))
    preamble = Preamble(wanted, layout.separator)
    numbers, rows = [], []
    above = True
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        if above and (above := preamble.takes(line)):
            continue
        numbers.append(number)
        rows.append(line)
    if preamble.header is None or preamble.separator is None:
        raise ValueError(_without_header(lines, wanted, layout.separator))
    separator = preamble.separator
    if cut and rows:
        rows[-1] = without_last_cell(rows[-1], separator)
    decimal_comma = layout.decimal == ","
    if layout.decimal is None:
        some = (split(row.decode(errors="replace"), separator) for row in rows[:_LOOKED_AT])
        decimal_comma = separator != "," and has_decimal_comma(itertools.chain(*some))
    return Recorded(preamble.header, separator, decimal_comma, numbers, rows)


def _without_header(lines: Sequence[bytes], wanted: Wanted, separator: str | None) -> str:
    """Return what is missing in the line that is closest to a header."""
    texts = [line.decode(errors="replace") for line in lines[:100] if line.strip()]
    if texts and texts[0].lstrip("\ufeff \t").startswith(("{", "[")):
        return "it seems to be JSON; a recording must be CSV, with a header and rows"
    candidates = [names_in(text, other) for text in texts for other in SEPARATORS]
    named = [cells for cells in candidates if wanted.names.intersection(cells)]
    timed = [cells for cells in candidates if wanted.time in cells]
    likely = [cells for cells in candidates if len(cells) > 1 and looks_like_names(cells)]
    best = next(iter([*named, *timed, *likely, *candidates]), [])
    if wanted.time is not None and wanted.time not in best:
        missing = f"no column {wanted.time!r}"
    elif separator is not None and wanted.names.intersection(best):
        missing = f"its header is not separated by {separator!r}"
    else:
        missing = f"no column for any of {', '.join(sorted(wanted.names))}"
    if not best:
        return f"{missing}: there is no text"
    have = ", ".join(best)
    return f"{missing}; the header has: {have}{encoding_hint(have)}"


def encoding_hint(text: str) -> str:
    """Return a hint for an error that quotes text; "" if the encoding is right."""
    return "; it is not UTF-8: set the encoding" if "\ufffd" in text else ""


def without_last_cell(row: bytes, separator: str) -> bytes:
    """Clear the last cell of a row, in which the row may be truncated."""
    return row[: row.rstrip().rfind(separator.encode()) + 1]


def each_line(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of a file without their ends, and whether the end is missing."""
    begin = file.read(_READ_BYTES)
    if ends_with_cr(begin):
        lines, cut = whole_lines(begin + file.read())
        for number, line in enumerate(lines, 1):
            yield line, cut and number == len(lines)
        return
    file.seek(0)
    for line in file:
        yield line.rstrip(b"\r\n"), not line.endswith(b"\n")
