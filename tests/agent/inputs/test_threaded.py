"""Whether a source is there: what the log and the status say of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.config.inputs import SimulatorTable
from agent.inputs.kinds import open_input
from agent.inputs.source import Chunk, InputStatus
from agent.inputs.threaded import ThreadedInput
from agent.journal import INPUT
from tests.conftest import wait_until

WHY = "gone; is it plugged in?"


class Scripted(ThreadedInput):
    """Finds and loses its source as the script says; keeps its status after each step."""

    def __init__(self, script: str) -> None:
        super().__init__(SimulatorTable(name="line", stream="pump", type="simulator"))
        self._script = script
        self.statuses: list[InputStatus] = []

    def _run(self, put: Callable[[Chunk], None]) -> None:
        for step in self._script:
            if step == "+":
                self._found("reading it")
            elif step == "-":
                self._lost(WHY)
            else:
                self._stopping.set()
            self.statuses.append(self.status())


def played(script: str) -> list[InputStatus]:
    one = Scripted(script)
    one.start(lambda chunk: None)
    wait_until(lambda: len(one.statuses) == len(script), "the end of the script")
    one.stop()
    return one.statuses


LOST = f"input line: {WHY}; retrying until it is back"
FOUND = "input line: reading it"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("---", [LOST]),
        ("+", [FOUND]),
        ("--+---+-", [LOST, FOUND, LOST, FOUND, LOST]),
        ("+s-", [FOUND]),  # a stop is no loss
    ],
)
def test_each_loss_and_each_return_is_logged_once(
    caplog: pytest.LogCaptureFixture, script: str, said: list[str]
) -> None:
    with caplog.at_level("INFO"):
        played(script)
    assert [record.getMessage() for record in caplog.records] == said
    assert {getattr(record, INPUT) for record in caplog.records} == {"line"}


def test_the_status_says_since_when_and_why() -> None:
    first, second, found, lost, still = played("--+--")
    assert (first.connected, first.last_error, first.reconnects) == (
        False,
        "gone; is it plugged in?",
        0,
    )
    assert (found.connected, found.last_error, found.reconnects) == (
        True,
        "gone; is it plugged in?",
        0,
    )
    assert not lost.connected
    assert first.since == second.since != found.since
    assert found.since != lost.since == still.since


def test_before_the_start_nothing_is_known() -> None:
    source = open_input(SimulatorTable(name="line", stream="pump", type="simulator"))
    assert (source.status().connected, source.status().since) == (False, None)
