"""No command imports code from the directory that it is called in, and no child of one does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundle_rig import BASELINE, Rows, flow_bundle, noisy
from tests.conftest import ROOT, ZOO_BUNDLE, wait_until

# what Python looks for by itself, what ours import, and our own names
HOSTILE = ("json", "agent", "models", "trainer", "sitecustomize", "usercustomize", "numpy", "click")
HOSTILE += ("multiprocessing", "pydantic", "sqlite_utils", "ai_edge_litert", "logging", "zipfile")
SCRIPT = "from {}.cli import main\nmain()\n"  # as pip makes it


class Trap:
    """A directory full of code, and the commands as they are installed, elsewhere."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._sprung = directory / "trap", directory / "sprung"
        self.directory.mkdir()
        code = f"import os, sys\nopen({str(self._sprung)!r}, 'a').write(__name__ + ' ')\n"
        for name in HOSTILE:
            (self.directory / f"{name}.py").write_text(code)
            (package := self.directory / "packages" / name).mkdir(parents=True)
            (package / "__init__.py").write_text(code)
        (binaries := directory / "bin").mkdir()
        for name in ("agent", "trainer"):
            (binaries / f"fieldwatch-{name}").write_text(SCRIPT.format(name))
        self._binaries = binaries

    def use_packages(self) -> None:
        """Have packages in the directory in place of modules."""
        for name in HOSTILE:
            (self.directory / f"{name}.py").unlink()
            (self.directory / "packages" / name).rename(self.directory / name)

    def command(self, program: str, *words: object) -> list[str]:
        return [sys.executable, str(self._binaries / program), *map(str, words)]

    def call(self, program: str, *words: object) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            self.command(program, *words),
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        assert self.sprung == "", f"{program} {words[0]}: {ended.stderr}"
        return ended

    @property
    def sprung(self) -> str:
        """Which of the modules were imported."""
        return self._sprung.read_text() if self._sprung.exists() else ""


def environment() -> dict[str, str]:
    """That of a user; the installed packages are those of this checkout."""
    return {key: os.environ[key] for key in os.environ.keys() - {"PYTHONSAFEPATH"}} | {
        "PYTHONPATH": str(ROOT)
    }


@pytest.fixture(params=["modules", "packages"])
def trap(tmp_path: Path, request: pytest.FixtureRequest) -> Trap:
    made = Trap(tmp_path)
    if request.param == "packages":
        made.use_packages()
    return made


def test_the_trap_works(trap: Trap) -> None:
    subprocess.run(
        [sys.executable, "-c", "import json"],
        cwd=trap.directory,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert "json" in trap.sprung


@pytest.fixture
def running(trap: Trap, tmp_path: Path) -> Iterator[Path]:
    """The configuration of an agent that runs there, with all of its children."""
    (tmp_path / "data").mkdir()
    (tmp_path / "flow.csv").touch()
    flow_bundle(tmp_path / "flow.fieldwatch")
    config = tmp_path / "agent.toml"
    config.write_text(f"""
gateway = {{ site = "plant", name = "gw" }}
store = {{ directory = "data", flush_interval_s = 0.05 }}
[[streams]]
name = "flow"
bundle = "flow.fieldwatch"
{BASELINE}
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "flow-file"
type = "file"
path = "flow.csv"
begin = "start"
stream = "flow"
columns = ["time", "flow"]
[[inputs]]
name = "pump-file"
type = "file"
path = "pump.csv"
stream = "pump"
columns = ["time", "flow"]
""")
    log = (tmp_path / "log").open("w+")
    agent = subprocess.Popen(
        trap.command("fieldwatch-agent", "run", "--config", config),
        cwd=trap.directory,
        env=environment(),
        stdout=log,
        stderr=log,
    )
    try:
        wait_until(lambda: "ready: " in (tmp_path / "log").read_text(), "the agent")
        yield config
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        agent.kill()
        agent.wait()
        log.close()
    assert trap.sprung == ""


def test_an_agent_and_those_who_ask_it(trap: Trap, running: Path, tmp_path: Path) -> None:
    Rows(tmp_path / "flow.csv").add(noisy(40))
    asked = ("--config", running)
    history = ("fieldwatch-agent", "history", "--stream", "flow", *asked)
    wait_until(lambda: trap.call(*history).returncode == 0, "the first samples in the store")
    for words in (["flush"], ["state"], ["status", "--prometheus"], ["alarms"], ["reload"]):
        assert trap.call("fieldwatch-agent", *words, *asked).returncode == 0
    assert trap.call("fieldwatch-agent", "allow-downgrade", "flow", "--to", 1, *asked).returncode
    assert trap.call("fieldwatch-agent", "forecast", "--stream", "pump", *asked).returncode
    checked = trap.call("fieldwatch-agent", "check", *asked)  # tries what it does not know
    assert "gives its known answers" in checked.stdout


def test_the_other_commands_of_the_agent(trap: Trap, tmp_path: Path) -> None:
    recording = tmp_path / "pump.csv"
    for words in (
        ["--help"],
        ["schema"],
        ["simulate", recording, "--hours", "0.01"],
        ["replay", recording, "--bundle", ZOO_BUNDLE],
        ["bundle", "inspect", ZOO_BUNDLE],
        ["bundle", "verify", ZOO_BUNDLE],
        ["probe", "file", recording, "--seconds", "0.1"],
    ):
        assert trap.call("fieldwatch-agent", *words).returncode == 0, words


@pytest.mark.parametrize("trap", ["modules"], indirect=True)
def test_the_collector(trap: Trap, tmp_path: Path) -> None:
    (tmp_path / "central").mkdir()
    asked = ["--site", "plant", "--host", "127.0.0.1", "--port", "1"]
    with (tmp_path / "log").open("w+") as log:
        collector = subprocess.Popen(
            trap.command("fieldwatch-agent", "collect", tmp_path / "central", *asked),
            cwd=trap.directory,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        try:  # there is no broker, so it waits for one
            wait_until(lambda: "127.0.0.1:1" in (tmp_path / "log").read_text(), "the collector")
        finally:
            collector.kill()
            collector.wait()
    assert trap.sprung == ""


@pytest.mark.parametrize("trap", ["modules"], indirect=True)
def test_the_demo_with_its_broker_and_its_agent(trap: Trap) -> None:
    assert trap.call("fieldwatch-agent", "demo", "--seconds", 20, "--json").returncode == 0


@pytest.mark.parametrize("trap", ["modules"], indirect=True)
def test_the_commands_of_the_trainer(trap: Trap, tmp_path: Path) -> None:
    key, bundle = tmp_path / "ops.key", tmp_path / "pump.fieldwatch"
    shutil.copy(ZOO_BUNDLE, bundle)
    for words in (["--help"], ["keygen", key], ["sign", bundle, "--key", key]):
        assert trap.call("fieldwatch-trainer", *words).returncode == 0, words


WORKERS = """
import sys
from pathlib import Path
from trainer import cli
from trainer import workers

if __name__ == "__main__":
    directory = Path(sys.argv.pop())
    try:
        cli.main()  # of which they are children
    except SystemExit:
        print(list(workers.run(Path.touch, {"a": directory / "made"}, 1, directory / "logs")))
"""


def test_the_workers_of_the_trainer(trap: Trap, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "workers.py"
    script.write_text(WORKERS)
    subprocess.run(
        [sys.executable, str(script), "--help", str(tmp_path)],
        cwd=trap.directory,
        env=environment(),
        check=True,
    )
    assert (tmp_path / "made").exists()
    assert trap.sprung == ""
