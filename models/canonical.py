"""Canonical JSON for digests, which depends on no library.

The form is that of pydantic 2: keys in the given order, no white space, unescaped text, floats with
their shortest digits. It never changes, because such digests identify saved memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def canonical_json(value: Any) -> str:
    """Convert dicts, lists, tuples, text, numbers, booleans and None to JSON.

    Other values are written as their text. Floats must be finite.
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
