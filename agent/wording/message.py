"""A message without a language: the key of a text, and the values in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Value = str | float | int | Mapping[str, Any] | None


class Message(NamedTuple):
    """What a text says. The end of a parameter's name says how its value is written:

    - ``…_s``: a duration, seconds
    - ``…_at``: a time, as in messages
    - ``…_share``: a probability or a share, 0 to 1
    - any other number: with four significant digits
    - any other text: as it is
    - the document of a message: as its text
    """

    key: str
    parameters: Mapping[str, Value] = {}

    def document(self) -> dict[str, Any]:
        """Return the message as JSON data."""
        return {"key": self.key, "parameters": dict(self.parameters)}


def message_of(document: Mapping[str, Any]) -> Message:
    """Return the message of ``Message.document``."""
    return Message(str(document["key"]), dict(document["parameters"]))
