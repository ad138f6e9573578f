"""What a running agent takes: no more threads, libraries and memory than it has a need for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.inputs.plant import CHANNELS, Pump
from agent.store.reader import Reader
from models.errors import StoreError
from tests.agent.mqtt.test_connection import tls_broker
from tests.agent_rig import lines
from tests.certificates import Authority
from tests.conftest import ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.serial_line import Line

STREAMS = 3
SAMPLES = 300
RSS_MB_MAX = 75.0  # 52 to 56 here; with pydantic and OpenSSL 16 more
NOT_NEEDED = ("pydantic", "libssl", "_hashlib", "mtrand", "_umath_tests")

StartAgent = Callable[[Path], RealAgent]


@pytest.fixture
def serial_lines(tmp_path: Path) -> Iterator[list[Line]]:
    opened = [Line(tmp_path / f"tty{number}") for number in range(STREAMS)]
    yield opened
    for line in opened:
        line.close()


def configure(directory: Path, each: list[Line], mqtt: str) -> Path:
    (directory / "data").mkdir()
    columns = ["time", *(channel.name for channel in CHANNELS)]
    tables = [
        '[gateway]\nsite = "plant"\nname = "gw"',
        f'[store]\ndirectory = "{directory}/data"\nflush_interval_s = 0.1',
        f'[mqtt]\nhost = "127.0.0.1"\n{mqtt}',
    ]
    for number, line in enumerate(each):
        tables += [
            f'[[streams]]\nname = "pump-{number}"\nbundle = "{ZOO_BUNDLE}"',
            f'[[inputs]]\nname = "line-{number}"\nstream = "pump-{number}"\nport = "{line.path}"\n'
            f"columns = {columns}",
        ]
    config = directory / "agent.toml"
    config.write_text("\n\n".join(tables))
    return config


def is_at_work(directory: Path, samples: int) -> bool:
    try:
        with Reader(directory / "data") as reader:
            status = reader.status()
    except StoreError:
        return False
    scored: int = status["counters"].get("scored", 0)
    reading = all(source["connected"] for source in status["inputs"].values())
    linked = status["uplink"]["state"] in ("online", "held")  # there is no collector
    return scored >= samples and reading and linked


def work(directory: Path, each: list[Line]) -> None:
    """Give an agent that has started normal operation to score, until it has."""
    wait_until(lambda: is_at_work(directory, 0), "the link and the lines", 60.0)
    for seed, line in enumerate(each):
        line.write(lines(Pump(seed=seed).run(SAMPLES)))
    wait_until(lambda: is_at_work(directory, STREAMS * (SAMPLES - 100)), "the scores", 60.0)


def process(agent: RealAgent) -> Path:
    assert agent.process is not None
    return Path(f"/proc/{agent.process.pid}")


def test_a_running_agent_has_what_it_needs_and_no_more(
    tmp_path: Path, broker: RealBroker, serial_lines: list[Line], start_agent: StartAgent
) -> None:
    config = configure(tmp_path, serial_lines, f"port = {broker.port}")
    agent = start_agent(config)
    work(tmp_path, serial_lines)

    # the loop, a reader per line, the control socket's, the uplink and paho's
    assert len(list((process(agent) / "task").iterdir())) == 1 + STREAMS + 3
    assert children(agent) == ""  # what checked has ended
    maps = (process(agent) / "maps").read_text()
    assert [name for name in NOT_NEEDED if name in maps] == []
    status = (process(agent) / "status").read_text()
    (rss_kb,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    assert int(rss_kb) / 1024 < RSS_MB_MAX
    assert agent.stop() == 0


def children(agent: RealAgent) -> str:
    return "".join(file.read_text() for file in process(agent).glob("task/*/children"))


def test_tls_is_there_where_it_is_configured(
    tmp_path: Path, serial_lines: list[Line], start_agent: StartAgent
) -> None:
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("gw")
    broker = tls_broker(tmp_path, authority)
    try:
        mqtt = (
            f'port = {broker.port}\ntls_ca_file = "{authority.file}"\n'
            f'tls_cert_file = "{certificate}"\ntls_key_file = "{key}"\n'
        )
        agent = start_agent(configure(tmp_path, serial_lines, mqtt))
        work(tmp_path, serial_lines)
        assert "libssl" in (process(agent) / "maps").read_text()
        assert agent.stop() == 0
    finally:
        broker.kill()
