"""The same messages as CBOR (RFC 8949): fewer bytes, with the same names and values.

Only this file loads the library. Status and gone stay JSON: they are few, and so anybody can read
whether a gateway is online. So does what a chunk of samples says about itself.
"""

from __future__ import annotations

import io
import json
from typing import Any, Final, NoReturn

import cbor2

from agent.dialects.cloudevents import CloudEvents
from agent.dialects.dialect import Message
from agent.mqtt.payload import DEPTH_MAX
from agent.mqtt.signer import Signer
from agent.store.record import Origin, Record

# a decoder turns tags into references, which can expand a small message hugely, and into own types
_TAGS: Final = (
    *range(6),
    25,
    28,
    29,
    30,
    *range(35, 38),
    100,
    256,
    258,
    260,
    261,
    1004,
    43000,
    55799,
)


class Cbor:
    """Encodes the records of one gateway as CBOR."""

    content_type = "application/cbor"

    def __init__(self, origin: Origin, signer: Signer | None = None) -> None:
        self.origin = origin
        self._json = CloudEvents(origin, signer)
        self.status, self.gone = self._json.status, self._json.gone
        self.samples = self._json.samples

    def record(self, record: Record) -> Message:
        """Return the message to send for a record."""
        topic, body = self._json.record(record)
        return Message(topic, from_json(body))


def from_json(body: bytes) -> bytes:
    """Return a JSON message as CBOR."""
    document = json.loads(body)
    try:
        return cbor2.dumps(document)
    except UnicodeEncodeError:  # half of a pair of surrogates, which only JSON can write
        text = json.dumps(document, ensure_ascii=False).encode(errors="replace")
        return cbor2.dumps(json.loads(text))


def to_json(body: bytes) -> bytes:
    """Return a CBOR message as JSON.

    Raises:
        ValueError: it is damaged, or has values that JSON does not have.

    """
    rest = io.BytesIO(body)
    try:
        document = cbor2.load(
            rest,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            tag_hook=_refuse_tag,
            semantic_decoders=dict.fromkeys(_TAGS, _refuse_tag),
        )
        if rest.tell() != len(body):
            raise ValueError("there are bytes after the CBOR message")
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except (cbor2.CBORError, TypeError) as error:  # TypeError: a value that JSON does not have
        raise ValueError(f"not a CBOR message: {error}") from error


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("a message must not have tags")
