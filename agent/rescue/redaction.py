"""Removes secrets from what leaves the gateway: by their values, by their keys, and by their form.

``Secrets`` knows the values of those that this user can read: the lines of secret files, and what
settings and variables with a telling name or an address have. Each of them is removed wherever it
occurs, also in the journal. What it cannot read is removed by the key or by its form, such as
``Bearer …`` or a key in PEM.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from agent.config.layers import DROP_INS
from agent.rescue.belongings import PREFIX, SECRET_KEYS, Belonging, settings
from models.files import read_file

_SETTING: Final = re.compile(r"""(\w+)\s*=\s*["']([^"'\n]+)""")
REMOVED: Final = "[removed]"
_BYTES_MAX: Final = 2**18  # of a secret file
_CHARS_MIN: Final = 4  # a shorter secret occurs everywhere by chance
_TELLING: Final = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|auth|api_?key|private|cookie|session|sign(ature)?$"
    r"|^key$|_key$|community|hash|header",
    re.IGNORECASE,
)
# settings whose names are telling, and whose values are not: paths, names and switches
_HARMLESS: Final = re.compile(
    r"_file$|^sign$|^keys$|^require_signature$|^authority$|_s(_max)?$|_hours$|_minutes$"
)
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*(PRIVATE KEY|SECRET)[A-Z0-9 ]*-----.*?(-----END [A-Z0-9 ]*-----|\Z)",
    re.DOTALL,
)
_FORMS: Final = (
    _PEM,
    re.compile(r"(?<=://)[^\s/@'\"]*(?=@)"),  # user:password@ of an address
    re.compile(r"(?i)(?<=[?&])(?:[\w.-]*(?:token|key|secret|pass|sig|auth)[\w.-]*=)[^&\s'\"]+"),
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]+|(?<=basic )[\w+/=-]{8,}"),
    re.compile(r"(?i)(?<![\w-])(?:password|passwd|secret|token|api[_-]?key)\s*[=:]\s*[^\s,;'\"]+"),
    re.compile(r"scrypt\$[\w$]+"),
    re.compile(r"RWRTY0[\w+/=]+"),  # a secret key of minisign
)


class Secrets:
    """The secrets of a gateway, as far as this user can read them."""

    def __init__(self, values: Iterable[str]) -> None:
        """Take values; those that are too short to be told apart are left to key and form."""
        forms = {form for value in values if len(value) >= _CHARS_MIN for form in _forms(value)}
        self._values = sorted(forms, key=lambda value: (-len(value), value))
        self._pattern = re.compile("|".join(map(re.escape, self._values))) if self._values else None

    def removed_from(self, text: str) -> str:
        """Return a text without secrets."""
        for form in _FORMS:
            text = form.sub(REMOVED, text)
        return text if self._pattern is None else self._pattern.sub(REMOVED, text)

    def redacted(self, value: Any, key: str = "") -> Any:
        """Return a document without secrets; texts under a telling key are removed as a whole."""
        if isinstance(value, Mapping):
            return {
                self.removed_from(str(name)): self.redacted(inner, str(name))
                for name, inner in value.items()
            }
        if key == "command" and isinstance(value, list):  # its arguments may be anything
            return [self.redacted(one) for one in value[:1]] + [REMOVED] * len(value[1:])
        if isinstance(value, list | tuple):
            return [self.redacted(one, key) for one in value]
        if not isinstance(value, str):
            return value
        if is_telling(key):
            return REMOVED
        if key == "url":  # a part of its path may be a token
            parts = urlsplit(value)
            return f"{parts.scheme}://{parts.hostname}/{REMOVED}"
        return self.removed_from(value)


def is_telling(key: str) -> bool:
    """Whether a setting or variable of this name has a secret as its value."""
    return _TELLING.search(key) is not None and _HARMLESS.search(key) is None


def secrets_of(config_file: Path, files: Iterable[Belonging]) -> Secrets:
    """Return the secrets of a gateway: of its files, its settings, and its environment.

    Raises:
        ConfigError: the configuration is not readable, or not TOML.

    """
    found = [value for one in files if one.secret for value in _in_file(one.source)]
    for location, value in settings(config_file):
        found += _in_setting(str(location[-1]), value)
    return Secrets([*found, *_in_process()])


def secrets_of_text(config_file: Path) -> Secrets:
    """Return the secrets of a gateway whose configuration is not TOML, as far as it tells them."""
    found: list[str] = []
    files = [config_file, *config_file.parent.glob(f"{DROP_INS}/*.toml")]
    for file in files:
        with contextlib.suppress(OSError):
            text = read_file(file, _BYTES_MAX).decode(errors="replace")
            for key, value in _SETTING.findall(text):
                found += _in_setting(key, value)
                if key in SECRET_KEYS:
                    found += _in_file(config_file.parent / value)
    return Secrets([*found, *_in_process()])


def environment(secrets: Secrets) -> dict[str, str]:
    """Return the variables of this software that are set, without secrets."""
    return {
        name: secrets.redacted(value, name.rpartition("__")[2].lower())
        for name, value in sorted(os.environ.items())
        if name.startswith(PREFIX)
    }


def _in_process() -> Iterator[str]:
    """Yield what systemd and the environment gave to this process."""
    if (directory := os.environ.get("CREDENTIALS_DIRECTORY")) is not None:
        for file in Path(directory).glob("*"):
            yield from _in_file(file)
    for name, value in os.environ.items():
        yield from _in_setting(name.rpartition("__")[2], value)


def _in_setting(key: str, value: object) -> Iterator[str]:
    if isinstance(value, str):
        if is_telling(key) and key.lower() not in SECRET_KEYS:
            yield value
        yield from _in_address(value)


def _in_address(text: str) -> Iterator[str]:
    """Yield the password, and of a query the values, of an address."""
    try:
        parts = urlsplit(text)
        password = parts.password if parts.scheme and parts.netloc else None
    except ValueError:
        return
    if password:
        yield unquote(password)
        yield password


def _in_file(file: Path) -> Iterator[str]:
    """Yield the lines of a secret file, and the words of a line that may stand alone."""
    try:
        text = read_file(file, _BYTES_MAX).decode(errors="replace")
    except OSError:  # not ours to read; what of it occurs elsewhere is found by key and form
        return
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith(("-----", "#", "untrusted comment:")):
            continue
        yield line
        _, colon, rest = line.partition(": ")  # of a header
        if colon:
            yield rest
            yield from (word for word in rest.split()[1:])
        if "$" in line:  # of a user of the page
            yield line.rpartition(":")[2]
            yield from line.split("$")[-2:]
        if "://" in line:  # the secret part of an address
            yield from _in_address(line)
            yield from (part for part in urlsplit(line).path.split("/") if len(part) >= 8)
            yield from (part.partition("=")[2] for part in urlsplit(line).query.split("&"))


def _forms(value: str) -> Iterator[str]:
    """Yield a secret as it may be written: as it is, in JSON, in an address, in Base64."""
    yield value
    yield json.dumps(value)[1:-1]
    yield quote(value, safe="")
    yield base64.b64encode(value.encode()).decode().rstrip("=")
