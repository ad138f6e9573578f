"""Commands on their way to the loop: bounded, answered once, and safe from signal handlers."""

from __future__ import annotations

from typing import Any

from agent.control.inbox import COMMANDS_PER_S_MAX, WAITING_MAX, Answer, Asker, Command, Inbox
from agent.control.protocol import Refused

ME = Asker("socket", "me", 1000)


class Asking:
    """Somebody who asks, and keeps the answers."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def command(self, name: str, **arguments: Any) -> Command:
        return Command(name, arguments, ME, self.answers.append)

    def codes(self) -> list[str | None]:
        return [one.code if isinstance(one, Refused) else None for one in self.answers]


def test_commands_come_out_in_order_and_once() -> None:
    inbox, asking = Inbox(), Asking()
    for name in ("b", "a"):
        inbox.put(asking.command(name))
    assert [command.name for command in inbox.take()] == ["b", "a"]
    assert inbox.take() == []
    assert asking.answers == []


def test_more_than_can_wait_are_refused_and_counted() -> None:
    now = 0.0
    inbox, asking = Inbox(lambda: now), Asking()
    for _ in range(WAITING_MAX + 3):
        inbox.put(asking.command("a"))
        now += 10.0  # so that it is not the rate
    assert asking.codes() == ["busy"] * 3
    assert inbox.refused() == {"busy": 3}
    assert len(inbox.take()) == WAITING_MAX
    inbox.put(asking.command("a"))
    assert len(asking.answers) == 3  # there is room again


def test_more_than_so_many_a_second_are_refused() -> None:
    now = 5.0
    inbox, asking = Inbox(lambda: now), Asking()
    for _ in range(WAITING_MAX):
        inbox.put(asking.command("a"))
        inbox.take()
    inbox.put(asking.command("a"))
    assert asking.codes() == ["busy"]
    now += 1.5 / COMMANDS_PER_S_MAX
    for _ in range(2):
        inbox.put(asking.command("a"))
    assert asking.codes() == ["busy", "busy"]
    assert len(inbox.take()) == 1


def test_a_signal_is_a_command_and_one_that_waits_stands_for_all() -> None:
    inbox = Inbox()
    for _ in range(1000):
        inbox.signal("reload", "SIGHUP")
    (command,) = inbox.take()
    assert (command.name, str(command.asker)) == ("reload", "SIGHUP (signal)")
    command.answer({})
    inbox.signal("reload", "SIGHUP")
    assert len(inbox.take()) == 1


def test_a_signal_comes_through_where_clients_flood() -> None:
    inbox, asking = Inbox(lambda: 0.0), Asking()
    for _ in range(100):
        inbox.put(asking.command("state"))
    inbox.signal("reload", "SIGHUP")
    assert [command.name for command in inbox.take()][-1] == "reload"


def test_at_a_stop_all_that_wait_are_answered_and_all_that_come() -> None:
    inbox, asking = Inbox(), Asking()
    inbox.put(asking.command("a"))
    inbox.close()
    inbox.put(asking.command("b"))
    assert asking.codes() == ["stopping", "stopping"]
    assert inbox.take() == []
    assert inbox.refused() == {"stopping": 1}
