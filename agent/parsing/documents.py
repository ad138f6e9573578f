"""Splits a message into JSON documents: a single one, or the objects of an array."""

from __future__ import annotations

import json
from typing import Final

from models.formats.lines import whole_lines

_BOM: Final = b"\xef\xbb\xbf"
OVER_LINES: Final = (
    "its JSON documents have several lines, and the agent reads line by line; make the program that"
    " writes it put each document in one line (jq -c . FILE does that)"
)


def documents(body: bytes) -> list[bytes]:
    """Return the objects of a message, one per line; its lines if it is not one JSON document.

    >>> documents(b'[{"flow": 1}, {"flow": 2}]')
    [b'{"flow":1}', b'{"flow":2}']
    """
    text = body.removeprefix(_BOM).strip()
    if text[:1] not in (b"[", b"{") or (text[:1] == b"{" and not _has_line_ends(text)):
        return whole_lines(body)[0]
    try:
        document = json.loads(text)
        objects = document if isinstance(document, list) else [document]
        if objects and all(isinstance(one, dict) for one in objects):
            return [json.dumps(one, separators=(",", ":")).encode() for one in objects]
    except (ValueError, RecursionError):
        pass
    return whole_lines(body)[0]


def go_over_lines(begin: bytes) -> bool:
    """Whether a file begins with a JSON document that continues in the next line.

    >>> go_over_lines(b'{\n  "flow": 1\n}\n'), go_over_lines(b'{"flow": 1}\n{"flow": 2}\n')
    (True, False)
    """
    lines = [line for line in whole_lines(begin.removeprefix(_BOM))[0] if line.strip()]
    if len(lines) < 2 or lines[0].lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        # a truncated line is followed by a whole one
        return lines[0].strip() in (b"{", b"[", b"[{") or lines[1].lstrip()[:1] in (
            b'"',
            b"]",
            b"}",
        )
    return False


def _has_line_ends(text: bytes) -> bool:
    return b"\n" in text or b"\r" in text
