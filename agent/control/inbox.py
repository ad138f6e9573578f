"""Commands on their way to the loop, from any thread and from signal handlers; bounded."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, Literal, NamedTuple

from agent.control.protocol import Code, Refused

WAITING_MAX: Final = 20
COMMANDS_PER_S_MAX: Final = 20.0  # in the long run; ``WAITING_MAX`` at once

Answer = Mapping[str, Any] | Refused  # the result, or why the command is not done


class Asker(NamedTuple):
    """Who sent a command, and by which way."""

    way: Literal["socket", "signal", "mqtt"]
    name: str  # of the user at the other end of the socket
    uid: int | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.way})"


class Command(NamedTuple):
    """What somebody wants the loop to do."""

    name: str
    arguments: Mapping[str, Any]
    asker: Asker
    answer: Callable[[Answer], None]  # called once, by any thread; returns at once


def _nobody_listens(_: Answer) -> None:
    """Take the answer to a signal: the log has it."""


class Inbox:
    """From those who ask to the loop; whoever asks never waits in it.

    ``put`` may be called by any thread and ``signal`` by a signal handler; ``take`` and ``close``
    are the loop's.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._guard = Lock()  # not for signal handlers: they interrupt whoever has it
        self._commands: deque[Command] = deque()
        self._signals: deque[Command] = deque()
        self._allowed, self._counted_s = float(WAITING_MAX), now()
        self._closed = False
        self._refused: Counter[Code] = Counter()

    def put(self, command: Command) -> None:
        """Add a command; one that is too much, or too late, is answered so."""
        with self._guard:
            refusal = self._refusal()
            if refusal is None:
                self._commands.append(command)
            else:
                self._refused[refusal.code] += 1
        if refusal is not None:
            command.answer(refusal)

    def signal(self, name: str, sent: str) -> None:
        """Add a command that the signal ``sent`` stands for; one that waits is not added again."""
        if all(waiting.name != name for waiting in tuple(self._signals)):
            self._signals.append(Command(name, {}, Asker("signal", sent), _nobody_listens))

    def take(self) -> list[Command]:
        """Return all that wait, in order."""
        with self._guard:
            taken = [*self._commands]
            self._commands.clear()
        while self._signals:
            taken.append(self._signals.popleft())
        return taken

    def close(self) -> None:
        """Take no more commands; those that wait are answered so."""
        with self._guard:
            self._closed = True
        for command in self.take():
            command.answer(stopping())

    def refused(self) -> Counter[Code]:
        """Return how many were not let in since the start, by code."""
        return self._refused.copy()

    def _refusal(self) -> Refused | None:
        if self._closed:
            return stopping()
        now = self._now()
        earned = (now - self._counted_s) * COMMANDS_PER_S_MAX
        self._allowed, self._counted_s = min(self._allowed + earned, float(WAITING_MAX)), now
        if self._allowed < 1 or len(self._commands) >= WAITING_MAX:
            return Refused("busy", "too many commands at once; try again in a few seconds")
        self._allowed -= 1
        return None


def stopping() -> Refused:
    """Return the answer to what is not done because the agent ends."""
    return Refused("stopping", "the agent stops; nothing was done. Try again when it runs again")
