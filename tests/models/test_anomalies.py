"""Further events: a second fault while an event is open, and what stays part of the first."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from models.events import ANOMALIES_MAX, EventRules, EventState, Recent
from models.messages import Event, Float32
from models.sensors import SensorRuns
from models.state import event_scalars, set_events
from models.threshold import Exceedance
from tests.models.conftest import START_S, Change

REST = 5
SETTINGS = {"on_samples": 2, "off_samples": 3, "deadband": 0.8}
FURTHER = SETTINGS | {"further_ratio": 2.0, "rest_samples": REST}


@pytest.fixture(scope="module")
def rules(changed: Change) -> EventRules:
    return EventRules(changed(events=FURTHER).manifest)


def rows(*channels: list[float]) -> Float32:
    """Return the ratios (n, 8) of the first channels; the others are calm."""
    ratio = np.zeros((len(channels[0]), 8), np.float32)
    ratio[:, : len(channels)] = np.array(channels, np.float32).T
    return ratio


def play(
    rules: EventRules, ratio: Float32, state: EventState | None = None, chunk: int = 1000
) -> list[Event]:
    state = rules.start() if state is None else state
    times = np.arange(len(ratio), dtype=np.float64) + START_S
    recent = Recent(times, ratio * 10, ratio)
    events: list[Event] = []
    for begin in range(0, len(ratio), chunk):
        part = ratio[begin : begin + chunk]
        zeros = np.zeros(part.shape, np.int64)
        seen = Exceedance(np.ones_like(part), part, part > 1)
        events += rules.step(state, recent, begin, seen, SensorRuns(zeros, zeros))
    return events


def brief(events: list[Event]) -> list[tuple[int, str, int]]:
    return [(e.number, e.state, int(e.time - START_S)) for e in events]


def test_another_channel_far_out_while_an_alarm_rests_is_a_further_fault(rules: EventRules) -> None:
    first = [3.0] * 20 + [0.0] * 10
    second = [0.0] * 12 + [2.5] * 13 + [0.0] * 5
    events = play(rules, rows(first, second))
    assert brief(events) == [
        (1, "opened", 1),
        (2, "opened", 13),
        (1, "closed", 22),  # although the second channel is still out
        (2, "closed", 27),
    ]
    one, two = events[:2]
    assert (one.during, two.during) == (None, 1)
    assert two.onset == START_S + 12
    assert [channel.channel for channel in two.channels] != [one.channels[0].channel]
    assert events[3].score == 2.5
    assert events[2].score == 3.0


def test_a_channel_that_joins_before_the_rest_belongs_to_the_fault(rules: EventRules) -> None:
    first = [3.0] * 20 + [0.0] * 5
    joining = [0.0] * 5 + [6.0] * 15 + [0.0] * 5
    assert brief(play(rules, rows(first, joining))) == [(1, "opened", 1), (1, "closed", 22)]


def test_a_score_far_above_its_plateau_is_a_further_fault(rules: EventRules) -> None:
    score = [3.0] * 10 + [7.0] * 10 + [3.0] * 10 + [0.0] * 5
    events = play(rules, rows(score))
    assert brief(events) == [
        (1, "opened", 1),
        (2, "opened", 11),
        (1, "closed", 32),
        (2, "closed", 32),
    ]
    assert [event.score for event in events] == [3.0, 7.0, 7.0, 7.0]


def test_a_slow_rise_and_noise_on_a_plateau_are_no_further_fault(rules: EventRules) -> None:
    rising = np.geomspace(2, 20, 60).tolist()
    noise = (4 + np.random.default_rng(1).uniform(-1.5, 1.5, 400)).tolist()
    assert brief(play(rules, rows(rising))) == [(1, "opened", 1)]
    assert brief(play(rules, rows(noise))) == [(1, "opened", 1)]


def test_below_the_ratio_or_for_too_short_it_is_no_further_fault(rules: EventRules) -> None:
    first = [3.0] * 30
    for second in ([0.0] * 12 + [1.9] * 18, [0.0] * 12 + [9.0] + [0.0] * 17):
        assert brief(play(rules, rows(first, second))) == [(1, "opened", 1)]


def test_steps_without_end_open_no_more_than_the_most(rules: EventRules) -> None:
    steps = list(itertools.chain.from_iterable([3.0 * 2.5**n] * 10 for n in range(12)))
    state = rules.start()
    events = play(rules, rows(steps), state)
    assert [event.state for event in events] == ["opened"] * ANOMALIES_MAX
    assert len(rules.open_events(state)) == ANOMALIES_MAX
    ended = rules.accept(state, START_S + 999)
    assert [event.number for event in ended] == [1, 2, 3, 4]
    assert all(event.accepted for event in ended)
    assert rules.open_events(state) == []


def test_a_channel_that_is_back_can_be_a_further_fault_again(rules: EventRules) -> None:
    first = [3.0] * 10 + [0.0] * 15 + [3.0] * 10
    second = [0.0] * 8 + [3.0] * 27
    events = play(rules, rows(first, second))
    assert brief(events) == [
        (1, "opened", 1),
        (2, "opened", 9),
        (1, "closed", 12),
        (3, "opened", 26),
    ]
    assert events[-1].during == 2


def test_without_the_setting_all_is_one_event(changed: Change) -> None:
    rules = EventRules(changed(events=SETTINGS).manifest)
    ratio = rows([3.0] * 30, [0.0] * 12 + [9.0] * 18)
    assert brief(play(rules, ratio)) == [(1, "opened", 1)]


def test_chunks_change_nothing(rules: EventRules) -> None:
    noise = np.abs(np.random.default_rng(2).standard_cauchy((600, 8))).astype(np.float32)
    whole = play(rules, noise)
    assert any(event.during for event in whole)
    for chunk in (1, 7):
        assert play(rules, noise, chunk=chunk) == whole


def courses(changed: Change, ratio: Float32, **settings: int) -> list[tuple[int, str, str | None]]:
    """The first channel's row is that of a spike, the second channel's that of a level."""
    slow = np.arange(8) == 1
    rules = EventRules(changed(events=SETTINGS | settings).manifest, slow=slow)
    return [(int(e.time - START_S), e.state, e.course) for e in play(rules, ratio)]


def test_an_event_says_whether_it_is_a_spike_or_persists(changed: Change) -> None:
    out, calm = [2.0] * 4, [0.0] * 4
    assert courses(changed, rows(out + calm, calm + calm)) == [
        (1, "opened", "spike"),
        (6, "closed", "spike"),
    ]
    assert courses(changed, rows(calm + calm, out + calm))[0] == (1, "opened", "persistent")
    later = courses(changed, rows(out + calm + calm, calm + out + calm))
    assert [course for *_, course in later] == ["spike", "persistent"]


def test_a_persistent_deviation_has_its_own_delay(changed: Change) -> None:
    calm, out = [0.0] * 10, [2.0] * 10
    assert courses(changed, rows(calm, out), persistent_on_samples=6)[0] == (
        5,
        "opened",
        "persistent",
    )
    assert courses(changed, rows(out, calm), persistent_on_samples=6)[0] == (1, "opened", "spike")
    assert courses(changed, rows(calm, [2.0] * 5 + [0.0] * 5), persistent_on_samples=6) == []


def test_a_restart_at_any_sample_changes_nothing(rules: EventRules) -> None:
    noise = np.abs(np.random.default_rng(2).standard_cauchy((300, 8))).astype(np.float32)
    whole = play(rules, noise)
    state, events = rules.start(), []
    for begin in range(0, len(noise), 9):
        restored = EventState()
        set_events(restored, json.loads(json.dumps(event_scalars(state))))
        state = restored
        part = noise[begin : begin + 9]
        recent = Recent(START_S + begin + np.arange(9.0)[: len(part)], part * 10, part)
        zeros = np.zeros(part.shape, np.int64)
        seen = Exceedance(np.ones_like(part), part, part > 1)
        events += rules.step(state, recent, 0, seen, SensorRuns(zeros, zeros))
    assert events == whole
    assert any(event.during for event in events)


def test_the_open_event_of_an_older_version_goes_on(rules: EventRules) -> None:
    state = rules.start()
    (opened,) = play(rules, rows([3.0] * 4), state)
    now = event_scalars(state)
    event = {key: value for key, value in now["anomalies"][0]["event"].items()}
    del event["course"], event["during"]
    own = ("anomalies", "rise", "slow_run")
    older = {key: value for key, value in now.items() if key not in own}
    older |= {"anomaly": event, "calm_run": 2}
    restored = EventState()
    set_events(restored, older)
    assert rules.open_events(restored) == [opened]
    (closed,) = play(rules, rows([0.0]), restored)
    assert closed.number == opened.number
    set_events(restored, older | {"anomaly": None, "calm_run": 0})
    assert rules.open_events(restored) == []
