"""The bounded queue of commands to the loop, from any thread and from signal handlers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, Literal, NamedTuple

from agent.control.protocol import Code, Person, Refused
from agent.wording.message import Message

WAITING_MAX: Final = 20
COMMANDS_PER_S_MAX: Final = 20.0  # long-term rate; up to ``WAITING_MAX`` at once

Answer = Mapping[str, Any] | Refused  # the result, or the reason why the command is not done


class Asker(NamedTuple):
    """The sender of a command."""

    way: Literal["socket", "signal", "mqtt"]
    name: str  # of the user at the other end of the socket
    uid: int | None = None
    groups: frozenset[str] = frozenset()  # groups of the user
    person: Person | None = None  # for whom the web page asks; what the user may does not matter

    def __str__(self) -> str:
        if self.person is not None:
            return f"{self.person.name} (page)"
        return f"{self.name} ({self.way})"


class Command(NamedTuple):
    """A request to the loop."""

    name: str
    arguments: Mapping[str, Any]
    asker: Asker
    answer: Callable[[Answer], None]  # called once, by any thread; returns at once


def _nobody_listens(_: Answer) -> None:
    """Ignore the answer to a signal, because it is in the log."""


class Inbox:
    """The queue from askers to the loop. An asker never waits in it.

    Any thread may call ``put``, and a signal handler ``signal``. The loop calls ``take`` and
    ``close``.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._guard = Lock()  # not for signal handlers: they interrupt its holder
        self._commands: deque[Command] = deque()
        self._signals: deque[Command] = deque()
        self._allowed, self._counted_s = float(WAITING_MAX), now()
        self._closed = False
        self._refused: Counter[Code] = Counter()

    def put(self, command: Command) -> None:
        """Add a command; refuse it at once if too many wait or the agent is stopping."""
        with self._guard:
            refusal = self._refusal()
            if refusal is None:
                self._commands.append(command)
            else:
                self._refused[refusal.code] += 1
        if refusal is not None:
            command.answer(refusal)

    def signal(self, name: str, sent: str) -> None:
        """Add the command of the signal ``sent``, unless the same command already waits."""
        if all(waiting.name != name for waiting in tuple(self._signals)):
            self._signals.append(Command(name, {}, Asker("signal", sent), _nobody_listens))

    def take(self) -> list[Command]:
        """Return all waiting commands, in order, and remove them."""
        with self._guard:
            taken = [*self._commands]
            self._commands.clear()
        while self._signals:
            taken.append(self._signals.popleft())
        return taken

    def close(self) -> None:
        """Accept no more commands, and refuse those that wait."""
        with self._guard:
            self._closed = True
        for command in self.take():
            command.answer(stopping())

    def refused(self) -> Counter[Code]:
        """Return the number of commands refused since the start, by code."""
        return self._refused.copy()

    def _refusal(self) -> Refused | None:
        if self._closed:
            return stopping()
        now = self._now()
        earned = (now - self._counted_s) * COMMANDS_PER_S_MAX
        self._allowed, self._counted_s = min(self._allowed + earned, float(WAITING_MAX)), now
        if self._allowed < 1 or len(self._commands) >= WAITING_MAX:
            return Refused.of("busy", Message("refused.busy"))
        self._allowed -= 1
        return None


def stopping() -> Refused:
    """Return the answer to a command that is not done because the agent is stopping."""
    return Refused.of("stopping", Message("refused.stopping"))
