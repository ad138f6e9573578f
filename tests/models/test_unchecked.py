"""Tables without pydantic: they are what pydantic's are, as far as an agent asks them.

Which tables a process has is decided once, so the unchecked ones are looked at in one of their own.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agent.config import load as configuration
from models import unchecked
from models.bundle import Bundle
from tests.conftest import ROOT
from tests.models.test_baseline import DIGEST, SETTINGS

NUMBERS = st.floats(-1e15, 1e15)  # versions of pydantic differ in how they write larger ones
SIMPLE = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | NUMBERS | st.text()


class Checked(BaseModel):
    simple: Any
    rows: list[dict[str, Any]] = Field(default_factory=list)


class Unchecked(unchecked.BaseModel):
    simple: Any
    rows: list[dict[str, Any]] = unchecked.Field(default_factory=list)


class Other(Unchecked):
    more: int = 1
    other: Unchecked = unchecked.Field(Unchecked(simple=3), description="a table in a table")


@given(st.builds(dict, simple=SIMPLE, rows=st.lists(st.dictionaries(st.text(), SIMPLE))))
def test_the_json_is_pydantics_byte_for_byte(values: dict[str, Any]) -> None:
    assert Unchecked(**values).model_dump_json() == Checked(**values).model_dump_json()


@pytest.mark.parametrize("number", [1e-4, 1e-5, -1.5e-5, 9.99e-6, 1e-7, 1e-100, 1e15, -0.0])
def test_numbers_near_the_exponents_too(number: float) -> None:
    assert Unchecked(simple=number).model_dump_json() == Checked(simple=number).model_dump_json()


def test_a_table_has_its_defaults_and_those_of_what_it_is_made_of() -> None:
    table = Other(simple=0)
    assert dict(table) == {"simple": 0, "rows": [], "more": 1, "other": Unchecked(simple=3)}
    assert list(Other.model_fields) == ["simple", "rows", "more", "other"]
    assert table.rows is not Other(simple=0).rows
    assert table.model_dump()["other"] == {"simple": 3, "rows": []}
    assert table.model_copy(update={"more": 2}) == Other(simple=0, more=2) != table
    assert table.model_dump_json(include={"more"}) == '{"more":1}'


def test_a_table_does_not_change_and_its_keys_must_be_right() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        Unchecked(simple=0).simple = 1
    with pytest.raises(AssertionError, match="other"):
        Unchecked(simple=0, other=1)
    with pytest.raises(AssertionError, match="missing"):
        Unchecked()


def arrived(sent: object, expression: str) -> Any:
    """Unpickle it in a process with unchecked tables; return what an expression makes of it."""
    code = (
        "import sys, pickle; from models import unchecked; unchecked.choose()\n"
        "it = pickle.load(sys.stdin.buffer)\n"
        f"pickle.dump(({expression}), sys.stdout.buffer)\n"
        "assert not [name for name in sys.modules if 'pydantic' in name]\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(sent),
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return pickle.loads(ended.stdout)


def test_a_manifest_arrives_whole(
    zoo_bundle: Bundle, forecasting_bundle: Callable[..., Bundle]
) -> None:
    for manifest in (zoo_bundle.manifest, forecasting_bundle().manifest):
        expression = "it.model_dump(), it.scored, it.error_rows, it.channels[0].model_dump_json()"
        assert arrived(manifest, expression) == (
            manifest.model_dump(),
            manifest.scored,
            manifest.error_rows,
            manifest.channels[0].model_dump_json(),
        )


def test_the_digest_of_a_baseline_is_the_same_there() -> None:
    assert arrived(SETTINGS, "it.digest") == DIGEST


def test_a_configuration_arrives_whole_with_all_kinds_of_inputs(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(CONFIGURATION)
    config = configuration.load(file)
    kinds_of = "[type(source).__name__ for source in it.inputs]"
    values, kinds, lines = arrived(
        config, f"it.model_dump(), {kinds_of}, it.inputs[2].lines.model_dump()"
    )
    assert values == config.model_dump()
    assert kinds == [type(source).__name__ for source in config.inputs]
    assert lines == config.inputs[2].lines.model_dump()


CONFIGURATION = """
[gateway]
site = "plant"
name = "gw"

[mqtt]
host = "localhost"

[[streams]]
name = "pump"
bundle = "pump.fieldwatch"
[[streams.limits]]
channel = "flow"
high_critical = 3

[[streams]]
name = "fan"
[streams.baseline]
period_s = 1.0
channels = [{name = "flow", low = -1e-5}]

[[inputs]]
name = "serial"
stream = "pump"
port = "ttyUSB0"
columns = ["time", "flow"]

[[inputs]]
name = "mqtt"
stream = "fan"
type = "mqtt"
topics = ["a/b"]
format = "json"

[[inputs]]
name = "modbus"
stream = "fan"
type = "modbus-tcp"
host = "localhost"
registers = [{channel = "flow", address = 1}]
"""
