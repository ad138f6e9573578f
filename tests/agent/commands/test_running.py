"""What a command says if the running agent cannot do it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.commands.running import ask_running
from agent.control.client import Blocked
from agent.control.control import Control
from agent.control.dispatch import Verb
from agent.control.door import Door
from agent.control.inbox import Command, Inbox
from agent.control.protocol import Refused


def busy(_: Command) -> dict[str, Any]:
    raise Refused("busy", "try again")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """The configuration of an agent that knows the commands ``state`` and ``flush``."""
    (tmp_path / "agent.toml").write_text('[store]\ndirectory = "data"\n')
    (tmp_path / "data").mkdir()
    wakes, ended = threading.Event(), threading.Event()
    verbs = {
        "state": Verb(lambda _: {"running": True}, changes=False),
        "flush": Verb(busy, changes=False),
    }
    door = Door(tmp_path / "data" / "control.sock", "fieldwatch-page")
    control = Control(Inbox(), door, verbs, wakes.set)
    control.open()
    loop = threading.Thread(target=obey, args=[control, wakes, ended])
    loop.start()
    yield tmp_path / "agent.toml"
    ended.set()
    wakes.set()
    loop.join()
    control.close()


def committed() -> None:
    """Commit nothing, as no command here changes anything."""


def obey(control: Control, wakes: threading.Event, ended: threading.Event) -> None:
    while not ended.is_set():
        wakes.wait()
        wakes.clear()
        control.obey(committed)
    control.stop()


def test_an_older_agent_is_told_with_what_restarts_it(config: Path) -> None:
    assert ask_running(config, "state") == {"running": True}
    with pytest.raises(Refused) as unknown:
        ask_running(config, "alarm.promote", {"stream": "pump", "number": 1})
    assert unknown.value.code == "unknown_command"
    assert "older than this command" in str(unknown.value)
    assert "sudo systemctl restart fieldwatch-agent" in str(unknown.value)
    with pytest.raises(Refused) as other:
        ask_running(config, "flush")
    assert str(other.value) == "try again"


def test_where_another_file_is_in_the_way_a_start_is_no_advice(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('[store]\ndirectory = "data"\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "control.sock").touch()
    with pytest.raises(Blocked) as blocked:
        ask_running(tmp_path / "agent.toml", "state")
    assert "systemctl start" not in str(blocked.value)
