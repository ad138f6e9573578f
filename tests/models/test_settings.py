"""What is said of settings that are wrong, in unions by type too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from models.settings import Table, explain, tables_in


class Serial(Table):
    type: Literal["serial"] = "serial"
    port: str


class Modbus(Table):
    type: Literal["modbus-tcp", "modbus-rtu"]
    unit: int


class Root(Table):
    inputs: list[Annotated[Serial | Modbus, Field(discriminator="type")]] = Field([])
    one: Serial | None = None
    names: dict[str, int] = Field({})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"inputs": [{"type": "modbus-tcp", "unit": "x"}]},
            "inputs[0].unit = 'x': must be a whole number, such as 3",
        ),
        (
            {"inputs": [{"type": "modbus-rtu", "unit": 1, "unti": 1}]},
            "inputs[0].unti: unknown key; did you mean 'unit'?",
        ),
        ({"inputs": [{"type": "serial"}]}, "inputs[0].port: missing; it has no default"),
        (
            {"inputs": [{"type": "modbus_tcp"}]},
            "inputs[0].type = 'modbus_tcp': allowed are 'serial', 'modbus-tcp', 'modbus-rtu';"
            " did you mean 'modbus-tcp'?",
        ),
        ({"inputs": [{"unit": 1}]}, "inputs[0].type: missing; it has no default"),
        ({"one": {"prt": 1, "port": "p"}}, "one.prt: unknown key; did you mean 'port'?"),
        ({"one": 3}, "one = 3: must be a table, as [name] or { key = value }"),
        ({"names": 3}, "names = 3: must be a table, as [name] or { key = value }"),
        ({"inputs": 3}, "inputs = 3: must be a list, as [value, value]"),
        (
            {"inputs": {"type": "serial", "port": "p"}},
            "inputs: must be a list of tables: write [[inputs]], not [inputs]",
        ),
        ({"names": {"a": "x"}}, "names.a = 'x': must be a whole number"),
    ],
)
def test_places_have_no_tags(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Root.model_validate(document)
    (line,) = explain(Root, caught.value)
    assert line.startswith(said)


def test_tables_are_found_in_lists_and_unions() -> None:
    annotations = {name: field.annotation for name, field in Root.model_fields.items()}
    assert tables_in(annotations["inputs"]) == [Serial, Modbus]
    assert tables_in(annotations["one"]) == [Serial]
    assert tables_in(annotations["names"]) == []
