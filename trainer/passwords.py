"""Passwords of databases: from the environment or a file, never from a URL or a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from models.errors import ConfigError

_SECRETS: Final = ("password", "passwd", "pwd", "sslpassword")  # of drivers, behind the ? of a URL


def check_no_secret(url: str) -> None:
    """Refuse the URL of a database that has a password; configurations are copied and shown.

    Raises:
        ValueError: it has one, or is no URL; the text does not repeat it.

    """
    try:
        parts = urlsplit(url)
        secret = parts.password is not None
    except ValueError:
        raise ValueError("url is not a URL, such as sqlite:///history.db") from None
    if not parts.scheme or "://" not in url:
        raise ValueError("url is not a URL, such as sqlite:///history.db")
    asked = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if secret or asked.intersection(_SECRETS):
        raise ValueError(
            "url has a password, and configurations are copied and shown: take it out, and set"
            " password_env or password_file"
        )


def password(directory: Path, variable: str | None, file: str | None, where: str) -> str | None:
    """Return a password; None if neither a variable nor a file is named.

    Args:
        directory: that ``file`` is relative to.
        variable: of the environment.
        file: its first line is the password.
        where: the setting is, for errors.

    Raises:
        ConfigError: the variable is not set, or the file cannot be read.

    """
    if variable is not None:
        found = os.environ.get(variable)
        if found is None:
            raise ConfigError(
                f"{where}: the environment has no variable {variable}: set it to the password"
            )
        return found
    if file is None:
        return None
    path = directory / file
    try:
        first, _, _ = path.read_text().partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{where}: password_file {path} cannot be read: {reason}") from error
    return first.rstrip("\r")
