"""From names to functions, and answers after the commit; without a socket and without a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agent.control.dispatch import Dispatcher, Later, Verb
from agent.control.inbox import Answer, Asker, Command
from agent.control.protocol import Refused


class Rig:
    """A dispatcher with a command of each kind, and those who ask."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.answers: list[Answer] = []
        self.later: list[Later] = []
        self.stored: list[Mapping[str, Any]] = []
        self.dispatcher = Dispatcher(
            {
                "change": Verb(self._run),
                "read": Verb(self._run, changes=False),
                "refuse": Verb(self._refuse),
                "begin": Verb(self._begin),
                "acknowledge": Verb(
                    self._run, frozenset({"alarm"}), shared=False, stored=self._store
                ),
            }
        )

    def _run(self, command: Command) -> Mapping[str, Any]:
        self.ran.append(f"{command.name} {command.asker.name}")
        return {"number": len(self.ran)}

    def _store(self, command: Command, result: Mapping[str, Any]) -> None:
        self.stored.append(result)

    def _refuse(self, command: Command) -> Mapping[str, Any]:
        raise Refused("configuration", "a.toml: wrong")

    def _begin(self, command: Command) -> Later:
        self._run(command)
        self.later.append(Later())
        return self.later[-1]

    def command(self, name: str, who: str = "me", **arguments: Any) -> Command:
        return Command(name, arguments, Asker("socket", who, 1), self.answers.append)

    def run(self, *names: str) -> bool:
        return self.dispatcher.run([self.command(name) for name in names])


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_changes_something_is_answered_after_the_commit(rig: Rig) -> None:
    assert rig.run("change")
    assert rig.answers == []
    rig.dispatcher.committed(None)
    assert rig.answers == [{"number": 1}]
    rig.dispatcher.committed(None)
    assert len(rig.answers) == 1
    assert rig.dispatcher.done() == {"change": 1}


def test_what_only_reads_is_answered_at_once(rig: Rig) -> None:
    assert not rig.run("read")
    assert rig.answers == [{"number": 1}]


def test_a_commit_that_fails_is_the_answer(rig: Rig) -> None:
    rig.run("change", "refuse")
    rig.dispatcher.committed("disk full")
    failed, refused = rig.answers
    assert isinstance(failed, Refused)
    assert (failed.code, str(failed)) == (
        "not_stored",
        "done, but not stored: disk full; trying again",
    )
    assert isinstance(refused, Refused)
    assert refused.code == "configuration"  # as before: it changed nothing
    assert rig.dispatcher.refused() == {"not_stored": 1, "configuration": 1}
    assert rig.dispatcher.done() == {}


def test_a_change_is_reported_once_it_is_on_the_disk_and_not_before(rig: Rig) -> None:
    rig.run("acknowledge")
    rig.dispatcher.committed("disk full")
    assert rig.stored == []
    rig.run("acknowledge")
    assert rig.stored == []
    rig.dispatcher.committed(None)
    assert rig.stored == [{"number": 2}]


def test_what_waits_together_is_done_once_and_answered_each(rig: Rig) -> None:
    rig.run("change", "read", "change", "change")
    rig.dispatcher.committed(None)
    assert rig.ran == ["change me", "read me"]
    assert rig.answers == [{"number": 2}, *[{"number": 1}] * 3]
    assert rig.dispatcher.done() == {"change": 3, "read": 1}


def test_where_it_matters_who_asks_each_is_done(rig: Rig) -> None:
    rig.dispatcher.run([rig.command("acknowledge", who) for who in ("ann", "bob")])
    assert rig.ran == ["acknowledge ann", "acknowledge bob"]


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("relaod", {}, "unknown_command", "the agent knows acknowledge, begin, change, read"),
        ("", {}, "unknown_command", "unknown command"),
        ("read", {"all": True}, "arguments", "read accepts these arguments: none"),
        ("acknowledge", {"alarms": 1}, "arguments", "arguments: alarm"),
    ],
)
def test_what_it_does_not_know_is_refused_and_counted(
    rig: Rig, name: str, arguments: dict[str, Any], code: str, said: str
) -> None:
    rig.dispatcher.run([rig.command(name, **arguments)])
    rig.dispatcher.committed(None)
    (refused,) = rig.answers
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert said in str(refused)
    assert rig.dispatcher.refused() == {code: 1}
    assert rig.ran == []


def test_arguments_that_are_wrong_do_not_get_the_answer_to_right_ones(rig: Rig) -> None:
    rig.dispatcher.run([rig.command("read"), rig.command("read", x=1)])
    assert [isinstance(answer, Refused) for answer in rig.answers] == [False, True]


def test_what_takes_longer_is_answered_once_it_is_done_and_committed(rig: Rig) -> None:
    assert not rig.run("begin", "begin")
    assert rig.ran == ["begin me"]  # those that come together are one
    assert not rig.run()
    rig.later[0].answer = {"number": 7}
    assert rig.answers == []
    assert rig.run()
    assert rig.answers == []
    rig.dispatcher.committed(None)
    assert rig.answers == [{"number": 7}] * 2
    assert not rig.run()
    assert rig.dispatcher.done() == {"begin": 2}


def test_what_is_refused_later_is_answered_so(rig: Rig) -> None:
    rig.run("begin")
    rig.later[0].answer = Refused("configuration", "a.toml: wrong")
    assert rig.run()
    rig.dispatcher.committed("the disk is full")
    assert [str(answer) for answer in rig.answers] == ["a.toml: wrong"]
    assert rig.dispatcher.refused() == {"configuration": 1}


def test_at_a_stop_what_is_begun_is_answered_so(rig: Rig) -> None:
    rig.run("begin")
    rig.dispatcher.stop()
    assert rig.dispatcher.refused() == {"stopping": 1}
    assert not rig.run()
    assert len(rig.answers) == 1
