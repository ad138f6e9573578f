"""The detector of streams without a bundle, on signals made to have known novelties."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Result
from models.families import detector_of
from models.manifest import NOVELTY_ROWS, Events, Sampling, Severities, unscaled
from models.messages import Event, Float32, Samples
from models.novelty import Novelty, NoveltySettings, NoveltyState, entry_samples
from models.state import StateMismatch
from tests.models.test_baseline import EVENTFUL

DAY = 288  # samples, five minutes apart


def settings_of(count: int = 1, least: float = 0.0, **changes: Any) -> NoveltySettings:
    fields: dict[str, Any] = {
        "channels": [unscaled(f"c{number}", "", None, None) for number in range(count)],
        "resolution": [least] * count,
        "sampling": Sampling(
            period_s=300.0,
            hold_samples_max=0,
            missing_samples=10,
            reset_gap_samples=10,
            warm_up_samples=100,
        ),
        "adapt_samples": 100_000,
        "events": Events(on_samples=1, off_samples=20, deadband=0.8),
        "severities": Severities(medium=1e-4, high=1e-6, unrated="low"),
    }
    return NoveltySettings.model_validate(fields | changes)


def made(count: int = 1, least: float = 0.0, **changes: Any) -> Novelty:
    return Novelty(settings_of(count, least, **changes))


def samples_of(values: Any, first: int = 0) -> Samples:
    values = np.asarray(values, np.float32)
    values = values[:, None] if values.ndim == 1 else values
    return Samples((first + np.arange(len(values), dtype=np.float64)) * 300.0, values)


def run(novelty: Novelty, values: Any, state: list[NoveltyState] | None = None) -> Result:
    return novelty.step(novelty.start() if state is None else state, samples_of(values))


FURTHER = Events(on_samples=1, off_samples=20, deadband=0.8, further_ratio=1.5)


def opened(result: Result) -> list[tuple[int, str, int | None]]:
    """Return sample, worst channel and ``during`` of each alarm that opens."""
    return [
        (int(event.time // 300), event.channels[0].channel, event.during)
        for event in result.events
        if event.closed is None and event.kind == "anomaly"
    ]


def test_a_fault_of_another_channel_has_an_alarm_of_its_own() -> None:
    values = np.stack([noise(1000, 1), noise(1000, 2)], axis=1)
    values[500:, 0] += 40.0
    values[700:, 1] += 40.0
    assert opened(run(made(2), values)) == [(500, "c0", None)]
    result = run(made(2, events=FURTHER), values)
    (first, *_), *others = opened(result)
    assert first == 500
    assert others == [(700, "c1", 1)]


def test_the_sudden_end_of_a_slow_fault_is_none_of_its_own() -> None:
    values = noise(1200)
    values[500:700] += np.linspace(0.0, 12.0, 200, dtype=np.float32)
    values[700:900] += 12.0
    result = run(made(events=FURTHER), values)
    assert [during for _, _, during in opened(result)] == [None]


def test_further_alarms_change_no_score_so_that_what_was_learned_goes_on() -> None:
    assert settings_of(events=FURTHER).digest == settings_of().digest
    state = made().start()
    run(made(), noise(500), state)
    values = noise(300, 2)
    again = made(events=FURTHER).restore(made().changed_parts(state))
    first, second = run(made(), values, state), run(made(events=FURTHER), values, again)
    assert np.array_equal(first.scores.score, second.scores.score)


def noise(count: int, seed: int = 1) -> Float32:
    """Return noise with a largest and a smallest value, which are soon seen."""
    return np.random.default_rng(seed).uniform(18.0, 22.0, count).astype(np.float32)


def daily(days: int) -> Float32:
    """Return days of a load from 8 to 18 o'clock, with some noise."""
    hours = np.arange(days * DAY) % DAY / 12.0
    return np.where((hours >= 8) & (hours < 18), 50, 10) + noise(days * DAY) / 10


def anomalies(result: Result) -> list[Event]:
    return [event for event in result.events if event.kind == "anomaly"]


def opened_at(result: Result) -> list[int]:
    return [round(e.opened / 300.0) for e in anomalies(result) if e.state == "opened"]


def test_nothing_is_scored_before_the_warm_up() -> None:
    score = run(made(), noise(300)).scores.score
    assert np.isnan(score[:100]).all()
    assert not np.isnan(score[100:]).any()


