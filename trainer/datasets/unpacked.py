"""Files compressed with gzip: their name ends in ``.gz``."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from models.errors import DataError


def unpacked(path: Path, data: bytes) -> bytes:
    """Return the content of a file, from its bytes.

    Raises:
        DataError: it is truncated or damaged.

    """
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is truncated or damaged: {error}") from error
