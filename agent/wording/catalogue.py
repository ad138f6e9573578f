"""Checks a table of texts: each key and each parameter must be one of the English texts."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.wording.english import TEXTS

TEXT_CHARS_MAX: Final = 400  # of one text
_FORMATTER: Final = string.Formatter()


def parameters_of(text: str) -> frozenset[str]:
    """Return the names of the parameters in a text.

    Raises:
        ValueError: a placeholder is not a name in braces.

    """
    found = set()
    for _, name, form, conversion in _FORMATTER.parse(text):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ValueError(f"placeholder {{{written}}}: must be a name in braces")
        found.add(name)
    return frozenset(found)


def problems(texts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key of a table of texts that cannot be used, and why.

    A key may be absent: then the English text is used.
    """
    for key, text in texts.items():
        if key not in TEXTS:
            yield key, f"there is no such text{_nearest(key, TEXTS)}"
        elif (problem := _problem(TEXTS[key], text)) is not None:
            yield key, problem


def _problem(english: str, text: Any) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return f"{text!r}: must be a text"
    if len(text) > TEXT_CHARS_MAX or not text.isprintable():
        return f"must be one line of at most {TEXT_CHARS_MAX} printable characters"
    try:
        used = parameters_of(text)
    except ValueError as error:  # also of a brace without its partner
        return str(error)
    known = parameters_of(english)
    for name in sorted(used - known):
        there = _nearest(name, known) or f"; there are {', '.join(sorted(known)) or 'none'}"
        return f"unknown parameter {{{name}}}{there}"
    return None


def _nearest(name: str, allowed: Mapping[str, str] | frozenset[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