def test_limits_are_wide_at_first_and_narrow_with_what_is_seen() -> None:
    novelty = made()
    state, limits = novelty.start(), []
    for begin in range(0, 2000, 100):
        novelty.step(state, samples_of(noise(100, seed=begin), begin))
        limits.append(float(state[0].limit[0] / np.ptp(state[0].history.kept(0))))
    assert limits[0] == pytest.approx(0.65 * (1 + 50 / 105))
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(0.65, rel=0.05)


def test_limits_are_wider_with_many_channels() -> None:
    one, many = made(), made(40)
    alone, together = one.start(), many.start()
    run(one, noise(1000), alone)
    run(many, np.repeat(noise(1000)[:, None], 40, axis=1), together)
    wider = together[0].limit[0] / alone[0].limit[0]
    assert wider == pytest.approx(np.sqrt(np.log(40_001) / np.log(1001)), rel=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, -273.15, 1e9])
def test_a_constant_is_never_outside_and_the_least_change_is(level: float) -> None:
    values = np.full(1200, level, np.float32)
    assert (run(made(), values).scores.score[100:] == 0).all()
    values[1000] += np.float32(3e-6 * abs(level) or 1e-30)
    changed = run(made(), values).scores.score
    assert changed[1000] > 1
    assert (changed[100:1000] == 0).all()
    assert np.isfinite(changed[100:]).all()


def test_a_change_below_the_resolution_means_nothing() -> None:
    values = np.full(600, 5.0, np.float32)
    values[300] = 5.09
    assert opened_at(run(made(least=0.1), values)) == []
    values[300] = 5.11
    assert opened_at(run(made(least=0.1), values)) == [300]


@pytest.mark.parametrize("by", [-9.0, 9.0])
def test_a_step_is_found_at_once_in_either_direction(by: float) -> None:
    values = noise(600)
    values[500:520] += np.float32(by)
    opened, closed = anomalies(run(made(), values))
    assert (opened.opened, opened.detector) == (500 * 300.0, "novelty")
    assert opened.channels[0].expected == pytest.approx(20.0, abs=1.0)
    assert (opened.probability, opened.severity) == (None, "low")
    assert closed.closed is not None


def test_a_fault_that_stays_is_learnt_and_its_alarm_stays_open() -> None:
    values = noise(3000)
    values[1000:2000] += 30
    result = run(made(), values)
    assert result.scores.score[1500] < 1  # it is no news by then
    opened, closed = anomalies(result)
    assert opened.opened == 1000 * 300.0
    assert closed.closed is not None
    assert 2000 < closed.closed / 300.0 < 2200  # and not before the values are back


def test_a_level_that_stays_is_normal_after_adapt_samples() -> None:
    values = noise(3000)
    values[1000:] += 30
    opened, closed = anomalies(run(made(adapt_samples=500), values))
    assert opened.opened == 1000 * 300.0
    assert closed.closed is not None
    assert 1500 <= closed.closed / 300.0 < 1600


def test_more_of_the_same_fault_is_the_worst_of_its_alarm() -> None:
    values = noise(2000)
    values[1000:] += 30
    values[1500:] += 300
    novelty, state = made(), made().start()
    run(novelty, values, state)
    (event,) = novelty.open_events(state)
    assert event.worst is not None
    assert 1500 <= event.worst / 300.0 < 1512


def test_what_came_and_went_is_no_news_when_it_comes_again() -> None:
    values = noise(4000)
    for begin in range(500, 4000, 100):
        values[begin : begin + 20] += 10
    found = opened_at(run(made(), values))
    assert found[0] == 500
    assert len(found) <= 4  # of 35; the first few could have been outliers


def test_a_single_outlier_teaches_nothing() -> None:
    values = noise(4000)
    values[[2000, 3000]] += 20
    assert opened_at(run(made(), values)) == [2000, 3000]


def test_a_load_that_does_not_come_is_found_by_the_time_of_the_day() -> None:
    values, novelty = daily(10), made(sampling=whole_day())
    assert opened_at(run(novelty, values)) == []
    values[8 * DAY :] = 10 + noise(2 * DAY) / 10  # a value and changes as they have always been
    (at,) = opened_at(run(novelty, values))
    assert at // 12 == 8 * 24 + 8  # the hour at which it has always come


