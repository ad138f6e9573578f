"""Configuration files of both sides: TOML, checked as a whole, with errors a person can act on.

Every error says file, key, value and what is allowed; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from models.errors import ConfigError
from models.fields import BaseModel, ConfigDict, ValidationError

Location = tuple[int | str, ...]  # keys, and positions in lists, from the root of a document


class Table(BaseModel):
    """A table of a configuration file: no unknown keys, no change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def refusal(path: Path, problems: Iterable[str]) -> ConfigError:
    """Return the error that tells all problems of a file, one a line."""
    return ConfigError("\n".join(f"{path}: {problem}" for problem in problems))


def explain(
    root: type[BaseModel],
    error: ValidationError,
    hints: Mapping[str, str] | None = None,
    where: Callable[[Location], str] | None = None,
) -> list[str]:
    """Say in one line each what is wrong with the settings of ``root``.

    ``hints`` has better advice than the nearest key, for some unknown keys. ``where`` names the
    place of a setting; without it, that is its key with dots, such as ``inputs[0].port``.
    """
    return [_explain(root, wrong, hints or {}, where or dotted) for wrong in error.errors()]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return the words that point at the allowed name most like ``name``, if one is."""
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def dotted(location: Location) -> str:
    """Return a setting's place as people write it: ``inputs[0].port``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def tables_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the tables that a field may hold: several where it is a union by ``type``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in tables_in(part)]


def is_list(annotation: Any) -> bool:
    """Whether a field holds a list, or may."""
    return get_origin(annotation) is list or any(map(is_list, get_args(annotation)))


def tags(table: type[BaseModel]) -> tuple[str, ...]:
    """Return the values of ``type`` that stand for this table in a union; none where it has no."""
    field = table.model_fields.get("type")
    return () if field is None else get_args(field.annotation)


def _explain(
    root: type[BaseModel],
    wrong: Mapping[str, Any],
    hints: Mapping[str, str],
    where: Callable[[Location], str],
) -> str:
    location, table = _resolve(root, wrong["loc"])
    place = where(location)
    reason = wrong["msg"].removeprefix("Value error, ")
    match wrong["type"]:
        case "extra_forbidden":
            name = str(location[-1])
            return f"{place}: unknown key{hints.get(name) or _allowed(table, name)}"
        case "missing":
            return f"{place}: missing; it has no default"
        case "union_tag_not_found":
            return f"{where((*location, 'type'))}: missing; it has no default"
        case "union_tag_invalid":
            tag, expected = wrong["ctx"]["tag"], wrong["ctx"]["expected_tags"]
            near = nearest(tag, [name.strip(" '") for name in expected.split(",")])
            return f"{where((*location, 'type'))} = {tag!r}: allowed are {expected}{near}"
    if isinstance(wrong["input"], Mapping):  # its text names the keys
        return f"{place}: {reason}" if place else reason  # of the whole file, or of a table
    return f"{place} = {wrong['input']!r}: {reason}"


def _allowed(table: type[BaseModel] | None, name: str) -> str:
    keys = [] if table is None else list(table.model_fields)
    return nearest(name, keys) or f"; allowed here are {', '.join(keys)}"


def _resolve(root: type[BaseModel], location: Location) -> tuple[Location, type[BaseModel] | None]:
    """Return the place in the document, without pydantic's tags, and the innermost table there."""
    place: list[int | str] = []
    tables, inside = [root], None
    for step in location:
        if isinstance(step, str) and len(tables) > 1:
            tables = [table for table in tables if step in tags(table)]
            continue  # no key but the tag of a union
        place.append(step)
        if isinstance(step, str) and tables:
            inside = tables[0]
            field = inside.model_fields.get(step)
            tables = [] if field is None else tables_in(field.annotation)
    return tuple(place), inside
