"""Limits that are passed: when the alarm opens and closes, what it says, and what lasts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.alarms.document import describe, gravest_first
from agent.alarms.measured import MeasuredLimits
from agent.config.load import StreamTable
from agent.config.streams import LimitTable
from agent.store.batch import Batch
from agent.store.reader import Reader
from models.bundle import Bundle
from models.manifest import unscaled
from models.messages import GOOD, HELD, INTERPOLATED, MISSING, Event, LimitPassed, Samples
from tests.agent.test_clock import World
from tests.fleet_rig import Fleeting, rows
from tests.forecast_rig import BEARING, LIMIT, LIMITS, Gateway, configure, rising

START_S = 1_700_000_000.0
CHANNELS = [unscaled("head", "m", None, None), unscaled("flow", "m3/h", None, None)]
FLOW = {"channel": "flow", "high_critical": 120.0, "off_delay_s": 2.0}
MakeBundle = Callable[..., Bundle]
NO_VALUE = math.nan
KNOWN_S = 20.0


class Watched:
    """A watch, fed with a value of flow each second."""

    def __init__(self, **settings: Any) -> None:
        self._tables = [LimitTable.model_validate(FLOW | settings)]
        self.watch = MeasuredLimits(self._tables, CHANNELS, KNOWN_S)
        self.events: list[Event] = []
        self._numbers = itertools.count(7)
        self.fed = 0

    def feed(self, *values: float, quality: int = GOOD) -> list[str]:
        """Feed samples in one call; return what opened and closed."""
        times = START_S + self.fed + np.arange(len(values), dtype=np.float64)
        self.fed += len(values)
        both = np.array([[0.0, value] for value in values], np.float32)
        codes = None if quality == GOOD else np.full(both.shape, quality, np.uint8)
        found = self.watch.take(Samples(times, both, codes), lambda: next(self._numbers))
        self.events += found
        return [f"{event.limit.level if event.limit else ''} {event.state}" for event in found]

    def restart(self, **settings: Any) -> list[int]:
        saved = self.watch.to_bytes()
        tables = [LimitTable.model_validate(FLOW | settings)] if settings else self._tables
        self.watch = MeasuredLimits(tables, CHANNELS, KNOWN_S)
        return self.watch.restore(saved)


def limit(event: Event) -> LimitPassed:
    assert isinstance(event.limit, LimitPassed)
    return event.limit


def test_a_value_beyond_the_limit_is_an_alarm_with_the_first_sample() -> None:
    watched = Watched()
    assert watched.feed(130.0) == ["critical opened"]
    (event,) = watched.events
    assert (event.number, event.kind, event.detector) == (7, "limit_passed", "limit")
    assert (event.severity, event.probability, event.score) == ("high", None, 1.0)
    assert event.onset == event.opened == START_S
    assert event.channels[0].channel == "flow"
    assert event.channels[0].observed == 130.0
    assert limit(event) == LimitPassed(
        "high", "critical", 120.0, "m3/h", 130.0, START_S, 130.0, START_S
    )
    assert watched.watch.passed == {"flow high critical 120.0"}


@pytest.mark.parametrize("value", [120.0, 0.1, 80.1, -0.7])
def test_the_limit_itself_is_not_beyond_it(value: float) -> None:
    assert Watched(high_critical=value).feed(value - 1, value) == []
    assert Watched(high_critical=None, low_critical=value).feed(value + 1, value) == []
    closing = Watched(high_critical=value, off_delay_s=0.0)
    assert closing.feed(value + 1, value) == ["critical opened", "critical closed"]


def test_a_low_limit_is_passed_from_above() -> None:
    watched = Watched(high_critical=None, low_warning=10.0)
    assert watched.feed(11.0, 10.0) == []
    assert watched.feed(9.0, 7.0, 8.0) == ["warning opened"]
    assert watched.feed(10.5, 11.0, 11.0) == ["warning closed"]
    closed = watched.events[1]
    assert closed.severity == "medium"
    assert (limit(closed).side, limit(closed).worst, limit(closed).worst_at) == (
        *("low", 7.0),
        START_S + 3,
    )
    assert limit(closed).newest == 11.0
    assert closed.worst == START_S + 3  # as of other kinds
    assert closed.channels[0].observed == 7.0


def test_the_on_delay_must_be_over_without_a_value_within_the_limit() -> None:
    watched = Watched(on_delay_s=3.0)
    assert watched.feed(140.0, 130.0, 130.0, 119.0) == []
    assert watched.feed(130.0, 135.0, 130.0) == []
    assert watched.feed(131.0) == ["critical opened"]
    (event,) = watched.events
    assert (event.onset, event.opened) == (START_S + 4, START_S + 7)
    assert limit(event).worst == 135.0  # of this time, not of the one before


def test_it_closes_after_the_off_delay_beyond_the_deadband() -> None:
    watched = Watched(deadband=5.0)
    assert watched.feed(130.0, 119.0, 116.0, 118.0) == ["critical opened"]
    assert watched.feed(114.0, 115.0, 116.0, 115.0, 115.0) == []
    assert watched.feed(114.0) == ["critical closed"]
    assert watched.events[1].closed == START_S + 9
    assert watched.watch.passed == frozenset()
    assert watched.feed(130.0) == ["critical opened"]
    assert watched.events[2].number == 8


@pytest.mark.parametrize("quality", [GOOD, HELD, INTERPOLATED, MISSING])
def test_what_is_not_measured_opens_and_closes_nothing(quality: int) -> None:
    watched = Watched(on_delay_s=2.0)
    far, back = (NO_VALUE, NO_VALUE) if quality == GOOD else (500.0, 0.0)
    assert watched.feed(*[far] * 10, quality=quality) == []
    assert watched.watch.active is False
    assert watched.feed(130.0) == []
    assert watched.feed(back, quality=quality) == []  # nor does it interrupt the delay
    assert watched.feed(130.0) == ["critical opened"]
    assert watched.feed(*[back] * 10, quality=quality) == []
    assert watched.feed(100.0) == []
    assert watched.feed(far, quality=quality) == []
    assert watched.feed(100.0) == ["critical closed"]


def test_an_infinite_value_is_no_measured_one() -> None:
    assert Watched().feed(math.inf) == []


def test_a_value_that_swings_about_the_limit_opens_once() -> None:
    watched = Watched(off_delay_s=60.0)
    assert watched.feed(*[121.0, 119.0] * 100) == ["critical opened"]


def test_staff_is_called_once_for_a_value_beyond_both_limits() -> None:
    watched = Watched(high_warning=100.0)
    assert watched.feed(130.0, 130.0) == ["critical opened"]
    assert len(watched.watch.passed) == 2
    assert watched.feed(110.0, 110.0, 110.0) == ["critical closed", "warning opened"]
    warning = watched.events[2]
    assert (warning.onset, warning.opened) == (START_S, START_S + 4)
    assert watched.feed(130.0) == ["critical opened"]  # worse: it is another call
    assert [event.number for event in watched.watch.open_events()] == [9, 8]
    assert watched.feed(90.0, 90.0, 90.0) == ["critical closed", "warning closed"]


def test_a_warning_that_is_over_with_the_critical_limit_is_never_told() -> None:
    watched = Watched(high_warning=100.0)
    assert watched.feed(130.0, 90.0, 90.0, 90.0) == ["critical opened", "critical closed"]


@pytest.mark.parametrize("back", [100.0, 109.0])
def test_a_warning_opens_after_the_critical_limit_only_with_a_value_beyond_it(back: float) -> None:
    watched = Watched(high_warning=110.0, deadband=2.0)
    assert watched.feed(130.0, 112.0, 112.0) == ["critical opened"]
    # the critical limit is over, and of the warning the off-delay runs: nothing to be called for
    assert watched.feed(back, back) == ["critical closed"]
    again = watched.feed(111.0)
    assert again == ["warning opened"]
    (*_, event) = watched.events
    assert (event.onset, limit(event).newest) == (START_S, 111.0)


def test_an_open_event_is_brought_up_to_date_now_and_then() -> None:
    watched = Watched()
    watched.feed(130.0, *[140.0] * 5)
    (event,) = watched.watch.open_events()
    assert (limit(event).worst, limit(event).newest) == (130.0, 130.0)  # each is a write
    watched.feed(*[135.0] * 5)
    (event,) = watched.watch.open_events()
    assert (limit(event).worst, limit(event).newest) == (140.0, 135.0)
    assert limit(event).newest_at == START_S + 10


def test_while_the_off_delay_runs_an_open_event_says_since_when_the_value_is_back() -> None:
    watched = Watched(off_delay_s=9.0)
    watched.feed(130.0, 130.0, 110.0, 111.0)
    (event,) = watched.watch.open_events()
    assert (limit(event).back_since, limit(event).off_delay_s) == (START_S + 2, 9.0)
    watched.feed(130.0)
    (event,) = watched.watch.open_events()
    assert (limit(event).back_since, limit(event).off_delay_s) == (None, None)


def test_a_settled_event_has_its_worst_and_its_newest_value() -> None:
    watched = Watched()
    watched.feed(130.0, 140.0, 135.0)
    watched.watch.settle()
    (event,) = watched.watch.open_events()
    assert (limit(event).worst, limit(event).newest) == (140.0, 135.0)


@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_that_was_set_forward_ends_no_delay_early(restart: bool) -> None:
    """Nor does a long time without any value, after which nobody knows what was meanwhile."""
    watched = Watched(on_delay_s=30.0, off_delay_s=40.0)

    def step() -> None:
        watched.fed += 3600
        if restart:
            assert watched.restart() == []

    watched.feed(*[130.0] * 6)
    step()
    assert watched.feed(*[130.0] * 5) == []  # 5 s, KNOWN_S and 4 s
    assert watched.feed(130.0, 130.0) == ["critical opened"]
    assert watched.events[0].opened - watched.events[0].onset == 30.0
    watched.feed(*[100.0] * 11)
    step()
    assert watched.feed(*[100.0] * 10) == []
    (event,) = watched.watch.open_events()
    assert limit(event).back_since == START_S + watched.fed - 1 - 39
    assert watched.feed(100.0, 100.0) == ["critical closed"]


def test_a_clock_that_was_set_back_lets_the_delay_begin_again() -> None:
    watched = Watched(on_delay_s=2.0)
    watched.fed = 3600
    assert watched.feed(130.0, 130.0) == []
    watched.fed = 0
    assert watched.feed(130.0, 130.0) == []
    assert watched.feed(130.0) == ["critical opened"]


VALUES = [130.0, 130.0, 140.0, 125.0, 110.0, 110.0, 110.0, 99.0, NO_VALUE, 99.0, 99.0, 130.0, 130.0]


@pytest.mark.parametrize("after", range(len(VALUES)))
def test_a_restart_changes_nothing(after: int) -> None:
    given = {"high_warning": 100.0, "on_delay_s": 1.0}
    whole, parts = Watched(**given), Watched(**given)
    whole.feed(*VALUES)
    assert len(whole.events) == 5
    for half in (VALUES[:after], VALUES[after:]):
        if half:
            parts.feed(*half)
        assert parts.restart() == []
    assert parts.events == whole.events
    assert parts.watch.open_events() == whole.watch.open_events()


def test_an_event_whose_limit_changed_is_left_and_one_with_other_delays_stays() -> None:
    watched = Watched()
    watched.feed(130.0)
    assert watched.restart(off_delay_s=100.0) == []
    assert watched.watch.open_events() == watched.events
    assert watched.restart(high_critical=125.0) == [7]
    assert watched.watch.open_events() == []
    assert watched.feed(130.0) == ["critical opened"]


def test_in_a_block_all_is_found_as_sample_by_sample() -> None:
    random = np.random.default_rng(3)
    values = (110 + random.normal(0, 12, 500)).tolist()
    given = {"high_warning": 115.0, "low_warning": 95.0, "on_delay_s": 1.0, "deadband": 2.0}
    whole, single = Watched(**given), Watched(**given)
    whole.feed(*values)
    for value in values:
        single.feed(value)
    assert whole.events == single.events
    assert len(whole.events) > 10


# ---- in a stream


def saved(fleet: Fleeting) -> Batch:
    fleet.fleet.flush(fleet.batch)
    fleet.stream.save(fleet.batch, fleet.batch.rows())
    return fleet.flush()


def told(batch: Batch) -> list[tuple[int, str, str]]:
    return [
        (message.data["number"], message.data["kind"], message.data["state"])
        for message in batch.messages
        if message.kind == "alarm"
    ]


HIGH = {"channel": "flow", "high_critical": 49.0, "off_delay_s": 3.0}


def guarded(**settings: Any) -> Fleeting:
    """Return a stream of the baseline whose flow is beyond its limit from the first sample on."""
    fleet = Fleeting("pump", limits=[HIGH | settings])
    fleet.take(rows(3))
    return fleet


def test_the_baseline_guards_a_limit_before_it_has_learnt_anything() -> None:
    batch = saved(guarded())
    assert told(batch) == [(1, "limit_passed", "opened")]
    (message,) = [message for message in batch.messages if message.kind == "alarm"]
    assert message.detector == "limit"
    alarm = message.data
    assert (alarm["severity"], alarm["channels"][0]["unit"]) == ("high", "m")
    assert alarm["channels"][0]["expected"] is None
    assert alarm["limit"]["value"] == 49.0
    assert alarm["limit"]["newest_at"] == alarm["opened"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "act now: flow is dangerously high; bring it back, or the machine into a safe state"),
        ({"action": "throttle"}, "throttle"),
        ({"action": "throttle", "low_action": "open the valve"}, "throttle"),
        (
            {"high_critical": None, "high_warning": 49.0},
            "find out why flow is so high, and plan the work that the machine needs",
        ),
        (
            {"high_critical": None, "low_critical": 51.0},
            "act now: flow is dangerously low; bring it back, or the machine into a safe state",
        ),
        (
            {"high_critical": None, "low_warning": 51.0, "low_action": "open the valve"},
            "open the valve",
        ),
    ],
)
def test_what_to_do_follows_from_the_limit_or_the_configuration(
    settings: Mapping[str, Any], says: str
) -> None:
    (alarm,) = saved(guarded(**settings)).alarms[:1]
    assert alarm["action"] == says
    assert describe(alarm).endswith(f". To do: {says}")


def test_it_reads_as_a_person_would_say_it() -> None:
    fleet = guarded(high_critical=None, low_critical=60.0)
    fleet.take([[70.0, 2.0]] * 10, 3)
    opened, closed = (describe(alarm) for alarm in saved(fleet).alarms)
    assert opened.startswith(
        "pump #1 limit passed, severity high, since 2023-11-14T22:13:20.000Z, still open: flow"
        " below 60 m (critical limit): lowest 50."
    )
    assert ", newest 50." in opened
    assert "still open" not in closed
    assert ": flow below 60 m (critical limit): lowest 49.98" in closed
    assert "newest" not in closed
    assert "high limit" not in opened + closed


def test_a_value_that_is_back_calls_nobody_to_act_now() -> None:
    fleet = guarded(off_delay_s=90.0)
    fleet.take([[40.0, 2.0]] * 10, 3)
    (alarm,) = saved(fleet).alarms[-1:]
    assert describe(alarm).endswith(
        ". To do: wait: flow is back since 2023-11-14T22:13:23.000Z, and the alarm closes once it"
        " has been back for 90 s. If it does not stay back: act now: flow is dangerously high;"
        " bring it back, or the machine into a safe state"
    )
    fleet.take([[40.0, 2.0]] * 90, 13)
    (alarm,) = saved(fleet).alarms[-1:]
    assert alarm["state"] == "closed"
    assert "is back since" not in describe(alarm)


def test_a_clean_stop_stores_the_worst_value_so_far() -> None:
    fleet = guarded()
    saved(fleet)
    fleet.take([[70.0, 2.0]], 3)
    fleet.take(rows(1), 4)
    fleet.fleet.flush(fleet.batch)
    fleet.stream.save(fleet.batch, fleet.batch.rows(), stopping=True)
    (alarm,) = fleet.flush().alarms
    assert alarm["limit"]["worst"] == alarm["channels"][0]["observed"] == 70.0
    assert alarm["limit"]["newest_at"] == "2023-11-14T22:13:24.000Z"


def test_what_is_certain_is_listed_before_what_is_likely() -> None:
    alarm = {"severity": "high", "probability": 1e-9, "score": 30.0, "kind": "anomaly"}
    passed = {"severity": "high", "probability": None, "score": 1.0, "kind": "limit_passed"}
    low = passed | {"severity": "medium"}
    assert gravest_first([low, alarm, passed]) == [passed, alarm, low]


def restarted(batch: Batch, **settings: Any) -> Fleeting:
    after = Fleeting("pump", limits=[HIGH], **settings)
    last = {alarm["number"]: alarm for alarm in batch.alarms}
    is_open = [alarm for alarm in last.values() if alarm["state"] == "opened"]
    after.stream.restore(batch.state["pump"], is_open, len(last), after.batch)
    return after


@pytest.mark.parametrize("settings", [{}, {"deviations_max": 7.0}])
def test_an_open_alarm_lasts_over_a_restart_and_with_another_detector(
    settings: Mapping[str, Any],
) -> None:
    after = restarted(saved(guarded()), **settings)
    after.take(rows(5), 3)
    again = restarted(saved(after), **settings)  # what was forgotten has been saved anew
    assert told(again.batch) == []
    again.take([[40.0, 2.0]] * 10, 8)
    assert told(saved(again)) == [(1, "limit_passed", "closed")]


@pytest.mark.parametrize("before", [0, 3])
def test_after_a_crash_samples_that_are_taken_again_call_once(before: int) -> None:
    """Samples are stored before the memory: ``before`` of those beyond the limit were saved."""
    first = Fleeting("pump", limits=[HIGH])
    first.take([[40.0, 2.0]] * 3 + rows(before))
    batch = saved(first)
    first.take(rows(3), 3 + before)
    ((_, later, _),) = first.flush().samples
    after = restarted(batch)
    after.stream.catch_up(later, after.batch)
    opened = [(1, "limit_passed", "opened")]
    assert told(after.batch) == ([] if before else opened)
    after.take([[40.0, 2.0]] * 10, 6 + before)
    assert told(saved(after))[-1:] == [(1, "limit_passed", "closed")]


def test_a_delay_lasts_over_a_restart() -> None:
    before = Fleeting("pump", limits=[HIGH | {"on_delay_s": 5.0}])
    before.take(rows(4))
    batch = saved(before)
    after = Fleeting("pump", limits=[HIGH | {"on_delay_s": 5.0}])
    after.stream.restore(batch.state["pump"], [], 0, after.batch)
    after.take(rows(3), 4)
    (alarm,) = after.flush().alarms
    assert (alarm["onset"], alarm["opened"]) == (
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:25.000Z",
    )


def test_what_is_over_is_saved_as_that() -> None:
    fleet = guarded()
    assert "passed_limits" in saved(fleet).state["pump"]
    fleet.take([[40.0, 2.0]] * 10, 3)
    over = saved(fleet)
    after = Fleeting("pump", limits=[HIGH])
    after.stream.restore(over.state["pump"], [], 1, after.batch)
    assert after.stream.save(after.batch, 13) is None
    assert after.stream.document()["open_alarms"] == []
    assert "passed_limits" not in saved(fleet).state["pump"]  # each is a write


def test_an_alarm_goes_on_where_another_detector_takes_over() -> None:
    before, after = guarded(), Fleeting("pump", limits=[HIGH], deviations_max=7.0)
    batch = saved(before)
    after.fleet.replace(0, before.fleet, 0, after.batch)
    assert told(after.batch) == []
    after.take([[40.0, 2.0]] * 10, 3)
    assert told(saved(after)) == [(1, "limit_passed", "closed")]
    assert told(batch) == [(1, "limit_passed", "opened")]


def test_an_alarm_closes_where_another_detector_takes_over_and_the_limit_is_gone() -> None:
    before, after = guarded(), Fleeting("pump", limits=[HIGH | {"high_critical": 45.0}])
    saved(before)
    after.fleet.replace(0, before.fleet, 0, after.batch)
    assert told(after.batch) == [(1, "limit_passed", "closed")]
    after.take(rows(1), 3)
    assert told(after.flush())[1:] == [(2, "limit_passed", "opened")]


def test_a_reload_closes_the_alarm_of_a_limit_that_is_gone_and_guards_a_new_one() -> None:
    fleet = guarded()
    saved(fleet)
    (table,) = fleet.tables

    def reloaded(**changes: Any) -> Batch:
        new = [LimitTable.model_validate(HIGH | changes)]
        fleet.stream.reconfigure(table.model_copy(update={"limits": new}), 10.0, fleet.batch)
        fleet.take(rows(1), 3 + int(fleet.stream.counters["samples"]))
        return saved(fleet)

    assert told(reloaded(off_delay_s=10.0, action="throttle")) == []
    assert told(reloaded(high_critical=49.5)) == [
        (1, "limit_passed", "closed"),
        (2, "limit_passed", "opened"),
    ]
    assert told(reloaded(high_critical=60.0)) == [(2, "limit_passed", "closed")]
    assert StreamTable.model_validate(table.model_dump()).limits == table.limits


def test_times_of_arrival_move_with_the_clock() -> None:
    world = World(START_S, "unsynced")
    clock = world.clock()
    fleet = Fleeting("pump", clock=clock, limits=[HIGH])
    fleet.stream.teller.timed_by_arrival = True
    world.wall_s += 3600.0
    assert clock.look() is not None
    fleet.take(rows(1))
    (alarm,) = fleet.flush().alarms
    assert alarm["onset"] == alarm["limit"]["worst_at"] == "2023-11-14T23:13:20.000Z"


# ---- beside forecasts, with the store


@pytest.fixture
def gateway(tmp_path: Path, forecasting_bundle: MakeBundle) -> Iterator[Gateway]:
    """A gateway whose alarm by forecast is open, with a limit that is about to be passed."""
    one = Gateway(configure(tmp_path, forecasting_bundle(), LIMITS))
    yield one
    one.close()


def test_a_limit_that_is_passed_takes_the_place_of_its_forecast(
    tmp_path: Path, gateway: Gateway
) -> None:
    ramp = rising(46)
    gateway.feed(ramp)
    assert [(one["kind"], one["state"]) for one in gateway.sent] == [("limit", "opened")]
    beyond = np.repeat(ramp[-1:], 100, axis=0)
    beyond[:, BEARING] = LIMIT + 1
    gateway.feed(beyond, len(ramp))
    found = [(one["number"], one["kind"], one["state"]) for one in gateway.sent[1:]]
    first, second = gateway.sent[0]["number"], gateway.sent[1]["number"]
    assert found == [(second, "limit_passed", "opened"), (first, "limit", "closed")]
    with Reader(tmp_path / "data") as reader:
        still = [one["number"] for one in reader.alarms(10, open_only=True) if one["limit"]]
    assert still == [second]
    assert gateway.stream.document()["forecast"]["limits"][0]["probability"] == 1.0


def test_a_restart_of_the_gateway_opens_no_second_alarm(
    tmp_path: Path, gateway: Gateway, forecasting_bundle: MakeBundle
) -> None:
    hot = rising(20)
    hot[:, BEARING] = LIMIT + 5
    gateway.feed(hot[:50])
    gateway.close()
    again = Gateway(configure(tmp_path, forecasting_bundle(), LIMITS))
    again.feed(hot[50:], 50)
    cool = np.repeat(hot[-1:], 400, axis=0)
    cool[:, BEARING] = LIMIT - 30
    again.feed(cool, len(hot))
    numbers = [(one["number"], one["kind"], one["state"]) for one in again.sent]
    assert numbers == [(gateway.sent[0]["number"], "limit_passed", "closed")]
    again.close()


def test_a_fresh_start_beyond_the_limit_calls_once_and_at_once(gateway: Gateway) -> None:
    hot = rising(80)
    hot[:, BEARING] = LIMIT + 5
    gateway.feed(hot[:1])
    gateway.feed(hot[1:], 1)
    assert [(one["kind"], one["state"]) for one in gateway.sent] == [("limit_passed", "opened")]
