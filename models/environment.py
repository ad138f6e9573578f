"""Settings from the environment, of the agent and of the trainer.

``FIELDWATCH_MQTT__PORT=8883`` is ``port`` in the table ``mqtt``: a prefix, the table, two
underscores, the key. A list of tables cannot be set; a file can.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
)

from models.settings import is_list, tables_in

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_BETWEEN: Final = "__"  # a table and a key in it


class Names(NamedTuple):
    """Which variables are settings."""

    prefix: str
    reserved: tuple[str, ...] = ()  # behind the prefix: variables that are no settings
    reserved_prefixes: tuple[str, ...] = ()
    elsewhere: str = "a file"  # where a list of tables can be set


class Override(NamedTuple):
    """A setting from the environment."""

    keys: tuple[str, ...]  # from the root of the document
    value: Any
    variable: str


def overrides(
    environment: Mapping[str, str], root: type[BaseModel], names: Names
) -> tuple[list[Override], list[str]]:
    """Return the settings of the environment, and what is wrong with its variables.

    A text is taken as it is, and all else is parsed as TOML.
    """
    known = {
        names.prefix + _BETWEEN.join(keys).upper(): (keys, field) for keys, field in _fields(root)
    }
    found, problems = [], []
    for variable in sorted(environment):
        if not _is_setting(variable, names):
            continue
        if variable in known:
            keys, field = known[variable]
            found.append(Override(keys, _value(environment[variable], field), variable))
        else:
            problems.append(f"{variable}: {_advice(variable, known, root, names)}")
    return found, problems


def _is_setting(variable: str, names: Names) -> bool:
    name = variable.removeprefix(names.prefix)
    reserved = name in names.reserved or name.startswith(names.reserved_prefixes)
    return variable.startswith(names.prefix) and not reserved


def _fields(
    table: type[BaseModel], at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the settings outside lists, each with its keys from the root."""
    for key, field in table.model_fields.items():
        tables = tables_in(field.annotation)
        if not tables:
            yield (*at, key), field
        elif len(tables) == 1 and not is_list(field.annotation):
            yield from _fields(tables[0], (*at, key))


def _advice(variable: str, known: Mapping[str, object], root: type[BaseModel], names: Names) -> str:
    prefix = names.prefix
    table = variable.removeprefix(prefix).split(_BETWEEN)[0].lower()
    field = root.model_fields.get(table)
    if field is not None and is_list(field.annotation):
        return f"{table} is a list of tables; set it in {names.elsewhere}"
    allowed = [*(name.removeprefix(prefix) for name in known), *names.reserved]
    near = difflib.get_close_matches(variable.removeprefix(prefix).upper(), allowed, n=1)
    if near:
        return f"no such setting; did you mean {prefix}{near[0]}?"
    return f"no such setting; settings are named {prefix}<TABLE>{_BETWEEN}<KEY>"


def _value(text: str, field: FieldInfo) -> Any:
    if _takes_text(field.annotation):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # the field refuses it, and says what is allowed


def _takes_text(annotation: Any) -> bool:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(isinstance(choice, str) for choice in parts)
    if origin is Annotated:
        return _takes_text(parts[0])
    if origin in (Union, UnionType):
        return all(_takes_text(part) for part in parts if part is not type(None))
    return isinstance(annotation, type) and issubclass(annotation, (str, Path))
