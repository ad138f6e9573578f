"""Text in tables: its width on a terminal is counted in columns, not in characters.

East Asian characters and emoji are two columns wide, and combining marks have no column of their
own (Unicode Standard Annex 11, East Asian Width).
"""

from __future__ import annotations

import textwrap
from typing import Final
from unicodedata import category, east_asian_width

from models.printable import CHARACTERS_MAX, ELLIPSIS, printable

_FILL: Final = "\uffff"  # no character, and so in no printable text


def columns(text: str) -> int:
    """Return how many columns of a terminal a printable text takes.

    >>> columns("flow"), columns("流量"), columns("e\u0301")
    (4, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if category(character) in ("Mn", "Me"):  # marks that the terminal puts onto the one before
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


class Cell(str):
    """Printable text that a format such as ``{:<22}`` or ``{:>8}`` pads to so many columns.

    >>> f"{Cell('流量'):<6}|{Cell('流量'):>6}|"
    '流量  |  流量|'
    """

    __slots__ = ()

    def __format__(self, form: str) -> str:
        """Return the text, padded; ``form`` is empty, or ``<`` or ``>`` with a width."""
        if not form:
            return str(self)
        side, width = form[0], int(form[1:])
        fill = " " * (width - columns(self))
        return f"{self!s}{fill}" if side == "<" else f"{fill}{self!s}"


def cell(text: str, columns_max: int = CHARACTERS_MAX) -> Cell:
    """Return text as a cell of at most so many columns; what is cut off ends in an ellipsis.

    >>> cell("流量計", 5)
    '流量…'
    """
    shown = printable(text, max(columns_max, CHARACTERS_MAX))
    if columns(shown) <= columns_max:
        return Cell(shown)
    room, cut = columns_max - 1, ""
    for character in shown:
        if (room := room - _columns(character)) < 0:
            break
        cut += character
    return Cell(cut + ELLIPSIS)


def wrap(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """Wrap printable text into lines of at most so many columns; ``first``, ``others``: indents."""
    if text.isascii():
        return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others)
    wide = "".join(c + _FILL if _columns(c) == 2 else c for c in text)
    # a word longer than a line may be cut between a character and its fill: one column more
    lines = textwrap.wrap(wide, width - 1, initial_indent=first, subsequent_indent=others)
    return [line.replace(_FILL, "") for line in lines]
