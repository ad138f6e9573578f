"""The files of a gateway: its configuration, what that names, and what lies beside its database.

It reads the configuration without checking it: a rescue must work with one that is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from agent.config.layers import DROP_INS, leaves, read
from agent.config.location import store_directory
from models.errors import ConfigError
from models.keys import REVOKED
from models.toml import Location

At = Literal["configuration", "store", "elsewhere"]

CREDENTIALS: Final = Path("/etc/credstore")
CREDENTIAL_NAMES: Final = ("mqtt.password", "mqtt.tls_cert", "mqtt.tls_key", "mqtt.sign")
PREFIX: Final = "FIELDWATCH_"  # of variables that are settings
SECRET_KEYS: Final = frozenset(
    {
        "password_file",
        "tls_key_file",
        "key_file",
        "sign",
        "url_file",
        "headers_file",
        "users_file",
    }
)
_OTHER_KEYS: Final = frozenset({"bundle", "catalogue"})
_PRIVATE: Final = b"PRIVATE KEY"
_STORE_FOLDERS: Final = ("bundles", "set-aside")  # beside the databases
_LOOKED_AT_BYTES: Final = 2**20  # of a certificate, which may have a key beside it


class Belonging(NamedTuple):
    """A file, and where it belongs on a gateway."""

    at: At
    path: str  # relative to the configuration's or the store's directory, or absolute
    source: Path
    secret: bool

    def place(self, configuration: Path, store: Path) -> Path:
        """Return where it belongs on a gateway with these directories."""
        return place_of(self.at, self.path, configuration, store)


def place_of(at: At, path: str, configuration: Path, store: Path) -> Path:
    """Return where a file belongs on a gateway with these directories."""
    return {"configuration": configuration, "store": store, "elsewhere": Path("/")}[at] / path


def belongings(config_file: Path, credentials: Path = CREDENTIALS) -> list[Belonging]:
    """Return the files of a gateway that exist, without its databases, each once.

    Raises:
        ConfigError: the configuration is not readable, or not TOML.

    """
    directory = config_file.parent.absolute()
    found = [Belonging("configuration", config_file.name, config_file, False)]
    found += [
        Belonging("configuration", f"{DROP_INS}/{file.name}", file, False)
        for file in sorted((directory / DROP_INS).glob("*.toml"))
    ]
    for key, path in named_files(config_file):
        found += _named(directory, key, path)
    store = store_directory(config_file)
    for folder in _STORE_FOLDERS:
        files = sorted(file for file in (store / folder).glob("*") if file.is_file())
        found += [Belonging("store", f"{folder}/{file.name}", file, False) for file in files]
    for name in CREDENTIAL_NAMES:
        if (file := credentials / name).exists():
            found.append(Belonging("elsewhere", str(file), file, True))
    return list({(one.at, one.path): one for one in found}.values())


def absent(config_file: Path) -> list[Path]:
    """Return the files that the configuration names and that do not exist."""
    return sorted({path for _, path in named_files(config_file) if not path.exists()})


def named_files(config_file: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files and directories that the configuration and variables name, with their key.

    Raises:
        ConfigError: the configuration is not readable, or not TOML.

    """
    directory = config_file.parent.absolute()
    for location, value in settings(config_file):
        key = str(location[-1])
        is_file = key.endswith("_file") or key in SECRET_KEYS | _OTHER_KEYS
        is_keys = location == ("keys", "directory")
        if isinstance(value, str) and value and (is_file or is_keys):
            yield key, Path(os.path.normpath(directory / value))


def settings(config_file: Path) -> Iterator[tuple[Location, object]]:
    """Yield all settings, also those that variables give, without checking them."""
    yield from leaves(read(config_file).document)
    for name, value in os.environ.items():
        if name.startswith(PREFIX) and "__" in name:
            yield tuple(name.removeprefix(PREFIX).lower().split("__")), value


def _named(directory: Path, key: str, path: Path) -> Iterator[Belonging]:
    if path.is_dir():  # of the public keys
        for file in sorted([*path.glob("*.pub"), path / REVOKED]):
            yield from _named(directory, "", file)
        return
    if not path.exists():
        return
    secret = key in SECRET_KEYS or _has_key(path)
    if path.is_relative_to(directory):
        yield Belonging("configuration", str(path.relative_to(directory)), path, secret)
    else:
        yield Belonging("elsewhere", str(path), path, secret)


def _has_key(path: Path) -> bool:
    """Whether a certificate's file has its key, too."""
    try:
        with path.open("rb") as file:
            return _PRIVATE in file.read(_LOOKED_AT_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}. Run this as root, or as the agent's user"
        ) from error
