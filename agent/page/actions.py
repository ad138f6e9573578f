"""What viewers do: the fields of a form become a request to the agent, as from a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agent.control.client import NoAgent, NoAnswer, NotAllowed
from agent.control.protocol import Refused
from agent.handling.transition import LABELS
from agent.operating import GROUP
from agent.wording.message import Message
from agent.wording.worded import Worded
from models.errors import FieldwatchError

VERBS: Final = (
    "acknowledge",
    "unacknowledge",
    "reset",
    "shelve",
    "unshelve",
    "out-of-service",
    "in-service",
    "note",
    "label",
)
_STATUSES: Final[Mapping[type[FieldwatchError], int]] = {
    NotAllowed: 403,
    NoAgent: 503,
    NoAnswer: 504,
}
_REFUSED: Final = {"stale": 409, "impossible": 409, "not_allowed": 403, "unknown_alarm": 404}


class Wrong(Worded, FieldwatchError):
    """A form has a field that no button of the page sends."""


def _wrong(key: str, **facts: str) -> Wrong:
    return Wrong(Message(f"page.wrong.{key}", facts))


class Asked(NamedTuple):
    """A request to the agent."""

    verb: str
    arguments: dict[str, Any]


def asked(stream: str, number: int, verb: str, form: Mapping[str, str]) -> Asked:
    """Return the request of a form on one alarm.

    Raises:
        Wrong: a field is missing, or is not what its button sends.

    """
    if verb not in VERBS:
        raise _wrong("action", verb=verb)
    arguments: dict[str, Any] = {"stream": stream, "number": number}
    if revision := form.get("revision"):
        arguments["revision"] = _whole(revision)
    if reason := form.get("reason", "").strip():
        arguments["reason"] = " ".join(reason.split())
    if verb == "shelve":
        arguments["hours"] = float(_whole(form.get("hours", "")))
        arguments["until_clear"] = "fixed" not in form
    if verb == "label":
        label = form.get("label")
        if label not in LABELS:
            raise _wrong("label")
        arguments["label"] = label
    return Asked(f"alarm.{verb}", arguments)


def asked_of_group(stream: str, form: Mapping[str, str]) -> Asked:
    """Return the acknowledgement of a group: exactly the members that were shown.

    Raises:
        Wrong: the members are not numbers with revisions.

    """
    members = [
        [_whole(part) for part in one.split(".")] for one in form.get("members", "").split(",")
    ]
    if any(len(one) != 2 for one in members):
        raise _wrong("member")
    arguments: dict[str, Any] = {"stream": stream, "members": members}
    if reason := form.get("reason", "").strip():
        arguments["reason"] = " ".join(reason.split())
    return Asked(GROUP, arguments)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise _wrong("whole", text=text[:20])
    return int(text)


def status_of(error: FieldwatchError) -> int:
    """Return the HTTP status of a request that was not done."""
    if isinstance(error, Refused):
        return _REFUSED.get(error.code, 503 if error.exit_code == 75 else 400)
    return next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 400)
