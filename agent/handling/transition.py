"""A transition, as the logbook stores it and central ops receives it: an immutable record."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, get_args

from agent.handling.states import Condition, Consequence, Priority, Severity, State
from agent.wording.message import Message
from models.times import iso_time

What = Literal[
    "raised",
    "worsened",
    "due",
    "cleared",
    "unwatched",
    "superseded",
    "acknowledged",
    "unacknowledged",
    "reset",
    "shelved",
    "unshelved",
    "out_of_service",
    "in_service",
    "suppressed",
    "unsuppressed",
    "settled",
    "ungrouped",
    "reminded",
    "look_again",
    "noted",
    "labelled",
]
Label = Literal["confirmed", "false", "nothing-found", "maintenance"]  # the finding of a person
LABELS: Final[tuple[Label, ...]] = get_args(Label)
Door = Literal["agent", "terminal", "ops", "page"]  # where the change came from
REASON_CHARS_MAX: Final = 500  # of a reason or a note
NOTHING_FOUND: Final[Label] = "nothing-found"
AGENT: Final = "agent"  # who made it, if no person did

SAID: Final[dict[What, str]] = {  # for people
    "raised": "raised",
    "worsened": "worse",
    "due": "needs action now",
    "cleared": "returned to normal",
    "unwatched": "no longer watched",
    "superseded": "another alarm took over",
    "acknowledged": "acknowledged",
    "unacknowledged": "acknowledgement taken back",
    "reset": "latch reset",
    "shelved": "shelved",
    "unshelved": "shelving ended",
    "out_of_service": "taken out of service",
    "in_service": "back in service",
    "suppressed": "suppressed by design",
    "unsuppressed": "suppression ended",
    "settled": "does not chatter any more",
    "ungrouped": "the flood of alarms is over",
    "reminded": "reminder: acknowledged, and still active",
    "look_again": "reminder: look again, nothing was found yet",
    "noted": "note",
    "labelled": "label",
}


class Transition(NamedTuple):
    """A change of a point, with its time, user, reason and door."""

    stream: str
    point: str
    number: int  # number of the point's newest alarm
    revision: int  # counts the point's transitions
    at: float  # Unix seconds
    what: What
    before: State
    after: State
    condition: Condition  # after the transition
    severity: Severity
    consequence: Consequence
    priority: Priority
    by: str  # the user's name, or ``AGENT``
    door: Door
    why: str | None = None  # the reason, or the note
    reason: Message | None = None  # the reason for readers of any language, if the agent gave it
    # of a shelving: its latest end; of the label "nothing-found": when to ask again; Unix seconds
    until: float | None = None
    until_clear: bool = False  # of a shelving: it ends once the condition clears
    shelvings: int = 0  # number since the point was last normal
    label: str | None = None
    begin: float | None = None  # of a label: what it is about, Unix seconds; None: as its alarm
    end: float | None = None
    announces: bool = False  # it calls somebody: a panel, a hook or central ops may sound
    advisory: bool = False  # it needs no action now, so that it is no alarm
    grouped: bool = False  # it belongs to a flood, and is shown with others of its stream
    chattering: int = 0  # number of times it was raised while it chatters; 0: it does not

    def document(self) -> dict[str, Any]:
        """Return the transition as JSON data; ``docs/messages.md`` describes it."""
        times = {"until": self.until, "begin": self.begin, "end": self.end}
        told = {name: None if time is None else iso_time(time) for name, time in times.items()}
        reason = None if self.reason is None else self.reason.document()
        return self._asdict() | told | {"at": iso_time(self.at), "reason": reason}
