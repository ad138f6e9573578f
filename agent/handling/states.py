"""The standing of an alarm, and its state after ISA-18.2 and IEC 62682.

This project uses the term **point** for an alarm of those standards: one kind of trouble of one
stream, such as the high limit of one channel. A point can be raised many times. Each time is an
alarm with its own number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, NamedTuple, Self

from agent.wording.message import Message

State = Literal["NORM", "UNACK", "ACKED", "RTNUN", "LATUN", "LATAK", "SHLVD", "DSUPR", "OOSRV"]
Condition = Literal["active", "normal", "unknown"]  # unknown: it is no longer watched
Severity = Literal["low", "medium", "high"]
Consequence = Literal["minor", "major", "severe"]  # of a failure of the machine, as configured
Priority = Literal["low", "medium", "high"]

WORDS: Final[Mapping[State, str]] = {
    "NORM": "normal",
    "UNACK": "unacknowledged",
    "ACKED": "acknowledged",
    "RTNUN": "returned to normal, unacknowledged",
    "LATUN": "latched, unacknowledged",
    "LATAK": "latched, acknowledged",
    "SHLVD": "shelved",
    "DSUPR": "suppressed by design",
    "OOSRV": "out of service",
}
UNACKNOWLEDGED: Final[frozenset[State]] = frozenset({"UNACK", "RTNUN", "LATUN"})
SUPPRESSED: Final[frozenset[State]] = frozenset({"SHLVD", "DSUPR", "OOSRV"})


class Covered(NamedTuple):
    """The alarm that a person shelved; another fault of its point is not shelved with it."""

    number: int
    channels: tuple[str, ...]
    course: str | None  # of an anomaly: "spike", "persistent"; None: not known


class Shelving(NamedTuple):
    """A shelving in progress."""

    since: float  # Unix seconds
    until: float  # Unix seconds; it ends by itself
    until_clear: bool  # it ends earlier, once the condition clears
    of: Covered | None = None  # None: an older version shelved it

    @classmethod
    def read(cls, data: Sequence[Any]) -> Self:
        """Return the shelving of JSON data."""
        since, until, until_clear, *more = data
        of = more[0] if more else None
        covered = None if of is None else Covered(of[0], tuple(of[1]), of[2])
        return cls(since, until, until_clear, covered)


class Look(NamedTuple):
    """When staff is asked to look again at an alarm of which nothing was found."""

    number: int  # of the alarm; 0: of a fault without one
    at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """The standing of a point. It is immutable: a transition creates a new one.

    Shelving, suppression and out-of-service only mask condition, acknowledgement and latch. These
    still change while they are masked, and are effective again afterwards.
    """

    condition: Condition = "normal"
    acknowledged: bool = True
    latched: bool = False  # the condition has cleared, but a person must reset the alarm
    shelving: Shelving | None = None
    suppressed: bool = False  # by design
    out_of_service: bool = False
    severity: Severity | None = None  # the highest since it was last normal
    consequence: Consequence | None = None  # at the last transition, like the priority
    priority: Priority | None = None
    number: int = 0  # number of the newest alarm of this point; 0: there was none
    open: tuple[int, ...] = ()  # numbers of the alarms whose condition is active
    raised: int = 0  # number of times since it was last normal
    shelvings: int = 0  # number since it was last normal
    shelved_s: float = 0.0  # total duration of these, without the one in progress
    revision: int = 0  # number of the last transition; each transition adds 1
    advisory: bool = False  # what it says needs no action now, so it is no alarm
    grouped: bool = False  # raised in a flood: shown and announced with others of its stream
    seen_at: float | None = None  # Unix seconds of the acknowledgement, or of the last reminder
    raises: tuple[float, ...] = ()  # the newest times at which it was raised, Unix seconds
    chattered: int = 0  # number of times it was raised while it chatters; 0: it does not
    called: Severity | None = None  # the highest that was announced while it chatters
    looks: tuple[Look, ...] = ()  # of its alarms of which nothing was found yet

    @property
    def state(self) -> State:
        """The state after ISA-18.2; a suppression masks the state below it."""
        if self.out_of_service:
            return "OOSRV"
        if self.shelving is not None:
            return "SHLVD"
        return "DSUPR" if self.suppressed else self.below

    @property
    def below(self) -> State:
        """The state as it is without any suppression."""
        if self.condition == "active" and not self.advisory:
            return "ACKED" if self.acknowledged else "UNACK"
        if self.condition == "unknown" and not self.acknowledged:
            return "UNACK"
        if self.latched:
            return "LATAK" if self.acknowledged else "LATUN"
        return "NORM" if self.acknowledged else "RTNUN"

    def to_json(self) -> dict[str, Any]:
        """Return the standing as JSON data, without what is as in a new one."""
        values = {name: getattr(self, name) for name in _DEFAULTS}
        told = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
        return told | {"revision": self.revision}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the standing that ``to_json`` wrote; older versions wrote all of it.

        Raises:
            KeyError: it has no revision, so it is damaged.
            TypeError: it has other keys.

        """
        shelving, _ = data.get("shelving"), data["revision"]
        lists = {name: tuple(data.get(name, ())) for name in ("open", "raises")}
        lists["looks"] = tuple(Look(*one) for one in data.get("looks", ()))
        return cls(**(dict(data) | lists | {"shelving": shelving and Shelving.read(shelving)}))


_DEFAULTS: Final[Mapping[str, Any]] = {field.name: field.default for field in fields(Standing)}


def told(now: Standing) -> dict[str, Any]:
    """Return the state in words, as the document of a message."""
    state = "advisory" if now.advisory and now.state == "NORM" else now.state
    return Message(f"state.{state}").document()
