"""Suppression by design: conditions with deadband and delays, and what is unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.alarms.handled import Handled
from agent.alarms.points import Points, Request
from agent.handling.flood import FloodLimits
from agent.handling.states import Standing
from agent.handling.suppression import Suppression, When
from agent.handling.transition import Transition

STOPPED = When("motor", "speed", below=100.0)
OF_PUMP = Suppression("pump", STOPPED, "the motor is stopped")
NAN = float("nan")


def alarm(number: int = 1, state: str = "opened", kind: str = "anomaly", **more: Any) -> Any:
    base = {"stream": "pump", "number": number, "kind": kind, "state": state, "channels": []}
    return base | {"severity": "medium"} | more


def points(*configured: Suppression) -> Points:
    return Points({"pump": Handled()}, FloodLimits(), configured or [OF_PUMP])


def see(p: Points, speed: float, at: float, stream: str = "motor") -> list[Transition]:
    p.see(stream, "speed", [at], [speed], at)
    p.tick(at)
    return p.drain()[0]


def restarted(p: Points, *configured: Suppression) -> Points:
    """Continue from what a commit wrote."""
    _, standings = p.drain()
    known = {key: Standing.of(json.loads(json.dumps(s.to_json()))) for key, s in standings.items()}
    again, memory = points(*configured), p.memory()
    again.restore(known, 0.0, memory)
    return again


def told(made: list[Transition]) -> list[tuple[str, str, str | None, bool]]:
    return [(one.what, one.after, one.why, one.announces) for one in made]


def test_what_is_active_when_the_machine_stops_is_suppressed_and_announced_when_it_starts() -> None:
    p = points()
    p.take(alarm(), 0.0)
    p.ask(Request("acknowledged", alarm(), "maria", "terminal"), 0.0)
    p.drain()
    assert told(see(p, 900.0, 1.0)) == []
    assert told(see(p, 0.0, 2.0)) == [("suppressed", "DSUPR", "the motor is stopped", False)]
    ended = see(p, 900.0, 3.0)
    assert told(ended) == [("unsuppressed", "UNACK", "it is over: the motor is stopped", True)]
    assert {one.by for one in ended} == {"agent"}


def test_what_comes_and_goes_meanwhile_calls_nobody_and_needs_no_acknowledgement() -> None:
    p = points()
    see(p, 0.0, 0.0)
    p.take(alarm(), 1.0)
    p.take(alarm(severity="high"), 2.0)
    p.take(alarm(state="closed", severity="high"), 3.0)
    made = p.drain()[0]
    assert [(one.what, one.after, one.announces) for one in made] == [
        ("raised", "DSUPR", False),
        ("worsened", "DSUPR", False),
        ("cleared", "DSUPR", False),  # it is written and sent all the same
    ]
    assert told(see(p, 900.0, 4.0)) == [
        ("unsuppressed", "NORM", "it is over: the motor is stopped", False)
    ]


def test_what_nobody_had_seen_before_still_waits_after_it() -> None:
    p = points()
    p.take(alarm(), 0.0)
    see(p, 0.0, 1.0)
    p.take(alarm(state="closed"), 2.0)
    assert see(p, 900.0, 3.0)[-1].after == "RTNUN"


def test_delays_and_deadband_keep_it_from_flapping() -> None:
    when = STOPPED._replace(deadband=20.0, on_delay_s=5.0, off_delay_s=10.0)
    p = points(OF_PUMP._replace(when=when))
    p.take(alarm(), 0.0)
    p.drain()
    states = []
    for at, speed in enumerate([90, 90, 110, 90, 90, 90, 90, 90, 90]):
        see(p, float(speed), float(at))
        states.append(p.states()["DSUPR"])
    assert states == [0] * 8 + [1]  # 5 s without interruption, from 3 on
    for at in range(9, 30):
        see(p, 119.0, float(at))
    assert p.states()["DSUPR"] == 1  # within the deadband
    for at in range(30, 40):
        see(p, 120.0, float(at))
        assert p.states()["DSUPR"] == 1
    see(p, 120.0, 40.0)
    assert p.states() == {"UNACK": 1}


def test_a_whole_block_of_values_is_seen_not_only_its_last() -> None:
    p = points(OF_PUMP._replace(when=STOPPED._replace(on_delay_s=5.0)))
    p.take(alarm(), 0.0)
    p.see("motor", "speed", range(10), [0, 0, 0, 900, 0, 0, 0, 0, 0, 0], 10.0)
    p.tick(10.0)
    assert p.states() == {"DSUPR": 1}  # from 4 to 9
    q = points(OF_PUMP._replace(when=STOPPED._replace(on_delay_s=5.0)))
    q.take(alarm(), 0.0)
    q.see("motor", "speed", range(10), [0, 0, 0, 0, 0, 900, 0, 0, 0, 0], 10.0)
    q.tick(10.0)
    assert q.states() == {"UNACK": 1}


def test_an_unknown_condition_suppresses_nothing() -> None:
    p = points()
    p.take(alarm(), 0.0)
    for at in range(200):
        see(p, NAN, float(at))
    p.tick(1e6)
    assert p.states() == {"UNACK": 1}


def test_a_condition_that_becomes_unknown_ends_the_suppression_and_says_so() -> None:
    p = points()
    see(p, 0.0, 0.0)
    p.take(alarm(), 1.0)
    p.drain()
    assert told(see(p, NAN, 60.0)) == []  # a short gap changes nothing
    (ended,) = see(p, NAN, 61.0)
    assert (ended.what, ended.after, ended.announces) == ("unsuppressed", "UNACK", True)
    assert ended.why == (
        "it is unknown whether it still applies, without a value of motor speed for 60 s:"
        " the motor is stopped"
    )
    assert [one.what for one in see(p, 0.0, 62.0)] == ["suppressed"]


def test_time_without_values_does_not_count_as_a_delay() -> None:
    p = points(OF_PUMP._replace(when=STOPPED._replace(on_delay_s=100.0, unknown_s=10.0)))
    p.take(alarm(), 0.0)
    p.see("motor", "speed", [0.0, 200.0], [0.0, 0.0], 200.0)
    p.tick(200.0)
    assert p.states() == {"UNACK": 1}
    p.see("motor", "speed", [200.0 + one for one in range(1, 91)], [0.0] * 90, 290.0)
    p.tick(290.0)
    assert p.states() == {"DSUPR": 1}


@pytest.mark.parametrize(
    ("kinds", "channels", "suppressed"),
    [
        (None, None, {"anomaly", "silent", "stuck flow", "limit_passed flow low warning"}),
        ({"anomaly", "stuck"}, None, {"anomaly", "stuck flow"}),
        (None, {"flow"}, {"stuck flow", "limit_passed flow low warning"}),
        ({"stuck"}, {"head"}, set()),
    ],
)
def test_only_the_kinds_and_channels_that_are_named(
    kinds: set[str] | None, channels: set[str] | None, suppressed: set[str]
) -> None:
    own = OF_PUMP._replace(
        kinds=kinds and frozenset(kinds), channels=channels and frozenset(channels)
    )
    p, flow = points(own), [{"channel": "flow"}]
    p.take(alarm(1), 0.0)
    p.take(alarm(2, kind="silent"), 0.0)
    p.take(alarm(3, kind="stuck", channels=flow), 0.0)
    limit = {"side": "low", "level": "warning"}
    p.take(alarm(4, kind="limit_passed", channels=flow, limit=limit), 0.0)
    p.take(alarm(5) | {"stream": "other"}, 0.0)
    see(p, 0.0, 1.0)
    assert p.states()["DSUPR"] == len(suppressed)
    p.drain()
    made = see(p, 900.0, 2.0)
    assert {one.point for one in made} == suppressed


def test_a_suppression_survives_a_restart_and_not_the_end_of_its_setting() -> None:
    p = points()
    p.take(alarm(), 0.0)
    p.see("motor", "speed", [1.0], [0.0], 1.0)
    p.tick(1.0)
    same, without = restarted(p), None
    assert same.states() == {"DSUPR": 1}
    same.tick(30.0)
    assert same.drain()[0] == []
    assert told(see(same, 900.0, 31.0))[0][:2] == ("unsuppressed", "UNACK")
    p.take(alarm(severity="high"), 2.0)
    without = restarted(p, OF_PUMP._replace(stream="other"))
    without.tick(3.0)
    assert told(without.drain()[0]) == [
        ("unsuppressed", "UNACK", "it is no longer configured", True)
    ]


def test_a_reload_keeps_what_applies_if_only_the_reason_is_worded_anew() -> None:
    p = points()
    p.take(alarm(), 0.0)
    see(p, 0.0, 1.0)
    p.configure({}, FloodLimits(), [OF_PUMP._replace(reason="motor off")])
    p.tick(2.0)
    assert p.drain()[0] == []
    p.configure({}, FloodLimits(), [])
    p.tick(3.0)
    assert told(p.drain()[0]) == [("unsuppressed", "UNACK", "it is no longer configured", True)]


def test_an_alarm_of_another_stream_can_suppress_what_only_follows_from_it() -> None:
    p = points(Suppression("pump", When("plc", alarm="silent"), "the PLC is silent"))
    of_plc = alarm(kind="silent") | {"stream": "plc"}
    p.take(of_plc, 0.0)
    p.take(alarm(kind="silent"), 1.0)
    p.tick(1.0)
    assert p.states() == {"UNACK": 1, "DSUPR": 1}
    p.ask(Request("shelved", of_plc, "maria", "terminal", None, "x", 60.0), 1.0)
    p.tick(1.5)
    assert p.states() == {"SHLVD": 1, "DSUPR": 1}  # its condition counts, not its state
    p.take(of_plc | {"state": "closed", "ended": "normal"}, 2.0)
    p.drain()
    p.tick(2.0)
    assert told(p.drain()[0]) == [("unsuppressed", "UNACK", "it is over: the PLC is silent", True)]


def test_an_alarm_that_nothing_watches_any_more_is_unknown_and_ends_the_suppression() -> None:
    p = points(Suppression("pump", When("plc", alarm="silent"), "the PLC is silent"))
    of_plc = alarm(kind="silent") | {"stream": "plc"}
    p.take(of_plc, 0.0)
    p.take(alarm(), 0.0)
    p.tick(0.0)
    p.take(of_plc | {"state": "closed", "ended": "unwatched"}, 1.0)
    p.tick(1.0)
    assert p.states()["DSUPR"] == 1
    p.drain()
    p.tick(61.0)
    (ended,) = p.drain()[0]
    assert str(ended.why).startswith("it is unknown whether it still applies")


def test_the_end_of_a_suppression_of_many_is_a_flood_and_calls_by_stream() -> None:
    p = points()
    see(p, 0.0, 0.0)
    for number in range(1, 31):
        p.take(alarm(number, kind="stuck", channels=[{"channel": f"c{number}"}]), 1.0)
    p.drain()
    made = see(p, 900.0, 2.0)
    assert len(made) == 30
    assert sum(one.announces for one in made) == 11  # 10 singly, and their group


def test_an_advisory_that_becomes_an_alarm_while_the_machine_is_stopped_calls_nobody() -> None:
    p = points()
    far = {"side": "high", "level": "warning", "earliest_s": 1e6}
    more = {"kind": "limit", "channels": [{"channel": "flow"}]}
    p.take(alarm(limit=far, **more), 0.0)
    see(p, 0.0, 1.0)
    p.take(alarm(limit=far | {"earliest_s": 60.0}, **more), 2.0)
    (due,) = p.drain()[0]
    assert (due.what, due.after, due.announces) == ("due", "DSUPR", False)
    assert told(see(p, 900.0, 3.0))[0][:2] == ("unsuppressed", "UNACK")
