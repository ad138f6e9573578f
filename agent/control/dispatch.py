"""From a command's name to the function that carries it out, and from there to the answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agent.control.inbox import Answer, Command, stopping
from agent.control.protocol import Code, Refused

_LOG = logging.getLogger(__name__)


class Later:
    """The answer to a command that takes longer than a turn of the loop; the loop's thread sets it.

    ``answer`` is None until the command is done, or refused.
    """

    def __init__(self) -> None:
        self.answer: Answer | None = None


class Verb(NamedTuple):
    """What stands behind a command's name."""

    # what it returns can be JSON, or is such an answer later; may raise Refused
    run: Callable[[Command], Mapping[str, Any] | Later]
    arguments: frozenset[str] = frozenset()  # that it knows
    changes: bool = True  # something, so that a commit comes before the answer
    shared: bool = True  # what waits together is carried out once; not where it matters who asks


class Dispatcher:
    """Carries commands out; the loop's thread uses it.

    The loop calls ``run`` in each turn, commits if that says so, and then calls ``committed``.
    """

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs
        self._begun: list[tuple[Command, Later]] = []
        self._uncommitted: list[tuple[Command, Answer]] = []
        self._done: Counter[str] = Counter()
        self._refused: Counter[Code] = Counter()

    def run(self, commands: Sequence[Command]) -> bool:
        """Carry all of them out; return whether a commit has to come before some answers."""
        begun, self._begun = self._begun, []
        for command, later in begun:
            self._keep(command, later)
        shared: dict[str, Answer | Later] = {}
        for command in commands:
            verb = self._verbs.get(command.name)
            answer = None if command.arguments else shared.get(command.name)
            if answer is None:
                answer = self._answer(verb, command)
            if verb is not None and verb.shared and not command.arguments:
                shared[command.name] = answer
            self._keep(command, answer)
        return bool(self._uncommitted)

    def _keep(self, command: Command, answer: Answer | Later) -> None:
        """Give the answer, or keep it until it is there and committed."""
        if isinstance(answer, Later):
            if answer.answer is None:
                self._begun.append((command, answer))
                return
            answer = answer.answer
        verb = self._verbs.get(command.name)
        if verb is not None and verb.changes:
            self._uncommitted.append((command, answer))
        else:
            self._give(command, answer)

    def committed(self, trouble: str | None) -> None:
        """Answer what waited for the commit; ``trouble`` says why it failed, if it did."""
        for command, answer in self._uncommitted:
            if trouble is not None and not isinstance(answer, Refused):
                answer = Refused("not_stored", f"done, but not stored: {trouble}; trying again")
            self._give(command, answer)
        self._uncommitted = []

    def stop(self) -> None:
        """Answer what is begun and not done: it will not be done."""
        for command, _ in self._begun:
            self._give(command, stopping())
        self._begun = []

    def done(self) -> dict[str, int]:
        """Return how many were done since the start, by name."""
        return dict(self._done)

    def refused(self) -> Counter[Code]:
        """Return how many were not done since the start, by code."""
        return self._refused.copy()

    def _answer(self, verb: Verb | None, command: Command) -> Answer | Later:
        try:
            if verb is None:
                known = ", ".join(sorted(self._verbs))
                raise Refused("unknown_command", f"there is no such command; there are {known}")
            if command.arguments.keys() - verb.arguments:
                known = ", ".join(sorted(verb.arguments)) or "none"
                raise Refused("arguments", f"{command.name} takes these arguments: {known}")
            if verb.changes:
                _LOG.info("%s requested by %s", command.name, command.asker)
            return verb.run(command)
        except Refused as refusal:
            return refusal

    def _give(self, command: Command, answer: Answer) -> None:
        if isinstance(answer, Refused):
            self._refused[answer.code] += 1
        else:
            self._done[command.name] += 1
        command.answer(answer)
