"""The examples of docs/inputs.md are tables that the configuration takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config import load as configuration
from tests.conftest import ROOT

EXAMPLES = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "inputs.md").read_text(), re.DOTALL)
INPUTS = [text for text in EXAMPLES if text.startswith("[[inputs]]")]
LINES = [text for text in EXAMPLES if text.startswith("format = ")]
HEAD = """
[gateway]
site = "plant"
name = "gw-1"
[[streams]]
name = "pump-1"
bundle = "pump.fieldwatch"
"""


def test_every_kind_has_an_example() -> None:
    kinds = {re.search(r'type = "([a-z-]+)"', text) for text in INPUTS}
    named = {match[1] if match else "serial" for match in kinds}
    modbus = {"modbus-tcp", "modbus-rtu"}
    assert named == {"serial", "mqtt", "file", "replay", "simulator"} | modbus
    assert LINES


@pytest.mark.parametrize("text", INPUTS)
def test_an_example_can_be_pasted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(HEAD + text)
    assert configuration.load(path).inputs[0].stream == "pump-1"


@pytest.mark.parametrize("text", LINES)
def test_an_example_of_a_format_can_be_pasted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'{HEAD}[[inputs]]\nname = "a"\nstream = "pump-1"\nport = "x"\n{text}')
    assert configuration.load(path)
