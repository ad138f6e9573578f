"""Decodes the messages that central ops gets, in any dialect, into JSON."""

from __future__ import annotations

from typing import Final

from agent.config.broker import missing
from agent.mqtt.payload import expanded

_CBOR_MAPS: Final = range(0xA0, 0xBC)  # first byte of a map of known size (RFC 8949)


def decoded(body: bytes) -> bytes:
    """Return a message of any form as JSON.

    The first byte decides: ``{`` is JSON, 0xA0 to 0xBB a CBOR map, 0x28 begins the magic number of
    zstd, which contains one of the others. It needs at most the memory for a message of
    ``agent.mqtt.payload.BYTES_MAX`` bytes, and little for a short one.

    Raises:
        ValueError: it has another form, is damaged or too long, or a library is not installed.

    """
    body, bytes_max = expanded(body)
    if body and body[0] in _CBOR_MAPS:
        if reason := missing("cbor"):
            raise ValueError(reason)
        from agent.dialects.cbor import to_json

        body = to_json(body)
    if len(body) > bytes_max:
        raise ValueError(f"more than {bytes_max} bytes as JSON")
    return body