def whole_day() -> Sampling:
    return settings_of().sampling.model_copy(update={"warm_up_samples": DAY})


def test_what_is_expected_is_what_is_usual_at_this_time() -> None:
    predicted = run(made(), daily(10)).scores.predicted[:, 0]
    assert predicted[9 * DAY + 12 * 12] == pytest.approx(52, abs=1)
    assert predicted[9 * DAY + 12 * 22] == pytest.approx(12, abs=1)


@pytest.mark.parametrize("worst_at", [1040, 1240])
def test_the_worst_of_an_alarm_is_compared_with_what_was_normal_before_it(worst_at: int) -> None:
    values = noise(1400)
    values[1000:1300] += 30
    values[worst_at] = 2000  # the mean of the last samples is 50 by then
    opened, closed = anomalies(run(made(season_s=1e6), values))
    assert opened.channels[0].expected == pytest.approx(20, abs=1)
    assert closed.channels[0].observed == 2000
    assert closed.channels[0].expected == pytest.approx(20, abs=1)


def test_a_jump_between_usual_values_is_compared_with_the_value_before_it() -> None:
    values = np.sin(np.arange(1200) / 50.0).astype(np.float32)
    values[1000] = values[999] - np.sign(values[999]) * 0.5
    (opened,) = (
        event
        for event in anomalies(run(made(season_s=1e6), values))
        if (event.state, event.onset) == ("opened", 1000 * 300.0)
    )
    assert opened.channels[0].expected == pytest.approx(values[999], abs=0.05)


def test_a_slow_shift_within_the_noise_is_found_by_the_mean() -> None:
    values = noise(3000)
    values[2000:2200] += 1.9
    values = np.clip(values, 18, 22)
    score = run(made(), values).scores.score
    assert (score[2000:2200] > 1).any()
    assert not (score[100:2000] > 1).any()


def test_false_alarms_of_gaussian_noise_are_rare() -> None:
    values = np.random.default_rng(1).normal(20.0, 1.0, (10_000, 4))
    assert len(opened_at(run(made(4), values))) <= 15


def test_an_alarm_has_no_probability_before_there_are_enough_scores() -> None:
    values = noise(600)
    values[550:] += 20
    assert [event.probability for event in anomalies(run(made(), values))] == [None]


@pytest.mark.parametrize(("by", "severity"), [(1.0, "low"), (30.0, "high")])
def test_an_alarm_is_rated_by_the_scores_that_there_were(by: float, severity: str) -> None:
    values = np.random.default_rng(4).normal(20.0, 1.0, 20_000)
    values[19_000:19_010] += np.where(np.arange(10) == 0, by * 6.0, by)
    opened = [event for event in anomalies(run(made(), values)) if event.opened == 19_000 * 300.0]
    assert opened[0].severity == severity
    assert opened[0].probability is not None


@pytest.mark.parametrize("entry_samples", [1, 50])
def test_probabilities_are_the_shares_of_what_comes_later(entry_samples: int) -> None:
    values = np.random.default_rng(4).normal(20.0, 1.0, 200_000)
    novelty = made(history_entries=2000, entry_samples=entry_samples)
    state = novelty.start()
    novelty.step(state, samples_of(values[:150_000]))
    tail = novelty.tail_of(state)
    assert tail is not None
    later = novelty.step(state, samples_of(values[150_000:], 150_000)).scores.score
    for level in (1e-3, 3e-4):
        share = float(np.mean(tail.probability(later) <= level))
        assert level / 10 < share < level * 3  # rather too common than too rare


def test_entries_of_many_samples_look_back_as_many_times_longer() -> None:
    values = noise(20_000)
    values[2000:2020] += 10
    values[18_000:18_020] += 10
    kept = {"history_entries": 200}
    assert 18_000 in opened_at(run(made(**kept), values))  # forgotten meanwhile
    long = made(**kept, entry_samples=100, learning_entries=1.0)
    assert opened_at(run(long, values)) == [2000]  # still known


