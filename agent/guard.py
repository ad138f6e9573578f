"""Knows what a thread is working on when a defect ends it; see ``agent.defects.quarantine``."""

from __future__ import annotations

import hashlib
from types import TracebackType

from models.errors import FieldwatchError


class Guard:
    """Knows what threads work on: ``with guard.over(body): ...``; one per process.

    It is set up before the threads start, and asked after they have ended.
    """

    def __init__(self) -> None:
        self.refused: frozenset[str] = frozenset()  # digests of what ended a thread too often
        self.suspects: frozenset[str] = frozenset()  # of what ended one, but not too often
        self.innocent: set[str] = set()  # suspects that have passed
        self.ended_with: str | None = None  # digest

    def refuses(self, *parts: bytes) -> bool:
        """Whether threads must skip this."""
        return bool(self.refused) and digest(parts) in self.refused

    def over(self, *parts: bytes, last: bool = True) -> _Over:
        """Record what the thread works on until the end of the ``with``.

        ``last``: no other thread works on it afterwards, so a suspect has then proved innocent.
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
    """Return the SHA-256 of a message, in one part or as its topic and its body."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
