"""Commands to an agent that runs: a real process, its real socket, and clients of all kinds."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.control.client import NoAgent, NoAnswer, ask
from agent.control.protocol import Refused
from agent.inputs.plant import PERIOD_S, Pump
from agent.store.batch import THROUGH
from agent.store.writer import Store
from models.bundle import Bundle
from models.messages import Samples
from models.pipeline import Pipeline
from tests.agent_rig import START_S, StartAgent, configure, kept_scores, lines, status
from tests.conftest import ROOT, WAIT_S_MAX, wait_until
from tests.disk import Disk
from tests.exchange_rig import put
from tests.serial_line import Line

NEVER_S = "600"  # between two commits: what is stored is stored by a command
NOBODY = 65534
# has the process that checks a configuration wait after each drop-in that has a pipe beside it
WAITING = """
import sys
if "agent.config.checker" in sys.orig_argv:
    from models import toml
    right = toml.read_toml
    def wait_after(path):
        read = right(path)
        if (held := path.with_suffix(".held")).exists():
            held.read_bytes()
        return read
    toml.read_toml = wait_after
"""


class Gateway:
    """An agent with one line, that takes commands."""

    def __init__(self, directory: Path, line: Line, start: StartAgent, **changes: str) -> None:
        self.directory, self.line = directory, line
        self.config = configure(directory, line, 1, **changes)
        self.socket = directory / "data" / "control.sock"
        self.agent = start(self.config)
        wait_until(lambda: "ready:" in self.agent.log(), "the agent")

    def ask(self, command: str) -> dict[str, Any]:
        return ask(self.socket, command)

    def has_read(self, count: int) -> bool:
        return bool(self.ask("state")["inputs"]["line"]["lines"] == count)

    def has_scored(self, count: int) -> bool:
        counters = self.ask("state")["streams"]["pump"]["counters"]
        return bool(counters.get("samples") == count)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WAIT_S_MAX)
        connection.connect(str(self.socket))
        return connection

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )


@pytest.fixture
def gateway(tmp_path: Path, line: Line, start_agent: StartAgent) -> Gateway:
    return Gateway(tmp_path, line, start_agent, flush_interval_s=NEVER_S)


@pytest.fixture
def held(tmp_path: Path, line: Line, start_agent: StartAgent) -> Gateway:
    """An agent whose reload waits for who writes to the pipe ``conf.d/a.held``."""
    (python := tmp_path / "python").mkdir()
    (python / "sitecustomize.py").write_text(WAITING)
    start = functools.partial(start_agent, PYTHONPATH=f"{python}:{ROOT}")
    gateway = Gateway(tmp_path, line, start, flush_interval_s=NEVER_S)
    (drop_ins := tmp_path / "conf.d").mkdir()
    (drop_ins / "a.toml").write_text("[health]\ninterval_s = 5\n")
    os.mkfifo(drop_ins / "a.held")
    return gateway


def expected_scores(bundle: Bundle, sent: bytes) -> np.ndarray[Any, Any]:
    values = [[float(field) for field in row.split(b",")[1:]] for row in sent.split()]
    times = START_S + np.arange(len(values)) * PERIOD_S
    pipeline = Pipeline(bundle)
    stepped = pipeline.step(pipeline.start(), Samples(times, np.array(values, np.float32)))
    return np.asarray(stepped.scores.score)


# ---- state


def test_the_state_is_of_now_and_not_what_was_stored_last(gateway: Gateway) -> None:
    gateway.ask("state")  # the loop has made its first commit, before any line
    gateway.line.write(lines(Pump(1).run(200)))
    wait_until(lambda: gateway.has_scored(200), "the samples")
    told = gateway.command("state")
    assert told.returncode == 0, told.stderr
    assert "input     line: connected; 200 lines" in told.stdout
    assert f"control   {gateway.socket}; commands: state " in told.stdout
    document = json.loads(gateway.command("state", "--json").stdout)
    assert document["streams"]["pump"]["counters"]["readings"] == 8 * 200
    assert document["streams"]["pump"]["counters"]["samples"] == 200
    assert document["running"] is True
    assert status(gateway.directory)["inputs"]["line"]["lines"] == 0


# ---- flush


def test_what_was_there_before_a_flush_survives_a_kill_right_after_it(
    gateway: Gateway, start_agent: StartAgent, zoo_bundle: Bundle
) -> None:
    rows = Pump(1).run(8300)
    sent = lines(rows)
    parts = sent.splitlines(keepends=True)
    gateway.line.write(b"".join(parts[:8010]))  # more than the loop takes at once
    wait_until(lambda: gateway.has_read(8010), "the lines")
    assert len(kept_scores(gateway.directory)) == 0
    gateway.ask("flush")
    gateway.line.write(b"".join(parts[8010:8030]))  # too few for a summary, which saves the memory
    wait_until(lambda: gateway.has_read(8030), "the lines")
    gateway.ask("flush")
    gateway.agent.kill()
    expected = expected_scores(zoo_bundle, sent)
    assert np.array_equal(kept_scores(gateway.directory), expected[:8030], equal_nan=True)
    # the memory of all of them is there, and with that the samples are synced: see test_power_cut
    assert remembered(gateway.directory) == 8030

    agent = start_agent(gateway.config)
    wait_until(lambda: agent.log().count("ready:") == 2, "the second start")
    gateway.line.write(b"".join(parts[8030:]))
    wait_until(lambda: gateway.has_read(270), "the lines")
    assert gateway.command("flush").stdout == "stored: everything that had arrived is on the disk\n"
    agent.kill()
    assert np.array_equal(kept_scores(gateway.directory), expected, equal_nan=True)


def remembered(directory: Path) -> int:
    """How many samples the stream's stored memory knows of."""
    store = Store(directory / "data", "plant", "gw-1", 10**5, 10**6)
    store.open()
    through = int(store.records.state("pump").get(THROUGH, b"1"))
    store.close()
    return through - 1


