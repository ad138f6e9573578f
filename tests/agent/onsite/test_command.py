"""A program as a hook: what it gets, what its end means, and what it cannot do to the agent."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent.config.onsite import HookTable
from agent.onsite.command import Command
from agent.onsite.outcome import Done, Failed, Outcome, Refused
from tests.conftest import wait_until

CHANGE = {"stream": "pump", "number": 3, "what": "raised", "priority": "high", "after": "UNACK"}
DOCUMENT = json.dumps({"text": "x" * 200_000, "transition": CHANGE}).encode()  # above a pipe's room


def script(directory: Path, text: str) -> Path:
    path = directory / "hook.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def run(
    directory: Path, text: str, stopping: threading.Event | None = None, **more: Any
) -> Outcome:
    settings = HookTable(name="pager", command=[str(script(directory, text)), "a b"], **more)
    return Command(settings).deliver("id-1", DOCUMENT, CHANGE, stopping or threading.Event())


def test_it_gets_the_document_its_arguments_and_few_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/secret")
    text = f"cat >{tmp_path}/in; env >{tmp_path}/env; echo $1 >{tmp_path}/argument"
    assert run(tmp_path, text) == Done()
    assert (tmp_path / "in").read_bytes() == DOCUMENT
    assert (tmp_path / "argument").read_text() == "a b\n"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        *("PATH", "LANG", "HOOK", "ALARM_ID", "ALARM_STREAM", "ALARM_NUMBER", "ALARM_WHAT"),
        *("ALARM_PRIORITY", "ALARM_AFTER"),
    }


def test_its_arguments_are_no_shell_text(tmp_path: Path) -> None:
    settings = HookTable(name="a", command=["/bin/echo", f"$(touch {tmp_path}/made)"])
    assert Command(settings).deliver("1", b"{}", CHANGE, threading.Event()) == Done()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("echo no line; exit 3", Failed, "ended with exit code 3: no line"),
        ("exit 65", Refused, "exit code 65, without a word"),
        ("kill -9 $$", Failed, "signal 9"),
        ("printf '\\033[2J'; exit 1", Failed, "\\x1b[2J"),
        ("yes | head -c 3000000; echo at last; exit 1", Failed, "at last"),
    ],
)
def test_its_end_says_what_becomes_of_the_notice(
    tmp_path: Path, text: str, kind: type[Outcome], said: str
) -> None:
    found = run(tmp_path, text, timeout_s=60)
    assert isinstance(found, kind)
    assert not isinstance(found, Done)
    assert said in found.reason
    assert len(found.reason) < 2500


def test_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = Command(HookTable(name="a", command=[str(tmp_path / "none")])).deliver(
        "1", b"{}", CHANGE, threading.Event()
    )
    assert isinstance(found, Failed)
    assert "none cannot be started: [Errno 2]" in found.reason


def test_one_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    found = run(tmp_path, f"sleep 600 & echo $! >{tmp_path}/child; wait", timeout_s=0.5)
    assert isinstance(found, Failed)
    assert "it took too long" in found.reason
    is_gone(int((tmp_path / "child").read_text()))


def test_what_it_leaves_behind_is_ended(tmp_path: Path) -> None:
    assert run(tmp_path, f"sleep 600 & echo $! >{tmp_path}/child") == Done()
    is_gone(int((tmp_path / "child").read_text()))


def test_a_stop_ends_it(tmp_path: Path) -> None:
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    began = time.monotonic()
    found = run(tmp_path, "sleep 600", stopping, timeout_s=300)
    assert isinstance(found, Failed)
    assert "the agent stops" in found.reason
    assert time.monotonic() - began < 100  # and not the 300 s that it may take


def is_gone(pid: int) -> None:
    def gone() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    wait_until(gone, "the child to end")


def test_it_ends_also_where_ended_children_leave_no_zombie(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as a parent may hand down
    try:
        assert run(tmp_path, "sleep 0.2") == Done()
    finally:
        signal.signal(signal.SIGCHLD, before)
