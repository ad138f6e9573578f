"""Two people handle one alarm at the same moment, at the terminal and at central ops.

In each turn both see the same revision, choose by chance, and ask at once. The judge is the
logbook: it alone, executed again, must give every state, the answers and the standing of the end.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.control.client import ask
from agent.control.inbox import COMMANDS_PER_S_MAX
from agent.control.protocol import Refused
from agent.handling import machine
from agent.handling.machine import Rules
from agent.handling.states import WORDS, Standing
from agent.remote.asking import Gateway as Asked
from agent.remote.asking import body_of, order_for
from models.keys import SecretKey
from models.times import unix_s
from tests.conftest import WAIT_S_MAX

if TYPE_CHECKING:
    from tests.system.test_commands import Central, Commanded

WRITERS: Final = ("terminal", "ops")
_REQUESTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "acknowledge": {},
    "unacknowledge": {},
    "shelve": {"reason": "by chance", "hours": 1},
    "unshelve": {},
    "note": {"reason": "by chance"},
    "label": {"label": "false"},
}
_WHAT: Final[Mapping[str, str]] = {
    "acknowledge": "acknowledged",
    "unacknowledge": "unacknowledged",
    "shelve": "shelved",
    "unshelve": "unshelved",
    "note": "noted",
    "label": "labelled",
}
_SAME: Final = (
    *("state", "condition", "acknowledged", "latched", "suppressed", "out_of_service", "severity"),
    *("number", "open", "raised", "shelvings", "revision", "advisory"),
)
_TOLD: Final = re.compile(r"#(\d+)\.(\d+) is ([a-z, ]+?), severity (\w+)")


class Answered(NamedTuple):
    """A request, and what its sender was told."""

    writer: str
    verb: str
    seen: int  # the revision that the writer named
    made: Mapping[str, Any] | None = None  # the transition; None: refused
    code: str = ""
    text: str = ""


class Writing:
    """The two writers; ``run`` may be called once."""

    def __init__(
        self, gateway: Commanded, central: Central, key: SecretKey, chance: Random
    ) -> None:
        self._gateway, self._central, self._key, self._chance = gateway, central, key, chance
        self._asks: Mapping[str, Callable[..., Answered]] = {
            "terminal": self._at_the_terminal,
            "ops": self._at_ops,
        }
        self._both = threading.Barrier(len(WRITERS), self._look, WAIT_S_MAX)
        self._failed = threading.Event()
        self._seen = 0
        self.answered: list[Answered] = []

    def run(self, commands: int) -> Counter[str]:
        """Send this many commands, half of them by each writer; return what was answered."""
        turns = commands // len(WRITERS)
        with ThreadPoolExecutor(len(WRITERS)) as pool:
            for ended in [pool.submit(self._write, writer, turns) for writer in WRITERS]:
                ended.result()
        return Counter("done" if one.made else one.code for one in self.answered)

    def _look(self) -> None:
        """See the alarm, for both; wait as the loop takes only so many commands a second."""
        self._failed.wait(len(WRITERS) / COMMANDS_PER_S_MAX)
        self._seen = self._gateway.standing()["revision"]

    def _write(self, writer: str, turns: int) -> None:
        chance = Random(self._chance.random())
        try:
            for _ in range(turns):
                verb = chance.choice(list(_REQUESTS))
                self._both.wait()
                self.answered.append(self._asks[writer](verb, self._seen))
        except BaseException:
            self._failed.set()
            self._both.abort()  # the other one cannot go on alone
            raise

    def _at_the_terminal(self, verb: str, seen: int) -> Answered:
        try:
            made = ask(self._gateway.socket, f"alarm.{verb}", _named(seen) | _REQUESTS[verb])
        except Refused as refusal:
            return Answered("terminal", verb, seen, None, refusal.code, str(refusal))
        return Answered("terminal", verb, seen, made)

    def _at_ops(self, verb: str, seen: int) -> Answered:
        named = _named(seen)
        to = Asked("plant", "gw-1")
        order = order_for(to, self._key, f"alarm.{verb}", named | _REQUESTS[verb], 600.0)
        self._central.send(body_of(order, self._key))
        (said,) = self._central.answers_to(order.id)
        if said["ok"]:
            return Answered("ops", verb, seen, said["result"])
        return Answered("ops", verb, seen, None, said["error"]["code"], said["error"]["message"])


def _named(revision: int) -> dict[str, Any]:
    return {"stream": "pump", "number": 1, "revision": revision}


def explained(rows: Sequence[Mapping[str, Any]], standing: Standing) -> None:
    """Execute the logbook again, and assert that it gives each state and the standing."""
    now = Standing()
    for row in rows:
        assert row["before"] == now.state, row
        now = _after(now, row)
        assert (row["revision"], row["after"]) == (now.revision, now.state), row
    for name in _SAME:
        assert getattr(now, name) == getattr(standing, name), name


def _after(now: Standing, row: Mapping[str, Any]) -> Standing:
    at = unix_s(row["at"])
    match row["what"]:
        case "raised":
            return machine.raised(now, row["number"], row["severity"], Rules(), at)
        case "acknowledged":
            return machine.acknowledge(now, at)
        case "unacknowledged":
            return machine.unacknowledge(now)
        case "shelved":
            left_s = unix_s(row["until"]) - at
            return machine.shelve(now, Rules(), at, left_s, row["until_clear"])
        case "unshelved":
            return machine.unshelve(now, at)
        case "noted" | "labelled":
            return machine.noted(now)
    raise AssertionError(row)


def answered_truly(answered: Sequence[Answered], rows: Sequence[Mapping[str, Any]]) -> None:
    """Assert that each answer agrees with the logbook, and that each row has its answer."""
    by_revision = {row["revision"]: row for row in rows}
    made = [one for one in answered if one.made is not None]
    for one in made:
        assert one.made is not None
        row = by_revision[one.made["revision"]]
        assert (row["door"], row["what"]) == (one.writer, _WHAT[one.verb]), one
        assert (row["before"], row["after"]) == (one.made["before"], one.made["after"]), one
        if one.verb not in ("note", "label"):
            assert row["revision"] == one.seen + 1, one  # of what its writer saw
    revisions = sorted(one.made["revision"] for one in made if one.made is not None)
    assert revisions == [row["revision"] for row in rows if row["door"] != "agent"]
    for one in answered:
        if one.code == "stale":
            _names_the_state(one, by_revision)
        else:
            assert one.code in ("", "impossible"), one


def _names_the_state(one: Answered, by_revision: Mapping[int, Mapping[str, Any]]) -> None:
    """Assert that a stale request was told a newer state, and one that was."""
    found = _TOLD.search(one.text)
    assert found is not None, one
    row = by_revision[int(found[2])]
    assert row["revision"] > one.seen, one
    assert (found[3], found[4]) == (WORDS[row["after"]], row["severity"]), one
