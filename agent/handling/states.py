"""The standing of an alarm, and its state by ISA-18.2 and IEC 62682.

What those standards call an alarm is here a **point**: one kind of trouble of one stream, such as
the high limit of one channel. A point is raised again and again; each time has its own number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple, Self

State = Literal["NORM", "UNACK", "ACKED", "RTNUN", "LATUN", "LATAK", "SHLVD", "DSUPR", "OOSRV"]
Condition = Literal["active", "normal", "unknown"]  # unknown: nothing watches it any more
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


class Shelving(NamedTuple):
    """A shelving that runs."""

    since: float  # Unix seconds
    until: float  # Unix seconds; it ends by itself
    until_clear: bool  # it ends earlier, once the condition clears


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a point. It does not change: a transition makes another one.

    Shelving, suppression and service only cover what is below: condition, acknowledgement and latch
    go on changing meanwhile, and count again at the end.
    """

    condition: Condition = "normal"
    acknowledged: bool = True
    latched: bool = False  # the condition has cleared, and a person has to reset the alarm
    shelving: Shelving | None = None
    suppressed: bool = False  # by design
    out_of_service: bool = False
    severity: Severity | None = None  # the gravest since it was last normal
    consequence: Consequence | None = None  # at the last transition, as the priority
    priority: Priority | None = None
    number: int = 0  # of the newest alarm of this point; 0: there was none
    open: tuple[int, ...] = ()  # numbers of those whose condition is active
    raised: int = 0  # times since it was last normal
    shelvings: int = 0  # since it was last normal
    shelved_s: float = 0.0  # how long these lasted in all, without the one that runs
    revision: int = 0  # of the last transition; each has the next one

    @property
    def state(self) -> State:
        """The state by ISA-18.2; a suppression covers what is below it."""
        if self.out_of_service:
            return "OOSRV"
        if self.shelving is not None:
            return "SHLVD"
        return "DSUPR" if self.suppressed else self._uncovered()

    def _uncovered(self) -> State:
        if self.condition == "active":
            return "ACKED" if self.acknowledged else "UNACK"
        if self.condition == "unknown" and not self.acknowledged:
            return "UNACK"
        if self.latched:
            return "LATAK" if self.acknowledged else "LATUN"
        return "NORM" if self.acknowledged else "RTNUN"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self) | {"shelving": self.shelving and list(self.shelving)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the standing that ``to_json`` wrote."""
        shelving = data["shelving"] and Shelving(*data["shelving"])
        return cls(**(dict(data) | {"shelving": shelving, "open": tuple(data["open"])}))
