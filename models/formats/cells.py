"""Converts cells of text to numbers; recognises words that mean a missing value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

TIME: Final = "time"  # the column of a line that holds its time
CLOCK: Final = "+time"  # a column with the time of day, if the time column has only the date
IGNORED: Final = "-"  # a column that is not used

ABSENT = math.nan  # no value at all
NOT_FINITE = math.inf  # a value that is NaN or infinite; NaN means absent already

Decimal = Literal[".", ","]

# in upper or lower case; written by loggers, spreadsheets and meters in place of a number
MISSING_WORDS: Final = ("NA", "N/A", "NULL", "NONE", "ERR", "MM", "OL", "-", "--", "---")


# numbers with thousands separators that are unambiguous: 1.404,95 and 1,404.95
_GROUPED_COMMA = re.compile(r"\s*[-+]?[1-9]\d{0,2}(?:\.\d{3})+,\d+\s*", re.ASCII)
_GROUPED_POINT = re.compile(r"\s*[-+]?[1-9]\d{0,2}(?:,\d{3})+\.\d+\s*", re.ASCII)
_COMMA_NUMBER = re.compile(r"\s*[-+]?\d+,\d+\s*", re.ASCII)


class NotANumber(ValueError):
    """A cell holds neither a number nor a word that means a missing value."""


class NoValue(ValueError):
    """A cell holds a word that means a missing value."""


class Fault(NamedTuple):
    """The reason why a cell has no value."""

    channel: int
    cause: Literal["no_value", "not_a_number"]


class Cells:
    """Parses the cells of a format.

    Args:
        decimal: The decimal sign. With a comma, a point is read too.
        missing_words: Words that mean a missing value, in upper or lower case. An empty cell and
            NaN also mean this.

    """

    def __init__(
        self, decimal: Decimal = ".", missing_words: Iterable[str] = MISSING_WORDS
    ) -> None:
        self._comma = decimal == ","
        self._missing = frozenset(word.strip().casefold() for word in missing_words)

    def value(self, cell: str) -> float:
        """Return the number in a cell; ``ABSENT`` if it is empty, ``NOT_FINITE`` for NaN.

        Raises:
            NoValue: It has a word that means a missing value.
            NotANumber: It has anything else.

        """
        if not cell or cell.isspace():
            return ABSENT
        text = cell.replace(",", ".") if self._comma else cell
        try:
            if "_" in text or not text.isascii():  # as ``number``, without a call
                raise ValueError(text)
            value = float(text)
        except ValueError:
            if (apart := ungrouped(cell, self._comma)) is not None:
                return float(apart)
            if cell.strip().casefold() in self._missing:
                raise NoValue(cell) from None
            raise NotANumber(cell) from None
        return NOT_FINITE if value != value else value  # NaN

    def row(self, cells: Iterable[tuple[int, str]], width: int) -> tuple[list[float], list[Fault]]:
        """Return the values of ``width`` channels, and why some are missing.

        ``cells`` yields the index of a channel and its text.
        """
        return _row(cells, width, self.value)

    def json_row(
        self, values: Iterable[tuple[int, object]], width: int
    ) -> tuple[list[float], list[Fault]]:
        """Do the same for JSON values."""
        return _row(values, width, self.json_value)

    def json_value(self, value: object) -> float:
        """Return the number in a JSON value: a number, a boolean, or a string with a number.

        Raises:
            NoValue: It is a word that means a missing value.
            NotANumber: It is anything else, such as a list.

        """
        if isinstance(value, str):
            return self.value(value)
        if isinstance(value, bool):
            return float(value)
        try:
            return json_number(value)
        except ValueError:
            raise NotANumber(value) from None


def _row(
    cells: Iterable[tuple[int, Any]], width: int, value: Callable[[Any], float]
) -> tuple[list[float], list[Fault]]:
    values = [ABSENT] * width
    faults = []
    for channel, cell in cells:
        try:
            values[channel] = value(cell)
        except NoValue:
            faults.append(Fault(channel, "no_value"))
        except NotANumber:
            faults.append(Fault(channel, "not_a_number"))
    return values, faults


def number(text: str) -> float:
    """Convert like ``float``, but reject forms that no device should send: 1_000, non-ASCII digits.

    Raises:
        ValueError: the text is not a number.

    """
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def ungrouped(text: str, comma: bool) -> str | None:
    """Remove thousands separators, for ``float``; None if the text is not such a number.

    ``comma``: the decimal sign is a comma, else a point.

    >>> ungrouped("1.404,95", True), ungrouped("1,404.95", False), ungrouped("1.404", True)
    ('1404.95', '1404.95', None)
    """
    if comma:
        return text.replace(".", "").replace(",", ".") if _GROUPED_COMMA.fullmatch(text) else None
    return text.replace(",", "") if _GROUPED_POINT.fullmatch(text) else None


def has_decimal_comma(cells: Iterable[str]) -> bool:
    """Whether a cell is a number such as 41,7, and no cell is one such as 1,404.95."""
    found = False
    for cell in cells:
        if _GROUPED_POINT.fullmatch(cell):
            return False
        found = found or bool(_COMMA_NUMBER.fullmatch(cell) or _GROUPED_COMMA.fullmatch(cell))
    return found


def json_number(value: object) -> float:
    """Return a JSON value that is a number, or null; raises ValueError if it is not."""
    if type(value) is float:
        return value if math.isfinite(value) else NOT_FINITE
    if value is None:
        return ABSENT
    if type(value) is not int:  # a bool is not a number
        raise ValueError(value)
    return from_int(value)


def from_int(value: int) -> float:
    """Return an integer of any size as a float; ``NOT_FINITE`` if a float cannot hold it."""
    try:
        return float(value)
    except OverflowError:
        return NOT_FINITE
