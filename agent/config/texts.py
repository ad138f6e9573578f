"""The plant's own texts of alarms: a TOML file with a table for each language.

This loads no pydantic, because the ``alarms`` command must be fast on small gateways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.wording.catalogue import problems
from agent.wording.language import BUILT_IN
from models.errors import ConfigError
from models.printable import printable
from models.toml import read_toml

LANGUAGES_MAX: Final = 20
BYTES_MAX: Final = 2**20
_NAME: Final = re.compile(r"[a-z]{2}[a-z0-9\-]{0,14}")

Catalogue = Mapping[str, Mapping[str, Any]]


def read_catalogue(path: Path) -> tuple[Catalogue, list[str]]:
    """Return the usable tables of a file by language, and what is wrong with it, a line each.

    ``agent.wording.language.Language`` leaves out the texts that are named.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or is too large.

    """
    document, data = read_toml(path)
    if len(data) > BYTES_MAX:
        raise ConfigError(f"{path}: has {len(data)} bytes; at most {BYTES_MAX} are allowed")
    usable = {
        name: dict(_flat(texts))
        for name, texts in list(document.items())[:LANGUAGES_MAX]
        if _NAME.fullmatch(name) and isinstance(texts, dict)
    }
    return usable, [f"{path}: {problem}" for problem in _problems(document)]


def _problems(document: Mapping[str, Any]) -> Iterator[str]:
    if len(document) > LANGUAGES_MAX:
        yield f"has {len(document)} languages; at most {LANGUAGES_MAX} are allowed"
    for name, texts in document.items():
        if not _NAME.fullmatch(name):
            yield f"{printable(name)!r}: must be the short name of a language, such as de"
        elif not isinstance(texts, dict):
            yield f"{name}: must be a table of texts"
        else:
            for key, problem in problems(dict(_flat(texts))):
                yield f"{name}: {printable(key)!r}: {printable(problem)}"


def _flat(texts: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the texts by their dotted keys: in TOML a key without quotes makes a table."""
    for key, text in texts.items():
        if isinstance(text, dict) and not at:
            yield from _flat(text, f"{key}.")
        else:
            yield f"{at}{key}", text


def languages(catalogue: Catalogue) -> list[str]:
    """Return the names of all languages, the built-in ones first."""
    return [*BUILT_IN, *(name for name in catalogue if name not in BUILT_IN)]
