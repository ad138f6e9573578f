"""The loop's part of a command from central ops: its time, its id, and its execution, once.

The id, a digest of the command and the answer are stored in the transaction of the change. So a
command that arrives again, also after a kill, gets the same answer and is not executed again. An id
is kept until its command has expired. The store also keeps the latest expiry of a forgotten id:
a command that expires no later is refused, so that a clock that is set back allows no replay.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agent.control.dispatch import Verb
from agent.control.inbox import Command
from agent.control.protocol import Refused
from agent.remote.message import SAMPLES, Rejected, done, refused
from agent.store.orders import FORGOTTEN, Known
from models.printable import printable

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.config.commands import CommandsTable
    from agent.operating import Operating
    from agent.store.batch import Batch

VERB: Final = "remote"
ALLOWED: Final = frozenset(
    {
        "alarm.acknowledge",
        "alarm.unacknowledge",
        "alarm.shelve",
        "alarm.unshelve",
        "alarm.note",
        "alarm.label",
    }
)
_ARGUMENTS: Final = frozenset({"id", "digest", "expires", "command", "arguments"})


class Execution:
    """Executes commands from central ops; the loop's thread uses it.

    Args:
        settings: The limits.
        operating: Executes requests on alarms.
        clock: The gateway's clock.
        batch: What the next commit stores.

    """

    def __init__(
        self,
        settings: CommandsTable,
        operating: Operating,
        clock: Clock,
        batch: Batch,
    ) -> None:
        self.settings = settings
        self._operating, self._clock, self._batch = operating, clock, batch
        self._known: dict[str, Known] = {}
        self._forgotten_s = 0.0  # latest expiry of the ids that are not stored any more
        self.counts: Counter[str] = Counter()

    def restore(self, known: Mapping[str, Known], forgotten_s: float) -> None:
        """Continue with the stored ids, and the latest expiry of those that were deleted."""
        self._known, self._forgotten_s = dict(known), forgotten_s

    def verbs(self) -> dict[str, Verb]:
        """Return the command by which the listener asks the loop."""
        return {VERB: Verb(self._do, _ARGUMENTS, shared=False, named=_named)}

    def _do(self, command: Command) -> dict[str, Any]:
        if command.asker.way != "mqtt":
            raise Refused("not_allowed", "only central ops sends this command")
        said = command.arguments
        try:
            if (again := self._again(said)) is not None:
                self.counts["repeated"] += 1
                return again
            self._check(said["expires"])
            if said["command"] not in ALLOWED | {SAMPLES}:
                known = ", ".join(sorted(ALLOWED | {SAMPLES}))
                raise Rejected("unknown_command", f"central ops may ask for {known}")
            self._check_arguments(said["command"], said["arguments"])
        except Rejected as error:
            self.counts[error.cause] += 1
            return refused(error.cause, f"nothing was done: {error}")
        outcome = self._outcome(said, command.asker.name)
        self._keep(said, outcome)
        return outcome

    def _again(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        known = self._known.get(said["id"])
        if known is None:
            return None
        if said["command"] == SAMPLES and known.expires <= self._clock.wall_s():
            return None  # they would be read again for whoever has recorded the command
        if known.digest != said["digest"]:
            raise Rejected("replayed", "another command had this id")
        stored: dict[str, Any] = json.loads(known.answer)
        return stored

    def _check(self, expires: float) -> None:
        """Check the time and the room for one more id."""
        now_s = self._clock.wall_s()
        if self.settings.require_synced_clock and self._clock.quality() == "unsynced":
            raise Rejected("clock", "the gateway's clock is not synchronised")
        if expires <= now_s:
            raise Rejected("expired", f"it expired {now_s - expires:.0f} s ago")
        if expires <= self._forgotten_s:
            raise Rejected("replayed", "its id may have been seen before")
        if expires > now_s + self.settings.validity_max_s:
            limit = f"{self.settings.validity_max_s:.0f} s"
            raise Rejected("too_far", f"it must expire within {limit}")
        self._forget(now_s)
        if len(self._known) >= self.settings.ids_max:
            raise Rejected("crowded", "too many commands have not expired; try again later")

    def _check_arguments(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments that would be ignored, such as another name for the time of a label."""
        if name == SAMPLES:
            return  # the listener checks them
        known = self._operating.verbs()[name].arguments
        if unknown := sorted(arguments.keys() - known):
            raise Rejected(
                "malformed",
                f"{name} does not know {', '.join(map(repr, unknown))}; it accepts"
                f" {', '.join(sorted(known))}",
            )

    def _outcome(self, said: Mapping[str, Any], by: str) -> dict[str, Any]:
        if said["command"] == SAMPLES:
            self.counts["done"] += 1
            return done({})  # the listener reads them
        try:
            result = self._operating.perform(said["command"], said["arguments"], by, "ops")
        except Refused as error:
            self.counts[error.code] += 1
            return refused(error.code, str(error))
        self.counts["done"] += 1
        return done(result)

    def _keep(self, said: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        known = Known(said["expires"], said["digest"], json.dumps(outcome))
        self._known[said["id"]] = self._batch.orders[said["id"]] = known
        self._batch.ordered[said["id"]] = str(said["arguments"].get("stream"))

    def _forget(self, now_s: float) -> None:
        """Forget the ids of commands that have expired; the next commit does the same."""
        old = [name for name, known in self._known.items() if known.expires <= now_s]
        if not old:
            return
        latest = max(self._known[name].expires for name in old)
        self._forgotten_s = max(self._forgotten_s, math.ceil(latest))
        for name in old:
            del self._known[name]
            self._batch.orders.pop(name, None)
        self._batch.counters[FORGOTTEN] = int(self._forgotten_s)

    def document(self) -> dict[str, Any]:
        """Return the counts since the start, and the ids that are kept, for ``status``."""
        return {"counts": dict(self.counts), "ids": len(self._known)}


def _named(command: Command) -> str:
    """Return the command of central ops and its alarm, for the log."""
    if command.asker.way != "mqtt":
        return command.name
    said, about = command.arguments["command"], command.arguments["arguments"]
    stream, number = about.get("stream"), about.get("number")
    return printable(f"{said} {stream}" + ("" if number is None else f"#{number}"))