@pytest.fixture
def failing(tmp_path: Path, line: Line, disk: Disk, start_agent: StartAgent) -> Gateway:
    start = partial(start_agent, program=disk.program)
    return Gateway(tmp_path, line, start, flush_interval_s=NEVER_S)


def test_a_flush_that_the_disk_does_not_take_says_so(failing: Gateway, disk: Disk) -> None:
    failing.line.write(lines(Pump(1).run(100)))
    wait_until(lambda: failing.has_read(100), "the lines")
    disk.fails("full")
    told = failing.command("flush")
    assert told.returncode == 74
    assert "fieldwatch-agent: done, but not stored: " in told.stderr
    disk.works()
    failing.ask("flush")
    failing.agent.kill()
    assert len(kept_scores(failing.directory)) == 100


def test_a_bundle_is_not_exchanged_while_the_disk_fails(
    failing: Gateway, disk: Disk, zoo_bundle: Bundle
) -> None:
    later = put(zoo_bundle, failing.directory / "later.fieldwatch", version=2)
    drop_in = failing.directory / "conf.d" / "a.toml"
    drop_in.parent.mkdir()
    drop_in.write_text(f'[[streams]]\nname = "pump"\nbundle = "{later.source}"\n')
    failing.line.write(lines(Pump(1).run(100)))
    wait_until(lambda: failing.has_read(100), "the lines")
    disk.fails("full")
    told = failing.command("reload")
    assert (told.returncode, told.stdout) == (74, "")
    assert "nothing has changed. Reload again when it works: " in told.stderr
    assert failing.ask("state")["streams"]["pump"]["bundle"] == "pump version 1"
    disk.works()
    told = failing.command("reload")
    assert told.stdout == (
        "changed: streams.pump.bundle\n"
        f"bundle of stream pump: now pump version 2 (digest {later.digest})\n"
    )
    failing.agent.kill()
    assert len(kept_scores(failing.directory)) == 100
    assert remembered(failing.directory) == 100


# ---- reload


def test_a_reload_says_what_became_of_it(gateway: Gateway) -> None:
    drop_in = gateway.directory / "conf.d" / "a.toml"
    drop_in.parent.mkdir()
    drop_in.write_text('[gateway]\nsite = "other"\n[health]\ninterval_s = 5\n')
    told = gateway.command("reload")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == "changed: health.interval_s\nneeds a restart: gateway.site\n"
    drop_in.write_text("[health]\ninterval_s = 0\n")
    told = gateway.command("reload")
    assert (told.returncode, told.stdout) == (78, "")
    assert "conf.d/a.toml: health.interval_s = 0" in told.stderr
    drop_in.unlink()
    assert gateway.ask("reload")["changed"] == ["health.interval_s"]
    assert "reload requested by " in gateway.agent.log()


# ---- without an agent


@pytest.mark.parametrize("command", ["state", "flush", "reload"])
def test_with_a_dead_agent_each_says_so(
    tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    config = configure(tmp_path, line, 1)
    told = [called(command, config)]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "data" / "control.sock"))
    told.append(called(command, config))
    monkeypatch.setenv("FIELDWATCH_CONTROL__SOCKET", "off")
    told.append(called(command, config))
    assert [one.returncode for one in told] == [69, 69, 69]
    absent, killed, off = (one.stderr for one in told)
    where = f"no agent answers at {tmp_path}/data/control.sock"
    assert f"{where}: there is no such socket" in absent
    assert f"{where}: it was killed" in killed
    assert [said.lower().count("start the agent") for said in (absent, killed, off)] == [1, 1, 0]
    assert 'control.socket is "off"' in off


