"""Text from outside made printable: the one place, used at every door out.

Devices, brokers, bundles and files give texts that may hold anything: half of a pair of
surrogates (no UTF-8, no terminal and no database takes it), escape sequences that move a
terminal's cursor, line ends that forge a line of a log, marks that turn the order of the letters
around, a megabyte. What a person or a program gets to see of them goes through here.

A backslash stays what it is, so that a text made printable twice is the same as made so once.
"""

from __future__ import annotations

import json
import math
import textwrap
from typing import Final

CHARACTERS_MAX: Final = 200
ELLIPSIS: Final = "…"
_SPACES: Final = dict.fromkeys(  # all of Unicode's but the plain one
    (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "
)


def printable(text: str | bytes, characters_max: int = CHARACTERS_MAX) -> str:
    r"""Return a text in one line: at most ``characters_max``, each of them printable.

    Controls, line ends, surrogates, marks of format and what Unicode gives no meaning become
    escapes as Python writes them; other spaces become plain ones; bytes are read as UTF-8.

    >>> printable("flow"), printable("a\nb \x1b[2J"), printable(b"\xff", characters_max=4)
    ('flow', 'a\\nb \\x1b[2J', '\\xff')
    >>> printable("temperature", characters_max=5)
    'temp…'
    """
    if isinstance(text, bytes):
        # no character takes more than four bytes: the rest would be cut off anyway
        text = text[: 4 * (characters_max + 1)].decode(errors="backslashreplace")
    if len(text) <= characters_max and text.isprintable():
        return text
    shown = _escaped(text[: characters_max + 1])
    return shown if len(shown) <= characters_max else shown[: characters_max - 1] + ELLIPSIS


def printable_lines(text: str) -> str:
    r"""Return a text of any length with its line ends kept, all else in it printable.

    >>> printable_lines("ok\nnot\r\x1b[2J\n")
    'ok\nnot\\r\\x1b[2J\n'
    """
    return text if text.isprintable() else "\n".join(map(_escaped, text.split("\n")))


def indented(text: str) -> str:
    """Return lines of text that nobody takes for lines of ours: traces of exceptions."""
    return textwrap.indent(printable_lines(text), "  ", lambda _: True)


def json_text(value: object, indent: int | None = None, encoding: str = "utf-8") -> str:
    r"""Return JSON as people read it, letters as they are; what isn't printable is escaped.

    It means the same as with the characters themselves, but for surrogates: many a reader stops
    at half of a pair, so those become the text of their escape. It can be written in ``encoding``.
    A number that JSON does not have, such as NaN, becomes null.

    >>> print(json_text({"unit": "m³/h", "key": "\ud800\x1b"}))
    {"unit": "m³/h", "key": "\\ud800\u001b"}
    """
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_with_null(value), ensure_ascii=False, indent=indent)
    if not text.isprintable():
        # a line end is between the values: json escapes those in them
        text = "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = "".join(c if c.isascii() else _json_escape(c) for c in text)
    return text


def _with_null(value: object) -> object:
    """Return a document with null for each number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _with_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_escape(character: str) -> str:
    escape = json.dumps(character).strip('"')
    return f"\\{escape}" if "\ud800" <= character <= "\udfff" else escape


def _escaped(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text.translate(_SPACES)
    )
