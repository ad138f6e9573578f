"""Where the agent keeps its database, for commands that only look into that.

They run on small gateways, in a hurry: what they need of the configuration is read without
pydantic, which would take most of their time and memory. ``check`` reads all of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent.config.layers import read
from models.errors import ConfigError

STORE_DIRECTORY: Final = Path("/var/lib/fieldwatch")

_KEYS = ("store", "directory")
_VARIABLE = "FIELDWATCH_STORE__DIRECTORY"  # named as in environment; a test compares them


def store_directory(config_file: Path) -> Path:
    """Return the directory that the agent of this configuration keeps its database in.

    Raises:
        ConfigError: not readable, not TOML, or the directory is no text.

    """
    layers = read(config_file)
    if _VARIABLE in os.environ:
        layers.set(_KEYS, os.environ[_VARIABLE], _VARIABLE)
    store = layers.document.get("store", {})
    directory = store.get("directory", str(STORE_DIRECTORY)) if isinstance(store, dict) else None
    if not isinstance(directory, str):
        source = layers.origins(_KEYS)[-1].source
        raise ConfigError(f"{source}: store.directory = {directory!r}: must be a text")
    return config_file.parent.absolute() / directory
