"""Many alarms: points that chatter, floods, reminders, advisories, and what each announces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.alarms.handled import Handled
from agent.alarms.points import Labelled, Points, Request
from agent.handling.flood import FloodLimits
from agent.handling.machine import Impossible, Rules
from agent.handling.states import Standing
from agent.handling.transition import Transition

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def alarm(
    number: int, state: str = "opened", stream: str = "pump", kind: str = "anomaly", **more: Any
) -> dict[str, Any]:
    base = {"stream": stream, "number": number, "kind": kind, "state": state, "channels": []}
    return base | {"severity": "medium"} | more


def stuck(number: int, channel: str, stream: str = "pump", **more: Any) -> dict[str, Any]:
    return alarm(number, stream=stream, kind="stuck", channels=[{"channel": channel}], **more)


class Rig:
    """Points, with a store that restarts can continue from."""

    def __init__(self, handled: Handled | None = None, flood: FloodLimits | None = None) -> None:
        self.handled, self.flood = {"pump": handled or Handled()}, flood or FloodLimits()
        self.points = Points(self.handled, self.flood)
        self.book: list[Transition] = []
        self.standings: dict[tuple[str, str], str] = {}
        self.memory: dict[str, bytes] = {}
        self.open: dict[tuple[str, int], dict[str, Any]] = {}

    def take(self, one: dict[str, Any], at: float) -> None:
        key = (one["stream"], one["number"])
        self.open[key] = one
        if one["state"] == "closed":
            del self.open[key]
        self.points.take(one, at)
        self.commit()

    def tick(self, at: float) -> list[Transition]:
        before = len(self.book)
        self.points.tick(at)
        self.commit()
        return self.book[before:]

    def commit(self) -> None:
        made, changed = self.points.drain()
        self.book += made
        self.standings |= {key: json.dumps(one.to_json()) for key, one in changed.items()}
        self.memory |= self.points.memory()

    def restart(self, at: float) -> None:
        self.points = Points(self.handled, self.flood)
        known = {key: Standing.of(json.loads(text)) for key, text in self.standings.items()}
        self.points.restore(known, at, self.memory)
        self.points.compare(self.open.values(), at)
        self.commit()

    def ack(self, one: dict[str, Any], at: float) -> None:
        self.points.ask(Request("acknowledged", one, "maria", "terminal"), at)
        self.commit()

    def once(self, number: int, at: float, **more: Any) -> None:
        """Raise an alarm of the point, and clear it."""
        self.take(alarm(number, **more), at)
        self.take(alarm(number, "closed", **more), at + 1)

    def calls(self) -> list[str]:
        return [one.what for one in self.book if one.announces]


# ---- chattering


def test_a_point_that_chatters_calls_once_more_and_then_only_at_its_end() -> None:
    rig = Rig(Handled(Rules(chatter_raises=3, chatter_s=600.0)))
    for number in range(1, 8):
        rig.once(number, 60.0 * number)
    rig.take(alarm(8), 480.0)
    raised = [one for one in rig.book if one.what == "raised"]
    assert [one.chattering for one in raised] == [0, 0, 3, 4, 5, 6, 7, 8]
    assert [one.announces for one in raised] == [True] * 3 + [False] * 5
    assert rig.tick(480.0 + 599.0) == []
    (settled,) = rig.tick(480.0 + 600.0)
    assert (settled.what, settled.announces, settled.after) == ("settled", True, "UNACK")
    assert (settled.why, settled.chattering) == ("it was raised 8 times", 0)
    rig.take(alarm(9), 2000.0)
    assert rig.book[-1].announces  # it begins to count anew


def test_the_end_of_the_chattering_does_not_undo_an_acknowledgement() -> None:
    rig = Rig(Handled(Rules(chatter_raises=2)))
    rig.once(1, 0.0)
    rig.take(alarm(2), 10.0)
    rig.ack(alarm(2), 20.0)
    (settled,) = rig.tick(610.0)
    assert (settled.what, settled.announces, settled.after) == ("settled", False, "ACKED")


def test_while_it_chatters_only_a_higher_severity_than_ever_calls() -> None:
    rig = Rig(Handled(Rules(chatter_raises=2)))
    for number, severity in enumerate(("low", "low", "low", "high", "high", "medium"), 1):
        rig.once(number, float(number), severity=severity)
        rig.ack(alarm(number), number + 0.5)
    raised = [one.announces for one in rig.book if one.what == "raised"]
    assert raised == [True, True, False, True, False, False]


def test_slow_repeats_do_not_chatter_and_zero_turns_it_off() -> None:
    slow, off = Rig(Handled(Rules(chatter_raises=2))), Rig(Handled(Rules(chatter_raises=0)))
    for number in range(1, 5):
        slow.once(number, 601.0 * number)
        off.once(number, float(number))
    assert slow.calls() == off.calls() == ["raised"] * 4
    assert all(one.chattering == 0 for one in slow.book + off.book)


def test_chattering_survives_a_restart_and_a_clock_that_is_set() -> None:
    rig = Rig(Handled(Rules(chatter_raises=2)))
    rig.once(1, 0.0)
    rig.once(2, 10.0)
    rig.restart(20.0)
    rig.points.clock_set(1e9)
    rig.once(3, 1e9 + 30.0)
    assert rig.calls() == ["raised", "raised"]
    rig.restart(1e9 + 40.0)
    assert rig.tick(1e9 + 629.0) == []
    assert [one.what for one in rig.tick(1e9 + 630.0)] == ["settled"]


# ---- floods


def test_ten_new_alarms_are_shown_singly_and_the_rest_by_stream() -> None:
    rig = Rig()
    for number in range(1, 11):
        rig.take(stuck(number, f"c{number}"), 0.0)
    for number in range(11, 14):
        rig.take(stuck(number, f"c{number}"), 1.0)
    rig.take(stuck(1, "x", "other", severity="low"), 2.0)
    rig.take(stuck(14, "c14", severity="high"), 3.0)
    rig.take(stuck(15, "c15", severity="high"), 3.0)
    raised = [one for one in rig.book if one.what == "raised"]
    assert [one.grouped for one in raised] == [False] * 10 + [True] * 6
    # of each stream one, and one more for a higher priority
    assert [one.announces for one in raised] == [True] * 11 + [False] * 2 + [True, True, False]
    assert rig.points.states() == {"UNACK": 16}  # none is lost


def test_the_end_of_a_flood_announces_by_stream_what_is_still_active() -> None:
    rig = Rig(flood=FloodLimits(2, 1, 600.0))
    for number in range(1, 8):
        rig.take(stuck(number, f"c{number}"), float(number))
    rig.take(stuck(1, "x", "other"), 8.0)
    rig.take(stuck(8, "c8", severity="high"), 9.0)
    rig.ack(stuck(4, "c4"), 10.0)
    rig.take(stuck(5, "c5", state="closed"), 11.0)
    rig.restart(12.0)
    assert rig.tick(9.0 + 599.0) == []
    ended = rig.tick(9.0 + 600.0)
    assert [(one.stream, one.what, one.announces, one.number, one.why) for one in ended] == [
        ("other", "ungrouped", True, 1, "still active: #1"),
        ("pump", "ungrouped", True, 8, "still active: #8, #3, #6, #7"),
    ]
    assert not any(one.grouped for one in ended)
    rig.restart(700.0)
    assert rig.tick(800.0) == []
    rig.take(stuck(9, "c9"), 800.0)
    assert (rig.book[-1].grouped, rig.book[-1].announces) == (False, True)


def test_a_flood_goes_on_while_there_are_many_and_a_suppressed_alarm_is_none_of_it() -> None:
    rig = Rig(flood=FloodLimits(2, 2, 600.0))
    for number in range(1, 4):
        rig.take(stuck(number, f"c{number}"), 0.0)
    rig.take(stuck(4, "c4"), 500.0)
    rig.take(stuck(5, "c5"), 599.0)
    rig.points.ask(
        Request("shelved", stuck(5, "c5"), "maria", "terminal", None, "x", HOUR_S), 599.0
    )
    rig.take(stuck(6, "c5"), 1050.0)  # shelved: calls nobody
    assert rig.tick(1099.0) == []
    assert [one.what for one in rig.tick(1100.0)] == ["ungrouped"]


def test_each_flood_calls_for_its_groups_anew() -> None:
    rig = Rig(flood=FloodLimits(1, 1, 600.0))
    for begin in (0.0, 10_000.0):
        for number in range(1, 4):
            rig.take(stuck(number + int(begin), f"c{number} {begin}"), begin)
        assert [one.announces for one in rig.book[-3:]] == [True, True, False]
        rig.tick(begin + 600.0)


def test_a_flood_whose_state_was_lost_leaves_no_group_behind() -> None:
    rig = Rig(flood=FloodLimits(1, 1, 600.0))
    rig.take(stuck(1, "c1"), 0.0)
    rig.take(stuck(2, "c2"), 0.0)
    rig.memory.clear()
    rig.restart(1.0)
    assert [one.what for one in rig.tick(1.0)] == ["ungrouped"]


# ---- reminders


def test_an_acknowledged_alarm_that_is_still_active_reminds_quietly_after_each_shift() -> None:
    rig = Rig()
    rig.take(alarm(1), 0.0)
    rig.ack(alarm(1), HOUR_S)
    assert rig.tick(9 * HOUR_S - 1) == []
    (first,) = rig.tick(9 * HOUR_S)
    assert (first.what, first.before, first.after) == ("reminded", "ACKED", "ACKED")
    assert (first.by, first.announces) == ("agent", False)
    rig.restart(10 * HOUR_S)
    assert rig.tick(17 * HOUR_S - 1) == []
    assert [one.what for one in rig.tick(17 * HOUR_S)] == ["reminded"]
    rig.take(alarm(1, "closed"), 18 * HOUR_S)
    assert rig.tick(40 * HOUR_S) == []


def test_no_hours_no_reminder_and_a_new_setting_counts_at_once() -> None:
    rig = Rig(Handled(Rules(remind_s=0.0)))
    rig.take(alarm(1), 0.0)
    rig.ack(alarm(1), 0.0)
    assert rig.tick(100 * HOUR_S) == []
    rig.points.configure({"pump": Handled()}, FloodLimits(), [])
    assert [one.what for one in rig.tick(100 * HOUR_S)] == ["reminded"]


def test_an_acknowledgement_of_an_older_version_reminds_a_shift_after_the_start() -> None:
    rig = Rig()
    old = Standing("active", True, severity="medium", number=1, open=(1,), revision=2)
    rig.standings["pump", "anomaly"] = json.dumps(old.to_json())
    rig.open["pump", 1] = alarm(1)
    rig.restart(1000.0)
    assert rig.tick(1000.0 + 8 * HOUR_S - 1) == []
    assert [one.what for one in rig.tick(1000.0 + 8 * HOUR_S)] == ["reminded"]


def test_what_nobody_could_explain_reminds_once_unless_somebody_labels_it_before() -> None:
    rig = Rig()

    def label(number: int, at: float, again: float | None = None) -> None:
        found = Labelled("nothing-found" if again else "false", ask_again=again)
        request = Request("labelled", alarm(number), "maria", "terminal", labelled=found)
        rig.points.ask(request, at)
        rig.commit()

    for number in range(1, 4):
        rig.once(number, 10.0 * number)
    label(1, 100.0, again=7 * DAY_S)
    label(2, 200.0, again=8 * DAY_S)
    label(3, 300.0, again=8 * DAY_S)
    label(2, 400.0)  # it was a false alarm
    rig.restart(DAY_S)
    rig.points.clock_set(HOUR_S)
    assert rig.tick(7 * DAY_S + HOUR_S - 1) == []
    (first,) = rig.tick(7 * DAY_S + HOUR_S)
    assert (first.what, first.number, first.by, first.announces) == (
        *("look_again", 1),
        *("agent", False),
    )
    assert first.before == first.after
    assert [(one.what, one.number) for one in rig.tick(30 * DAY_S)] == [("look_again", 3)]
    assert rig.tick(60 * DAY_S) == []


# ---- advisories


def predicted(number: int, earliest_s: float | None, state: str = "opened") -> dict[str, Any]:
    limit = {"side": "high", "level": "warning", "earliest_s": earliest_s}
    return alarm(number, state, kind="limit", channels=[{"channel": "flow"}], limit=limit)


def test_a_limit_that_is_far_away_is_an_advisory_until_it_comes_near() -> None:
    rig = Rig()
    rig.take(predicted(1, 2 * DAY_S), 0.0)
    (advisory,) = rig.book
    assert (advisory.advisory, advisory.announces, advisory.after) == (True, False, "NORM")
    for what in ("acknowledged", "unacknowledged"):
        with pytest.raises(Impossible, match="it is an advisory"):
            rig.points.ask(Request(what, predicted(1, 2 * DAY_S), "maria", "terminal"), 1.0)
    rig.take(predicted(1, 1.5 * DAY_S), 2.0)
    rig.restart(3.0)
    assert rig.book == [advisory]
    rig.take(predicted(1, 0.9 * DAY_S), 4.0)
    due = rig.book[-1]
    assert (due.what, due.advisory, due.announces, due.after) == ("due", False, True, "UNACK")
    rig.take(predicted(1, 3 * DAY_S), 5.0)  # it stays an alarm until it is over
    assert rig.book[-1] is due


def test_an_advisory_that_is_over_leaves_nothing_to_do() -> None:
    rig = Rig(Handled(Rules(latching=True)))
    rig.take(predicted(1, 2 * DAY_S), 0.0)
    rig.take(predicted(1, 2 * DAY_S, "closed"), 1.0)
    assert [(one.what, one.after, one.announces) for one in rig.book] == [
        ("raised", "NORM", False),
        ("cleared", "NORM", False),
    ]
    rig.take(predicted(2, None), 2.0)  # nobody knows how far away it is
    assert rig.book[-1].after == "UNACK"


def test_a_new_advisory_does_not_hide_an_alarm_that_nobody_has_seen() -> None:
    rig = Rig()
    rig.take(predicted(1, 1.0), 0.0)
    rig.take(predicted(1, 1.0, "closed"), 1.0)
    rig.take(predicted(2, 2 * DAY_S), 2.0)
    assert (rig.book[-1].after, rig.book[-1].announces) == ("RTNUN", False)
    rig.ack(predicted(2, 2 * DAY_S), 3.0)
    assert rig.book[-1].after == "NORM"


def test_an_advisory_does_not_hide_how_grave_another_alarm_of_its_point_is() -> None:
    rig = Rig()
    rig.take(predicted(1, 2 * DAY_S) | {"severity": "high"}, 0.0)
    rig.take(predicted(2, 1.0) | {"severity": "low"}, 1.0)
    assert (rig.book[-1].after, rig.book[-1].severity) == ("UNACK", "high")
    rig.ack(predicted(2, 1.0), 2.0)
    rig.restart(3.0)
    assert rig.book[-1].what == "acknowledged"  # it is no news that the first is graver


def test_shelving_an_advisory_does_not_make_it_an_alarm_at_its_end() -> None:
    rig = Rig()
    rig.take(predicted(1, 2 * DAY_S), 0.0)
    shelved = Request("shelved", predicted(1, 2 * DAY_S), "maria", "terminal", 1, "x", HOUR_S)
    rig.points.ask(shelved, 0.0)
    (ended,) = [one for one in rig.tick(HOUR_S) if one.what == "unshelved"]
    assert (ended.after, ended.announces, ended.advisory) == ("NORM", False, True)


@pytest.mark.parametrize(("latching", "after"), [(False, "NORM"), (True, "LATUN")])
def test_a_sensor_that_was_repaired_needs_no_acknowledgement(latching: bool, after: str) -> None:
    rig = Rig(Handled(Rules(latching=latching), advisory_when_over=frozenset({"stuck"})))
    rig.take(stuck(1, "flow"), 0.0)
    rig.take(stuck(1, "flow", state="closed"), 1.0)
    over = rig.book[-1]
    assert (over.what, over.after, over.advisory) == ("cleared", after, not latching)
    rig.once(2, 2.0)
    assert rig.book[-1].after == ("LATUN" if latching else "RTNUN")  # not of these kinds
    rig.take(stuck(3, "flow"), 3.0)
    assert (rig.book[-1].after, rig.book[-1].advisory) == ("UNACK", False)


def test_the_members_of_a_large_group_leave_it_over_some_ticks_and_call_once() -> None:
    rig = Rig(flood=FloodLimits(1, 1, 600.0))
    for number in range(1, 1203):
        rig.points.take(stuck(number, f"c{number}"), 0.0)
    rig.commit()
    assert [(one.what, one.announces) for one in rig.tick(600.0)] == [("ungrouped", True)]
    for later in range(1, 4):
        assert rig.tick(600.0 + later) == []
    assert not any("grouped" in json.loads(text) for text in rig.standings.values())
