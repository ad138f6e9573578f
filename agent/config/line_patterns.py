"""Regular expressions for lines: refuses those that one hostile line could keep busy for long.

Python's ``re`` tries every way in which repeats can share the text. Repeats inside of a repeat
have exponentially many of them, and neighbours that fit the same text a power of its length. The
first are refused here. The others are measured by ``check`` (``agent.config.hostile_lines``), and
each line has a limit where they are used (``agent.config.time_limit``).
"""

from __future__ import annotations

import re
from typing import Final

REGEX_BYTES_MAX: Final = 512  # of a line; NMEA 0183, for one, keeps to 82
_ANYTHING_MAX: Final = 2  # repeats of "."

PIECE = re.compile(
    r"\\."  # an escape
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # a set of characters
    r"|\((?:\?(?:P?<[^>=!]*>|P=[^)]*|P>|[:>]|<?[=!]|#[^)]*))?"  # the beginning of a group
    r"|[*+?][?+]?|\{\d*,?\d*\}[?+]?"  # a repeat
    r"|.",
    re.DOTALL,
)
_FIXED = re.compile(r"\{(\d+)\}[?+]?")


def channels_in(pattern: str) -> tuple[str, ...]:
    """Return the names of the groups of a pattern.

    Raises:
        ValueError: it is not a regular expression, or one that can take very long.

    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern: not a regular expression: {error}") from error
    _refuse_slow(pattern)
    return tuple(compiled.groupindex)


def _refuse_slow(pattern: str) -> None:
    """Raise ValueError if a repeated group contains a repeat or a choice."""
    open_groups = [False]  # of each group that is open: whether it can match in several ways
    last, last_varies, anything = "", False, 0
    for piece in PIECE.findall(pattern):
        varies = False
        if piece.startswith("("):
            open_groups.append(False)
        elif piece == ")":
            varies = open_groups.pop()
            open_groups[-1] |= varies
        elif piece == "|":
            open_groups[-1] = True
        elif _is_repeat(piece):
            if last_varies and piece[0] != "?":
                raise ValueError(
                    f"pattern: a group with a repeat or a | in it is repeated by {piece!r}; such"
                    " can take hours for one line"
                )
            open_groups[-1] |= not _FIXED.fullmatch(piece)
            anything += last == "." and piece[0] != "?"
        last, last_varies = piece, varies
    if anything > _ANYTHING_MAX:
        raise ValueError(
            f"pattern: more than {_ANYTHING_MAX} repeats of '.'; name what may come there"
        )


def _is_repeat(piece: str) -> bool:
    return piece[0] in "*+?" or (piece[0] == "{" and len(piece) > 2)


def repeat_of(piece: str) -> tuple[int, int] | None:
    """Return how often a piece repeats the one before it, at least and at most; or None."""
    if not _is_repeat(piece):
        return None
    if piece[0] != "{":
        return int(piece[0] == "+"), 1 if piece[0] == "?" else REGEX_BYTES_MAX
    low, comma, high = piece.strip("?+").strip("{}").partition(",")
    least = int(low or 0)
    return least, min(int(high), REGEX_BYTES_MAX) if high else REGEX_BYTES_MAX if comma else least
