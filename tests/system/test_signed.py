"""An agent, a collector with a key, and somebody else on the broker who says the same things."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.store.reader import Reader
from models.errors import StoreError
from models.keys import new_key
from tests.collector_process import CollectorProcess
from tests.conftest import ROOT, RealAgent, RealBroker, wait_until
from tests.database import make_files
from tests.uplink_rig import Ops

STATUS = "fieldwatch/v1/plant/_central/status"
ACKNOWLEDGED = "fieldwatch/v1/plant/gw-1/acknowledged"


def configure(directory: Path, port: int, sign: str = "") -> Path:
    """A gateway that sends its health all the time, and has one key of a collector."""
    make_files(directory / "data")
    (directory / "keys").mkdir()
    new_key(directory / "central.key", "collector").rename(directory / "keys" / "central.pub")
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[keys]
directory = "keys"
[mqtt]
host = "127.0.0.1"
port = {port}
acknowledgement = "central"
{sign}
backoff_min_s = 0.1
backoff_max_s = 0.5
[health]
interval_s = 0.2
[[streams]]
name = "pump"
baseline = {{ period_s = 1.0, channels = [{{ name = "flow" }}] }}
[[inputs]]
name = "line"
port = "{directory}/nowhere"
stream = "pump"
columns = ["time", "flow"]
""")
    return config


@pytest.fixture
def collector(tmp_path: Path, broker: RealBroker) -> Iterator[Callable[[], CollectorProcess]]:
    made: list[CollectorProcess] = []

    def start() -> CollectorProcess:
        key = tmp_path / "central.key"
        made.append(CollectorProcess(broker.port, tmp_path / "central", key=key))
        return made[-1]

    yield start
    for one in made:
        one.end()


def status(directory: Path) -> dict[str, Any]:
    try:
        with Reader(directory / "data") as reader:
            return reader.status()
    except StoreError:
        return {"uplink": {"central": {"state": None, "rejected": {}}}}


def central(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = status(directory)["uplink"]["central"]
    return found


def waiting(directory: Path) -> list[int]:
    with Reader(directory / "data") as reader:
        return reader.waiting(0, 2**40)


def test_only_the_collector_frees_messages_and_it_does_so_after_each_restart(
    tmp_path: Path,
    broker: RealBroker,
    start_agent: Callable[[Path], RealAgent],
    collector: Callable[[], CollectorProcess],
) -> None:
    config = configure(tmp_path, broker.port)
    agent = start_agent(config)
    first = collector()
    wait_until(lambda: (central(tmp_path).get("through_seq") or 0) >= 3, "the collector's word")
    first.end()  # its last will is signed, too
    wait_until(lambda: central(tmp_path)["state"] == "offline", "its last will")
    agent.kill()
    liar = Ops(broker.port, client_id="liar")
    with Reader(tmp_path / "data") as reader:
        epoch, last = reader.meta("epoch"), int(reader.meta("last_seq"))
    before = waiting(tmp_path)
    liar.say(STATUS, {"state": "online"})
    liar.say(ACKNOWLEDGED, {"epoch": epoch, "through_seq": last})
    agent.start()
    wait_until(lambda: central(tmp_path)["rejected"].get("unsigned") == 2, "the rejections")
    wait_until(lambda: len(waiting(tmp_path)) >= len(before) + 3, "more to come")
    assert set(before) <= set(waiting(tmp_path))
    assert central(tmp_path)["through_seq"] is None
    liar.close()
    collector()
    wait_until(lambda: (central(tmp_path)["through_seq"] or 0) > last, "the collector again")
    wait_until(lambda: not set(before) & set(waiting(tmp_path)), "what it has to go")


def test_a_collector_that_requires_signatures_believes_the_agent_and_nobody_else(
    tmp_path: Path, broker: RealBroker, start_agent: Callable[[Path], RealAgent]
) -> None:
    (enrolled := tmp_path / "enrolled").mkdir()
    new_key(tmp_path / "gw.key", "gateway", "plant/gw-1").rename(enrolled / "gw.pub")
    liar = Ops(broker.port, "fieldwatch/v1/plant/nobody", client_id="liar")
    more = ["--keys", str(enrolled), "--require-signatures"]
    central = CollectorProcess(
        broker.port, tmp_path / "central", key=tmp_path / "central.key", more=more
    )
    try:
        start_agent(configure(tmp_path, broker.port, 'sign = "gw.key"'))
        liar.say("fieldwatch/v1/plant/gw-1/health", b"{}")  # retained
        wait_until(lambda: len(central.seqs()) >= 5, "messages at the collector")
        wait_until(lambda: min(waiting(tmp_path), default=0) > 5, "what it has to go")
        wait_until(lambda: '"unsigned"' in told(tmp_path / "central"), "the liar's message")
    finally:
        central.end()
        liar.close()
    document = json.loads(told(tmp_path / "central"))
    assert [one["cause"] for one in document["refused"]] == ["unsigned"]
    assert [one["gateway"] for one in document["gateways"]] == ["gw-1"]
    assert all("signature" in message for message in central.messages())


def told(directory: Path) -> str:
    """What ``collected`` says; nothing while there is no database."""
    return agent("collected", str(directory), "--json").stdout


def agent(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_signatures_cannot_be_required_without_keys() -> None:
    given = ["--site", "plant", "--host", "127.0.0.1", "--port", "1"]
    ended = agent("collect", "out", *given, "--require-signatures")
    assert ended.returncode == 78
    assert "--require-signatures needs --keys" in ended.stderr


@pytest.mark.parametrize("name", ["plant/gw-1", "plant/gw-2"])
def test_check_says_which_key_signs(tmp_path: Path, name: str) -> None:
    new_key(tmp_path / "gw.key", "gateway", name)
    config = configure(tmp_path, 1, 'sign = "gw.key"')
    key_id = (tmp_path / "gw.key").read_text().split()[6]
    ended = agent("check", "--config", str(config))
    signs = f"messages are signed with key {key_id}"
    assert (signs in ended.stdout) == (name == "plant/gw-1")
    if name != "plant/gw-1":
        assert "the key of plant/gw-2, and not of plant/gw-1" in ended.stdout
        assert agent("run", "--config", str(config)).returncode == 78


def test_keys_that_cannot_be_read_are_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    config = configure(tmp_path, 1)
    (tmp_path / "keys" / "revoked").write_text("scribble\n")
    for words in (["run", "--config", config], ["check", "--config", config]):
        ended = subprocess.run(
            [sys.executable, "-m", "agent", *map(str, words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 78
        assert "revoked: line 1: " in ended.stdout + ended.stderr


def test_a_revoked_key_does_not_start_the_collector(tmp_path: Path) -> None:
    new_key(tmp_path / "central.key", "collector").rename(tmp_path / "central.pub")
    key_id = (tmp_path / "central.key").read_text().split()[6]
    (tmp_path / "revoked").write_text(f"key {key_id} stolen\n")
    words = ["collect", "out", "--site", "plant", "--host", "127.0.0.1", "--port", "1"]
    words += ["--key", "central.key", "--keys", "."]
    ended = subprocess.run(
        [sys.executable, "-m", "agent", *words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 78
    assert "this key is revoked" in ended.stderr
