"""TOML files, read; apart from ``settings`` because it must not load pydantic."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from models.errors import ConfigError
from models.files import open_file

Location = tuple[int | str, ...]  # keys, and positions in lists, from the root of a document


def read_toml(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the document of a file, and the file's bytes.

    Raises:
        ConfigError: not readable, or not TOML.

    """
    try:
        with open_file(path) as file:
            data = file.read()
        return tomllib.loads(data.decode()), data
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
