"""JSON documents of a message or line: one, also over several lines, or the objects of an array."""

from __future__ import annotations

import json
from typing import Final

from models.formats.lines import whole_lines

_BOM: Final = b"\xef\xbb\xbf"


def documents(body: bytes) -> list[bytes]:
    """Return the objects of a message, one a line; its lines if it is not one JSON document.

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


def _has_line_ends(text: bytes) -> bool:
    return b"\n" in text or b"\r" in text
