"""How much the agent logs: the setting, its reload, the options, and what debug tells."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.journal import set_level
from tests.conftest import ROOT, RealAgent, RealBroker, wait_until

StartAgent = Callable[..., RealAgent]


def configure(directory: Path, port: int, level: str | None = None) -> Path:
    (directory / "data").mkdir(exist_ok=True)
    config = directory / "agent.toml"
    log = "" if level is None else f'[log]\nlevel = "{level}"'
    config.write_text(f"""
{log}
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[summary]
interval_s = 10
[mqtt]
host = "127.0.0.1"
port = {port}
[[streams]]
name = "flow"
[streams.baseline]
period_s = 1.0
warm_up_samples = 20
channels = [{{ name = "flow" }}]
[[inputs]]
name = "rows"
type = "file"
path = "flow.csv"
begin = "start"
stream = "flow"
columns = ["time", "flow"]
""")
    return config


def write_rows(directory: Path) -> None:
    """A minute, and one more after a gap of an hour."""
    begin_s = time.time() - 7200
    with (directory / "flow.csv").open("w") as rows:
        for second in (*range(60), *range(3660, 3720)):
            rows.write(f"{begin_s + second:.1f},{second % 3}\n")


TOLD = (
    "input rows: the first row of connection 1: ",
    "connecting to 127.0.0.1:",
    "stream flow: a gap of 3601 s after ",
    "stream flow: no score at ",
    "has a score again",
    " messages; ",
)


def told(agent: RealAgent) -> list[str]:
    return [words for words in TOLD if words in agent.log()]


def test_debug_tells_of_inputs_streams_and_uplink(
    tmp_path: Path, broker: RealBroker, start_agent: StartAgent
) -> None:
    agent = start_agent(configure(tmp_path, broker.port), FIELDWATCH_LOG__LEVEL="debug")
    wait_until(lambda: "ready" in agent.log(), "the agent")
    (tmp_path / "flow.csv").touch()  # rows come one after the other: in a batch the last one counts
    begin_s = time.time() - 7200
    with (tmp_path / "flow.csv").open("a") as rows:
        for second in range(10):
            rows.write(f"{begin_s + second:.1f},{second % 3}\n")
        rows.flush()
        wait_until(lambda: "no score at" in agent.log(), "the warm-up")
        for second in range(10, 60):
            rows.write(f"{begin_s + second:.1f},{second % 3}\n")
        for second in range(3660, 3720):
            rows.write(f"{begin_s + second:.1f},{second % 3}\n")
    wait_until(lambda: told(agent) == list(TOLD), "all that debug tells")
    assert f"{begin_s:.1f},0" in agent.log(), "the row as it came"
    assert agent.stop() == 0


def test_without_it_nothing_of_that_is_told_until_a_reload(
    tmp_path: Path, broker: RealBroker, start_agent: StartAgent
) -> None:
    write_rows(tmp_path)
    agent = start_agent(configure(tmp_path, broker.port))
    wait_until(lambda: "link to central ops is up" in agent.log(), "the link")
    assert told(agent) == []
    configure(tmp_path, broker.port, "debug")
    reloaded = call("reload", agent.config)
    assert "changed: log.level" in reloaded.stdout
    with (tmp_path / "flow.csv").open("a") as rows:
        rows.write(f"{time.time():.1f},1\n")
    wait_until(lambda: "the first row of connection 1" in agent.log(), "the first row")
    configure(tmp_path, broker.port, "error")
    assert "changed: log.level" in call("reload", agent.config).stdout
    end = len(agent.log())
    assert agent.stop() == 0
    assert agent.log()[end:] == ""


def call(word: str, config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", word, "--config", str(config), *more],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )


class _Run(RealAgent):
    """With an option of ``run``."""

    def __init__(self, config: Path, option: str) -> None:
        # RealAgent gives the words "run --config FILE"; the option follows them
        super().__init__(config, (sys.executable, "-c", _WITH.format(option=option)))


_WITH = (
    "import sys; sys.argv[0] = 'fieldwatch-agent'; sys.argv.append('{option}');"
    " from agent.cli import main; main()"
)


@pytest.fixture
def run_with() -> Iterator[Callable[[Path, str], RealAgent]]:
    started: list[RealAgent] = []

    def start(config: Path, option: str) -> RealAgent:
        started.append(_Run(config, option))
        started[-1].start()
        return started[-1]

    yield start
    for agent in started:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()


def test_the_options_of_run_are_above_the_configuration(
    tmp_path: Path, broker: RealBroker, run_with: Callable[[Path, str], RealAgent]
) -> None:
    write_rows(tmp_path)
    agent = run_with(configure(tmp_path, broker.port, "error"), "-v")
    wait_until(lambda: "the first row of connection 1" in agent.log(), "the first row")
    configure(tmp_path, broker.port, "warning")
    assert "changed: nothing" in call("reload", agent.config).stdout
    assert agent.stop() == 0
    end = len(agent.log())
    agent = run_with(configure(tmp_path, broker.port, "debug"), "-q")
    wait_until(lambda: call("state", agent.config).returncode == 0, "the agent")
    assert agent.stop() == 0
    assert "INFO" not in agent.log()[end:]
    assert "DEBUG" not in agent.log()[end:]


@pytest.mark.parametrize(
    ("words", "said"), [(("-v", "-q"), "exclude each other"), ((), "log.level")]
)
def test_what_cannot_be_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ended = call("run", configure(tmp_path, 1, "loud"), *words)
    assert ended.returncode == (2 if words else 78)
    assert said in ended.stderr


def test_libraries_never_log_below_info() -> None:
    names = (None, "agent", "models")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        set_level("debug")
        assert logging.getLogger("agent.daemon").isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("pymodbus").isEnabledFor(logging.DEBUG)
        set_level("error")
        assert not logging.getLogger("agent.daemon").isEnabledFor(logging.WARNING)
        assert not logging.getLogger("pymodbus").isEnabledFor(logging.WARNING)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
