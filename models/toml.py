"""TOML, read and written; apart from ``settings`` because it must not load pydantic."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from models.errors import ConfigError
from models.files import open_file

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LINE_MAX: Final = 100

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


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of two documents; ``above`` overrides ``below``, table by table."""
    return {
        key: merged(below[key], value)
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        else value
        for key, value in {**below, **above}.items()
    }


def pairs(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines with keys and their values, for people to read and edit."""
    for key, value in settings.items():
        line = f"{key} = {toml_value(value)}"
        if len(line) > _LINE_MAX and isinstance(value, list):
            yield f"{key} = ["
            yield from (f"    {toml_value(item)}," for item in value)
            yield "]"
        else:
            yield line


def written(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a whole file: settings first, then tables, each with its header."""
    yield from _table(document, "")


def _table(table: Mapping[str, Any], name: str) -> Iterator[str]:
    apart = {key: value for key, value in table.items() if _has_header(value)}
    yield from pairs({key: value for key, value in table.items() if key not in apart})
    for key, value in apart.items():
        inner = f"{name}{_key(key)}"
        for one in [value] if isinstance(value, Mapping) else value:
            yield from ("", f"[{inner}]" if isinstance(value, Mapping) else f"[[{inner}]]")
            yield from _table(one, f"{inner}.")


def _has_header(value: Any) -> bool:
    tables = isinstance(value, list) and all(isinstance(one, Mapping) for one in value)
    return isinstance(value, Mapping) or (tables and bool(value))


def toml_value(value: Any) -> str:
    """Return a value in one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return f'"{"".join(map(_in_string, value))}"'
    return json.dumps(value)


def _in_string(character: str) -> str:
    """Return a character as in a TOML string; escape what a terminal cannot copy."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml_value(key)
