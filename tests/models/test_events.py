"""Events: when they open, when they close, and whom they name. Scores are made, not computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.events import EventRules, EventState, Recent, severity_of
from models.manifest import Severities, Tail
from models.messages import ALL, Event
from models.sensors import SensorChecks, SensorRuns
from models.threshold import Exceedance, Found
from tests.models.conftest import START_S, Change

COUNT = 40


@pytest.fixture(scope="module")
def bundle(changed: Change) -> Bundle:
    return changed(
        events={"on_samples": 3, "off_samples": 4, "deadband": 0.8},
        sampling={"missing_samples": 5},
    )


@pytest.fixture(scope="module")
def rules(bundle: Bundle) -> EventRules:
    return EventRules(bundle.manifest)


def play(
    rules: EventRules,
    ratios: list[float],
    found: list[Found] | None = None,
    state: EventState | None = None,
) -> list[Event]:
    """Events of one channel's errors / thresholds; all other channels are calm."""
    ratio = np.zeros((len(ratios), 8), np.float32)
    ratio[:, 0] = ratios
    ratio[np.isnan(ratio[:, 0])] = np.nan
    limits = np.ones_like(ratio)
    recent = Recent(START_S + np.arange(len(ratios)), ratio * 10, ratio)
    zeros = np.zeros(ratio.shape, np.int64)
    state = state or rules.start()
    seen = Exceedance(limits, ratio, ratio > limits)
    events = rules.step(state, recent, 0, seen, SensorRuns(zeros, zeros))
    return events + rules.found(state, recent, found or [])


def brief(events: list[Event]) -> list[tuple[str, int, int]]:
    return [(e.state, int(e.time - START_S), int(e.onset - START_S)) for e in events]


def test_it_opens_after_the_on_delay_and_closes_after_the_off_delay(rules: EventRules) -> None:
    assert brief(play(rules, [0, 2, 2, 2, 2, 0, 0, 0, 0, 0])) == [
        ("opened", 3, 1),
        ("closed", 8, 1),
    ]


def test_a_shorter_run_opens_nothing(rules: EventRules) -> None:
    assert play(rules, [0, 2, 2, 0, 2, 2, 0, 0]) == []


def test_between_deadband_and_threshold_it_stays_open(rules: EventRules) -> None:
    assert brief(play(rules, [2, 2, 2] + [0.9] * 10)) == [("opened", 2, 0)]
    calm_then_not = [2, 2, 2, 0, 0, 0, 0.9, 0, 0, 0, 0]
    assert brief(play(rules, calm_then_not)) == [("opened", 2, 0), ("closed", 10, 0)]


def test_no_score_is_no_sign_of_calm(rules: EventRules) -> None:
    nan = float("nan")
    assert brief(play(rules, [2, 2, 2, 0, 0, nan, nan, nan, nan, 0, 0])) == [
        ("opened", 2, 0),
        ("closed", 10, 0),
    ]


def test_the_closing_tells_the_worst_of_all(rules: EventRules) -> None:
    opened, closed = play(rules, [2, 3, 2, 5, 2, 0, 0, 0, 0])
    assert opened.score == 3
    assert closed.score == 5
    assert closed.channels[0].observed == 50
    assert closed.number == opened.number


def test_what_an_update_found_opens_at_once_with_its_onset(
    rules: EventRules, bundle: Bundle
) -> None:
    events = play(rules, [0.5] * 10, [Found(row=2, onset=4, peak=6, score=1.3, ratio=0.9)])
    assert brief(events) == [("opened", 9, 4)]
    assert events[0].channels[0].channel == bundle.manifest.channel_names[2]
    assert events[0].channels[0].observed == pytest.approx(0)
    assert events[0].score == 1.3


def test_an_open_event_is_not_opened_again_by_an_update(rules: EventRules) -> None:
    state = rules.start()
    play(rules, [2] * 5, state=state)
    assert play(rules, [2] * 5, [Found(2, 0, 1, 1.5, 0.9)], state) == []


def test_the_worst_score_sets_probability_and_severity(changed: Change) -> None:
    tail = Tail(scores=[0.5], shares=[0.01], shape=0.0, scale=0.1, samples=10**9)
    severities = Severities(medium=1e-4, high=1e-6, unrated="low")
    manifest = changed().manifest.model_copy(update={"tail": tail, "severities": severities})
    rules, state = EventRules(manifest), EventState()
    (opened,) = play(rules, [1.1] * 3, state=state)
    assert opened.probability == pytest.approx(0.01 * np.exp(-6), rel=1e-4)
    assert opened.severity == "medium"
    play(rules, [2.0, 1.1], state=state)
    (closed,) = play(rules, [0.0] * 150, state=state)
    assert closed.severity == "high"
    assert closed.probability == pytest.approx(0.01 * np.exp(-15), rel=1e-4)
    (late,) = play(rules, [0.5] * 9, [Found(row=2, onset=4, peak=6, score=1.3, ratio=0.9)])
    assert late.probability == pytest.approx(0.01 * np.exp(-4), rel=1e-4)  # as its score was
    assert late.severity == "low"
    assert [severity_of(p, severities) for p in (2e-4, 1e-4, 1e-6)] == ["low", "medium", "high"]


