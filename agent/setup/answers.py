"""What ``setup`` is told: settings in the form of agent.toml, and secrets apart from them.

A file of answers is a part of an agent.toml. In its table ``mqtt`` it may also have ``password``.
``mqtt = false`` stands for a gateway that works alone. Files that lie beside it (bundles, the CA's
certificates, the password) are copied to where they belong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.mqtt.credentials import PASSWORD
from models.errors import ConfigError
from models.files import read_file
from models.toml import read_toml

_COPY_BYTES_MAX: Final = 64 * 2**20  # of a bundle
_PASSWORD_BYTES_MAX: Final = 65_537  # as in agent.mqtt.credentials

Settings = dict[str, Any]


class Copy(NamedTuple):
    """A file that is put beside the configuration."""

    name: str
    data: bytes


class Answers(NamedTuple):
    """What is wanted; what is not named stays as it is."""

    settings: Settings
    alone: bool = False  # no broker
    secrets: Mapping[str, bytes] = {}  # by the name of the credential
    copies: tuple[Copy, ...] = ()
    secret_files: tuple[Path, ...] = ()  # that a secret was read from
    removed: tuple[tuple[str, ...], ...] = ()  # settings that shall go

    def over(self, below: Answers) -> Answers:
        """Return both; these answers override the others."""
        return Answers(
            _merged(below.settings, self.settings),
            self.alone or (below.alone and "mqtt" not in self.settings),
            {**below.secrets, **self.secrets},
            (*below.copies, *self.copies),
            (*below.secret_files, *self.secret_files),
            (*below.removed, *self.removed),
        )


def read_answers(path: Path) -> Answers:
    """Return the answers of a file.

    Raises:
        ConfigError: it, or a file that it names, is not readable; or it is not TOML.

    """
    return answers_of(read_toml(path)[0], path.parent)


def answers_of(settings: Settings, directory: Path) -> Answers:
    """Return answers in the form of agent.toml; they name files relative to ``directory``.

    Raises:
        ConfigError: a file that they name is not readable, or a table is not one.

    """
    settings = dict(settings)
    alone = settings.get("mqtt") is False
    if alone:
        del settings["mqtt"]
    secrets: dict[str, bytes] = {}
    copies: list[Copy] = []
    files: list[Path] = []
    if "mqtt" in settings:
        broker = settings["mqtt"] = dict(_table(settings["mqtt"], "mqtt"))
        files = _take_password(broker, directory, secrets)
        if "tls_ca_file" in broker:
            broker["tls_ca_file"] = _beside(broker["tls_ca_file"], directory, copies)
    if "streams" in settings:
        settings["streams"] = [
            row | {"bundle": _beside(row["bundle"], directory, copies)} if "bundle" in row else row
            for row in (_table(row, "streams") for row in settings["streams"])
        ]
    return Answers(settings, alone, secrets, tuple(copies), tuple(files))


def _take_password(broker: Settings, directory: Path, secrets: dict[str, bytes]) -> list[Path]:
    """Move the password from the broker's settings to the secrets; return its files."""
    password = broker.pop("password", None)
    file = broker.pop("password_file", None)
    if file is not None:
        path = directory / str(file)
        secrets[PASSWORD] = _read(path, _PASSWORD_BYTES_MAX).rstrip(b"\r\n")
        return [path]
    if password is not None:
        secrets[PASSWORD] = str(password).encode()
    return []


def _beside(name: Any, directory: Path, copies: list[Copy]) -> Any:
    """Note a file beside the answers as one to copy; return its name in agent.toml."""
    path = Path(str(name))
    if path.is_absolute() or not (directory / path).exists():
        return name
    copies.append(Copy(path.name, _read(directory / path, _COPY_BYTES_MAX)))
    return path.name


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        return read_file(path, bytes_max)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _table(value: Any, name: str) -> Settings:
    if not isinstance(value, dict):
        raise ConfigError(f"{name} = {value!r}: must be a table")
    return value


def _merged(below: Settings, over: Settings) -> Settings:
    both = dict(below)
    for key, value in over.items():
        inner = both.get(key)
        both[key] = (
            _merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
        )
    return both
