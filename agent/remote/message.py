"""The form of a command and of its answer, in JSON.

A command is signed as a whole, together with its topic (``models.signed``):

    {"v":1,"id":"9f…","site":"plant","gateway":"gw-1","issuer":"anna","expires":1790000000.0,
     "command":"alarm.acknowledge","arguments":{"stream":"pump-1","number":3,"revision":7},
     "signature":"P2zGkS…"}

An answer repeats the id. It comes in one or more parts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from models.errors import FieldwatchError, Unproven

VERSION: Final = 1
CONTEXT: Final = "fieldwatch.command.v1"
COMMAND_BYTES_MAX: Final = 16_384  # of the body
SAMPLES: Final = "samples"

_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ID_SOUGHT: Final = re.compile(rb'"id":\s?"([0-9a-f]{32})"', re.ASCII)
_TEXT_CHARS_MAX: Final = 129  # SITE/NAME of a key

Cause = Literal[
    "malformed",
    "too_large",
    "retained",
    "unsigned",
    Unproven,
    "wrong_gateway",
    "wrong_issuer",
    "unknown_command",
    "expired",
    "too_far",
    "clock",
    "replayed",
    "crowded",
    "failed",
]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)


class Rejected(FieldwatchError):
    """A command is not accepted; ``cause`` names the counter."""

    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class Order(NamedTuple):
    """A command, as somebody signed it or claims to have signed it."""

    id: str  # 32 hexadecimal digits
    site: str
    gateway: str
    issuer: str
    expires: float  # Unix seconds
    command: str
    arguments: Mapping[str, Any]

    def body(self) -> bytes:
        """Return the message without a signature."""
        document = {"v": VERSION} | self._asdict()
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def parse(message: bytes) -> Order:
    """Return the command of a message without its signature.

    Raises:
        Rejected: with the cause ``malformed``.

    """
    try:
        document = json.loads(message)
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # also half of a pair of surrogates
        raise Rejected("malformed", "the command is not JSON") from error
    if not isinstance(document, dict) or document.keys() != {"v", *Order._fields}:
        raise Rejected("malformed", f"a command must have exactly v, {', '.join(Order._fields)}")
    if type(document["v"]) is not int or document.pop("v") != VERSION:
        raise Rejected("malformed", f"v must be {VERSION}: this agent knows no other version")
    order = Order(**document)
    if not isinstance(order.id, str) or _ID.fullmatch(order.id) is None:
        raise Rejected("malformed", "id must have 32 lower-case hexadecimal digits")
    if not all(map(_is_text, (order.site, order.gateway, order.issuer, order.command))):
        raise Rejected("malformed", "site, gateway, issuer and command must be short texts")
    if not _is_time(order.expires):
        raise Rejected("malformed", "expires must be a time in Unix seconds")
    if not isinstance(order.arguments, dict):
        raise Rejected("malformed", "arguments must be an object")
    return order._replace(expires=float(order.expires))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _TEXT_CHARS_MAX and value.isprintable()


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < 1e11 and math.isfinite(value)


def id_in(body: bytes) -> str | None:
    """Return the id of a command that cannot be read as a whole; None if it is not there."""
    found = _ID_SOUGHT.search(body[:COMMAND_BYTES_MAX])
    return None if found is None else found[1].decode()


def answer(order_id: str, outcome: Mapping[str, Any], part: int = 1, parts: int = 1) -> bytes:
    """Return a part of an answer; ``outcome`` comes from ``done`` or ``refused``."""
    document = {"v": VERSION, "id": order_id, "part": part, "parts": parts} | dict(outcome)
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def done(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome of a command that is done."""
    return {"ok": True, "result": dict(result)}


def refused(code: str, text: str) -> dict[str, Any]:
    """Return the outcome of a command that is refused."""
    return {"ok": False, "error": {"code": code, "message": text}}
