"""Text encodings of devices and recorders."""

from __future__ import annotations

from typing import Final, Literal

Encoding = Literal["utf-8", "latin-1", "cp1252"]

_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
_LOOKED_AT: Final = 1024  # bytes


def is_utf16(data: bytes) -> bool:
    """Whether text is UTF-16: it has a byte order mark, or about half of its bytes are zeros."""
    part = data[:_LOOKED_AT]
    return part[:2] in _UTF16_BOMS or (len(part) >= 4 and 3 * part.count(0) > len(part))


def as_utf8(data: bytes, encoding: Encoding) -> bytes:
    """Convert text to UTF-8 without a byte order mark; invalid bytes stay or become �.

    Raises:
        ValueError: it is UTF-16.

    """
    if is_utf16(data):
        raise ValueError("is UTF-16, which is not supported: save it as UTF-8")
    if data.startswith(_BOM):
        return data[len(_BOM) :]
    return transcoded(data, encoding)


def transcoded(text: bytes, encoding: Encoding) -> bytes:
    """Convert a piece of text to UTF-8; UTF-8 remains unchanged."""
    if encoding == "utf-8" or text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(encoding, errors="replace").encode()
    return text


def likely(data: bytes) -> Encoding:
    """Return the likely encoding: UTF-8 if the data are valid UTF-8, else Western Windows."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "latin-1"
    return "utf-8"
