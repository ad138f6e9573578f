"""Makes text from outside printable, for every output.

Text from devices, brokers, bundles and files may contain anything: unpaired surrogates (which
UTF-8, terminals and databases do not accept), escape sequences that move a terminal's cursor, line
ends that forge a log line, marks that reverse the order of the letters, or a megabyte of data. All
such text passes through this module before people or programs see it.

A backslash is not escaped, so that applying the conversion twice has no further effect.
"""

from __future__ import annotations

import json
import math
import textwrap
from typing import Final

CHARACTERS_MAX: Final = 200
ELLIPSIS: Final = "…"
_SPACES: Final = dict.fromkeys(  # all Unicode spaces except the plain one
    (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "
)


def printable(text: str | bytes, characters_max: int = CHARACTERS_MAX) -> str:
    r"""Return text as one line of at most ``characters_max`` printable characters.

    Control characters, line ends, surrogates, format characters and unassigned code points become
    Python escapes. Other spaces become plain ones. Bytes are decoded as UTF-8.

    >>> printable("flow"), printable("a\nb \x1b[2J"), printable(b"\xff", characters_max=4)
    ('flow', 'a\\nb \\x1b[2J', '\\xff')
    >>> printable("temperature", characters_max=5)
    'temp…'
    """
    if isinstance(text, bytes):
        # a character takes at most four bytes; the rest would be cut off anyway
        text = text[: 4 * (characters_max + 1)].decode(errors="backslashreplace")
    if len(text) <= characters_max and text.isprintable():
        return text
    shown = _escaped(text[: characters_max + 1])
    return shown if len(shown) <= characters_max else shown[: characters_max - 1] + ELLIPSIS


def printable_lines(text: str) -> str:
    r"""Make text of any length printable, but keep its line ends.

    >>> printable_lines("ok\nnot\r\x1b[2J\n")
    'ok\nnot\\r\\x1b[2J\n'
    """
    return text if text.isprintable() else "\n".join(map(_escaped, text.split("\n")))


def indented(text: str) -> str:
    """Indent lines of text, such as tracebacks, so that they cannot be mistaken for log lines."""
    return textwrap.indent(printable_lines(text), "  ", lambda _: True)


def json_text(value: object, indent: int | None = None, encoding: str = "utf-8") -> str:
    r"""Return readable JSON: letters are not escaped, unprintable characters are.

    The escapes do not change the meaning, except for surrogates: many parsers reject unpaired ones,
    so these become the text of their escape. The result can be encoded in ``encoding``. A number
    that JSON cannot represent, such as NaN, becomes null.

    >>> print(json_text({"unit": "m³/h", "key": "\ud800\x1b"}))
    {"unit": "m³/h", "key": "\\ud800\u001b"}
    """
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_with_null(value), ensure_ascii=False, indent=indent)
    if not text.isprintable():
        # line ends are only between values: json escapes those inside
        text = "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = "".join(c if c.isascii() else _json_escape(c) for c in text)
    return text


def _with_null(value: object) -> object:
    """Replace each number that JSON cannot represent by null."""
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
