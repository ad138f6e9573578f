"""Errors that people read in their language: each carries its message, and its text is English."""

from __future__ import annotations

from agent.wording.language import ENGLISH
from agent.wording.message import Message


class Worded(Exception):
    """A part of the class of an error that any language can tell."""

    def __init__(self, message: Message) -> None:
        super().__init__(ENGLISH.text(message))
        self.message = message


def message_in(error: BaseException) -> Message | None:
    """Return the message that an error carries; None: it has an English text only."""
    found = getattr(error, "message", None)
    return found if isinstance(found, Message) else None
