"""A gateway's store with alarms that people have handled, for tests of what shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from agent.alarms.handled import Handled
from agent.alarms.points import Points, Request
from agent.cli import commands
from agent.handling.machine import Rules
from agent.handling.transition import What
from agent.store.batch import Batch
from agent.store.writer import Store

ONSET_S = 1_700_000_000.0
ONSET = "2023-11-14T22:13:20.000Z"
LONG = "a-stream-with-a-very-long-name-that-is-allowed"


def alarm(number: int, stream: str = "pump", state: str = "opened", **more: Any) -> dict[str, Any]:
    channels = [
        {"channel": name, "unit": "m3/h", "score": 2.0, "observed": 9.5, "expected": 12.25}
        for name in ("flow", "head", "torque")
    ]
    return {
        "stream": stream,
        "number": number,
        "kind": "anomaly",
        "state": state,
        "onset": ONSET,
        "opened": ONSET,
        "closed": None if state == "opened" else "2023-11-14T22:23:20.000Z",
        "ended": None if state == "opened" else "normal",
        "score": 2.0,
        "probability": 1e-6,
        "severity": "medium",
        "action": "look at the machine: " + "the channels moved as never before, " * 3,
        "channels": channels,
        "quality": {},
        "limit": None,
    } | more


class Kept:
    """A gateway's store with alarms, and what people did to them."""

    def __init__(self, directory: Path) -> None:
        (directory / "data").mkdir()
        self.config = directory / "agent.toml"
        self.config.write_text('[store]\ndirectory = "data"\n')
        self.store = Store(directory / "data", "plant", "gw-1", 100, 1000)
        self.store.open()
        self.points = Points({LONG: Handled(Rules(latching=True), "severe")})

    def take(self, *alarms: dict[str, Any]) -> None:
        for one in alarms:
            self.points.take(one, ONSET_S)
        self._commit(alarms=list(alarms))

    def ask(self, what: What, one: dict[str, Any], **more: Any) -> None:
        self.points.ask(Request(what, one, "maria", "terminal", **more), ONSET_S + 60)
        self._commit()

    def _commit(self, **more: Any) -> None:
        made, changed = self.points.drain()
        self.store.commit(Batch(transitions=made, standings=changed, **more), "synced")

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(commands, ["alarms", *words, "--config", str(self.config)])
