"""What is wrong with a setting is said in our words: no bad value brings those of pydantic."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from agent.config.load import AgentConfig
from models.manifest import TelemanomManifest
from models.names import ALLOWED
from models.plainly import written
from models.settings import explain, tables_in
from trainer.benchmark.forecasting import EttConfig
from trainer.config import Config

BAD: list[Any] = [
    *("", "x", "Ä\n", "\ud800", "x" * 70_000),
    *(-1, 0, 3, 2**70, 10**400, 1 << 40_000, 0.5, -0.5, 1e300, math.inf, -math.inf, math.nan),
    *(True, [], [[]], [{}], {}, {"x": 1}, {"x": {}}, ["x", "x"], [0, -1], [1] * 101, ["x"] * 101),
    *([math.nan], [0.5], [None], [True], None),
    *(
        datetime.date(2026, 1, 1),
        datetime.time(1, 2),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    ),
]
PYDANTICS = ("should", "Input", "a valid", "ensure", "Value error", "unable", "[type=", "instance")
PYTHONS = ("datetime.", "True", "None", "str ", "int ", "float ")


def every_table(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield root
    for field in root.model_fields.values():
        for table in tables_in(field.annotation):
            yield from every_table(table)


TABLES = dict.fromkeys(
    table
    for root in (AgentConfig, Config, EttConfig, TelemanomManifest)
    for table in every_table(root)
)


def said(table: type[BaseModel], key: str, value: Any) -> list[str]:
    """Return what is said of a value, and not of the other settings, which are missing."""
    try:
        table.model_validate({key: value})
    except ValidationError as error:
        ours = {key, f"{key}[", f"{key}."}
        return [line for line in explain(table, error) if any(map(line.startswith, ours))]
    return []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_no_bad_value_brings_the_words_of_pydantic(table: type[BaseModel]) -> None:
    lines = [
        line for key in table.model_fields for value in BAD for line in said(table, key, value)
    ]
    assert lines
    for line in lines:
        said_of_it = line.removeprefix(line.split(" = ")[0])  # a name may end as a type does
        assert not [word for word in (*PYDANTICS, *PYTHONS) if word in said_of_it], line[:300]
        assert "is not a value that this setting can have" not in line, line[:300]
        assert len(line) < 600
        assert line.isprintable()


def test_every_pattern_of_a_name_has_words() -> None:
    patterns = {
        part.pattern
        for table in TABLES
        for field in table.model_fields.values()
        for part in field.metadata
        if getattr(part, "pattern", None) is not None
    }
    assert patterns == set(ALLOWED)


@pytest.mark.parametrize(
    ("table", "key", "value", "line"),
    [
        (AgentConfig, "inputs", [3], "inputs[0] = 3: must be a table, as [name] or"),
        (AgentConfig, "mqtt", {"host": "b", "port": 0}, "mqtt.port = 0: must be at least 1"),
        (AgentConfig, "mqtt", {"host": ""}, "mqtt.host = '': must not be empty"),
        (
            Config,
            "bundle",
            {"name": "Pump"},
            "bundle.name = 'Pump': allowed are 1 to 64 small letters, digits, '.' and '-', the"
            " first a letter or digit",
        ),
        (Config, "fit", {"validation": 1}, "fit.validation = 1: must be below 1"),
        (Config, "fit", {"seed": [True]}, "fit.seed = [true]: must be a whole number, such as 3"),
        (Config, "sampling", {"period_s": 0}, "sampling.period_s = 0: must be above 0"),
        (Config, "split", {"train": "half"}, "split.train = 'half': must be a number, such as 0.5"),
    ],
)
def test_a_value_has_its_place_and_what_is_allowed(
    table: type[BaseModel], key: str, value: Any, line: str
) -> None:
    assert [one for one in said(table, key, value) if one.startswith(line)]


def test_a_part_of_a_union_is_no_key() -> None:
    register = {"channel": "flow", "address": 0, "invalid": ["x"]}
    modbus = {"name": "m", "stream": "s", "type": "modbus-tcp", "host": "h"}
    lines = said(AgentConfig, "inputs", [modbus | {"registers": [register]}])
    assert lines == ["inputs[0].registers[0].invalid[0] = 'x': must be a number, such as 0.5"]


def test_a_value_is_written_as_in_its_file() -> None:
    values = [True, "a", None, 1.5, datetime.date(2026, 1, 2), [False]]
    assert written(values) == "[true, 'a', null, 1.5, 2026-01-02, [false]]"
    assert len(written(["x" * 1000] * 1000)) <= 200
