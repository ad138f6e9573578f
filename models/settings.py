"""Configuration files of agent and trainer: checks, and errors that a person can act on.

An error has the file, the key, the value and the allowed values. That of an unknown key names the
nearest valid one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from models.errors import ConfigError
from models.toml import Location
from models.validation import BaseModel, ConfigDict, ValidationError


class Table(BaseModel):
    """A table of a configuration file. It has no unknown keys and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def refusal(path: Path, problems: Iterable[str]) -> ConfigError:
    """Return the error with all problems of a file, one per line."""
    return ConfigError("\n".join(f"{path}: {problem}" for problem in problems))


def explain(
    root: type[BaseModel],
    error: ValidationError,
    hints: Mapping[str, str] | None = None,
    where: Callable[[Location], str] | None = None,
) -> list[str]:
    """Return a line for each error in the settings.

    Args:
        root: the table of the whole file.
        error: of its validation.
        hints: advice for some unknown keys, instead of the nearest key.
        where: names the place of a setting; None: its dotted key, such as ``inputs[0].port``.

    """
    return [_explain(root, wrong, hints or {}, where or dotted) for wrong in error.errors()]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a hint to the allowed name that is most similar to ``name``; "" without one."""
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def dotted(location: Location) -> str:
    """Return the dotted key of a setting, such as ``inputs[0].port``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def tables_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the tables that a field may have; a union by ``type`` has several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in tables_in(part)]


def is_list(annotation: Any) -> bool:
    """Whether a field may have a list."""
    return get_origin(annotation) is list or any(map(is_list, get_args(annotation)))


def tags(table: type[BaseModel]) -> tuple[str, ...]:
    """Return the values of ``type`` for this table in a union; () without a ``type``."""
    field = table.model_fields.get("type")
    return () if field is None else get_args(field.annotation)


_REASONS = {  # where pydantic's words are those of Python
    "model_type": "must be a table, as [name] or { key = value }",
    "dict_type": "must be a table, as [name] or { key = value }",
    "list_type": "must be a list, as [value, value]",
}


def _explain(
    root: type[BaseModel],
    wrong: Mapping[str, Any],
    hints: Mapping[str, str],
    where: Callable[[Location], str],
) -> str:
    location, table = _resolve(root, wrong["loc"])
    place = where(location)
    reason = _REASONS.get(wrong["type"]) or wrong["msg"].removeprefix("Value error, ")
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
        case "list_type" if isinstance(wrong["input"], Mapping):
            return f"{place}: must be a list of tables: write [[{place}]], not [{place}]"
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
