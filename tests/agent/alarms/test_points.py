"""Points: which alarms are one point, what a start finds, what the clock does to shelvings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.alarms.handled import Handled
from agent.alarms.names import point_of
from agent.alarms.points import Points, Request, Stale
from agent.handling.machine import Rules
from agent.handling.states import Shelving, Standing

HOUR_S = 3600.0
KEY = ("pump", "anomaly")


def alarm(number: int = 1, state: str = "opened", **more: Any) -> dict[str, Any]:
    return {
        "stream": "pump",
        "number": number,
        "kind": "anomaly",
        "state": state,
        "severity": "medium",
        "channels": [],
    } | more


FLOW = [{"channel": "flow"}, {"channel": "head"}]


@pytest.mark.parametrize(
    ("document", "point"),
    [
        ({"kind": "anomaly", "channels": FLOW, "limit": None}, "anomaly"),
        ({"kind": "anomaly"}, "anomaly"),  # of an old version
        ({"kind": "silent", "channels": []}, "silent"),
        ({"kind": "stuck", "channels": FLOW}, "stuck flow"),
        ({"kind": "missing", "channels": FLOW}, "missing flow"),
        (
            {"kind": "limit", "channels": FLOW, "limit": {"side": "low", "level": "warning"}},
            "limit flow low warning",
        ),
    ],
)
def test_alarms_of_one_kind_of_trouble_are_one_point(document: dict[str, Any], point: str) -> None:
    assert point_of(document) == point


def test_a_gap_is_no_alarm() -> None:
    points = Points({})
    points.take(alarm(kind="gap", state="closed"), 0.0)
    assert points.drain() == ([], {})
    assert not points.states()


def test_a_start_raises_what_an_older_version_left_open_and_ends_what_the_store_lost() -> None:
    points = Points({})
    points.restore({("pump", "silent"): Standing("active", False, number=4, open=(4,))}, 0.0)
    points.compare([alarm(3)], 5.0)
    made, changed = points.drain()
    assert [(one.point, one.what, one.number) for one in made] == [
        ("anomaly", "raised", 3),
        ("silent", "unwatched", 4),
    ]
    assert {key: one.state for key, one in changed.items()} == {
        KEY: "UNACK",
        ("pump", "silent"): "UNACK",
    }
    points.compare([alarm(3)], 6.0)
    assert points.drain() == ([], {})


def test_a_milder_alarm_does_not_hide_a_grave_one_that_nobody_has_seen() -> None:
    points = Points({})
    points.take(alarm(1, severity="high"), 0.0)
    points.take(alarm(1, "closed", severity="high"), 1.0)
    points.take(alarm(2, severity="low"), 2.0)
    assert points.drain()[1][KEY].severity == "high"
    points.ask(Request("acknowledged", alarm(2), "maria", "terminal"), 3.0)
    points.take(alarm(2, "closed", severity="low"), 4.0)
    points.take(alarm(3, severity="low"), 5.0)
    assert points.drain()[1][KEY].severity == "low"  # it was normal in between


@pytest.mark.parametrize(
    ("ended", "what", "condition", "why"),
    [
        ("normal", "cleared", "normal", None),
        ("accepted", "cleared", "normal", "its values are taken as the new normal"),
        ("limit_passed", "superseded", "normal", "the limit has been passed, and another"),
        ("unwatched", "unwatched", "unknown", "another detector watches the stream"),
    ],
)
def test_how_an_alarm_ended_decides_what_its_point_becomes(
    ended: str, what: str, condition: str, why: str | None
) -> None:
    points = Points({})
    points.take(alarm(), 0.0)
    points.take(alarm(state="closed", ended=ended), 1.0)
    over = points.drain()[0][-1]
    assert (over.what, over.condition) == (what, condition)
    assert over.why is None if why is None else str(over.why).startswith(why)


def test_the_priority_is_of_the_severity_and_the_consequence() -> None:
    points = Points({"pump": Handled(Rules(), "severe")})
    points.take(alarm(), 0.0)
    points.take(alarm(severity="high"), 1.0)
    made, changed = points.drain()
    assert [(one.what, one.severity, one.priority) for one in made] == [
        ("raised", "medium", "high"),
        ("worsened", "high", "high"),
    ]
    assert (changed[KEY].priority, changed[KEY].consequence) == ("high", "severe")


def test_a_shelving_moves_with_the_clock_and_never_lasts_longer_than_a_new_one() -> None:
    points = Points({})
    points.take(alarm(), 0.0)
    shelved = Request("shelved", alarm(), "maria", "terminal", 1, "noon", HOUR_S)
    assert points.ask(shelved, 0.0).until == HOUR_S
    points.clock_set(1e9)  # a time server has set it
    points.tick(1e9 + HOUR_S - 1)
    assert points.states() == {"SHLVD": 1}
    points.tick(1e9 + HOUR_S)
    assert points.states() == {"UNACK": 1}
    later = Points({})
    wrong = Standing("active", False, shelving=Shelving(1e9, 2e9, False), number=1, open=(1,))
    later.restore({KEY: wrong}, 1000.0)
    later.tick(1000.0 + 8 * HOUR_S)
    assert later.states() == {"UNACK": 1}


HEAD = [{"channel": "head"}]
SPEED = [{"channel": "speed"}, {"channel": "flow"}]


@pytest.mark.parametrize(
    ("shelved", "over", "then", "state"),
    [
        ({"channels": FLOW}, False, {"channels": SPEED, "during": 1}, "UNACK"),
        ({"channels": FLOW}, False, {"channels": FLOW, "during": 1}, "UNACK"),
        ({"channels": FLOW}, True, {"channels": HEAD}, "SHLVD"),  # its own once more
        ({"channels": FLOW}, True, {"channels": SPEED}, "UNACK"),
        ({"channels": FLOW, "course": "spike"}, True, {"channels": FLOW}, "SHLVD"),
        (
            {"channels": FLOW, "course": "spike"},
            True,
            {"channels": FLOW, "course": "persistent"},
            "UNACK",
        ),
        (
            {"channels": FLOW, "course": "persistent"},
            True,
            {"channels": FLOW, "course": "spike"},
            "SHLVD",
        ),
        ({"kind": "missing", "channels": FLOW}, True, {"channels": FLOW[:1]}, "SHLVD"),
        ({"kind": "missing", "channels": FLOW[:1]}, True, {"channels": FLOW}, "UNACK"),
        ({"kind": "silent"}, True, {}, "SHLVD"),
    ],
)
def test_a_shelving_covers_one_fault_and_not_another_one_of_its_point(
    shelved: dict[str, Any], over: bool, then: dict[str, Any], state: str
) -> None:
    points = Points({})
    first = alarm(**shelved)
    points.take(first, 0.0)
    points.ask(Request("shelved", first, "maria", "terminal", 1, "noon", HOUR_S), 0.0)
    if over:
        points.take(first | {"state": "closed"}, 1.0)
    _, changed = points.drain()
    (key,) = changed
    again = Points({})  # a restart forgets none of it
    again.restore({key: Standing.of(json.loads(json.dumps(changed[key].to_json())))}, 1.0)
    again.take(alarm(2, kind=first["kind"], **then), 2.0)
    (raised,) = again.drain()[0]
    assert (raised.what, raised.after, raised.announces) == ("raised", state, state == "UNACK")
    assert (raised.reason is not None) == (state == "UNACK")
    assert again.not_normal()[0][1].shelved_s == (2.0 if state == "UNACK" else 0.0)


def test_a_shelving_of_an_older_version_covers_all_of_its_point() -> None:
    points = Points({})
    old = {"condition": "active", "shelving": [0.0, 9.0, False], "number": 1, "open": [1]}
    points.restore({KEY: Standing.of(old | {"revision": 2})}, 0.0)
    points.take(alarm(2, channels=FLOW, during=1), 1.0)
    assert points.states() == {"SHLVD": 1}


def test_a_note_is_taken_of_an_alarm_that_is_over_and_a_handling_is_not() -> None:
    points = Points({})
    for number in (1, 2):
        points.take(alarm(number), 0.0)
        points.take(alarm(number, "closed"), 1.0)
    noted = points.ask(Request("noted", alarm(1, "closed"), "maria", "terminal", why="rust"), 2.0)
    assert (noted.number, noted.before, noted.after) == (1, "RTNUN", "RTNUN")
    with pytest.raises(Stale, match=r"it is over; pump#2\.5 is returned to normal"):
        points.ask(Request("acknowledged", alarm(1, "closed"), "maria", "terminal", 5), 3.0)


def test_a_further_fault_beside_an_acknowledged_alarm_calls_again() -> None:
    points = Points({})
    points.take(alarm(1), 0.0)
    points.ask(Request("acknowledged", alarm(1), "maria", "terminal"), 1.0)
    points.take(alarm(2, during=1), 2.0)
    standing = points.drain()[1][KEY]
    assert (standing.state, standing.open) == ("UNACK", (1, 2))
    points.take(alarm(1, "closed", ended="normal"), 3.0)
    assert points.states() == {"UNACK": 1}
    points.take(alarm(2, "closed", ended="normal", during=1), 4.0)
    assert points.states() == {"RTNUN": 1}
