"""No alarm closes before it opened, nor begins after that: whatever the clocks do, and whenever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alarms.lifecycle import CAUSES, Alarms, Change
from models.messages import Contribution, Event, EventKind, LimitForecast, LimitPassed
from models.times import unix_s
from tests.life_rig import CHANNELS, Life

APART = (CHANNELS[:1], CHANNELS[1:])
PASSED_S = 1_700_000_000.0
LIMITS: dict[str, LimitForecast | LimitPassed] = {
    "limit": LimitForecast(
        *("high", "critical", 55.0, "m3/h", PASSED_S),
        *(0.9, 60.0, None, None, 600.0),
    ),
    "limit_passed": LimitPassed(
        *("high", "critical", 45.0, "m3/h"), *(50.0, PASSED_S, 50.0, PASSED_S)
    ),
}
STEPS_S = st.sampled_from([-86_400.0, -7200.0, -30.0, -1.0, 1.0, 30.0, 7200.0, 86_400.0])
SECONDS = st.integers(1, 45)

ACTIONS: st.SearchStrategy[Callable[[Life], None]] = st.one_of(
    st.builds(lambda n: lambda life: life.rows(n), SECONDS),
    st.builds(lambda n: lambda life: life.rows(n, about=3.0), SECONDS),
    st.builds(lambda n, at: lambda life: life.rows(n, inputs=[at]), SECONDS, st.integers(0, 1)),
    st.builds(lambda n: lambda life: life.pause(n), st.integers(1, 100)),
    st.builds(lambda by_s: lambda life: life.set_clock(by_s), STEPS_S),
    st.builds(lambda by_s: lambda life: set_device(life, by_s), STEPS_S),
    st.builds(
        lambda away_s, by_s, detector: lambda life: life.restart(away_s, by_s, detector),
        *(st.sampled_from([0.0, 10.0, 40.0, 600.0]), st.just(0.0) | STEPS_S),
        st.sampled_from([6.0, 7.0]),
    ),
    st.builds(lambda detector: lambda life: life.exchange(detector), st.sampled_from([6.0, 7.0])),
)


def set_device(life: Life, by_s: float) -> None:
    life.device_s += by_s


def check(told: list[dict[str, Any]]) -> None:
    """Each alarm opens once, or is over at once, and closes once; its times are in order."""
    states: dict[int, list[str]] = {}
    for alarm in told:
        states.setdefault(alarm["number"], []).append(alarm["state"])
        times = [alarm["onset"], alarm["opened"], alarm["closed"] or alarm["opened"]]
        assert times == sorted(times), alarm
    allowed = (["opened"], ["opened", "closed"])
    for number, own in states.items():
        kind = next(alarm["kind"] for alarm in told if alarm["number"] == number)
        assert own == ["closed"] if kind == "gap" else own in allowed, (number, kind, own)


@settings(max_examples=60, deadline=None)
@given(timed=st.booleans(), lateness=st.sampled_from([0, 3]), actions=st.lists(ACTIONS, max_size=9))
def test_no_life_of_a_stream_closes_an_alarm_before_it_opened(
    timed: bool, lateness: int, actions: list[Callable[[Life], None]]
) -> None:
    life = Life(APART, timed=timed, lateness_samples=lateness, silent_after_s=50.0)
    life.rows(40)
    for act in actions:
        act(life)
    life.rows(5)
    check(life.told)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in get_args(EventKind) if kind != "gap"]),
    corrected=st.lists(STEPS_S, max_size=3),
    closed_s=st.floats(-1e6, 1e6),
    cause=st.sampled_from([None, *CAUSES]),
)
def test_no_kind_of_alarm_closes_before_it_opened(
    kind: EventKind, corrected: list[float], closed_s: float, cause: Any
) -> None:
    """The clock is corrected while it is open; its event closes it, or nobody watches it."""
    opened_s, number = PASSED_S, 3
    alarms = Alarms("pump", {"flow": "m3/h"})
    event = Event(
        number=number,
        kind=kind,
        detector="sensor",
        onset=opened_s - 3.0,
        opened=opened_s,
        score=1.0,
        probability=None,
        severity="low",
        channels=(Contribution("flow", 1.0, 50.0, None),),
        limit=LIMITS.get(kind),
    )
    opened = alarms.take(event, {})
    assert opened is not None
    for by_s in corrected:
        event = event.moved(by_s)
        alarms.update([event])
    over: Change | None
    if cause is None:
        over = alarms.take(Event(**as_fields(event) | {"closed": opened_s + closed_s}), {})
    else:
        (over,) = alarms.close(cause, opened_s + closed_s)
    assert over is not None
    check([opened.alarm, over.alarm])
    assert over.time >= unix_s(over.alarm["opened"]) - 0.001


def as_fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}
