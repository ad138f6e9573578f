"""The published reference is complete, and is what the code says today."""

from __future__ import annotations

import json
import tomllib
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from click.testing import CliRunner
from pydantic import Field

from agent.cli import commands
from agent.config import environment, reference
from agent.config import load as config
from models.settings import Table, tables_in
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text()
MARK = "<!-- from here on written by: make reference -->\n"
OUTDATED = "is not current; write it again with: make reference"


def test_the_page_is_current() -> None:
    written = "".join(line + "\n" for line in reference.markdown())
    assert PAGE.partition(MARK)[2] == written, f"docs/configuration.md {OUTDATED}"


def test_the_schema_is_current() -> None:
    published = json.loads((ROOT / "docs" / "agent.schema.json").read_text())
    assert published == reference.schema(), f"docs/agent.schema.json {OUTDATED}"


def test_the_command_prints_what_is_published() -> None:
    printed = CliRunner().invoke(commands, ["schema"]).output
    assert printed == (ROOT / "docs" / "agent.schema.json").read_text()
    people = CliRunner().invoke(commands, ["schema", "--markdown"]).output
    assert people == PAGE.partition(MARK)[2]


def test_the_page_has_every_table_and_every_setting() -> None:
    sections = {part.partition("\n")[0]: part for part in PAGE.partition(MARK)[2].split("\n### ")}

    def look(table: Any, inside: str) -> None:
        for key, field in table.model_fields.items():
            for inner in tables_in(field.annotation):
                name = f"{inside}{key}"
                (found,) = [
                    text
                    for heading, text in sections.items()
                    if heading.removeprefix("### ").startswith((f"`[{name}]", f"`[[{name}]]"))
                    and inner.__doc__.split("\n")[0] in text
                ]
                for own, setting in inner.model_fields.items():
                    if not tables_in(setting.annotation):
                        assert f"\n| `{own}` | " in found, f"{name}.{own}"
                look(inner, f"{name}.")

    look(config.AgentConfig, "")


def test_the_page_names_the_variables_that_are_no_settings() -> None:
    for name in (*environment.RESERVED, *environment.RESERVED_PREFIXES):
        assert f"`FIELDWATCH_{name}`" in PAGE, name


EXAMPLE = ROOT / "systemd" / "agent.toml"


def test_the_example_fits_the_schema_and_points_at_it() -> None:
    jsonschema.Draft202012Validator.check_schema(reference.schema())
    jsonschema.validate(tomllib.loads(EXAMPLE.read_text()), reference.schema())
    assert EXAMPLE.read_text().startswith("#:schema ./agent.schema.json\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [('host = "', 'hots = "'), ("[store]", "[stroe]"), ("[[streams]]", "[[streams]]\nname = 3 #")],
)
def test_a_mistake_does_not_fit_the_schema(before: str, after: str) -> None:
    text = EXAMPLE.read_text().replace(f"\n{before}", f"\n{after}", 1)
    text = text.replace('\nname = "pump-1"', "", 1) if "name" in after else text
    document = tomllib.loads(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, reference.schema())


class One(Table):
    """One kind."""

    type: Literal["one"] = Field("one", description="Kind")
    share: float | None = Field(None, ge=0, lt=1, description="a | b")


class Register(Table):
    """A register."""

    address: int | str = Field(description="Where")


class Two(Table):
    """Another kind."""

    type: Literal["two"] = Field("two", description="Kind")
    registers: list[Register] = Field(description="What is read")


class Root(Table):
    """A configuration with a union by type."""

    inputs: list[Annotated[One | Two, Field(discriminator="type")]] = Field(description="Inputs")


def test_each_kind_of_a_union_has_its_section() -> None:
    lines = list(reference.markdown(Root))
    assert [line for line in lines if line.startswith("### ")] == [
        '### `[[inputs]]` with `type = "one"`',
        '### `[[inputs]]` with `type = "two"`',
        "### `[[inputs.registers]]`",
    ]
    assert "| `share` | number ≥ 0, < 1 | – | restart | a \\| b |" in lines
    assert "| `address` | whole number or text | needed | restart | Where |" in lines
