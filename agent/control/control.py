"""The path of an agent's commands from sender to answer, with the interface for the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from agent.control.dispatch import Dispatcher, Verb
from agent.control.door import Door
from agent.control.inbox import Command, Inbox


class Control:
    """Inbox, dispatcher and door; the loop's thread uses it, a signal handler only ``signal``."""

    def __init__(
        self,
        inbox: Inbox,
        door: Door | None,
        verbs: Mapping[str, Verb],
        wake: Callable[[], None],
    ) -> None:
        """``wake`` makes the loop call ``obey`` soon; any thread may call it."""
        self._inbox, self._door, self._wake = inbox, door, wake
        self._dispatcher = Dispatcher(verbs)

    def open(self) -> None:
        """Let clients connect."""
        if self._door is not None:
            self._door.open(self.ask)

    def ask(self, command: Command) -> None:
        """Have a command carried out soon; any thread may call it."""
        self._inbox.put(command)
        self._wake()

    def signal(self, name: str, sent: str) -> None:
        """Have the command of the signal ``sent`` carried out soon; safe in a signal handler."""
        self._inbox.signal(name, sent)
        self._wake()

    def obey(self, commit: Callable[[], str | None]) -> None:
        """Carry out waiting commands; their changes are on the disk before the answer.

        ``commit`` commits the changes, and returns the reason if it failed.
        """
        if self._dispatcher.run(self._inbox.take()):
            self._dispatcher.committed(commit())

    def stop(self) -> None:
        """Refuse waiting, unfinished and future commands."""
        self._inbox.close()
        self._dispatcher.stop()

    def close(self) -> None:
        """Send the answers that are ready, and let no more clients connect."""
        if self._door is not None:
            self._door.close()

    def document(self) -> dict[str, Any]:
        """Return the state of the commands for ``status``, with counts since the start."""
        door = self._door.document() if self._door else {"socket": None}
        refused = self._inbox.refused() + self._dispatcher.refused()
        refused += self._door.refused() if self._door else Counter()
        return door | {"commands": self._dispatcher.done(), "refused": dict(refused)}
