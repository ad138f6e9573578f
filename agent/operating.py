"""Handles people's requests on alarms: permission, arguments, execution.

    control socket ─command─> permission by group ─┐      (the web page's: by role)
                                                   ├─perform─> points ─> transition
    another door, with its own permission ─────────┘

A request names the alarm by stream and number, and the revision that the person saw. It changes the
points (``agent.alarms.points``). The next commit makes the change durable. Then the answer is sent.
At the control socket the kernel supplies the user, and the system supplies the user's groups, so a
client cannot forge them. The web page asks for the people who have logged in there; it names them
with their roles, and the socket lets only its user do so.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from agent.alarms.names import reported
from agent.alarms.points import Labelled, Points, Request, Stale
from agent.control.dispatch import Verb
from agent.control.inbox import Asker, Command
from agent.control.protocol import Code, Person, Refused, Role
from agent.handling.machine import Impossible
from agent.handling.states import WORDS
from agent.handling.transition import (
    LABELS,
    NOTHING_FOUND,
    REASON_CHARS_MAX,
    SAID,
    Door,
    Transition,
    What,
)
from agent.wording.message import Message, Value
from models.errors import StoreError

_LOG = logging.getLogger(__name__)

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400.0
_TIME_MAX_S: Final = 253_402_300_799.0  # the last second of the year 9999
_NUMBER_MAX: Final = 2**53  # largest integer that every JSON parser represents exactly
_LARGEST: Final = sys.float_info.max  # a JSON integer may be larger, and then cannot become a float

VERBS: Final[Mapping[str, What]] = {
    "alarm.acknowledge": "acknowledged",
    "alarm.unacknowledge": "unacknowledged",
    "alarm.reset": "reset",
    "alarm.shelve": "shelved",
    "alarm.unshelve": "unshelved",
    "alarm.out-of-service": "out_of_service",
    "alarm.in-service": "in_service",
    "alarm.note": "noted",
    "alarm.label": "labelled",
}
GROUP: Final = "alarm.acknowledge-group"
MEMBERS_MAX: Final = 500  # of a group; more do not fit into a request
_OF_MAINTAINERS: Final[frozenset[What]] = frozenset({"out_of_service", "in_service"})
_SUCH: Final[Mapping[Role, Message]] = {
    "reader": Message("refused.may_read"),
    "operator": Message("refused.may_handle"),
    "maintainer": Message("refused.may_take_out"),
}
_NEEDS_REASON: Final[frozenset[What]] = frozenset({"shelved", "out_of_service", "noted"})
_NEEDS_NO_REVISION: Final[frozenset[What]] = frozenset({"noted", "labelled"})
_ALL: Final = frozenset({"stream", "number", "revision", "reason"})
_MORE: Final[Mapping[What, frozenset[str]]] = {
    "shelved": frozenset({"hours", "until_clear"}),
    "labelled": frozenset({"label", "from", "to"}),
}


class Labelling(NamedTuple):
    """The configured rules for labels."""

    fault_kinds: Sequence[str] = ()  # offered for the label "confirmed"; another text is allowed
    ask_again_s: float = 7 * _DAY_S  # after the label "nothing-found"


class Roles(NamedTuple):
    """The groups of the operating system whose members may handle alarms."""

    operators: str
    maintainers: str  # may take alarms out of service, and put them back into service

    def of(self, what: What) -> str:
        """Return the group that may make this transition."""
        return self.maintainers if _role(what) == "maintainer" else self.operators


def role_for(verb: str) -> Role:
    """Return the lowest role at the web page that may ask for this command."""
    return _role(VERBS.get(verb, "acknowledged"))


def _role(what: What) -> Role:
    return "maintainer" if what in _OF_MAINTAINERS else "operator"


class Operating:
    """Executes people's requests on alarms; the loop's thread uses it.

    Args:
        points: The points of all streams.
        find: Returns an alarm that is on the disk, by stream and number; None: there is none.
        now_s: Returns the time, Unix seconds.
        roles: Who may handle alarms at the control socket.
        labelling: The rules for labels.

    """

    def __init__(
        self,
        points: Points,
        find: Callable[[str, int], dict[str, Any] | None],
        now_s: Callable[[], float],
        roles: Roles,
        labelling: Labelling = Labelling(),  # noqa: B008 - a value that never changes
    ) -> None:
        self._points, self._find, self._now_s = points, find, now_s
        self.roles, self.labelling = roles, labelling

    def verbs(self) -> dict[str, Verb]:
        """Return the commands of the control socket, by name."""
        single = {
            name: Verb(
                self._do,
                _ALL | _MORE.get(what, frozenset()),
                shared=False,
                behalf=True,
                stored=_log_change,
            )
            for name, what in VERBS.items()
        }
        members = frozenset({"stream", "members", "reason"})
        group = Verb(self._do, members, shared=False, behalf=True, stored=_log_group)
        return single | {GROUP: group}

    def _do(self, command: Command) -> dict[str, Any]:
        """Execute a command of the control socket."""
        person = command.asker.person
        if person is not None:
            _admit_person(person, command.name)
            return self.perform(command.name, command.arguments, person.name, "page")
        self._admit(command.asker, VERBS.get(command.name, "acknowledged"))
        return self.perform(command.name, command.arguments, command.asker.name, "terminal")

    def _admit(self, asker: Asker, what: What) -> None:
        group = self.roles.of(what)
        if asker.uid in (0, os.geteuid()) or group in asker.groups:
            return
        such = _SUCH[_role(what)].document()
        names: dict[str, Value] = {"name": asker.name, "group": group, "what": such}
        raise Refused.of("not_allowed", Message("refused.group", names))

    def perform(
        self, verb: str, arguments: Mapping[str, Any], by: str, door: Door
    ) -> dict[str, Any]:
        """Execute a request of a person who may make it; return the result as JSON data.

        Args:
            verb: One of ``VERBS``, or ``GROUP``.
            arguments: As the client sent them; keys that the verb does not know are ignored.
            by: Name of the person, for the logbook.
            door: Where the request came from.

        Raises:
            Refused: the request is wrong, stale or impossible; nothing was done.

        """
        if verb == GROUP:
            return self._acknowledge_group(arguments, by, door)
        made = self._ask(self._request(VERBS[verb], arguments, by, door))
        told = made.document() | {"told": WORDS[made.after]}
        kinds = self.labelling.fault_kinds
        if made.label == "confirmed" and kinds and made.why not in kinds:
            told["kinds"] = list(kinds)  # to choose from
        return told

    def _ask(self, request: Request) -> Transition:
        try:
            made = self._points.ask(request, self._now_s())
        except Stale as error:
            why = {"why": error.message.document()}
            raise Refused.of("stale", Message("refused.stale", why)) from None
        except Impossible as error:
            raise _nothing_done("impossible", error.message.document()) from None
        return made

    def _acknowledge_group(
        self, arguments: Mapping[str, Any], by: str, door: Door
    ) -> dict[str, Any]:
        """Acknowledge the alarms that a person saw in a group; each one alone may be refused."""
        stream, why = arguments.get("stream"), arguments.get("reason")
        done: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        for number, revision in _members(arguments):
            one = {"stream": stream, "number": number, "revision": revision, "reason": why}
            try:
                done.append(self.perform("alarm.acknowledge", one, by, door))
            except Refused as refusal:
                text = None if refusal.message is None else refusal.message.document()
                said = {"code": refusal.code, "message": str(refusal), "text": text}
                refused.append({"number": number, **said})
        return {"transitions": done, "refused": refused}

    def _request(self, what: What, arguments: Mapping[str, Any], by: str, door: Door) -> Request:
        stream, number = _text(arguments, "stream", 64), _whole(arguments, "number", 1)
        begin, end = _period(arguments)
        if stream is None or (number is None and (what != "labelled" or begin is None)):
            raise _wrong("alarm")
        revision = _whole(arguments, "revision", 0)
        if revision is None and what not in _NEEDS_NO_REVISION:
            raise _wrong("revision")
        told = "wrong.the_text" if what == "noted" else "wrong.the_reason"
        why = _text(arguments, "reason", REASON_CHARS_MAX, told)
        if why is None and what in _NEEDS_REASON:
            raise _wrong("no_text" if what == "noted" else "no_reason")
        labelled = self._labelled(arguments, begin, end) if what == "labelled" else None
        seconds, until_clear = 0.0, False
        if what == "shelved":
            seconds, until_clear = _hours(arguments) * _HOUR_S, _flag(arguments, "until_clear")
        alarm = self._reported(stream) if number is None else self._alarm(stream, number)
        return Request(what, alarm, by, door, revision, why, seconds, until_clear, labelled)

    def _reported(self, stream: str) -> dict[str, Any]:
        """Return what stands for the alarm of a fault without one."""
        if stream not in self._points.streams:
            raise _wrong("stream", stream=stream)
        return reported(stream)

    def _labelled(
        self, arguments: Mapping[str, Any], begin: float | None, end: float | None
    ) -> Labelled:
        label = arguments.get("label")
        if label not in LABELS:
            raise _wrong("label", labels=", ".join(LABELS))
        if end is not None and label != "maintenance" and end > self._now_s() + _HOUR_S:
            raise _wrong("future")
        again = self._now_s() + self.labelling.ask_again_s if label == NOTHING_FOUND else None
        return Labelled(label, begin, end, again)

    def _alarm(self, stream: str, number: int) -> dict[str, Any]:
        named = {"stream": stream, "number": str(number)}
        try:
            alarm = self._find(stream, number)
        except StoreError as error:
            raise _nothing_done("not_stored", str(error)) from None
        if alarm is None:
            raise Refused.of("unknown_alarm", Message("refused.no_alarm", named))
        if alarm["kind"] == "gap":
            raise Refused.of("unknown_alarm", Message("refused.gap", named))
        return alarm


def _admit_person(person: Person, verb: str) -> None:
    needed = role_for(verb)
    if not person.may(needed):
        names = {"name": person.name, "role": person.role, "needed": needed}
        such = _SUCH[needed].document()
        raise Refused.of("not_allowed", Message("refused.role", {**names, "what": such}))


def _log_change(_: Command, made: Mapping[str, Any]) -> None:
    """Log a transition that is on the disk."""
    _LOG.info("%s#%d: %s by %s", made["stream"], made["number"], SAID[made["what"]], made["by"])


def _log_group(command: Command, result: Mapping[str, Any]) -> None:
    """Log the transitions of a group that are on the disk."""
    for made in result["transitions"]:
        _log_change(command, made)


def _wrong(key: str, **facts: Value) -> Refused:
    return _nothing_done("arguments", Message(f"wrong.{key}", facts).document())


def _nothing_done(code: Code, why: Value) -> Refused:
    return Refused.of(code, Message("refused.nothing_done", {"why": why}))


def _members(arguments: Mapping[str, Any]) -> list[list[Any]]:
    """Return number and revision of each alarm of a group."""
    members = arguments.get("members")
    pairs = isinstance(members, list) and all(
        isinstance(one, list) and len(one) == 2 for one in members
    )
    if not isinstance(members, list) or not pairs or not 1 <= len(members) <= MEMBERS_MAX:
        raise _wrong("members", count=str(MEMBERS_MAX))
    return members


def _text(
    arguments: Mapping[str, Any], key: str, characters_max: int, told: str | None = None
) -> str | None:
    """Return a text in one line; None if it is absent or empty.

    ``told``: the key of the text of what people call it, if that is not ``key``.
    """
    value = arguments.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > characters_max or not value.isprintable():
        what = key if told is None else Message(told).document()
        raise _wrong("text", what=what, count=str(characters_max))
    return value.strip() or None


def _period(arguments: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the times ``from`` and ``to``, Unix seconds; None: both are absent."""
    given = [arguments.get(name) for name in ("from", "to")]
    if given == [None, None]:
        return None, None
    begin, end = given
    if not _is_time(begin) or not _is_time(end) or begin > end:
        raise _wrong("period")
    return float(begin), float(end)


def _is_time(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _TIME_MAX_S


def _whole(arguments: Mapping[str, Any], key: str, least: int) -> int | None:
    value = arguments.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _NUMBER_MAX:
        raise _wrong("whole", what=key, least=str(least))
    return value


def _hours(arguments: Mapping[str, Any]) -> float:
    value = arguments.get("hours")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
        raise _wrong("hours")
    return float(value)


def _flag(arguments: Mapping[str, Any], key: str) -> bool:
    value = arguments.get(key, True)
    if not isinstance(value, bool):
        raise _wrong("flag", what=key)
    return value
