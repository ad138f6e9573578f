"""The limits of a message, and its compression: as little as possible goes over the air.

A dialect (``agent.dialects``) has made the bytes. The library is loaded only if it is used, and
only here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from agent.config.broker import Compression, missing

ENCODING: Final = "content-encoding"  # name of the user property (MQTT 5)
BYTES_MAX: Final = 2**20  # of a message, as received and as read
EXPANSION_MAX: Final = (
    200  # times its compressed size; ours have 2, and 114 if everything repeats ...
)
EXPANDED_BYTES_MIN: Final = 65_536  # ... and this much is always accepted
DEPTH_MAX: Final = 32  # nesting of lists and objects
JSON: Final = "application/json"
_WINDOW_BYTES_MAX: Final = 2**23  # of zstd; every reader should support this, by RFC 8878
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878


class Payload:
    """How the bytes of messages are sent; loads what it needs.

    ``content_type`` and ``user_properties`` are its properties in MQTT 5; plain JSON has none,
    because everybody expects it.
    """

    def __init__(self, content_type: str = JSON, compression: Compression = "none") -> None:
        # returns the bytes of a dialect as they are sent
        self.encode: Callable[[bytes], bytes] = _compressor() if compression == "zstd" else bytes
        self.user_properties = ((ENCODING, compression),) if compression != "none" else ()
        plain = content_type == JSON and compression == "none"
        self.content_type = None if plain else content_type


def expanded(body: bytes) -> tuple[bytes, int]:
    """Return a message without its compression, and how long it may be as JSON, in bytes.

    The size in a frame's header is not trusted: a short message takes little memory.

    Raises:
        ValueError: it is damaged or too long, or a library is not installed.

    """
    if not body.startswith(_ZSTD_MAGIC):
        return body, BYTES_MAX
    bytes_max = min(BYTES_MAX, max(EXPANDED_BYTES_MIN, EXPANSION_MAX * len(body)))
    body = _decompressed(body, bytes_max)
    if len(body) > bytes_max:
        raise ValueError(f"more than {bytes_max} bytes when decompressed")
    return body, bytes_max


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