def called(command: str, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", command, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_who_may_not_use_the_socket_is_told(gateway: Gateway) -> None:
    if os.getuid() == 0:  # whom nothing is forbidden
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os._exit(exit_code_of(gateway.socket))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 77
    else:
        gateway.socket.chmod(0)
        assert exit_code_of(gateway.socket) == 77


def exit_code_of(path: Path) -> int:
    from models.errors import FieldwatchError

    try:
        ask(path, "state")
    except FieldwatchError as error:
        return error.exit_code
    return 0


# ---- the agent and its clients


def test_clients_that_do_not_read_do_not_hold_up_the_loop(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    gateway = Gateway(tmp_path, line, start_agent)
    hostile = [gateway.connect() for _ in range(8)]
    for connection in hostile:
        connection.sendall(b'{"command": "state"}\n' * 400)
    line.write(lines(Pump(1).run(500)))
    wait_until(lambda: len(kept_scores(tmp_path)) == 500, "all samples, stored")

    def refused() -> int:
        return int(status(tmp_path)["control"]["refused"].get("busy", 0))

    wait_until(lambda: refused() > 0, "the status to tell of the flood")
    shown = gateway.command("status").stdout
    assert "commands refused: busy " in shown
    assert (
        "fieldwatch_commands_refused_total{cause"
        in gateway.command("status", "--prometheus").stdout
    )
    assert gateway.agent.stop() == 0
    for connection in hostile:
        connection.close()


def test_a_stop_does_not_wait_for_clients_and_removes_the_socket(gateway: Gateway) -> None:
    idle, asking = gateway.connect(), gateway.connect()
    asking.sendall(b'{"command": "reload"}\n')
    assert gateway.agent.stop() == 0
    answer = asking.makefile().readline()
    assert (
        answer == ""
        or json.loads(answer)["ok"]
        or json.loads(answer)["error"]["code"] == "stopping"
    )
    assert idle.recv(1) == b""
    assert not gateway.socket.exists()
    with pytest.raises(NoAgent):
        gateway.ask("state")
    idle.close()
    asking.close()


def test_a_reload_does_not_hold_up_the_loop_and_ends_with_a_stop(held: Gateway) -> None:
    gateway = held
    reloading = gateway.connect()
    reloading.sendall(b'{"command": "reload"}\n')
    with (gateway.directory / "conf.d" / "a.held").open("wb", 0) as checking:  # never ends
        gateway.line.write(lines(Pump(1).run(20)))
        wait_until(lambda: gateway.has_scored(20), "the samples")
        gateway.ask("flush")
        gateway.agent.process.send_signal(signal.SIGHUP)  # waits for the one in progress
        assert gateway.ask("state")["control"]["commands"].get("reload") is None
        assert gateway.agent.stop() == 0
        with pytest.raises(BrokenPipeError):  # the checking process has ended, too
            checking.write(b"\n")
    answer = json.loads(reloading.makefile().readline())
    assert answer["error"]["code"] == "stopping"
    assert "Traceback" not in gateway.agent.log()
    reloading.close()


def test_a_reload_during_another_reads_again_what_has_changed_meanwhile(held: Gateway) -> None:
    gateway = held
    pipe = gateway.directory / "conf.d" / "a.held"
    first, second, third = (gateway.connect() for _ in range(3))
    first.sendall(b'{"command": "reload"}\n')
    with pipe.open("wb"):
        for connection in (second, third):
            connection.sendall(b'{"command": "reload"}\n')
        with gateway.connect() as after:  # the door has taken what was sent before this one came
            after.sendall(b"no command\n")
            assert "malformed" in after.makefile().readline()
        gateway.ask("state")  # the loop has begun what came before
        pipe.unlink()
        pipe.with_suffix(".toml").write_text("[health]\ninterval_s = 7\n")
    told = [json.loads(one.makefile().readline()) for one in (first, second, third)]
    assert [one["result"]["changed"] for one in told] == [["health.interval_s"]] * 3
    assert gateway.agent.log().count("configuration loaded") == 2
    assert gateway.ask("reload")["changed"] == []
    for connection in (first, second, third):
        connection.close()


def test_after_a_kill_the_socket_works_again(gateway: Gateway, start_agent: StartAgent) -> None:
    gateway.agent.kill()
    assert gateway.socket.exists()
    agent = start_agent(gateway.config)
    wait_until(lambda: agent.log().count("ready:") == 2, "the second start")
    assert gateway.ask("state")["control"]["error"] is None


def test_commands_race_with_a_stop_and_every_one_ends(gateway: Gateway) -> None:
    process = gateway.agent.process
    assert process is not None
    process.terminate()
    with pytest.raises((NoAgent, NoAnswer, Refused)):
        while True:
            gateway.ask("state")
    assert process.wait(WAIT_S_MAX) == 0


def test_without_a_socket_the_agent_works_as_before(
    tmp_path: Path, line: Line, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDWATCH_CONTROL__SOCKET", "off")
    gateway = Gateway(tmp_path, line, start_agent)
    line.write(lines(Pump(1).run(50)))
    wait_until(lambda: len(kept_scores(tmp_path)) == 50, "all samples")
    assert not gateway.socket.exists()
    assert status(tmp_path)["control"]["socket"] is None
    assert gateway.agent.stop() == 0
