"""What the page and its chart worker say to each other over two pipes.

    page ─ request: a line of JSON ─> worker ─ head: a line of JSON; body: so many bytes ─> page

The head is ``{"code": "ok", "bytes": 1234}``. The body is a document in JSON; if the code is not
``ok``, it is the text of an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from agent.wording.message import Message, message_of
from models.errors import FieldwatchError

REQUEST_BYTES_MAX: Final = 16 * 1024  # of a line, without its line end
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024  # of a body
SPARK_S: Final = 3600.0  # the time that a sparkline shows
POINTS_MAX: Final = 4000  # a screen has fewer columns

Code = Literal[
    "request",  # it asks for something that cannot be asked
    "unknown",  # there is no such stream or channel
    "impossible",  # the stored samples do not suffice
    "configuration",
    "bundle",
    "store",
    "too_large",
    "busy",
    "too_long",
    "ended",
]
OK: Final = "ok"
Answered = Code | Literal["ok"]


class ChartError(FieldwatchError):
    """A chart cannot be made; ``code`` is the reason for programs, the text the one for people.

    ``message`` is the text for readers of any language; None: it has an English one only.
    """

    def __init__(self, code: Code, text: str, message: Message | None = None) -> None:
        super().__init__(text)
        self.code, self.message = code, message

    def body(self) -> bytes:
        """Return the body of the answer that says so."""
        message = None if self.message is None else self.message.document()
        return json.dumps({"text": str(self), "message": message}).encode()

    @classmethod
    def read(cls, code: Code, body: bytes) -> Self:
        """Return the error of an answer."""
        document = json.loads(body)
        message = document["message"]
        return cls(code, document["text"], message and message_of(message))


def request_line(request: Mapping[str, Any]) -> bytes:
    """Return a request with its line end.

    Raises:
        ChartError: it is too long (``too_large``), or has a number that JSON lacks (``request``).

    """
    try:
        line = json.dumps(request, allow_nan=False).encode()
    except ValueError as error:
        raise ChartError("request", "a number is not finite") from error
    if len(line) > REQUEST_BYTES_MAX:
        raise ChartError(
            "too_large", f"the request has {len(line)} bytes; {REQUEST_BYTES_MAX} are allowed"
        )
    return line + b"\n"


def answer(code: Answered, body: bytes) -> bytes:
    """Return an answer: its head and its body."""
    return json.dumps({"code": code, "bytes": len(body)}).encode() + b"\n" + body


def head(line: bytes) -> tuple[Answered, int]:
    """Return the code of an answer, and the length of its body."""
    document = json.loads(line)
    return document["code"], document["bytes"]
