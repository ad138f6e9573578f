"""The states of an alarm: what leads from one to the next, and what no alarm ever does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from agent.alarms.document import describe
from agent.alarms.lifecycle import CAUSES, SHED_FIRST, Alarms, Cause, Change, State, reason_of
from agent.wording.language import ENGLISH
from agent.wording.sentence import first_sentence
from models.messages import Contribution, Event
from models.times import iso_time, unix_s
from tests.conftest import ROOT

OPENED_S = 1_700_000_000.0


def event(number: int = 1, closed: float | None = None, score: float = 2.0) -> Event:
    return Event(
        number=number,
        kind="anomaly",
        detector="hampel",
        onset=OPENED_S - 3.0,
        opened=OPENED_S,
        score=score,
        probability=None,
        severity="medium",
        channels=(Contribution("flow", score, 90.0, 50.0),),
        closed=closed,
    )


def opened(*numbers: int) -> Alarms:
    alarms = Alarms("pump", {"flow": "m3/h"})
    for number in numbers:
        alarms.take(event(number), {"flow": "held"})
    alarms.update([event(number) for number in numbers])
    return alarms


def closed(alarms: Alarms, time: float, number: int = 1) -> Change:
    change = alarms.take(event(number, time), {})
    assert change is not None
    return change


def test_an_alarm_opens_is_brought_up_to_date_and_closes() -> None:
    alarms = Alarms("pump", {"flow": "m3/h"})
    change = alarms.take(event(), {"flow": "held"})
    assert change is not None
    assert (change.state, change.time, change.cause) == ("opened", OPENED_S, None)
    assert (change.alarm["state"], change.alarm["closed"]) == ("opened", None)
    assert change.counters == {"alarms_opened": 1}
    assert str(change) == f"alarm opened: anomaly since {iso_time(OPENED_S - 3.0)}"
    assert alarms.stored == []  # until it is
    assert alarms.update([event()]) == alarms.stored == [change.alarm]
    assert alarms.update([event()]) == []
    (worse,) = alarms.update([event(score=3.0)])
    assert (worse["score"], worse["quality"]) == (3.0, {"flow": "held"})
    over = closed(alarms, OPENED_S + 9.0)
    assert (over.state, over.time, over.cause) == ("closed", OPENED_S + 9.0, "normal")
    assert (over.alarm["state"], over.alarm["quality"]) == ("closed", {"flow": "held"})
    assert over.alarm["closed"] == iso_time(OPENED_S + 9.0)
    assert over.counters == {"alarms_closed": 1}
    assert str(over).endswith(": back to normal")
    assert alarms.update([]) == alarms.stored == []


def test_what_is_taken_as_the_new_normal_closes_and_says_so() -> None:
    over = opened(1).take(replace(event(closed=OPENED_S + 9.0), accepted=True), {})
    assert over is not None
    assert (over.cause, over.alarm["ended"], over.alarm["cause"]) == ("accepted", "accepted", None)
    assert over.counters == {"alarms_closed": 1}
    assert "Z, when it was taken as the new normal: flow" in describe(over.alarm)


def test_a_level_is_told_with_the_nearest_known_one() -> None:
    channel = Contribution("flow", 2.0, 71.3, 84.2, level=True)
    change = Alarms("pump-7", {"flow": "m3/h"}).take(replace(event(), channels=(channel,)), {})
    assert change is not None
    assert change.alarm["channels"][0]["level"] is True
    assert "flow 71.3 m3/h, known levels end at 84.2" in describe(change.alarm)


def assert_documented(alarm: dict[str, Any]) -> None:
    """Check an alarm against the schema of its message."""
    components = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())["components"]
    data = components["schemas"]["Alarm"]["allOf"][1]["properties"]["data"]
    jsonschema.Draft202012Validator(data | {"components": components}).validate(alarm)


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize("accepted", [False, True])
def test_an_alarm_is_as_its_schema_says(level: bool, accepted: bool) -> None:
    channel = Contribution("flow", 2.0, 71.3, 84.2, level=level)
    over = replace(event(closed=OPENED_S + 9.0), channels=(channel,), accepted=accepted)
    change = opened(1).take(over, {})
    assert change is not None
    assert_documented(change.alarm)


def test_a_further_fault_has_an_alarm_of_its_own_beside_the_first() -> None:
    alarms = Alarms("pump", {"flow": "m3/h"})
    further = replace(event(2), during=1, course="persistent")
    for each in (event(1), further):
        alarms.take(each, {})
    alarms.update([event(1), further])
    first, second = alarms.stored
    assert "during" not in first
    assert (second["during"], second["course"]) == (1, "persistent")
    assert_documented(second)
    said = "pump: flow higher than expected (a further fault beside alarm #1)"
    assert first_sentence(second) == said
    german = first_sentence(second, "de")
    assert german.endswith("(weitere Störung neben Alarm #1)")
    assert " beside #1, severity" in describe(second)
    assert closed(alarms, OPENED_S + 5.0).alarm["number"] == 1
    assert [alarm["number"] for alarm in alarms.open] == [2]


def test_a_spike_that_persists_is_stored_again() -> None:
    alarms = Alarms("pump", {"flow": "m3/h"})
    spike = replace(event(), course="spike")
    alarms.take(spike, {})
    alarms.update([spike])
    assert alarms.update([spike]) == []
    (stored,) = alarms.update([replace(spike, course="persistent")])
    assert stored["course"] == "persistent"
    assert_documented(stored)


@pytest.mark.parametrize("cause", CAUSES)
def test_the_schema_has_every_cause_of_a_closing(cause: Cause) -> None:
    (over,) = opened(1).close(cause, OPENED_S + 60.0)
    assert_documented(over.alarm)


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause != "normal"])
def test_an_alarm_of_which_no_event_says_so_is_closed_for_a_cause(cause: Cause) -> None:
    (over,) = opened(1).close(cause, OPENED_S + 60.0)
    assert (over.state, over.time, over.cause) == ("closed", OPENED_S + 60.0, cause)
    assert over.alarm["closed"] == iso_time(OPENED_S + 60.0)
    watched = ("limit_passed", "accepted")  # another alarm goes on, or its own event says so
    unwatched = {} if cause in watched else {"alarms_unwatched": 1}
    assert over.counters == {"alarms_closed": 1} | unwatched
    assert str(over).endswith(f": {ENGLISH.text(reason_of(cause))}")


def test_those_that_another_stream_goes_on_with_stay_open() -> None:
    alarms = opened(1, 2)
    (over,) = alarms.close("unwatched", OPENED_S + 1.0, but={2})
    assert over.alarm["number"] == 1
    assert [alarm["number"] for alarm in alarms.open_among({1, 2})] == [2]


def test_only_those_that_are_meant_and_open_are_closed() -> None:
    alarms = opened(1, 2, 3)
    closed(alarms, OPENED_S + 1.0, 2)
    found = alarms.close("limit_removed", OPENED_S + 2.0, [2, 3, 7])
    assert [change.alarm["number"] for change in found] == [3]
    found = alarms.close("unwatched", OPENED_S + 3.0)
    assert [change.alarm["number"] for change in found] == [1]
    assert alarms.close("unwatched", OPENED_S + 4.0) == []


@pytest.mark.parametrize("before_s", [0.0004, 1.0, 1e9])
def test_no_alarm_closes_before_it_opened(before_s: float) -> None:
    """Whoever closes it: a sample that a device tells late, or a clock that was set back."""
    by_event = closed(opened(1), OPENED_S - before_s)
    (by_clock,) = opened(1).close("unwatched", OPENED_S - before_s)
    for change in (by_event, by_clock):
        assert change.time == OPENED_S
        assert change.alarm["closed"] == change.alarm["opened"]


def test_what_is_closed_stays_closed_whatever_its_event_does() -> None:
    alarms = opened(1, 2)
    alarms.close("limit_removed", OPENED_S + 1.0, [1])
    assert alarms.update([event(1, score=9.0), event(2)]) == []
    assert [alarm["number"] for alarm in alarms.stored] == [2]
    assert alarms.take(event(1, OPENED_S + 5.0), {}) is None


def test_a_restart_goes_on_with_what_is_stored() -> None:
    alarms = Alarms("pump", {"flow": "m3/h"})
    before = opened(1, 2).stored
    del before[1]["quality"]  # as of an older version
    alarms.adopt(before)
    assert alarms.stored == before
    assert closed(alarms, OPENED_S + 1.0, 1).alarm["quality"] == {"flow": "held"}
    assert closed(alarms, OPENED_S + 1.0, 2).alarm["quality"] == {}


def test_an_event_that_the_store_has_no_alarm_of_is_stored_and_closes() -> None:
    """The store may have lost it, and the detector's memory not."""
    alarms = Alarms("pump", {"flow": "m3/h"})
    assert len(alarms.update([replace(event(), number=4)])) == 1
    assert closed(alarms, OPENED_S + 1.0, 4).alarm["number"] == 4
    assert closed(Alarms("pump", {"flow": "m3/h"}), OPENED_S + 1.0, 5).state == "closed"