def test_missing_values_have_no_score_and_are_not_remembered() -> None:
    values = noise(600)
    values[300:400] = np.nan
    state = made().start()
    result = run(made(), values, state)
    assert np.isnan(result.scores.score[300:400]).all()
    assert state[0].history.written[0] == 500
    assert result.events == []  # nothing came of any channel: that is no fault of a sensor


def test_channels_are_judged_each_by_itself_and_commands_not_at_all() -> None:
    channels = settings_of(3).channels
    channels[1] = channels[1].model_copy(update={"scored": False})
    novelty = made(3, channels=channels)
    values = np.stack([noise(600), noise(600, 2), noise(600, 3)], axis=1)
    values[500:, 1] += 50
    assert not anomalies(run(novelty, values))
    values[550, 2] += 50
    opened = anomalies(run(novelty, values))[0]
    assert [channel.channel for channel in opened.channels] == ["c2"]
    assert np.isnan(run(novelty, values).scores.predicted[:, 1]).all()


@pytest.mark.parametrize("huge", [3e38, -3e38, np.inf, 1e-42])
def test_values_of_any_size_are_scored(huge: float) -> None:
    values = noise(1500)
    values[500] = huge
    values[800:900] = huge
    score = run(made(), values).scores.score
    assert score[500] > 1 or huge == 1e-42
    assert not np.isnan(score[1000:]).any()
    assert not np.isnan(run(made(), values).smoothed[1000:]).any()


@pytest.mark.parametrize(
    ("period_s", "expected"),
    [(3600.0, 1), (300.0, 1), (60.0, 50), (1.0, 300), (0.25, 1200), (0.24, 1250)],
)
def test_an_entry_is_as_long_as_the_history_needs(period_s: float, expected: int) -> None:
    assert entry_samples(14 * 86400.0, period_s, 4032, 50) == expected


def test_the_history_is_as_large_as_its_limit_counts() -> None:
    rows = made(3, entry_samples=50).start()[0].history.values.shape[0]
    assert rows == 3 * NOVELTY_ROWS + 1  # and the scores
    with pytest.raises(ValueError, match="the history of 261 channels takes 33675264 bytes"):
        settings_of(261)


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 900), max_size=12),
    restarts=st.booleans(),
    entry_samples=st.sampled_from([1, 100]),
)
def test_cuts_and_restarts_change_nothing(
    cuts: list[int], restarts: bool, entry_samples: int
) -> None:
    novelty = made(
        2, adapt_samples=60, entry_samples=entry_samples, season_s=60_000.0, foretells=True
    )
    whole = run(novelty, EVENTFUL)
    state = novelty.start()
    saved: dict[str, bytes] = {}
    scores, predicted, events, forecasts = [], [], [], []
    for begin, end in pairwise([0, *sorted(cuts), 900]):
        result = novelty.step(state, samples_of(EVENTFUL[begin:end], begin))
        scores.append(result.scores.score)
        predicted.append(result.scores.predicted)
        events += result.events
        forecasts += result.forecasts
        if restarts:
            saved |= novelty.changed_parts(state)
            state = novelty.restore(saved)
    assert np.array_equal(np.concatenate(scores), whole.scores.score, equal_nan=True)
    assert np.array_equal(np.concatenate(predicted), whole.scores.predicted, equal_nan=True)
    assert events == whole.events
    assert {event.kind for event in events} >= {"missing"}
    assert len(forecasts) == len(whole.forecasts) > 0
    for one, other in zip(forecasts, whole.forecasts, strict=True):
        assert np.array_equal(one.quantiles, other.quantiles)


def test_the_state_of_other_settings_is_refused() -> None:
    parts = made().changed_parts(made().start())
    with pytest.raises(StateMismatch, match="or of other settings"):
        made(reach=7.0).restore(parts)


def test_its_settings_make_the_detector() -> None:
    detector = detector_of(settings_of())
    assert (detector.detector, detector.digest) == ("novelty", settings_of().digest)


@pytest.mark.parametrize(
    "odd",
    [
        {"channels": []},
        {"resolution": []},
        {"history_entries": 19},
        {"entry_samples": 70},
        {"update_samples": 0},
        {"reach": 1.0},
        {"dropped_share": 0.5},
        {"season_s": 0.0},
        {"season_bins": 0},
        {"adapt_samples": 0},
        {"unknown": 1},
    ],
)
def test_settings_are_checked(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(odd))):
        made(**odd)
