"""A JSON message with its signature as its last member.

    {"epoch":"5e…","through_seq":3,"counter":1790000000000,"signature":"P2zGkS…"}

What is signed is the topic, a line end, and the message without that member, byte for byte. So
nothing is parsed before it is believed, and a message counts on its own topic only. A reader that
knows no signatures reads one member more. It costs 111 bytes.
"""

from __future__ import annotations

import base64
import re
from typing import Final, NamedTuple

from models.keys import SecretKey, sign

_SIGNATURE: Final = re.compile(rb',"signature":"([A-Za-z0-9+/]{96})"\}', re.ASCII)
_END_BYTES: Final = 112  # of the pattern


class Parted(NamedTuple):
    """A message and its signature."""

    message: bytes  # JSON, as it was before it was signed
    signature: bytes | None  # 72 bytes; None: there is none


def signed(message: bytes, topic: str, context: str, secret: SecretKey) -> bytes:
    """Return a JSON object that is not empty, with a signature.

    Raises:
        ConfigError: ``cryptography`` is missing.

    """
    signature = base64.b64encode(sign(secret, context, text(topic, message)))
    return message[:-1] + b',"signature":"' + signature + b'"}'


def parted(body: bytes) -> Parted:
    """Return message and signature; nothing is checked."""
    found = _SIGNATURE.fullmatch(body, max(0, len(body) - _END_BYTES))
    if found is None:
        return Parted(body, None)
    return Parted(body[: found.start()] + b"}", base64.b64decode(found[1]))


def text(topic: str, message: bytes) -> bytes:
    """Return the bytes that are signed."""
    return topic.encode() + b"\n" + message
