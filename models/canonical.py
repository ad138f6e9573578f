"""Values as JSON of one form, that digests may hang on: no library decides a byte of it.

The form is that in which pydantic 2 writes tables: keys in the order given, no white space, text as
it is, each float by its shortest digits. It never changes: saved memory is known by such digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def canonical_json(value: Any) -> str:
    """Return dicts, lists, tuples, text, numbers, booleans and None as JSON.

    What is none of these is written as its text. Floats are finite.
    """
    return "".join(_pieces(value))


def _pieces(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for position, (key, inner) in enumerate(value.items()):
                yield f"{',' if position else '{'}{_text(key)}:"
                yield from _pieces(inner)
            yield "}" if value else "{}"
        case list() | tuple():
            for position, inner in enumerate(value):
                yield "," if position else "["
                yield from _pieces(inner)
            yield "]" if value else "[]"
        case float():
            yield _number(value)
        case bool() | int() | None:
            yield json.dumps(value)
        case _:
            yield _text(str(value))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Return the shortest digits, as Python does; small ones as pydantic 2 writes them."""
    digits, _, exponent = repr(value).partition("e-")
    if exponent == "05":
        return f"{value:.{len(digits.lstrip('-').replace('.', '')) + 4}f}"
    return f"{digits}e-{int(exponent)}" if exponent else digits
