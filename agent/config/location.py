"""Where the agent keeps its database and listens, for commands that need nothing else.

They must be fast on small gateways, so this reads the configuration without pydantic, which would
take most of their time and memory. ``check`` reads all of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent.config.layers import Layers, read
from models.errors import ConfigError

STORE_DIRECTORY: Final = Path("/var/lib/fieldwatch")

SOCKET_OFF: Final = "off"
_SOCKET = "control.sock"


def store_directory(config_file: Path) -> Path:
    """Return the directory of the database of the agent with this configuration.

    Raises:
        ConfigError: not readable, not TOML, or the directory is not a text.

    """
    directory = _text(read(config_file), "store", "directory") or str(STORE_DIRECTORY)
    return config_file.parent.absolute() / directory


def control_socket(config_file: Path) -> Path | None:
    """Return the command socket of the agent with this configuration; None for off.

    Raises:
        ConfigError: not readable, not TOML, or the path is not a text.

    """
    path = _text(read(config_file), "control", "socket")
    if path == SOCKET_OFF:
        return None
    if path is None:
        return socket_beside(store_directory(config_file))
    return config_file.parent.absolute() / path


def language_settings(config_file: Path) -> tuple[str, Path | None]:
    """Return the language of the alarms, and the file with the plant's own texts; None for none.

    Raises:
        ConfigError: not readable, not TOML, or one of them is not a text.

    """
    layers = read(config_file)
    name = _text(layers, "language", "default") or "en"
    catalogue = _text(layers, "language", "catalogue")
    return name, None if catalogue is None else config_file.parent.absolute() / catalogue


def socket_beside(store: Path) -> Path:
    """Return the socket of an agent whose configuration does not name one."""
    return store / _SOCKET


def _text(layers: Layers, table: str, key: str) -> str | None:
    """Return a setting that is a text; None if it is not set."""
    keys = (table, key)
    variable = f"FIELDWATCH_{table}__{key}".upper()  # as in environment; a test compares them
    if variable in os.environ:
        layers.set(keys, os.environ[variable], variable)
    settings = layers.document.get(table, {})
    source = layers.origins(keys)[-1].source
    if not isinstance(settings, dict):
        raise ConfigError(f"{source}: {table} = {settings!r}: must be a table")
    value = settings.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{source}: {table}.{key} = {value!r}: must be a text")
    return value
