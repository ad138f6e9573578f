"""Writes the reference of a configuration from its tables: JSON schema for editors, Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from models.settings import is_list, tables_in, tags

Schema = Mapping[str, Any]
Place = tuple[str, ...]  # keys from the root; * stands for the tables of a list

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_TINY = 1e-20  # a minimum below this is shown as > 0


class Column(NamedTuple):
    """One more column of the reference."""

    heading: str
    cell: Callable[[Place], str]  # returns the text for a setting


class _Section(NamedTuple):
    """One table of the configuration."""

    heading: str
    table: type[BaseModel]
    place: Place


def schema(root: type[BaseModel], title: str, description: str) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a whole configuration."""
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": description,
    }
    return root.model_json_schema() | about


def markdown(root: type[BaseModel], more: Column | None = None) -> Iterator[str]:
    """Yield the reference of every table and setting, line by line."""
    definitions = root.model_json_schema()["$defs"]
    columns = ["key", "value", "default", *([] if more is None else [more.heading]), ""]
    for section in _sections(root, (), ""):
        kinds = tags(section.table)
        kind = f" with `type = {json.dumps(kinds[0])}`" if kinds else ""
        yield f"### `{section.heading}`{kind}"
        yield ""
        yield (section.table.__doc__ or "").split("\n")[0]
        yield ""
        yield _row(columns)
        yield _row(["---"] * len(columns))
        properties = definitions[section.table.__name__]["properties"]
        for key, field in section.table.model_fields.items():
            if not tables_in(field.annotation):
                value = " or ".join(_values(properties[key], definitions))
                cells = [f"`{key}`", value, _default(field)]
                cells += [] if more is None else [more.cell((*section.place, key))]
                yield _row([*cells, re.sub(r"([*|<])", r"\\\1", str(field.description))])
        yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _sections(table: type[BaseModel], place: Place, inside: str) -> Iterator[_Section]:
    for key, field in table.model_fields.items():
        for inner in tables_in(field.annotation):
            many = is_list(field.annotation)
            name = f"{inside}{key}"
            heading = f"[[{name}]]" if many else f"[{name}]"
            inner_place = (*place, key, "*") if many else (*place, key)
            yield _Section(heading, inner, inner_place)
            yield from _sections(inner, inner_place, f"{name}.")


def _values(schema: Schema, definitions: Schema) -> Iterator[str]:
    """Yield the allowed values of a setting in words."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        for choice in schema["anyOf"]:
            yield from _values(choice, definitions)
    elif "const" in schema or "enum" in schema:
        yield from (f"`{json.dumps(one)}`" for one in schema.get("enum", [schema.get("const")]))
    elif schema["type"] == "array":
        items = " or ".join(_values(schema["items"], definitions))
        yield f"list of {items}"
    elif schema["type"] == "object":
        inner = schema.get("additionalProperties")
        values = " or ".join(_values(inner, definitions)) if isinstance(inner, dict) else "value"
        yield f"table of key = {values}"
    elif schema["type"] != "null":
        yield _simple(schema)


def _simple(schema: Schema) -> str:
    match schema["type"], schema.get("format"):
        case "boolean", _:
            return "`true` or `false`"
        case "integer", _:
            return f"whole number{_range(schema)}"
        case "number", _:
            return f"number{_range(schema)}"
        case _, "path":
            return "path"
    return "text"


def _range(schema: Schema) -> str:
    if 0 < schema.get("minimum", 0) < _TINY:
        schema = {**schema, "exclusiveMinimum": 0, "minimum": None}
    bounds = (
        (">", "exclusiveMinimum"), ("≥", "minimum"), ("<", "exclusiveMaximum"), ("≤", "maximum")
    )  # fmt: skip
    told = [f"{sign} {schema[key]}" for sign, key in bounds if schema.get(key) is not None]
    return f" {', '.join(told)}" if told else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    default = _ANY.dump_python(field.get_default(call_default_factory=True), mode="json")
    return "–" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"