def test_every_state_has_its_place_in_the_order_of_what_goes_first() -> None:
    assert sorted(SHED_FIRST) == sorted(get_args(State))
    assert SHED_FIRST[-1] == "opened"
    assert set(CAUSES) == set(get_args(Cause))


def test_times_are_read_as_they_are_written() -> None:
    assert unix_s(iso_time(OPENED_S + 0.25)) == OPENED_S + 0.25


def test_those_left_open_are_stored_as_they_are_until_they_are_named() -> None:
    alarms = opened(1, 2, 3)
    kept = {alarm["number"]: alarm for alarm in alarms.stored}
    alarms.leave_open(["anomaly"], but=[3])
    assert alarms.update([event(3)]) == []
    assert [alarm["number"] for alarm in alarms.stored] == [3, 1, 2]
    assert alarms.stored[1:] == [kept[1], kept[2]]
    (other,) = alarms.close("unwatched", OPENED_S + 60.0)
    assert other.alarm["number"] == 3
    (named,) = alarms.close("unwatched", OPENED_S + 60.0, [1])
    assert named.alarm["number"] == 1
    assert alarms.update([]) == []
    assert alarms.stored == [kept[2]]
    alarms.leave_open([])
    assert [change.alarm["number"] for change in alarms.close("stream_removed", OPENED_S)] == [2]


def test_alarms_of_other_kinds_are_not_left_open() -> None:
    alarms = opened(1)
    alarms.leave_open(["limit"])
    assert len(alarms.close("unwatched", OPENED_S + 60.0)) == 1
