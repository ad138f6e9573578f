"""Where the agent keeps its database, for commands that only look into that.

They run on small gateways, in a hurry: what they need of the configuration is read without
pydantic, which would take most of their time and memory. ``check`` reads all of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.errors import ConfigError
from models.toml import read_toml

STORE_DIRECTORY: Final = Path("/var/lib/fieldwatch")


def store_directory(config_file: Path) -> Path:
    """Return the directory that the agent of this configuration keeps its database in.

    Raises:
        ConfigError: not readable, not TOML, or the directory is no text.

    """
    document, _ = read_toml(config_file)
    store = document.get("store", {})
    directory = store.get("directory", str(STORE_DIRECTORY)) if isinstance(store, dict) else None
    if not isinstance(directory, str):
        raise ConfigError(f"{config_file}: store.directory = {directory!r}: must be a text")
    return config_file.parent.absolute() / directory
