"""The thread of a reload, without an agent: what it hands to the loop, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import load as configuration
from agent.control.protocol import Refused
from agent.health.sdnotify import Notifier
from agent.reloading import Prepared, Reloads
from tests.agent.config.test_checker import written
from tests.conftest import wait_until


class Rig:
    """Reloads of a configuration, and the loop that turns them."""

    def __init__(self, directory: Path) -> None:
        self.file = written(directory, "0.5")
        self.now = configuration.load(self.file)
        self.reloads = Reloads(self.file, lambda _: None, Notifier(), lambda: None)

    def reload(self) -> Any:
        """Request a reload, and turn the loop until there is an answer."""
        later = self.reloads.ask()

        def turned() -> bool:
            prepared = self.reloads.turn(self.now)
            if prepared is not None:
                self.now = prepared.config
                self.reloads.done(prepared)
            return later.answer is not None

        wait_until(turned, "the answer")
        return later.answer


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_has_changed_is_handed_over(rig: Rig) -> None:
    written(rig.file.parent, "0.7")
    assert rig.reload() == {"changed": ["store.flush_interval_s"], "needs_restart": []}
    assert rig.now.store.flush_interval_s == 0.7
    assert rig.reload() == {"changed": [], "needs_restart": []}


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/bin/false", "ended without an answer (code 1)"),
        ("/not/there", "cannot be started: [Errno 2]"),
    ],
)
def test_a_reload_that_cannot_be_checked_changes_nothing(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    program: str,
    said: str,
) -> None:
    written(rig.file.parent, "0.7")
    monkeypatch.setattr("sys.executable", program)
    answer = rig.reload()
    assert isinstance(answer, Refused)
    assert said in str(answer)
    assert said in rig.reloads.document()["refused"]
    assert said in caplog.text
    assert rig.now.store.flush_interval_s == 0.5


def test_requests_that_wait_together_are_one(rig: Rig) -> None:
    assert rig.reloads.ask() is rig.reloads.ask()


def test_nothing_is_left_of_one_that_a_stop_ends(rig: Rig) -> None:
    later = rig.reloads.ask()
    rig.reloads.turn(rig.now)
    rig.reloads.stop()
    assert later.answer is None
    assert not isinstance(rig.reloads.turn(rig.now), Prepared)
