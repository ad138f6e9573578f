"""The form of a message on the wire: JSON or CBOR, plain or compressed.

The outbox always keeps JSON; a message gets the form that is configured at the time of sending. A
reader recognises the form by the first byte, see ``decoded``. The libraries of the forms are loaded
only if they are used, and only here.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from agent.config.broker import Compression, Form, missing

CONTENT_TYPES: Final[dict[Form, str]] = {"json": "application/json", "cbor": "application/cbor"}
ENCODING: Final = "content-encoding"  # name of the user property (MQTT 5)
BYTES_MAX: Final = 2**20  # of a message, as received and as read
EXPANSION_MAX: Final = (
    200  # times its compressed size; ours have 2, and 114 if everything repeats ...
)
EXPANDED_BYTES_MIN: Final = 65_536  # ... and this much is always accepted
DEPTH_MAX: Final = 32  # nesting of lists and objects
_WINDOW_BYTES_MAX: Final = 2**23  # of zstd; every reader should support this, by RFC 8878
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878
_CBOR_MAPS: Final = range(0xA0, 0xBC)  # first byte of a map of known size (RFC 8949)
# what a decoder would make of tags: references, which can make much of little, and types of its own
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


class Payload:
    """One form of messages; loads what it needs.

    ``content_type`` and ``user_properties`` are its properties in MQTT 5; plain JSON has none,
    because everybody expects it.
    """

    def __init__(self, form: Form = "json", compression: Compression = "none") -> None:
        self._steps: list[Callable[[bytes], bytes]] = []
        self.content_type: str | None = None
        self.user_properties: tuple[tuple[str, str], ...] = ()
        if form == "cbor":
            self._steps.append(_to_cbor())
        if compression == "zstd":
            self._steps.append(_compressor())
            self.user_properties = ((ENCODING, "zstd"),)
        if self._steps:
            self.content_type = CONTENT_TYPES[form]

    def encode(self, body: bytes) -> bytes:
        """Return a JSON message in this form."""
        for step in self._steps:
            body = step(body)
        return body


def decoded(body: bytes) -> bytes:
    """Return a message of any form as JSON.

    The first byte decides: ``{`` is JSON, 0xA0 to 0xBB a CBOR map, 0x28 begins the magic number of
    zstd, which contains one of the others. It takes at most the memory of a message of
    ``BYTES_MAX``, and little for a short one: the size in a frame's header is not trusted.

    Raises:
        ValueError: it has another form, or is damaged or too long, or a library is not installed.

    """
    bytes_max = BYTES_MAX
    if body.startswith(_ZSTD_MAGIC):
        bytes_max = min(BYTES_MAX, max(EXPANDED_BYTES_MIN, EXPANSION_MAX * len(body)))
        body = _decompressed(body, bytes_max)
        if len(body) > bytes_max:
            raise ValueError(f"more than {bytes_max} bytes when decompressed")
    if body and body[0] in _CBOR_MAPS:
        body = _from_cbor(body)
    if len(body) > bytes_max:
        raise ValueError(f"more than {bytes_max} bytes as JSON")
    return body


def _to_cbor() -> Callable[[bytes], bytes]:
    import cbor2

    def encode(body: bytes) -> bytes:
        document = json.loads(body)
        try:
            return cbor2.dumps(document)
        except UnicodeEncodeError:  # half of a pair of surrogates, which only JSON can write
            text = json.dumps(document, ensure_ascii=False).encode(errors="replace")
            return cbor2.dumps(json.loads(text))

    return encode


def _from_cbor(body: bytes) -> bytes:
    if reason := missing("cbor"):
        raise ValueError(reason)
    import cbor2

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
    except (cbor2.CBORError, TypeError) as error:  # TypeError: what JSON does not have
        raise ValueError(f"not a CBOR message: {error}") from error


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("a message must not have tags")


def _compressor() -> Callable[[bytes], bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress
    import zstandard

    return zstandard.ZstdCompressor().compress


def _decompressed(body: bytes, bytes_max: int) -> bytes:
    """Return the content of a frame; if it is longer, ``bytes_max`` + 1 bytes."""
    if reason := missing("zstd"):
        raise ValueError(reason)
    if sys.version_info >= (3, 14):
        from compression import zstd

        window = {zstd.DecompressionParameter.window_log_max: _WINDOW_BYTES_MAX.bit_length() - 1}
        try:
            return zstd.ZstdDecompressor(options=window).decompress(body, bytes_max + 1)
        except zstd.ZstdError as error:
            raise ValueError(f"damaged: {error}") from error
    import zstandard

    try:
        # not by the size in the frame's header, which may be wrong
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        return decompressor.stream_reader(body).read(bytes_max + 1)
    except zstandard.ZstdError as error:
        raise ValueError(f"damaged: {error}") from error
