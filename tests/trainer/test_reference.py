"""The published reference of a training's configuration is complete, and is what the code says."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from models.settings import tables_in
from tests.conftest import ROOT
from trainer.cli import commands
from trainer.config import Config

PAGE = (ROOT / "docs" / "training.md").read_text()
SCHEMA = (ROOT / "docs" / "trainer.schema.json").read_text()
PUMP = ROOT / "models" / "zoo" / "pump.toml"
MARK = "<!-- from here on written by: make reference -->\n"
OUTDATED = "is not current; write it again with: make reference"


def test_the_page_and_the_schema_are_what_the_command_prints() -> None:
    printed = CliRunner().invoke(commands, ["schema", "--markdown"]).output
    assert PAGE.partition(MARK)[2] == printed, f"docs/training.md {OUTDATED}"
    printed = CliRunner().invoke(commands, ["schema"]).output
    assert printed == SCHEMA, f"docs/trainer.schema.json {OUTDATED}"


def settings(table: Any, inside: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield table, key and description of each setting."""
    for key, field in table.model_fields.items():
        tables = tables_in(field.annotation)
        for inner in tables:
            yield from settings(inner, f"{inside}{key}.")
        if not tables:
            yield inside.removesuffix("."), key, field.description


@pytest.mark.parametrize(("table", "key", "description"), list(settings(Config)))
def test_each_setting_is_described(table: str, key: str, description: str | None) -> None:
    assert description
    [section] = [
        part
        for part in PAGE.partition(MARK)[2].split("### ")
        if part.startswith((f"`[{table}]`", f"`[[{table}]]`"))
    ]
    assert f"\n| `{key}` | " in section


def test_the_example_fits_the_schema_and_a_mistake_does_not() -> None:
    schema = json.loads(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = tomllib.loads(PUMP.read_text())
    jsonschema.validate(document, schema)
    document["fit"]["epoch"] = document["fit"].pop("epochs")
    with pytest.raises(jsonschema.ValidationError, match="epoch"):
        jsonschema.validate(document, schema)
