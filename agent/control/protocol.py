"""The protocol of the control socket: a request is one line of JSON, and its answer is another.

A request is ``{"v": 1, "command": "flush", "arguments": {}}``; ``v`` and ``arguments`` may be
absent. The web page adds ``"for": {"name": "maria", "role": "operator"}``: the person who has
logged in there, and for whom it asks.

An answer is ``{"v": 1, "ok": true, "result": {}}``. If ``ok`` is false, it has ``{"code": "busy",
"message": "..."}`` as ``error`` instead of a result. The codes are those of ``EXIT_CODES``. If the
error has a ``text``, it is the message in any language, a key and its parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Self, TypeGuard, get_args

from agent.wording.language import ENGLISH
from agent.wording.message import Message
from models.errors import BundleError, ConfigError, FieldwatchError, StoreError
from models.names import NAME

VERSION: Final = 1
REQUEST_BYTES_MAX: Final = 16 * 1024  # of a line, without its line end

Code = Literal[
    "malformed",
    "too_large",
    "version",
    "unknown_command",
    "arguments",
    "not_allowed",
    "unknown_alarm",
    "stale",
    "impossible",
    "configuration",
    "bundle",
    "not_stored",
    "busy",
    "stopping",
]
_TRY_AGAIN: Final = 75  # as EX_TEMPFAIL of sysexits.h
EXIT_CODES: Final[Mapping[Code, int]] = {
    "malformed": 1,
    "too_large": 1,
    "version": 1,
    "unknown_command": 1,
    "arguments": 1,
    "not_allowed": 77,  # as EX_NOPERM
    "unknown_alarm": 1,
    "stale": _TRY_AGAIN,
    "impossible": 1,
    "configuration": ConfigError.exit_code,
    "bundle": BundleError.exit_code,
    "not_stored": StoreError.exit_code,
    "busy": _TRY_AGAIN,
    "stopping": _TRY_AGAIN,
}


class Refused(FieldwatchError):
    """A command was refused; ``code`` is the reason for programs, the text the one for people.

    ``message`` is the text for readers of any language; None: it has an English one only.
    """

    def __init__(self, code: Code, text: str, message: Message | None = None) -> None:
        super().__init__(text)
        self.code, self.message = code, message
        self.exit_code = EXIT_CODES[code]

    @classmethod
    def of(cls, code: Code, message: Message) -> Self:
        """Return the refusal with this message."""
        return cls(code, ENGLISH.text(message), message)


Role = Literal["reader", "operator", "maintainer"]  # each may do what those before it may
ROLES: Final[tuple[Role, ...]] = get_args(Role)
_TAKEN: Final = "agent"  # in the logbook it is the agent itself


class Person(NamedTuple):
    """A person who is logged in at the web page."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether the person may do what this role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def is_person_name(name: str) -> bool:
    """Whether a person may have this name: it goes into the logbook, the log and messages."""
    return NAME.fullmatch(name) is not None and name.lower() != _TAKEN


class Request(NamedTuple):
    """The request of a client."""

    command: str
    arguments: Mapping[str, Any]
    person: Person | None = None  # for whom the web page asks


def request_line(command: str, arguments: Mapping[str, Any], person: Person | None = None) -> bytes:
    """Return the line of a request, with its line end."""
    behalf = {} if person is None else {"for": person._asdict()}
    return _line({"v": VERSION, "command": command, "arguments": arguments} | behalf)


def parse_request(line: bytes) -> Request:
    """Return the request of a line.

    Raises:
        Refused: with the code ``malformed`` or ``version``.

    """
    try:
        document = json.loads(line)
        # json accepts more than JSON: NaN and infinity
        text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", "the request is not one line of JSON") from error
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise Refused(
            "malformed",
            f"the request has {half}, half of a pair of surrogates: send the whole pair",
        ) from error
    if not isinstance(document, dict):
        raise Refused("malformed", 'the request must be an object, such as {"command": "state"}')
    version = document.pop("v", VERSION)
    if version != VERSION:
        raise Refused("version", f"v must be {VERSION}: this agent speaks no other version")
    command, arguments = document.pop("command", None), document.pop("arguments", {})
    person = _person(document.pop("for")) if "for" in document else None
    if not isinstance(command, str):
        raise Refused("malformed", "command must be a text")
    if not isinstance(arguments, dict):
        raise Refused("malformed", "arguments must be an object")
    if document:
        raise Refused("malformed", "allowed keys are v, command, arguments and for")
    return Request(command, arguments, person)


def _person(given: object) -> Person:
    match given:
        case {"name": str(name), "role": str(role), **others} if not others:
            if is_person_name(name) and _is_role(role):
                return Person(name, role)
    raise Refused(
        "malformed",
        f"for must be an object with the name of a person and a role, one of {', '.join(ROLES)}",
    )


def _is_role(text: str) -> TypeGuard[Role]:
    return text in ROLES


def done_line(result: Mapping[str, Any]) -> bytes:
    """Return the answer to a command that is done."""
    return _line({"v": VERSION, "ok": True, "result": result})


def refused_line(error: Refused) -> bytes:
    """Return the answer to a command that was refused."""
    told: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.message is not None:
        told["text"] = error.message.document()
    return _line({"v": VERSION, "ok": False, "error": told})


def _message(document: object) -> Message | None:
    """Return the message of a refusal; an older agent sends none."""
    match document:
        case {"key": str(key), "parameters": dict(parameters)}:
            return Message(key, parameters)
    return None


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def parse_answer(line: bytes) -> dict[str, Any]:
    """Return the result of an answer.

    Raises:
        Refused: the command was refused.
        ValueError: the line is not an answer of this protocol.

    """
    document = json.loads(line)
    match document:
        case {"ok": True, "result": dict(result)}:
            return result
        case {"ok": False, "error": {"code": str(said), "message": str(text), **more}}:
            for code in EXIT_CODES:
                if code == said:
                    raise Refused(code, text, _message(more.get("text")))
    raise ValueError("neither a result nor an error that this version knows")
