"""``keys list`` and ``keys revoke``: the public keys that a gateway or a collector trusts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from models import keys
from models.errors import ConfigError
from models.keys import Role

_EFFECT: Final[Mapping[Role, str]] = {
    "bundle": "bundles are checked at the next reload or start",
    "collector": "its messages are refused within 5 s",
    "gateway": "its messages are refused within 5 s",
    "operate": "commands by it are refused from now on",
}


def directory(config_file: Path, given: Path | None) -> Path:
    """Return the directory of keys: the given one, or that of the agent's configuration.

    Raises:
        ConfigError: no directory is given, and the configuration cannot be read or has none.

    """
    if given is not None:
        return given
    from agent.config.load import load

    try:
        found = load(config_file).keys.directory
    except ConfigError as error:
        raise ConfigError(f"{error}; or give --keys DIRECTORY") from error
    if found is None:
        raise ConfigError(f"{config_file}: keys.directory is not set; give --keys DIRECTORY")
    return found


def listed(directory: Path) -> dict[str, Any]:
    """Return the keys of a directory, ordered by role, name and file.

    Raises:
        ConfigError: the directory, a key, or the file ``revoked`` cannot be read.

    """
    keyring = keys.read_keyring(directory)
    rows = [
        {
            "role": key.role,
            "key_id": key.key_id.hex(),
            "name": key.name,
            "file": key.source,
            "revoked": keyring.why(key) is not None,
            "why": keyring.why(key),
        }
        for key in sorted(keyring.keys, key=lambda key: (key.role, key.name, key.source))
    ]
    return {"directory": str(directory), "keys": rows}


def revoke(directory: Path, key_id: str, why: str) -> str:
    """Add a key to the file ``revoked``; return the message to print.

    Raises:
        ConfigError: see ``models.keys.revoke``.

    """
    file = keys.revoke(directory, key_id, why)
    known = [key for key in keys.read_keys(directory) if key.key_id.hex() == key_id]
    told = ", ".join(key.source for key in known) or f"no key in {directory} has this id"
    when = _EFFECT[known[0].role] if known else _EFFECT["bundle"]
    return f"{file}: key {key_id} is revoked ({told}); {when}"


def describe(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table."""
    rows = document["keys"]
    if not rows:
        yield f"{document['directory']}: no keys"
        return
    width = max(4, *(len(key["name"]) for key in rows)) + 2
    yield f"{'role':11}{'key':18}{'name':{width}}file"
    for key in rows:
        why = f": {key['why']}" if key["why"] else ""
        revoked = f"  REVOKED{why}" if key["revoked"] else ""
        name = key["name"] or "–"
        yield f"{key['role']:11}{key['key_id']:18}{name:{width}}{key['file']}{revoked}"
