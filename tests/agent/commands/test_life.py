"""Without an agent no command looks as if all were well, and ``--json`` is always a document."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.collector.books import Collected
from agent.commands.alarms.moments import Moments
from agent.commands.follow import Followed
from agent.commands.life import NOT_WATCHING, Life, life
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.writer import Store
from tests.conftest import ROOT, RealAgent, wait_until

StartAgent = Callable[[Path], RealAgent]

NO_STORE = 74
NO_AGENT = 69
WRONG_USAGE = 2


def call(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )


@contextlib.contextmanager
def following(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command that does not end by itself; at the end it is killed."""
    command = [sys.executable, "-m", "agent", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def configure(directory: Path) -> Path:
    (directory / "data").mkdir()
    (directory / "flow.csv").touch()
    config = directory / "agent.toml"
    config.write_text("""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[[streams]]
name = "flow"
silent_after_s = 36000 # on a busy machine a test takes long, and would meet an alarm
baseline = { period_s = 1.0, channels = [{ name = "flow" }] }
[[inputs]]
name = "rows"
type = "file"
path = "flow.csv"
begin = "start"
stream = "flow"
columns = ["time", "flow"]
""")
    return config


@pytest.fixture
def started(tmp_path: Path, start_agent: StartAgent) -> Iterator[RealAgent]:
    """A real agent that has stored samples."""
    config = configure(tmp_path)
    agent = start_agent(config)
    begin_s = datetime.now(UTC).timestamp() - 60
    with (tmp_path / "flow.csv").open("a") as rows:
        rows.write("".join(f"{begin_s + n},{n % 3}\n" for n in range(40)))
    wait_until(
        lambda: call("history", "--stream", "flow", "--config", config).returncode == 0, "samples"
    )
    yield agent


READING = (
    ("alarms",),
    ("alarms", "--open"),
    ("status",),
    ("history", "--stream", "flow"),
    ("values",),
)


def documents_of(config: Path) -> dict[str, Any]:
    found = {}
    for words in READING:
        ended = call(*words, "--json", "--config", config)
        found[" ".join(words)] = ended.returncode, json.loads(ended.stdout)["agent"]
    return found


def test_a_killed_agent_is_told_at_once_by_each_command(started: RealAgent) -> None:
    config = started.config
    for code, agent in documents_of(config).values():
        assert (code, agent["watching"]) == (0, True)
    assert call("alarms", "--config", config).stdout == "no alarms\n"

    started.kill()
    with Reader(config.parent / "data") as reader:
        last_sign = reader.status()["updated"]
    for words in READING:
        ended = call(*words, "--config", config)
        assert ended.returncode == NOT_WATCHING, words
        since = Moments(datetime.now(UTC), utc=False).full(last_sign)
        since = since if words[0] == "alarms" else last_sign  # as the other times of its list
        assert f"NOT WATCHING since {since}: the agent was killed" in ended.stdout, words
    for code, agent in documents_of(config).values():
        assert code == NOT_WATCHING
        assert (agent["watching"], agent["last_sign"]) == (False, last_sign)
    asked = call("state", "--config", config)
    assert asked.returncode == NO_AGENT
    assert f"NOT WATCHING since {last_sign}" in asked.stderr
    assert "fieldwatch_up 0\n" in call("status", "--prometheus", "--config", config).stdout


def test_a_stopped_agent_is_told_until_it_runs_again(started: RealAgent) -> None:
    started.stop()
    ended = call("alarms", "--config", started.config)
    assert ended.returncode == NOT_WATCHING
    assert ended.stdout.endswith(": the agent was stopped\n")
    csv = call("history", "--stream", "flow", "--csv", "--config", started.config)
    assert csv.returncode == NOT_WATCHING
    assert "NOT WATCHING" in csv.stderr
    assert "NOT WATCHING" not in csv.stdout
    past = ("--from", "-3m", "--to", "-2m")
    of_the_past = call("history", "--stream", "flow", *past, "--config", started.config)
    assert of_the_past.returncode == 0, "an agent of now changes nothing about it"
    started.start()
    wait_until(lambda: call("alarms", "--config", started.config).returncode == 0, "it to run")


def test_an_agent_that_stores_nothing_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    now = datetime.now(UTC)
    with Reader(tmp_path) as reader:
        assert life(reader).why is not None  # it has no status yet
        for ago_s, watching in (1, True), (60, False):
            updated = (now - timedelta(seconds=ago_s)).isoformat()
            status = json.dumps({"running": True, "updated": updated})
            store.commit(Batch(status=lambda status=status: status), "synced")
            assert life(reader).watching == watching
        assert "hangs, or cannot store" in str(life(reader).told())
        # its clock goes on from the last time it knew, which may be ahead of the system's
        status = json.dumps({"running": True, "updated": "2100-01-01T00:00:00Z"})
        store.commit(Batch(status=lambda: status), "synced")
        assert life(reader).watching
        store.close()  # as a kill does: the status still says that it runs
        assert "was killed" in str(life(reader).told())
        store.open()  # whoever looked holds nothing
    store.close()


def test_following_tells_that_the_agent_ended_and_came_back(tmp_path: Path) -> None:
    def commit(running: bool) -> None:
        document = {"running": running, "updated": datetime.now(UTC).isoformat()}
        store.commit(Batch(status=lambda: json.dumps(document)), "synced")

    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    commit(running=True)
    with Reader(tmp_path) as reader:
        news = Followed(reader, []).changes(life(reader), poll_s=0.001)
        commit(running=False)
        ended = next(news)
        assert isinstance(ended, Life)
        assert not ended.watching
        commit(running=True)
        back = next(news)
        assert isinstance(back, Life)
        assert back.watching
    store.close()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("alarms",), NO_STORE),
        (("alarms", "--follow"), NO_STORE),
        (("status",), NO_STORE),
        (("history", "--stream", "flow"), NO_STORE),
        (("forecast", "--stream", "flow"), NO_STORE),
        (("state",), NO_AGENT),
        (("alarms", "--limit", "0"), WRONG_USAGE),
        (("alarms", "--none-such"), WRONG_USAGE),
        (("values",), NO_STORE),
        (("keys", "list"), 78),
        (("check", "--origins", "--none"), WRONG_USAGE),
    ],
)
def test_an_error_is_a_document_for_programs(
    tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    ended = call(*words, "--json", "--config", configure(tmp_path))
    assert ended.returncode == code
    error = json.loads(ended.stdout)["error"]
    assert error["exit_code"] == code
    assert error["message"].splitlines()[0] in ended.stderr


def test_no_alarms_are_a_document_too(tmp_path: Path) -> None:
    config = configure(tmp_path)
    store = Store(tmp_path / "data", "plant", "gw-1", 100, 100)
    store.open()
    store.close()
    ended = call("alarms", "--json", "--config", config)
    assert ended.returncode == NOT_WATCHING
    document = json.loads(ended.stdout)
    assert document["alarms"] == []
    assert document["agent"]["last_sign"] is None
    assert "no status yet" in document["agent"]["why"]


def test_an_interrupted_command_leaves_a_document(tmp_path: Path) -> None:
    """Here of one that waits for a socket's answer, which never comes."""
    import socket

    config = configure(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.bind(str(tmp_path / "data" / "control.sock"))
        agent.listen()
        asking = subprocess.Popen(
            [sys.executable, "-m", "agent", "state", "--json", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ,
        )
        connection, _ = agent.accept()
        with connection:
            assert connection.recv(1000).endswith(b"\n")
            asking.send_signal(signal.SIGINT)
            out, _ = asking.communicate(timeout=60)
    assert asking.returncode == 130
    assert json.loads(out)["error"]["message"] == "interrupted"


def test_a_collector_that_does_not_run_is_told(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant"):
        ended = call("collected", tmp_path, "--json")
        assert (ended.returncode, json.loads(ended.stdout)["collector"]["running"]) == (0, True)
    ended = call("collected", tmp_path)
    assert ended.returncode == NOT_WATCHING
    assert "NOT COLLECTING" in ended.stdout
    ended = call("collected", tmp_path, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["collector"]["running"]) == (3, False)


def test_a_cause_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant"):
        ended = call("collected", tmp_path, "--cause", "conflcit")
        assert ended.returncode == WRONG_USAGE
        assert "did you mean 'conflict'?" in ended.stderr
        assert "bad_signature, conflict, corrected" in ended.stderr
        assert call("collected", tmp_path, "--cause", "revoked_key").returncode == 0


def test_alarms_follow_prints_the_end_and_the_return_of_the_agent(started: RealAgent) -> None:
    words = ["alarms", "--follow", "--utc", "--config", str(started.config)]
    with following(*words) as process:
        assert process.stdout is not None
        started.kill()
        assert "UTC: the agent was killed" in process.stdout.readline()
        started.start()
        assert process.stdout.readline() == "an agent watches again\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_after_a_document_there_is_no_second_one(started: RealAgent) -> None:
    with following("alarms", "--follow", "--json", "--config", str(started.config)) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["agent"]["watching"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout.read() == ""
