"""Finds the function of a command, calls it, and answers after the commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agent.control.inbox import Answer, Command, stopping
from agent.control.protocol import Code, Refused
from agent.wording.message import Message

_LOG = logging.getLogger(__name__)


class Later:
    """The answer to a command that takes longer than one turn of the loop.

    ``answer`` is None until the command is done or refused; then the loop's thread sets it.
    """

    def __init__(self) -> None:
        self.answer: Answer | None = None


def _named(command: Command) -> str:
    return command.name


class Verb(NamedTuple):
    """The function of a command, and its properties."""

    # returns the result, as JSON data, or a promise of one; may raise Refused
    run: Callable[[Command], Mapping[str, Any] | Later]
    arguments: frozenset[str] = frozenset()  # the names it accepts
    changes: bool = True  # whether it changes data, so that a commit comes before the answer
    shared: bool = True  # whether one call answers all waiting askers; False if the asker matters
    behalf: bool = False  # whether the web page may ask it for a person
    # called with the result once the change is on the disk, before the answer
    stored: Callable[[Command, Mapping[str, Any]], None] | None = None
    named: Callable[[Command], str] = _named  # what is requested, for the log


class Dispatcher:
    """Carries out commands; the loop's thread uses it.

    The loop calls ``run`` in each turn, commits if ``run`` returns True, and then calls
    ``committed``.
    """

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs
        self._begun: list[tuple[Command, Later]] = []
        self._uncommitted: list[tuple[Command, Answer]] = []
        self._done: Counter[str] = Counter()
        self._refused: Counter[Code] = Counter()

    def run(self, commands: Sequence[Command]) -> bool:
        """Carry out commands; return whether a commit must come before some of the answers."""
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
        """Answer now, after the commit, or once the answer exists."""
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
        """Send the answers that waited for the commit; ``trouble``: the reason if it failed."""
        for command, answer in self._uncommitted:
            self._give(command, self._stored(command, answer, trouble))
        self._uncommitted = []

    def _stored(self, command: Command, answer: Answer, trouble: str | None) -> Answer:
        if isinstance(answer, Refused):
            return answer
        if trouble is not None:
            return Refused.of("not_stored", Message("refused.not_stored", {"why": trouble}))
        if (stored := self._verbs[command.name].stored) is not None:
            stored(command, answer)
        return answer

    def stop(self) -> None:
        """Refuse the commands that have begun but are not done."""
        for command, _ in self._begun:
            self._give(command, stopping())
        self._begun = []

    def done(self) -> dict[str, int]:
        """Return the number of commands done since the start, by name."""
        return dict(self._done)

    def refused(self) -> Counter[Code]:
        """Return the number of commands refused since the start, by code."""
        return self._refused.copy()

    def _answer(self, verb: Verb | None, command: Command) -> Answer | Later:
        try:
            if verb is None:
                known = ", ".join(sorted(self._verbs))
                raise Refused("unknown_command", f"unknown command; the agent knows {known}")
            if command.arguments.keys() - verb.arguments:
                known = ", ".join(sorted(verb.arguments)) or "none"
                raise Refused("arguments", f"{command.name} accepts these arguments: {known}")
            if command.asker.person is not None and not verb.behalf:
                raise Refused("not_allowed", f"{command.name} cannot be asked for other people")
            if verb.changes:
                _LOG.info("%s requested by %s", verb.named(command), command.asker)
            return verb.run(command)
        except Refused as refusal:
            return refusal

    def _give(self, command: Command, answer: Answer) -> None:
        if isinstance(answer, Refused):
            self._refused[answer.code] += 1
        else:
            self._done[command.name] += 1
        command.answer(answer)
