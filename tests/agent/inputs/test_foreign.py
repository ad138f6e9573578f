"""An input of another package, found by its entry point without touching the agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULE = """
from agent.inputs import Chunk, InputStatus
from models.errors import ConfigError


class Counting:
    def __init__(self, settings):
        self.name, self.stream = settings.name, settings.stream
        self.count = settings.model_extra.get("count")
        if not isinstance(self.count, int):
            raise ConfigError(f"input {self.name}: count: a whole number is needed")

    def start(self, put):
        put(Chunk(self.name, 0.0, 0.0, [b"%d" % n for n in range(self.count)]))

    def ask_to_stop(self):
        pass

    def stop(self):
        pass

    def committed(self, tokens):
        pass

    def status(self):
        return InputStatus(True, None, None, 0, self.count, 0, 0)
"""
PROGRAM = """
import sys
from agent.inputs import open_input
from agent.config.load import AgentConfig

table = {"name": "a", "stream": "s", "columns": ["flow"], "type": sys.argv[1], **eval(sys.argv[2])}
streams = [{"name": "s", "bundle": "b"}]
gateway = {"site": "p", "name": "g"}
config = AgentConfig.model_validate({"gateway": gateway, "streams": streams, "inputs": [table]})
open_input(config.inputs[0]).start(lambda chunk: print(chunk.lines))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "counting.py").write_text(MODULE)
    information = tmp_path / "counting-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[fieldwatch.inputs]\ncounting = counting:Counting\n"
    )
    return tmp_path


def run(package: Path, kind: str, settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, settings],
        env={"PYTHONPATH": f"{ROOT}:{package}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_found_and_used(package: Path) -> None:
    assert run(package, "counting", "{'count': 3}").stdout == "[b'0', b'1', b'2']\n"


def test_its_settings_are_its_own_to_check(package: Path) -> None:
    assert "count: a whole number is needed" in run(package, "counting", "{}").stderr


def test_a_kind_that_nobody_has_is_refused(package: Path) -> None:
    assert "does not match any of the expected tags" in run(package, "countink", "{}").stderr