def test_a_score_far_above_all_normal_ones_is_high_after_a_short_calibration(
    changed: Change,
) -> None:
    tail = Tail(scores=[0.5], shares=[0.02], shape=0.0, scale=0.1, samples=5000)
    severities = Severities(medium=1e-4, high=1e-6, unrated="low")
    manifest = changed().manifest.model_copy(update={"tail": tail, "severities": severities})
    found = {}
    for score in (1.1, 1.3, 2.0, 29.0):
        (opened,) = play(EventRules(manifest), [score] * 3, state=EventState())
        found[score] = opened.severity
        assert opened.probability is not None
        assert opened.probability >= 1 / (100 * 5000)
    assert found == {1.1: "medium", 1.3: "medium", 2.0: "medium", 29.0: "high"}


def test_an_event_without_a_probability_is_unrated(changed: Change) -> None:
    severities = Severities(medium=1e-4, high=1e-6, unrated="low")
    manifest = changed().manifest.model_copy(update={"tail": None, "severities": severities})
    rules = EventRules(manifest)
    (opened,) = play(rules, [9.0] * 3)
    (silent,) = rules.open_silence(EventState(), 2.0, 1.0)
    assert {(e.probability, e.severity) for e in (opened, silent)} == {(None, "low")}


def test_a_row_names_the_scored_channel_it_belongs_to(changed: Change) -> None:
    manifest = changed().manifest
    command = manifest.channels[0].model_copy(update={"scored": False})
    manifest = manifest.model_copy(update={"channels": [command, *manifest.channels[1:]]})
    (event,) = EventRules(manifest).found(
        EventState(),
        Recent(np.zeros(4), np.zeros((4, 8)), np.zeros((4, 8))),
        [Found(9, 0, 1, 2.0, 0.9)],
    )
    assert event.channels[0].channel == manifest.channel_names[3]  # second head, third scored


def test_sensor_events_are_per_channel_and_in_order_of_time(
    bundle: Bundle, rules: EventRules
) -> None:
    values = np.random.default_rng(1).random((COUNT, 8)).astype(np.float32)
    limit = bundle.manifest.channels[1].stuck_samples
    assert limit is not None
    values[5 : 5 + limit, 1] = 7.0
    values[10:20, 6] = np.nan
    checks = SensorChecks(bundle.manifest)
    runs = checks.step(checks.start(), ALL, values[:, None]).of(0)
    zeros = np.zeros(values.shape, np.float32)
    events = rules.step(
        rules.start(),
        Recent(START_S + np.arange(COUNT) * bundle.manifest.sampling.period_s, values, zeros),
        0,
        Exceedance(zeros + 1, zeros, zeros > 1),
        runs,
    )
    period = bundle.manifest.sampling.period_s
    told: list[Any] = [
        (e.kind, e.state, e.number, round((e.time - START_S) / period), e.channels[0].channel)
        for e in events
    ]
    names = bundle.manifest.channel_names
    assert told == [
        ("missing", "opened", 1, 14, names[6]),
        ("missing", "closed", 1, 20, names[6]),
        ("stuck", "opened", 2, 4 + limit, names[1]),
        ("stuck", "closed", 2, 5 + limit, names[1]),
    ]
    assert round((events[0].onset - START_S) / period) == 10
    assert round((events[2].onset - START_S) / period) == 5


def test_a_run_is_counted_over_calls(bundle: Bundle) -> None:
    checks, values = SensorChecks(bundle.manifest), np.full((9, 8), 3.0, np.float32)
    values[4, 0] = np.nan
    state, whole = checks.start(), checks.step(checks.start(), ALL, values[:, None]).of(0)
    parts = [
        checks.step(state, ALL, values[begin : begin + 2, None]).of(0) for begin in range(0, 9, 2)
    ]
    assert np.array_equal(np.concatenate([part.stuck for part in parts]), whole.stuck)
    assert np.array_equal(np.concatenate([part.missing for part in parts]), whole.missing)
    assert whole.stuck[:, 1].tolist() == list(range(1, 10))
    assert whole.stuck[:, 0].tolist() == [1, 2, 3, 4, 0, 1, 2, 3, 4]
