"""A small document that survives a power cut, and can be written even if the disk is full.

One file has two slots, which are written alternately. If a power cut leaves one half-written, its
checksum is wrong, and the other slot is valid. The file never grows: its space is reserved once.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

BYTES_MAX: Final = 65_536  # of a document, with its header
_HEAD = struct.Struct("<QII")  # sequence number, bytes, CRC-32


class Notes:
    """The file; one thread of one process uses it. ``number`` counts the writes."""

    def __init__(self, path: Path) -> None:
        """Open the file; create it if it is absent.

        Raises:
            OSError: it cannot be used.

        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < 2 * BYTES_MAX:
            os.pwrite(self._file, bytes(2 * BYTES_MAX), 0)
            os.fsync(self._file)
        self.number, self._document = max(
            (self._read(place) for place in (0, 1)), key=lambda found: found[0]
        )

    def _read(self, place: int) -> tuple[int, dict[str, Any]]:
        """Return sequence number and document of a slot; 0 and an empty one if it is invalid."""
        data = os.pread(self._file, BYTES_MAX, place * BYTES_MAX)
        if len(data) < _HEAD.size:
            return 0, {}
        number, size, checksum = _HEAD.unpack_from(data)
        text = data[_HEAD.size : _HEAD.size + size]
        if number % 2 != place or zlib.crc32(text, number & 0xFFFFFFFF) != checksum:
            return 0, {}
        try:
            document = json.loads(text)
        except ValueError:
            return 0, {}
        return (number, document) if isinstance(document, dict) else (0, {})

    def read(self) -> dict[str, Any]:
        """Return the document that was written last; empty before the first."""
        return self._document

    def write(self, document: dict[str, Any]) -> None:
        """Write a document to the disk; as UTF-8 it has at most ``BYTES_MAX`` less 16 bytes.

        Raises:
            OSError: it is not on the disk; the previous one still is.

        """
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        assert _HEAD.size + len(text) <= BYTES_MAX
        number = self.number + 1
        head = _HEAD.pack(number, len(text), zlib.crc32(text, number & 0xFFFFFFFF))
        os.pwrite(self._file, head + text, number % 2 * BYTES_MAX)
        os.fdatasync(self._file)
        self.number, self._document = number, document

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
