"""What a thread has in hand when a defect ends it; see ``agent.defects.quarantine``."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Self

from models.errors import FieldwatchError


class Guard:
    """Knows what a thread works on: ``with guard.over(body): ...``; that thread uses it.

    Set up before the thread starts, and asked after it has ended.
    """

    def __init__(self) -> None:
        self.refused: frozenset[str] = frozenset()  # digests of what ended it too often
        self.ended_with: str | None = None  # digest
        self._body = b""

    def refuses(self, body: bytes) -> bool:
        """Whether this is not to be worked on any more."""
        return bool(self.refused) and digest(body) in self.refused

    def over(self, body: bytes) -> Self:
        """Take note of what the thread works on until the end of the ``with``."""
        self._body = body
        return self

    def __enter__(self) -> None:
        """Nothing has ended yet."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take note where it ends by what nobody handles."""
        if kind is not None and not issubclass(kind, FieldwatchError):
            self.ended_with = digest(self._body)


def digest(body: bytes) -> str:
    """Return the SHA-256 of a message."""
    return hashlib.sha256(body).hexdigest()
