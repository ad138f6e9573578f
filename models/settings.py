"""Configuration files of both sides: TOML, checked as a whole, with errors a person can act on.

Every error says file, key, value and what is allowed; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import ConfigError


class Table(BaseModel):
    """A table of a configuration file: no unknown keys, no change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refusal(path: Path, problems: Iterable[str]) -> ConfigError:
    """Return the error that tells all problems of a file, one a line."""
    return ConfigError("\n".join(f"{path}: {problem}" for problem in problems))


def explain(
    root: type[BaseModel], error: ValidationError, hints: Mapping[str, str] | None = None
) -> list[str]:
    """Say in one line each what is wrong with the settings of ``root``.

    ``hints`` has better advice than the nearest key, for some unknown keys.
    """
    return [_explain(root, wrong, hints or {}) for wrong in error.errors()]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return the words that point at the allowed name most like ``name``, if one is."""
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _explain(root: type[BaseModel], wrong: Mapping[str, Any], hints: Mapping[str, str]) -> str:
    location, key = wrong["loc"], _dotted(wrong["loc"])
    if wrong["type"] == "extra_forbidden":
        advice = hints.get(str(location[-1])) or _allowed(root, location)
        return f"{key}: unknown key{advice}"
    if wrong["type"] == "missing":
        return f"{key}: missing; it has no default"
    reason = wrong["msg"].removeprefix("Value error, ")
    if isinstance(wrong["input"], Mapping):  # its text names the keys
        return f"{key}: {reason}" if key else reason  # of the whole file, or of a table
    return f"{key} = {wrong['input']!r}: {reason}"


def _dotted(location: Iterable[int | str]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def _allowed(root: type[BaseModel], location: tuple[int | str, ...]) -> str:
    keys = list(_table_at(root, location[:-1]).model_fields)
    return nearest(str(location[-1]), keys) or f"; allowed here are {', '.join(keys)}"


def _table_at(table: type[BaseModel], location: Iterable[int | str]) -> type[BaseModel]:
    """Return the model of the table at ``location`` below ``table``."""
    for step in location:
        if isinstance(step, str):
            annotation = table.model_fields[step].annotation
            table = next(
                kind
                for kind in (annotation, *get_args(annotation))
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            )
    return table
