"""Hooks of an agent whose disk fails: a real script and a real web server are told once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.control.client import ask
from agent.control.protocol import Refused
from tests.agent_rig import StartAgent
from tests.conftest import wait_until
from tests.disk import Disk
from tests.serial_line import Line
from tests.system.test_handling import Gateway
from tests.web_receiver import Answer, Receiver

HOOK = """
[[on_site.hooks]]
name = "ops"
backoff_min_s = 0.01
backoff_max_s = 0.05
"""


class Told:
    """A receiver that breaks the disk as it gets its first notice, before it says that it did."""

    def __init__(self, directory: Path, disk: Disk, fault: str) -> None:
        self._file, self._disk, self._fault = directory / "told", disk, fault
        self.server = Receiver(self._answer)

    def web(self) -> str:
        return f'{HOOK}url = "http://127.0.0.1:{self.server.port}/"\n'

    def script(self) -> str:
        program, switch = self._file.with_name("tell"), self._disk.program[-1]
        program.write_text(
            f"#!/bin/sh\n[ -e {self._file} ] || printf '{self._fault} ' >{switch}\n"
            f"printf '%s\\n' \"$(cat)\" >>{self._file}\n"
        )
        program.chmod(0o755)
        return f'{HOOK}command = ["{program}"]\n'

    def _answer(self, number: int) -> Answer:
        if number == 1:
            self._disk.fails(self._fault)
        return 204, {}

    def whats(self) -> list[str]:
        rows: list[dict[str, Any]] = [got.body for got in list(self.server.got)]
        if self._file.exists():
            rows += [json.loads(row) for row in self._file.read_text().splitlines()]
        return [row["transition"]["what"] for row in rows]


@pytest.fixture(params=["full", "io"])
def told(tmp_path: Path, disk: Disk, request: pytest.FixtureRequest) -> Iterator[Told]:
    made = Told(tmp_path, disk, request.param)
    yield made
    made.server.close()


@pytest.mark.parametrize("way", ["web", "script"])
def test_a_notice_that_a_failing_disk_cannot_delete_is_not_told_again(
    tmp_path: Path, line: Line, start_agent: StartAgent, disk: Disk, told: Told, way: str
) -> None:
    hook = told.web() if way == "web" else told.script()
    gateway = Gateway(tmp_path, line, partial(start_agent, program=disk.program), more=hook)

    def state(*keys: str) -> Any:
        try:
            found: Any = ask(gateway.socket, "state")
        except Refused:  # busy, as it is asked so often here
            return None
        for key in keys:
            found = (found or {}).get(key)
        return found

    gateway.send(480.0)
    wait_until(lambda: bool(state("unstored")), "a commit that fails")
    gateway.send(400.0)
    wait_until(lambda: (state("unstored", "alarms_waiting") or 0) >= 1, "a later one that fails")
    assert told.whats() == ["raised"]
    disk.works()
    wait_until(lambda: told.whats()[-1] == "cleared", "the second notice")
    wait_until(lambda: state("hooks", "ops", "waiting") == 0, "the deletion of both")
    assert told.whats() == ["raised", "cleared"]
    wait_until(lambda: state("hooks", "ops", "sent") == 2, "the count")
