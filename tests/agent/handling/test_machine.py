"""Every order of events over a point: what ISA-18.2 draws, and what no order may ever do.

The machine of ``hypothesis`` raises, worsens and clears alarms, handles them as people do, lets
the machine stop and its speed be unknown, lets other streams flood, lets time pass, and restarts
the agent from what it wrote. Beside it runs a second opinion: a few facts kept in the plainest way,
from which the state, and what calls somebody, must follow.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.alarms.handled import Handled
from agent.alarms.points import Points, Request, Stale
from agent.handling.flood import FloodLimits
from agent.handling.machine import Impossible, Rules
from agent.handling.priority import PRIORITIES, SEVERITIES, TABLE, priority
from agent.handling.states import Consequence, Severity, Standing, State
from agent.handling.suppression import Suppression, When
from agent.handling.transition import Transition, What

HOUR_S = 3600.0
STREAM, POINT = "pump", "limit flow high warning"
RULES = Rules(
    shelve_s_max=8 * HOUR_S,
    shelved_s_max=12 * HOUR_S,
    remind_s=2 * HOUR_S,
    chatter_raises=3,
    chatter_s=HOUR_S,
)
FLOOD = FloodLimits(singly=4, over=2, within_s=HOUR_S)
STOPPED = Suppression(STREAM, When("motor", "speed", below=1.0, unknown_s=1800.0), "stopped")
FAR_S, NEAR_S = 48 * HOUR_S, HOUR_S  # to the limit, at the earliest


def alarm(number: int, state: str = "opened", far: bool = False, **more: Any) -> dict[str, Any]:
    limit = {"side": "high", "level": "warning", "earliest_s": FAR_S if far else NEAR_S}
    base = {"stream": STREAM, "number": number, "kind": "limit", "state": state, "limit": limit}
    return base | {"severity": "medium", "channels": [{"channel": "flow"}]} | more


class Handling(RuleBasedStateMachine):
    """All that can happen to one point."""

    latching = False

    def __init__(self) -> None:
        super().__init__()
        self.at = 1_700_000_000.0
        self.handled = {STREAM: Handled(RULES._replace(latching=self.latching))}
        self.points = self.new()
        self.book: list[Transition] = []
        self.others: list[Transition] = []  # of other streams
        self.saved: dict[tuple[str, str], str] = {}  # as the store has it
        self.memory: dict[str, bytes] = {}  # the same
        # the second opinion
        self.last = 0  # number
        self.open: dict[int, tuple[Severity, bool]] = {}  # and whether its limit is far away
        self.unknown = self.latched = self.out = self.stopped = False
        self.advisory = False
        self.acked = True
        self.shelf: tuple[float, bool] | None = None  # its end, and whether it ends with the alarm
        self.speed_at: float | None = None  # when the speed was last known
        self.seen_at = 0.0  # of the acknowledgement, or of the last reminder
        self.raises: list[float] = []
        self.chatters = False
        self.elsewhere = 0  # number of alarms of other streams

    def new(self) -> Points:
        return Points(self.handled, FLOOD, [STOPPED])

    # ---- what happens

    @rule(severity=st.sampled_from(SEVERITIES), far=st.booleans())
    def raise_one(self, severity: Severity, far: bool) -> None:
        if len(self.open) == 3:
            return
        self.raises.append(self.at)
        recent = self.raises[-RULES.chatter_raises :]
        self.chatters |= (
            len(recent) == RULES.chatter_raises and self.at - recent[0] < RULES.chatter_s
        )
        self.last += 1
        self.advisory = far and (self.advisory or not self.open)
        self.open[self.last] = (severity, far)
        self.unknown = False
        self.acked = self.acked and (self.advisory or self.suppressed())
        self.points.take(alarm(self.last, severity=severity, far=far), self.at)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), severity=st.sampled_from(SEVERITIES), far=st.booleans())
    def change(self, data: st.DataObject, severity: Severity, far: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        gravest = self.standing.severity
        assert gravest is not None
        self.open[number] = (severity, far)
        due = self.advisory and not far
        worse = SEVERITIES.index(severity) > SEVERITIES.index(gravest)
        self.advisory = self.advisory and not due
        self.acked = self.acked and (self.suppressed() or self.advisory or not (due or worse))
        self.points.take(alarm(number, severity=severity, far=far), self.at)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), ended=st.sampled_from(["normal", "unwatched", "limit_passed"]))
    def close(self, data: st.DataObject, ended: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        _, far = self.open.pop(number)
        self.points.take(alarm(number, "closed", far=far, ended=ended), self.at)
        if self.open:
            return
        self.unknown = ended == "unwatched"
        self.acked |= ended == "limit_passed"
        self.latched |= self.latching and ended == "normal" and not self.advisory
        self.advisory = False
        if ended == "normal" and self.shelf is not None and self.shelf[1]:
            self.shelf = None

    @rule(number=st.integers(1, 3))
    def come_late(self, number: int) -> None:
        """An alarm that is over already changes nothing."""
        if number not in self.open and number <= self.last:
            before = self.points.drain()
            self.keep(*before)
            self.points.take(alarm(number, "closed", ended="normal"), self.at)
            assert self.points.drain() == ([], {})

    @rule(hours=st.one_of(st.floats(0, 10), st.floats(0, 0.6)))
    def wait(self, hours: float) -> None:
        suppressed = self.standing.suppressed
        self.at += hours * HOUR_S
        self.points.tick(self.at)
        if self.stopped and self.speed_at is not None and self.at - self.speed_at > 1800.0:
            self.stopped = False  # nobody knows any more
            if suppressed:
                self.end_of_suppression()
        if self.shelf is not None and self.at >= self.shelf[0]:
            self.end_of_suppression()
            self.shelf = None
        if self.raises and self.at >= self.raises[-1] + RULES.chatter_s:
            self.chatters = False
        self.expect_reminder()

    def expect_reminder(self) -> None:
        before = [one.at for one in self.book if one.what == "reminded"]
        self.keep(*self.points.drain())
        made = [one for one in self.book if one.what == "reminded"][len(before) :]
        due = self.state() == "ACKED" and self.at >= self.seen_at + RULES.remind_s
        assert len(made) == due
        if due:
            self.seen_at = self.at

    @rule(speed=st.sampled_from([0.0, 100.0, float("nan")]))
    def turn(self, speed: float) -> None:
        """The speed of the motor is measured, or it is not known."""
        suppressed = self.standing.suppressed  # what is normal is not
        self.points.see("motor", "speed", [self.at], [speed], self.at)
        self.points.tick(self.at)
        if speed != speed:
            return
        self.speed_at = self.at
        if self.stopped and speed and suppressed:
            self.end_of_suppression()
        self.stopped = speed == 0.0

    @rule(count=st.integers(1, 6))
    def flood(self, count: int) -> None:
        """Other streams have alarms."""
        for _ in range(count):
            self.elsewhere += 1
            stream = f"other-{self.elsewhere % 2}"
            self.points.take(
                alarm(1, channels=[{"channel": f"c{self.elsewhere}"}]) | {"stream": stream}, self.at
            )

    @rule()
    def restart(self) -> None:
        """The agent is killed, and starts from what it committed."""
        self.keep(*self.points.drain())
        self.points = self.new()
        known = {key: Standing.of(json.loads(text)) for key, text in self.saved.items()}
        self.points.restore(known, self.at, self.memory)
        others = [
            alarm(1, channels=[{"channel": f"c{n}"}]) | {"stream": f"other-{n % 2}"}
            for n in range(1, self.elsewhere + 1)
        ]
        ours = [alarm(n, severity=s, far=far) for n, (s, far) in self.open.items()]
        self.points.compare([*ours, *others][:: 1 if self.last % 2 else -1], self.at)
        if self.stopped:
            self.speed_at = self.at  # it counts anew

    @rule()
    def reload(self) -> None:
        """A reload undoes nothing."""
        before = self.standing
        self.points.configure(self.handled, FLOOD, [STOPPED])
        assert self.standing == before

    # ---- what people do

    @rule(what=st.sampled_from(["acknowledged", "unacknowledged", "reset", "unshelved"]))
    def handle(self, what: What) -> None:
        state = self.state()
        allowed = {
            "acknowledged": state in ("UNACK", "RTNUN", "LATUN"),
            "unacknowledged": state in ("ACKED", "LATAK", "NORM")
            and self.last > 0
            and not self.advisory,
            "reset": state == "LATAK",
            "unshelved": state == "SHLVD",
        }[what]
        if not self.ask(what, allowed):
            return
        if what == "unshelved":
            self.end_of_suppression()
            self.shelf = None
        elif what == "reset":
            self.latched = False
        else:
            self.acked = what == "acknowledged"
            self.seen_at = self.at if self.acked else self.seen_at

    @rule(hours=st.floats(0.5, 9), until_clear=st.booleans())
    def shelve(self, hours: float, until_clear: bool) -> None:
        standing, seconds = self.standing, hours * HOUR_S
        allowed = (
            self.state() not in ("SHLVD", "OOSRV")
            and seconds <= RULES.shelve_s_max
            and seconds <= RULES.shelved_s_max - standing.shelved_s
            and (bool(self.open) or not until_clear)
        )
        if self.ask("shelved", allowed, seconds=seconds, until_clear=until_clear):
            self.shelf = (self.at + seconds, until_clear)

    @rule(what=st.sampled_from(["out_of_service", "in_service"]))
    def serve(self, what: What) -> None:
        if self.ask(what, self.out == (what == "in_service")):
            self.out = what == "out_of_service"
            self.shelf = None
            if not self.out:
                self.end_of_suppression()

    @rule()
    def note(self) -> None:
        self.ask("noted", True, why="looked at it")

    @precondition(lambda self: self.last)
    @rule(back=st.integers(1, 5))
    def ask_of_what_is_stale(self, back: int) -> None:
        before = self.standing
        with pytest.raises(Stale):
            self.points.ask(
                Request("acknowledged", alarm(self.last), "b", "terminal", before.revision - back),
                self.at,
            )
        assert self.standing == before

    def ask(self, what: What, allowed: bool, **more: Any) -> bool:
        """Ask as a person who saw the newest state; return whether it was done."""
        if not self.last:
            return False
        before = self.standing
        given: dict[str, Any] = {"revision": before.revision, "why": "because"} | more
        request = Request(what, alarm(self.last), "maria", "terminal", **given)
        if not allowed:
            with pytest.raises(Impossible):
                self.points.ask(request, self.at)
            assert self.standing == before
            return False
        made = self.points.ask(request, self.at)
        assert (made.by, made.door, made.before) == ("maria", "terminal", before.state)
        return True

    def end_of_suppression(self) -> None:
        if (self.open or self.unknown) and not self.advisory:
            self.acked = False

    def suppressed(self) -> bool:
        """Return whether the point is suppressed by design."""
        return self.standing.suppressed or self.stopped

    # ---- what must hold

    @property
    def standing(self) -> Standing:
        self.keep(*self.points.drain())
        text = self.saved.get((STREAM, POINT))
        return Standing() if text is None else Standing.of(json.loads(text))

    def keep(self, made: list[Transition], changed: dict[tuple[str, str], Standing]) -> None:
        """Do what a commit does."""
        self.book += [one for one in made if one.stream == STREAM]
        self.others += [one for one in made if one.stream != STREAM]
        self.memory |= self.points.memory()
        self.saved |= {key: json.dumps(one.to_json()) for key, one in changed.items()}

    def state(self) -> State:
        if self.out:
            return "OOSRV"
        if self.shelf is not None:
            return "SHLVD"
        if self.stopped and self.was_suppressed():
            return "DSUPR"
        if self.open and not self.advisory:
            return "ACKED" if self.acked else "UNACK"
        if self.unknown and not self.acked:
            return "UNACK"
        if self.latched:
            return "LATAK" if self.acked else "LATUN"
        return "NORM" if self.acked else "RTNUN"

    def was_suppressed(self) -> bool:
        """Return whether there was anything to suppress since the motor stopped."""
        for one in reversed(self.book):
            if one.what in ("suppressed", "unsuppressed"):
                return one.what == "suppressed"
            if one.what == "raised" and one.why is not None:
                return True
        return False

    @invariant()
    def the_second_opinion_agrees(self) -> None:
        assert self.standing.state == self.state()

    @invariant()
    def the_logbook_explains_the_state(self) -> None:
        standing = self.standing
        assert [one.revision for one in self.book] == list(range(1, standing.revision + 1))
        state: State = "NORM"
        for one in self.book:
            assert one.before == state
            state = one.after
        assert state == standing.state

    @invariant()
    def nothing_is_suppressed_for_too_long(self) -> None:
        shelving = self.standing.shelving
        if shelving is not None:
            assert self.at < shelving.until <= self.at + RULES.shelve_s_max
            assert shelving.until - shelving.since + self.standing.shelved_s <= (
                RULES.shelved_s_max + 1e-3
            )

    @invariant()
    def only_a_person_acknowledges(self) -> None:
        for one in self.book:
            settled = one.after in ("ACKED", "LATAK", "NORM")
            if settled and one.before in ("UNACK", "RTNUN", "LATUN"):
                assert one.what in ("acknowledged", "superseded")

    @invariant()
    def who_is_called_has_something_to_do(self) -> None:
        for one in self.book:
            if one.announces:
                assert (one.after, one.advisory) == ("UNACK", False)
                assert one.what not in ("reminded", "noted", "labelled", "acknowledged")

    @invariant()
    def what_calls_for_the_first_time_is_kept_back_only_in_a_crowd(self) -> None:
        calling = ("raised", "unsuppressed", "unshelved", "in_service", "due")
        for one in self.book:
            if one.after == "UNACK" and one.what in calling and not one.announces:
                assert one.grouped or one.chattering or one.before == "UNACK"

    @invariant()
    def it_chatters_as_long_as_it_comes_quickly(self) -> None:
        assert bool(self.standing.chattered) == self.chatters

    @invariant()
    def no_group_outlives_its_flood(self) -> None:
        self.keep(*self.points.drain())
        grouped = [text for text in self.saved.values() if '"grouped"' in text]
        state = json.loads(self.memory.get("flood", b'{"since": null}'))
        assert not grouped or state["since"] is not None


class Latching(Handling):
    """The same, where alarms are latched."""

    latching = True


TestEveryOrder = Handling.TestCase
TestEveryOrderLatched = Latching.TestCase
for case in (TestEveryOrder, TestEveryOrderLatched):
    case.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# ---- one by one: the transitions that the standard draws; docs/alarms.md has the same table


def points(latching: bool = False) -> Points:
    return Points({STREAM: Handled(RULES._replace(latching=latching))})


STEPS: dict[str, Any] = {
    "raise": lambda p: p.take(alarm(1), 0.0),
    "raise again": lambda p: p.take(alarm(2), 0.0),
    "clear": lambda p: p.take(alarm(1, "closed", ended="normal"), 1.0),
    "lose": lambda p: p.take(alarm(1, "closed", ended="unwatched"), 1.0),
    "worsen": lambda p: p.take(alarm(1, severity="high"), 0.0),
    "time": lambda p: p.tick(9 * HOUR_S),
    "ack": lambda p: ask(p, "acknowledged"),
    "unack": lambda p: ask(p, "unacknowledged"),
    "reset": lambda p: ask(p, "reset"),
    "shelve": lambda p: ask(p, "shelved", seconds=HOUR_S),
    "shelve until clear": lambda p: ask(p, "shelved", seconds=HOUR_S, until_clear=True),
    "unshelve": lambda p: ask(p, "unshelved"),
    "out": lambda p: ask(p, "out_of_service"),
    "in": lambda p: ask(p, "in_service"),
}


def ask(p: Points, what: What, **more: Any) -> None:
    p.ask(Request(what, alarm(1), "maria", "terminal", **more), 1.0)


@pytest.mark.parametrize(
    ("steps", "states", "latching"),
    [
        ("raise, ack, clear", "UNACK ACKED NORM", False),
        ("raise, clear, ack", "UNACK RTNUN NORM", False),
        ("raise, clear, raise again", "UNACK RTNUN UNACK", False),
        ("raise, ack, unack", "UNACK ACKED UNACK", False),
        ("raise, ack, clear, unack", "UNACK ACKED NORM RTNUN", False),
        ("raise, ack, worsen", "UNACK ACKED UNACK", False),
        ("raise, lose, ack", "UNACK UNACK NORM", False),
        ("raise, ack, lose", "UNACK ACKED NORM", False),
        ("raise, clear, ack, reset", "UNACK LATUN LATAK NORM", True),
        ("raise, ack, clear, reset", "UNACK ACKED LATAK NORM", True),
        ("raise, clear, raise again", "UNACK LATUN UNACK", True),
        ("raise, shelve, unshelve", "UNACK SHLVD UNACK", False),
        ("raise, ack, shelve, time", "UNACK ACKED SHLVD UNACK", False),
        ("raise, shelve, clear, time", "UNACK SHLVD SHLVD RTNUN", False),
        ("raise, shelve until clear, clear", "UNACK SHLVD RTNUN", False),
        ("raise, ack, shelve until clear, clear", "UNACK ACKED SHLVD NORM", False),
        ("raise, shelve, clear, time", "UNACK SHLVD SHLVD LATUN", True),
        ("raise, ack, out, in", "UNACK ACKED OOSRV UNACK", False),
        ("raise, ack, out, clear, in", "UNACK ACKED OOSRV OOSRV NORM", False),
        ("raise, shelve, out, in", "UNACK SHLVD OOSRV UNACK", False),
    ],
)
def test_the_states_follow_each_other_as_the_standard_draws_them(
    steps: str, states: str, latching: bool
) -> None:
    p = points(latching)
    for step in steps.split(", "):
        STEPS[step](p)
    made, _ = p.drain()
    assert [one.after for one in made] == states.split()


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        ("raise, ack, clear", "raised"),
        ("raise, raise again", "raised raised"),
        ("raise, ack, worsen", "raised worsened"),
        ("raise, ack, unack", "raised unacknowledged"),
        ("raise, ack, clear, unack", "raised"),
        ("raise, shelve, worsen, unshelve", "raised unshelved"),
        ("raise, shelve, clear, time", "raised"),
        ("raise, ack, out, raise again, in", "raised in_service"),
        ("raise, lose", "raised"),
    ],
)
def test_a_transition_says_whether_it_calls_somebody(steps: str, calls: str) -> None:
    p = points()
    for step in steps.split(", "):
        STEPS[step](p)
    made, _ = p.drain()
    assert [one.what for one in made if one.announces] == calls.split()


def test_a_stream_of_this_consequence_is_not_shelved() -> None:
    p = Points({STREAM: Handled(RULES._replace(shelvable=False))})
    STEPS["raise"](p)
    with pytest.raises(Impossible, match="must not be shelved"):
        STEPS["shelve"](p)


def test_the_priority_is_a_table_that_never_falls() -> None:
    assert list(TABLE) == list(get_args(Consequence))
    for by_severity in TABLE.values():
        ranks = [PRIORITIES.index(by_severity[severity]) for severity in SEVERITIES]
        assert ranks == sorted(ranks, reverse=True)
    assert priority("high", "minor") == priority("medium", "major") == priority("low", "severe")
