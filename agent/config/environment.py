"""Settings from the environment: ``FIELDWATCH_MQTT__PORT=8883`` is ``port`` in the table ``mqtt``.

It is for what differs between containers or units. It cannot set a list of tables, such as
streams; a file in ``conf.d`` can.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from agent.config.layers import Layers
from models.settings import is_list, tables_in

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

PREFIX: Final = "FIELDWATCH_"
_BETWEEN = "__"  # a table and a key in it
# not settings: the path of the configuration, programs to use, and variables of the tests
RESERVED: Final = ("CONFIG", "MOSQUITTO", "TFLITE_PYTHON")
RESERVED_PREFIXES: Final = ("TEST_", "SOAK_")


def lay(layers: Layers, environment: Mapping[str, str], root: type[BaseModel]) -> list[str]:
    """Lay the settings of the environment over the files'; return what is wrong with them.

    A text is taken as it is, and all else is parsed as TOML.
    """
    known = {PREFIX + _BETWEEN.join(keys).upper(): (keys, field) for keys, field in _fields(root)}
    problems = []
    for variable in sorted(filter(_is_setting, environment)):
        if variable not in known:
            problems.append(f"{variable}: {_advice(variable, known, root)}")
            continue
        keys, field = known[variable]
        layers.set(keys, _value(environment[variable], field), variable)
    return problems


def _is_setting(variable: str) -> bool:
    name = variable.removeprefix(PREFIX)
    reserved = name in RESERVED or name.startswith(RESERVED_PREFIXES)
    return variable.startswith(PREFIX) and not reserved


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


def _advice(variable: str, known: Mapping[str, object], root: type[BaseModel]) -> str:
    table = variable.removeprefix(PREFIX).split(_BETWEEN)[0].lower()
    field = root.model_fields.get(table)
    if field is not None and is_list(field.annotation):
        return f"{table} is a list of tables; set it in a file, such as one in conf.d"
    names = [*(name.removeprefix(PREFIX) for name in known), *RESERVED]
    near = difflib.get_close_matches(variable.removeprefix(PREFIX).upper(), names, n=1)
    if near:
        return f"no such setting; did you mean {PREFIX}{near[0]}?"
    return f"no such setting; settings are named {PREFIX}<TABLE>{_BETWEEN}<KEY>"


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
