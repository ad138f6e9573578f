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
from models.plainly import reason, written
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
    """Return a line for each setting that is wrong, in our words and not in pydantic's.

    Args:
        root: the table of the whole file.
        error: of its validation.
        hints: advice for some unknown keys, instead of the nearest key.
        where: names the place of a setting; None: its dotted key, such as ``inputs[0].port``.

    """
    lines = {}
    for wrong in error.errors():
        place, table = _resolve(root, wrong["loc"])  # several if no part of a union takes the value
        lines[place] = _explain(place, table, wrong, hints or {}, where or dotted)
    return list(lines.values())


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
    return _is(list, annotation)


def _is(kind: type, annotation: Any) -> bool:
    return get_origin(annotation) is kind or any(_is(kind, part) for part in get_args(annotation))


def tags(table: type[BaseModel]) -> tuple[str, ...]:
    """Return the values of ``type`` for this table in a union; () without a ``type``."""
    field = table.model_fields.get("type")
    return () if field is None else get_args(field.annotation)


# settings that are never repeated in an error, as that goes into the log and to central ops
_MAY_HOLD_A_SECRET = ("url",)


def _explain(
    location: Location,
    table: type[BaseModel] | None,
    wrong: Mapping[str, Any],
    hints: Mapping[str, str],
    where: Callable[[Location], str],
) -> str:
    place = where(location)
    match wrong["type"]:
        case "extra_forbidden":
            name = str(location[-1])
            return f"{place}: {reason(wrong)}{hints.get(name) or _allowed(table, name)}"
        case "missing":
            return f"{place}: {reason(wrong)}"
        case "union_tag_not_found":
            return f"{where((*location, 'type'))}: {reason({**wrong, 'type': 'missing'})}"
        case "union_tag_invalid":
            tag, expected = wrong["ctx"]["tag"], wrong["ctx"]["expected_tags"]
            near = nearest(tag, [name.strip(" '") for name in expected.split(",")])
            return f"{where((*location, 'type'))} = {tag!r}: allowed are {expected}{near}"
        case "list_type" if isinstance(wrong["input"], Mapping):
            return f"{place}: must be a list of tables: write [[{place}]], not [{place}]"
    if isinstance(wrong["input"], Mapping):  # its text names the keys
        return f"{place}: {reason(wrong)}" if place else reason(wrong)  # of the file, or a table
    if location and location[-1] in _MAY_HOLD_A_SECRET:
        return f"{place}: {reason(wrong)}"
    return f"{place} = {written(wrong['input'])}: {reason(wrong)}"


def _allowed(table: type[BaseModel] | None, name: str) -> str:
    keys = [] if table is None else list(table.model_fields)
    return nearest(name, keys) or f"; allowed here are {', '.join(keys)}"


def _resolve(root: type[BaseModel], location: Location) -> tuple[Location, type[BaseModel] | None]:
    """Return the place in the document, without pydantic's tags, and the innermost table there."""
    place: list[int | str] = []
    tables, inside, has_keys = [root], None, True
    for step in location:
        if isinstance(step, str) and len(tables) > 1:
            tables = [table for table in tables if step in tags(table)]
            continue  # no key but the tag of a union
        if isinstance(step, str) and not has_keys:
            continue  # no key but a part of a union, such as int
        place.append(step)
        if isinstance(step, str) and tables:
            inside = tables[0]
            field = inside.model_fields.get(step)
            tables = [] if field is None else tables_in(field.annotation)
            has_keys = field is None or bool(tables) or _is(dict, field.annotation)
    return tuple(place), inside
