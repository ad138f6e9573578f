"""Checksums at the ends of lines: ``...*hh``, a * and hex digits, as in NMEA 0183.

A checksum covers all bytes before the last ``*``. With ``xor`` it does not cover a ``$`` or ``!``
at the beginning, which starts a sentence of NMEA 0183 and is not part of the line.
"""

from __future__ import annotations

import functools
import operator
import re
import zlib
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

Kind = Literal["xor", "crc16-modbus", "crc32"]

_HEX = re.compile(rb"[0-9A-Fa-f]+")


def xor(data: bytes) -> int:
    """Return the exclusive or of all bytes (NMEA 0183)."""
    return functools.reduce(operator.xor, data, 0)


def crc16_modbus(data: bytes) -> int:
    """Return the CRC-16 of Modbus over serial line 1.02: 0x8005 reflected, beginning at 0xFFFF.

    >>> f"{crc16_modbus(b'123456789'):04X}"
    '4B37'
    """
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC16[(crc ^ byte) & 0xFF]
    return crc


def _crc16_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC16 = [_crc16_of(byte) for byte in range(256)]


class _Method(NamedTuple):
    digits: int  # in hex, the most significant first
    of: Callable[[bytes], int]


_METHODS: Final[dict[Kind, _Method]] = {
    "xor": _Method(2, xor),
    "crc16-modbus": _Method(4, crc16_modbus),
    "crc32": _Method(8, zlib.crc32),  # that of IEEE 802.3
}
KINDS: Final = tuple(_METHODS)


def checked(line: bytes, kind: Kind) -> bytes | None:
    """Return the part of a line that its checksum covers; None if it is missing or wrong."""
    method = _METHODS[kind]
    body, star, digits = line.rpartition(b"*")
    digits = digits.rstrip()
    if not star or len(digits) != method.digits or not _HEX.fullmatch(digits):
        return None
    covered = _covered(body, kind)
    return covered if method.of(covered) == int(digits, 16) else None


def signed(body: bytes, kind: Kind) -> bytes:
    """Return a line with its checksum, as a device would send it."""
    method = _METHODS[kind]
    return body + f"*{method.of(_covered(body, kind)):0{method.digits}X}".encode()


def _covered(body: bytes, kind: Kind) -> bytes:
    return body[1:] if kind == "xor" and body[:1] in (b"$", b"!") else body
