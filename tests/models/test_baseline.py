"""The baseline on signals made to have known anomalies."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baseline import Baseline, BaselineSettings, BaselineState
from models.detector import Detector, Result
from models.manifest import Channel, Events, Sampling, Severities
from models.messages import Event, Float32, Samples
from models.state import StateMismatch


def settings_of(count: int = 1, least: float = 0.0, **changes: Any) -> BaselineSettings:
    fields: dict[str, Any] = {
        "channels": [
            Channel(name=f"c{number}", unit="", center=0.0, scale=1.0) for number in range(count)
        ],
        "resolution": [least] * count,
        "sampling": Sampling(
            period_s=1.0,
            hold_samples_max=0,
            missing_samples=10,
            reset_gap_samples=10,
            warm_up_samples=100,
        ),
        "history_samples": 400,
        "adapt_samples": 100_000,
        "events": Events(on_samples=1, off_samples=20, deadband=0.8),
        "severities": Severities(medium=1e-4, high=1e-6, unrated="low"),
    }
    return BaselineSettings.model_validate(fields | changes)


def made(count: int = 1, least: float = 0.0, **changes: Any) -> Baseline:
    return Baseline(settings_of(count, least, **changes))


SETTINGS = BaselineSettings.model_validate(
    {
        "name": "pümp",
        "channels": [
            {"name": "flow", "unit": "l/min", "high": 1e15, "center": 0, "scale": 1},
            {
                "name": "level",
                "unit": "µm",
                "low": -1.5e-5,
                "high": 0.1,
                "center": 1e-7,
                "scale": 123456.789,
                "scored": False,
                "stuck_samples": 5,
            },
        ],
        "resolution": [1e-5, 0.001],
        "sampling": {
            "period_s": 0.1,
            "hold_samples_max": 0,
            "missing_samples": 10,
            "reset_gap_samples": 10,
            "warm_up_samples": 100,
        },
        "adapt_samples": 60,
        "events": {"on_samples": 1, "off_samples": 20, "deadband": 0.8},
        "severities": {"medium": 1e-4, "high": 1e-6, "unrated": "low"},
    }
)
# memory that is saved on gateways is known by it
DIGEST = "bda0311ce02bd6659aa9853a60f57563c3d6cdc2a67db8394a7c747d742f1085"


def test_the_digest_of_the_same_settings_never_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BaselineSettings, "model_dump_json", None)  # pydantic has no say in it
    assert SETTINGS.digest == DIGEST


def run(baseline: Detector, values: Any, state: Any = None) -> Result:
    values = np.asarray(values, np.float32)
    values = values[:, None] if values.ndim == 1 else values
    state = baseline.start() if state is None else state
    return baseline.step(state, Samples(np.arange(len(values), dtype=np.float64), values))


def noise(count: int, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).normal(20.0, 1.0, count).astype(np.float32)


def anomalies(result: Result) -> list[Event]:
    return [event for event in result.events if event.kind == "anomaly"]


def test_nothing_is_scored_before_the_warm_up() -> None:
    score = run(made(), noise(300)).scores.score
    assert np.isnan(score[:100]).all()
    assert not np.isnan(score[100:]).any()


@pytest.mark.parametrize("level", [0.0, 0.1, -273.15, 1e9])
def test_a_constant_is_never_outside_and_the_least_change_is(level: float) -> None:
    values = np.full(600, level, np.float32)
    assert (run(made(), values).scores.score[100:] == 0).all()
    values[500] += np.float32(3e-6 * abs(level) or 1e-30)
    changed = run(made(), values).scores.score
    assert np.flatnonzero(changed > 1).tolist() == [500]
    assert np.isfinite(changed[100:]).all()


def test_a_change_below_the_resolution_means_nothing() -> None:
    values = np.full(600, 5.0, np.float32)
    values[300], values[400] = 5.09, 5.11
    assert np.flatnonzero(run(made(least=0.1), values).scores.score > 1).tolist() == [400]


def test_a_channel_of_two_levels_may_flip_as_ever() -> None:
    values = np.where(np.arange(2000) % 90 < 80, 0.0, 1.0)
    values[1500:1520] = 3.0
    opened = [event for event in anomalies(run(made(), values)) if event.state == "opened"]
    assert [event.opened for event in opened] == [1500.0]


@pytest.mark.parametrize("by", [-9.0, 9.0])
def test_a_step_is_found_at_once_in_either_direction(by: float) -> None:
    values = noise(600)
    values[500:520] += np.float32(by)
    opened, closed = anomalies(run(made(), values))
    assert (opened.opened, opened.detector) == (500.0, "hampel")
    assert opened.channels[0].expected == pytest.approx(20.0, abs=0.3)
    assert (opened.probability, opened.severity) == (None, "low")
    assert closed.closed is not None


def test_false_alarms_of_gaussian_noise_are_as_rare_as_they_should_be() -> None:
    score = run(made(deviations_max=3.0, history_samples=1000), noise(60_000)).scores.score
    share = float(np.mean(score[1000:] > 1))
    assert 0.0015 < share < 0.006  # of a normal distribution 0.0027 lie beyond 3
    assert not anomalies(run(made(), noise(60_000)))


def test_a_fault_does_not_raise_its_own_limit() -> None:
    values = noise(3000)
    values[1000:] += 30
    result = run(made(), values)
    assert len(anomalies(result)) == 1  # still open at the end
    assert result.scores.score[2999] > 3


def test_a_level_that_stays_is_the_new_normal() -> None:
    values = noise(3000)
    values[1000:] += 30
    opened, closed = anomalies(run(made(adapt_samples=500), values))
    assert opened.opened == 1000.0
    assert closed.closed is not None
    assert 1500 <= closed.closed < 1650
    values[2500:2510] -= 30  # and the old one is none any more
    assert len(anomalies(run(made(adapt_samples=500), values))) == 4


def test_missing_values_have_no_score_and_are_not_remembered() -> None:
    values = noise(600)
    values[300:400] = np.nan
    state = made().start()
    result = run(made(), values, state)
    assert np.isnan(result.scores.score[300:400]).all()
    assert state[0].history.written[0] == 500
    assert result.events == []  # nothing came of any channel: that is no fault of a sensor


def test_an_interruption_changes_nothing() -> None:
    baseline, state = made(), made().start()
    run(baseline, noise(500), state)
    later = Samples(np.arange(9000.0, 9010.0), noise(10, seed=2)[:, None])
    assert not np.isnan(baseline.step(state, later).scores.score).any()


def test_channels_are_judged_each_by_itself_and_commands_not_at_all() -> None:
    channels = made(3).manifest.channels
    channels[1] = channels[1].model_copy(update={"scored": False})
    baseline = made(3, channels=channels)
    values = np.stack([noise(600), noise(600, 2), noise(600, 3)], axis=1)
    values[500:, 1] += 50
    assert not anomalies(run(baseline, values))
    values[550, 2] += 50
    opened = anomalies(run(baseline, values))[0]
    assert [channel.channel for channel in opened.channels] == ["c2"]
    assert np.isnan(run(baseline, values).scores.predicted[:, 1]).all()


EVENTFUL = np.stack([noise(900), np.where(np.arange(900) % 70 < 60, 0, 1)], axis=1)
EVENTFUL[400:460, 0] += 40
EVENTFUL[500:530, 1] = np.nan
EVENTFUL[700:, 1] += 5


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 900), max_size=12), restarts=st.booleans())
def test_cuts_and_restarts_change_nothing(cuts: list[int], restarts: bool) -> None:
    baseline = made(2, adapt_samples=60)
    whole = run(baseline, EVENTFUL)
    state: list[BaselineState] = baseline.start()
    saved: dict[str, bytes] = {}
    scores, events = [], []
    for begin, end in pairwise([0, *sorted(cuts), 900]):
        times = np.arange(begin, end, dtype=np.float64)
        result = baseline.step(state, Samples(times, EVENTFUL[begin:end].astype(np.float32)))
        scores.append(result.scores.score)
        events += result.events
        if restarts:
            saved |= baseline.changed_parts(state)
            state = baseline.restore(saved)
    assert np.array_equal(np.concatenate(scores), whole.scores.score, equal_nan=True)
    assert events == whole.events
    assert {event.kind for event in events} == {"anomaly", "missing"}


def test_the_state_of_other_settings_is_refused() -> None:
    parts = made().changed_parts(made().start())
    with pytest.raises(StateMismatch, match="or of other settings"):
        made(deviations_max=7.0).restore(parts)


@pytest.mark.parametrize(
    "odd",
    [
        {"channels": []},
        {"resolution": []},
        {"resolution": [-1.0]},
        {"history_samples": 19},
        {"history_samples": 50},  # less than the warm-up
        {"update_samples": 0},
        {"deviations_max": 0.0},
        {"deviations_max": float("nan")},
        {"adapt_samples": 0},
        {"unknown": 1},
    ],
)
def test_settings_are_checked(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(odd))):
        made(**odd)
