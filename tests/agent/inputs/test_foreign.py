"""An input of another package, found by its entry point: the one that CONTRIBUTING.md makes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import ROOT, RealAgent, wait_until

HEADING = "## An input\n"
HEAD = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
"""


def blocks(language: str) -> list[str]:
    """Return the blocks of code of the section, without the indentation of its list."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(HEADING)[1].split("\n## ")[0]
    found = re.findall(rf"^   ```{language}\n(.*?)^   ```$", section, re.DOTALL | re.MULTILINE)
    return [re.sub(r"(?m)^   ", "", block) for block in found]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package as installed: its module, and the entry points of its pyproject.toml."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    (module,) = blocks("python")
    (directory / "machine_load.py").write_text(module)
    project = tomllib.loads(blocks("toml")[0])["project"]
    information = directory / f"machine_load-{project['version']}.dist-info"
    information.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (information / "METADATA").write_text(about)
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in targets.items())
        for group, targets in project["entry-points"].items()
    )
    (information / "entry_points.txt").write_text(points)
    return directory


def configured(tmp_path: Path, written: str = "", instead: str = "") -> Path:
    tables = blocks("toml")[1]
    assert written in tables
    tables = tables.replace(written, instead)
    (tmp_path / "data").mkdir()
    config = tmp_path / "agent.toml"
    config.write_text(HEAD + tables)
    return config


def refused(config: Path, package: Path) -> str:
    """Return what an agent says that ends at once."""
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        env={"PYTHONPATH": f"{ROOT}:{package}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 78
    assert "Traceback" not in ended.stderr
    return ended.stderr


def loads(directory: Path) -> list[float]:
    """Return the stored values of the stream."""
    try:
        with Reader(directory / "data") as reader:
            chunks = reader.newest_samples("gateway", 100)
    except StoreError:  # not yet
        return []
    return np.frombuffer(b"".join(chunk[1] for chunk in chunks), np.float32).tolist()


def test_it_is_found_and_an_agent_reads_with_it(
    start_agent: Callable[..., RealAgent], package: Path, tmp_path: Path
) -> None:
    config = configured(tmp_path)
    agent = start_agent(config, PYTHONPATH=f"{ROOT}:{package}")
    wait_until(lambda: len(loads(tmp_path)) >= 2, "two samples")
    assert agent.stop() == 0
    assert all(0 <= load < 10_000 for load in loads(tmp_path))
    with Reader(tmp_path / "data") as reader:
        source = reader.status()["inputs"]["machine"]
    assert source["connected"]
    assert source["lines"] >= 2
    assert source["rejected"] == {}


LINES = (
    "row = Measurement(values)\n                put(Chunk(self.name, time.time(), time.monotonic(),"
    " measurements=[row]))"
)


def test_one_that_puts_lines_reads_as_well(
    start_agent: Callable[..., RealAgent], package: Path, tmp_path: Path
) -> None:
    module = package / "machine_load.py"
    code = module.read_text()
    assert LINES in code
    lines = 'put(Chunk(self.name, time.time(), time.monotonic(), [b"%f x" % load]))'
    module.write_text(code.replace(LINES, lines))
    written = 'format = "readings"\ncolumns = ["load"]'
    config = configured(tmp_path, written, 'separator = " "\ncolumns = ["load", "-"]')
    agent = start_agent(config, PYTHONPATH=f"{ROOT}:{package}")
    wait_until(lambda: len(loads(tmp_path)) >= 2, "two samples")
    assert agent.stop() == 0


def test_lines_of_one_that_announced_readings_are_counted(
    start_agent: Callable[..., RealAgent], package: Path, tmp_path: Path
) -> None:
    config = configured(tmp_path, 'format = "readings"\n', "")
    agent = start_agent(config, PYTHONPATH=f"{ROOT}:{package}")

    def malformed() -> int:
        try:
            with Reader(tmp_path / "data") as reader:
                inputs = reader.status().get("inputs", {})
        except StoreError:  # not yet
            return 0
        return int(inputs.get("machine", {}).get("rejected", {}).get("malformed", 0))

    wait_until(lambda: malformed() >= 1, "the rejects in the status", 60)
    assert agent.stop() == 0


def test_its_settings_are_its_own_to_check(package: Path, tmp_path: Path) -> None:
    config = configured(tmp_path, "interval_s = 0.5", 'interval_s = "often"')
    assert "input machine: interval_s: a number above 0 is needed" in refused(config, package)


def test_a_type_that_nobody_has_is_refused(package: Path, tmp_path: Path) -> None:
    config = configured(tmp_path, 'type = "load"', 'type = "laod"')
    assert "inputs[0].type = 'laod'" in refused(config, package)
