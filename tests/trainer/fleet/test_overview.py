"""What a person sees while a fleet is trained."""

from __future__ import annotations

import io

from trainer.fleet.outcome import Outcome
from trainer.fleet.overview import Overview
from trainer.workers import Finished, Idle, Started


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_elsewhere_each_end_is_a_line() -> None:
    clock, said = Clock(), list[str]()
    overview = Overview(3, None, said.append, clock)
    for name in ("a", "b"):
        overview.take(Started(name))
    clock.seconds = 10.0
    overview.take(Idle())
    overview.take(Finished("a", None, Outcome("trained")))
    overview.take(Finished("b", "no such file"))
    assert said == [
        "1/3 a: trained, 10.0 s; 1 running, 0 bad, about 5 s left",
        "2/3 b: failed: no such file, 10.0 s; 0 running, 1 bad, about 10 s left",
    ]


def test_a_bundle_that_fails_its_gates_is_bad() -> None:
    said: list[str] = []
    overview = Overview(1, None, said.append, Clock())
    overview.take(Started("a"))
    overview.take(Finished("a", None, Outcome("rejected", "too many false events")))
    assert said == ["1/1 a: rejected: too many false events, 0.0 s; 0 running, 1 bad"]


def test_nothing_is_foretold_before_the_first_end() -> None:
    overview = Overview(2, None, lambda line: None, Clock())
    overview.take(Started("a"))
    assert overview.eta_s is None


def test_a_terminal_has_one_block_and_what_failed_above_it() -> None:
    clock, terminal = Clock(), io.StringIO()
    overview = Overview(2, terminal, lambda line: None, clock)
    overview.take(Started("a\x1b[2J"))
    overview.take(Finished("a\x1b[2J", "broken"))
    overview.take(Started("b"))
    assert "1/2 done, 1 running, 1 bad, about 0 s left" in terminal.getvalue()
    assert "1/2 a\\x1b[2J: failed: broken, 0.0 s\n" in terminal.getvalue()
    overview.close()
    assert terminal.getvalue().endswith("\x1b[2F\x1b[J")
    assert "\x1b[2J" not in terminal.getvalue()
