"""Records which message a thread handles when a defect ends it; see ``agent.defects``."""

from __future__ import annotations

import hashlib
from types import TracebackType

from models.errors import FieldwatchError


class Guard:
    """Records the messages that threads handle: ``with guard.over(body): ...``; one per process.

    It is set up before the threads start, and evaluated after they have ended.
    """

    def __init__(self) -> None:
        self.refused: frozenset[str] = frozenset()  # digests that ended a thread too often
        self.suspects: frozenset[str] = frozenset()  # digests that ended one, but not too often
        self.innocent: set[str] = set()  # suspects that were handled without a crash
        self.ended_with: str | None = None  # digest

    def refuses(self, *parts: bytes) -> bool:
        """Whether threads must skip this message."""
        return bool(self.refused) and digest(parts) in self.refused

    def over(self, *parts: bytes, last: bool = True) -> _Over:
        """Record the message that the thread handles until the end of the ``with``.

        ``last``: no other thread handles it afterwards, so a suspect is cleared then.
        """
        return _Over(self, parts, last)


class _Over:
    """One piece of work of one thread."""

    __slots__ = ("_guard", "_last", "_parts")

    def __init__(self, guard: Guard, parts: tuple[bytes, ...], last: bool) -> None:
        self._guard, self._parts, self._last = guard, parts, last

    def __enter__(self) -> None:
        """Begin the work."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record an unhandled exception, or that a suspect passed."""
        guard = self._guard
        if kind is not None and not issubclass(kind, FieldwatchError):
            guard.ended_with = guard.ended_with or digest(self._parts)
        elif self._last and guard.suspects and (passed := digest(self._parts)) in guard.suspects:
            guard.innocent.add(passed)


def digest(parts: tuple[bytes, ...]) -> str:
    """Return the SHA-256 of a message, given as one part or as topic and body."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
