"""A JSON message with its signature as its last member.

    {"epoch":"5e…","through_seq":3,"counter":1790000000000,"signature":"P2zGkS…"}

The signature covers the topic, a line end, and the exact bytes of the message without that member.
So no message is parsed before it is verified, and a message is valid only on its own topic. To a
reader that does not know signatures, it is one more member. It adds 111 bytes.
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
    """Add a signature to a JSON object that is not empty.

    Raises:
        ConfigError: ``cryptography`` is missing.

    """
    signature = base64.b64encode(sign(secret, context, text(topic, message)))
    return message[:-1] + b',"signature":"' + signature + b'"}'


def parted(body: bytes) -> Parted:
    """Split a body into message and signature, without verifying it."""
    found = _SIGNATURE.fullmatch(body, max(0, len(body) - _END_BYTES))
    if found is None:
        return Parted(body, None)
    return Parted(body[: found.start()] + b"}", base64.b64decode(found[1]))


def text(topic: str, message: bytes) -> bytes:
    """Return the bytes that are signed."""
    return topic.encode() + b"\n" + message
