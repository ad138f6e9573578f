"""Alarms as positions, and what came before the judged samples."""

from __future__ import annotations

import numpy as np
import pytest

from models.baseline import Baseline, BaselineSettings
from models.manifest import Channel, Events, Sampling, Severities
from models.messages import Event, EventKind
from trainer.benchmark.cases import on_grid
from trainer.benchmark.counts import Alarm
from trainer.benchmark.judge import alarms, judge, score, watched

TIMES = np.arange(100.0, 200.0)


def event(
    number: int, onset: float, opened: float, closed: float | None, kind: EventKind = "anomaly"
) -> Event:
    return Event(number, kind, "x", onset, opened, 2.0, None, "low", (), closed)


def test_positions_begin_with_the_judged_samples() -> None:
    events = [event(1, 90, 95, 110), event(2, 120, 125, None), event(2, 120, 125, 130)]
    assert alarms(events, TIMES, 1.0) == [
        Alarm("anomaly", 0, 0, 10),
        Alarm("anomaly", 20, 25, 30),
    ]
    assert alarms([event(3, 150, 151, None)], TIMES, 1.0) == [Alarm("anomaly", 50, 51, 99)]


def test_alarms_of_the_line_say_nothing_of_the_values() -> None:
    events = [
        event(2, 118, 119, 140, "stuck"),
        event(1, 110, 112, 120),
        event(4, 160, 161, 170, "missing"),
        event(5, 170, 171, 180, "silent"),
    ]
    assert alarms(events, TIMES, 1.0) == [
        Alarm("anomaly", 10, 12, 20),
        Alarm("stuck", 18, 19, 40),
    ]


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(
        BaselineSettings(
            channels=[Channel(name="a", unit="", center=0, scale=1)],
            resolution=[0.0],
            sampling=Sampling(
                period_s=1.0,
                hold_samples_max=0,
                missing_samples=5,
                reset_gap_samples=5,
                warm_up_samples=50,
            ),
            adapt_samples=10_000,
            events=Events(on_samples=1, off_samples=5, deadband=0.9),
            severities=Severities(medium=1e-4, high=1e-6, unrated="low"),
        )
    )


def test_an_alarm_that_lasts_on_from_before_counts(baseline: Baseline) -> None:
    values = np.random.default_rng(1).normal(0, 1, (400, 1)).astype(np.float32)
    values[290:] += 30
    before, after = on_grid([values[:300]], 1.0, 0, 1), on_grid([values[300:]], 1.0, 300, 1)
    since = watched(baseline, before)
    scored = score(baseline, after, since)
    assert judge(scored, [(0, 99)], 1.0, model_bytes=0).alarms == [Alarm("anomaly", 0, 0, 99)]
    again = score(baseline, after, since)  # the state before is as it was
    np.testing.assert_array_equal(again.result.scores.score, scored.result.scores.score)


def test_without_what_came_before_it_begins_from_nothing(baseline: Baseline) -> None:
    after = on_grid([np.full((100, 1), 30, np.float32)], 1.0, 300, 1)
    assert score(baseline, after, watched(baseline, None)).events == []
