"""The dynamic threshold on errors made to have known anomalies."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest

from models.manifest import Threshold
from models.messages import ALL, Float32
from models.threshold import (
    DynamicThreshold,
    Exceedance,
    Found,
    Limits,
    ThresholdState,
    most_telling,
)

BLOCK = 50


def settings_of(**changes: object) -> Threshold:
    settings: dict[str, Any] = {
        "history_samples": 500,
        "update_samples": BLOCK,
        "z_min": 2.5,
        "z_max": 12.0,
        "z_step": 0.5,
        "prune_drop": 0.1,
        "settle_samples": 0,
        "adapt_samples": 100_000,
        "floor": [0.14],  # above all of the noise, as a calibrated one is
    }
    settings |= changes
    settings.setdefault("calm", [0.0] * len(settings["floor"]))
    return Threshold.model_validate(settings)


def made(**changes: object) -> DynamicThreshold:
    return DynamicThreshold(settings_of(**changes))


def compare(threshold: DynamicThreshold, state: ThresholdState, errors: Float32) -> Exceedance:
    """Of one stream, ``errors`` (n, R)."""
    begin = int(state.pending[0])
    at = ALL, slice(begin, begin + len(errors))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return threshold.compare(state, ALL, at, errors[:, None])[1].of(0)


def run(
    threshold: DynamicThreshold,
    errors: Float32,
    state: ThresholdState | None = None,
    open_samples: int | None = None,
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, Found]]]:
    """Outside (n, R), thresholds (n, R), and what was found late with the sample of its update."""
    state = threshold.start() if state is None else state
    above, limits, found = [], [], []
    for begin in range(0, len(errors), BLOCK):
        seen = compare(threshold, state, errors[begin : begin + BLOCK])
        above.append(seen.outside)
        limits.append(seen.threshold)
        found += [(begin, one) for one in threshold.update(state, 0, open_samples)]
    return np.concatenate(above), np.concatenate(limits), found


def noise(count: int, rows: int = 1, seed: int = 1) -> Float32:
    random = np.random.default_rng(seed)
    return (0.1 + 0.01 * random.standard_normal((count, rows))).astype(np.float32)


def test_in_the_beginning_the_floor_decides() -> None:
    errors = noise(BLOCK)
    errors[10] = 0.5
    above, limits, _ = run(made(floor=[0.3]), errors)
    assert (limits == np.float32(0.3)).all()
    assert np.flatnonzero(above[:, 0]).tolist() == [10]


def test_a_large_error_is_above_at_once() -> None:
    errors = noise(600)
    errors[520:530] = 1.0
    above, _, found = run(made(floor=[0.2]), errors)
    assert np.flatnonzero(above[:, 0]).tolist() == list(range(520, 530))
    assert found == []


def test_a_smaller_one_is_found_by_the_next_update_with_its_place() -> None:
    errors = noise(600)
    errors[520:530] = 0.17  # seven deviations: below z_max, but it stands out
    above, _, found = run(made(), errors)
    assert not above[520:530].any()
    ((begin, one),) = [(begin, one) for begin, one in found if begin >= 500]
    assert begin + one.onset == 520
    assert 520 <= begin + one.peak < 530
    assert one.score > 1 > one.ratio > 0.5


def test_normal_noise_is_never_above_and_seldom_found() -> None:
    above, _, found = run(made(prune_drop=0.2), noise(20_000, seed=3))
    assert above[BLOCK:].sum() == 0
    assert len(found) <= 2


def test_an_anomaly_does_not_raise_the_threshold_that_should_find_the_next() -> None:
    errors = noise(4000)
    for begin in range(1000, 4000, 200):  # each as large as the one before
        errors[begin : begin + 20] = 0.17
    _, limits, found = run(made(), errors)
    onsets = {begin + one.onset for begin, one in found}
    assert {begin for begin in range(1000, 4000, 200)} <= onsets
    assert limits[-1, 0] < 1.3 * limits[900, 0]


def test_what_does_not_stand_out_is_pruned() -> None:
    errors = noise(600)
    errors[100:500:25] = 0.15  # normal operation has peaks like this, again and again
    errors[520] = 0.155
    kept = [found for _, found in run(made(prune_drop=0.3), errors)[2]]
    assert kept == []


def test_the_floor_holds_where_errors_are_tiny() -> None:
    errors = noise(2000) * 1e-4
    errors[1500:1510] *= 50
    above, limits, found = run(made(floor=[0.05]), errors)
    assert not above.any()
    assert found == []
    assert limits.min() == np.float32(0.05)


@pytest.mark.parametrize("value", [0.0, 0.02])
def test_constant_errors_divide_nothing_by_zero(value: float) -> None:
    errors = np.full((500, 1), value, np.float32)
    above, _, found = run(made(floor=[0.03]), errors)
    assert not above.any()
    assert found == []
    errors[450] = 1.0
    above, _, _ = run(made(floor=[0.03]), errors)
    assert np.flatnonzero(above[:, 0]).tolist() == [450]


def test_missing_errors_are_neither_above_nor_remembered() -> None:
    errors = noise(300)
    errors[100:200] = np.nan
    state = made().start()
    above, limits, _ = run(made(), errors, state)
    assert not above[100:200].any()
    assert not np.isnan(limits).any()
    assert state.history[0].written[0] == 200


def test_rows_are_judged_each_by_itself() -> None:
    errors = noise(600, rows=2)
    errors[:, 1] *= 10
    errors[520:530, 0] = 0.9  # normal for the other row
    above, _, _ = run(made(floor=[0.2, 2.0]), errors)
    assert above[520:530, 0].all()
    assert not above[:, 1].any()


def test_the_history_is_bounded_and_keeps_the_newest() -> None:
    threshold = made(history_samples=100)
    state = threshold.start()
    run(threshold, noise(1000), state)
    assert state.history[0].values.shape == (1, 100)
    small = (noise(200, seed=4) * 0.1).astype(np.float32)
    run(threshold, small, state)
    assert state.history[0].values.max() < 0.05


def test_while_an_anomaly_is_open_nothing_enters_the_history() -> None:
    threshold = made()
    state = threshold.start()
    run(threshold, noise(500), state)
    history, before = state.history[0].values.copy(), state.threshold.copy()
    run(threshold, noise(500, seed=9) * 1.3, state, open_samples=7)
    assert np.array_equal(state.history[0].values, history)
    assert np.array_equal(state.threshold, before)
    assert state.pending[0] == 0


def test_what_an_event_showed_for_long_is_the_new_normal() -> None:
    threshold = made(adapt_samples=150, floor=[0.14, 0.14])
    state = threshold.start()
    run(threshold, noise(500, rows=2), state)
    shifted = noise(BLOCK, rows=2, seed=9)
    shifted[:, 0] += 0.9
    calm_row = state.history[0].values[1].copy()
    outside, _, found = run(threshold, shifted, state, open_samples=149)
    assert outside[:, 0].all()
    assert not found
    assert (state.history[0].written == 500).all()
    run(threshold, shifted, state, open_samples=150)
    assert state.history[0].written.tolist() == [BLOCK, 550]  # a new history, and one that went on
    assert 1.0 < state.threshold[0, 0] < 1.2
    assert np.array_equal(state.history[0].values[1][BLOCK:], calm_row[BLOCK:])
    assert not run(threshold, shifted, state, open_samples=200)[0].any()


def test_what_is_accepted_is_learnt_from_half_of_the_time_on() -> None:
    threshold = made(adapt_samples=200, accepts=True, floor=[0.14, 0.14])
    state = threshold.start()
    run(threshold, noise(500, rows=2), state)
    shifted = noise(BLOCK, rows=2, seed=9)
    shifted[:, 0] += 0.9
    written = []
    for open_samples in (50, 100, 150):
        run(threshold, shifted, state, open_samples=open_samples)
        written.append(state.history[0].written.tolist())
        assert not threshold.accepts(open_samples)
        assert state.threshold[0, 0] < 0.3  # until it is accepted
    assert written == [[500, 500], [BLOCK, 500], [2 * BLOCK, 500]]
    run(threshold, shifted, state, open_samples=200)
    assert threshold.accepts(200)
    assert not made(adapt_samples=200).accepts(200)
    assert state.history[0].written.tolist() == [3 * BLOCK, 550]
    assert 1.0 < state.threshold[0, 0] < 1.2


def test_what_ends_before_it_is_accepted_is_not_learnt() -> None:
    threshold = made(adapt_samples=200, accepts=True)
    state = threshold.start()
    run(threshold, noise(500), state)
    run(threshold, noise(BLOCK) + np.float32(0.9), state, open_samples=150)
    run(threshold, noise(2 * BLOCK), state)
    assert state.history[0].written.tolist() == [2 * BLOCK]
    assert state.threshold[0, 0] < 0.3


def test_a_fixed_row_follows_its_errors_only_after_an_accepted_event() -> None:
    threshold = DynamicThreshold(
        settings_of(adapt_samples=100, accepts=True, floor=[0.14, 0.14], z_max=12.0), fixed=1
    )
    state = threshold.start()
    rising = np.linspace(0.05, 0.138, 1000, dtype=np.float32)[:, None].repeat(2, axis=1)
    _, limits, found = run(threshold, rising, state)
    assert (limits[:, 1] == np.float32(0.14)).all()
    assert limits[-1, 0] > 0.2
    assert not found
    high = noise(BLOCK, rows=2) + np.float32(0.9)
    run(threshold, high, state, open_samples=100)
    assert not state.fixed.any()
    assert state.threshold[0].min() > 1.0
    assert not run(threshold, high, state)[0].any()


@pytest.mark.parametrize("judged", [False, True])
def test_a_fault_from_the_start_raises_the_limit_only_if_nobody_judges_it(judged: bool) -> None:
    errors = noise(400)
    errors[50:80] += 2.0
    outside, limits, _ = run(made(settle_samples=200, settle_judged=judged), errors)
    assert not outside[:200].any()
    assert (limits[-1, 0] < 0.3) == judged


def test_a_new_stream_settles_before_it_is_judged() -> None:
    errors = noise(600, seed=5) + np.float32(0.5)  # this machine differs from the recorded one
    errors[:20] = np.nan  # what is not scored does not count
    errors[50] = errors[300] = 2.0
    outside, limits, found = run(made(settle_samples=120), errors)
    assert np.flatnonzero(outside[:, 0]).tolist() == [300]
    assert limits[3 * BLOCK :].min() > 0.6
    assert not found
    assert run(made(), errors)[0][20:].all()
    exactly = np.full((30, 1), 1.0, np.float32)
    assert np.flatnonzero(run(made(settle_samples=10), exactly)[0]).tolist() == list(range(10, 30))


def test_a_settled_stream_does_not_depend_on_one_that_still_settles() -> None:
    threshold = made(calm=[0.05], z_max=3.0, settle_samples=2 * BLOCK, settle_judged=True)
    errors = noise(3 * BLOCK)
    errors[-10:] = 0.01  # unnaturally small: kept out of the history
    alone, beside = threshold.start(), threshold.start(2)
    run(threshold, errors, alone)
    run(threshold, errors[: 2 * BLOCK], first := threshold.start())
    beside.settled[0], beside.history[0] = first.settled[0], first.history[0]
    beside.threshold[0], beside.calm[0] = first.threshold[0], first.calm[0]
    both = np.stack([errors[2 * BLOCK :], noise(BLOCK, seed=2)], axis=1)
    with np.errstate(divide="ignore"):
        threshold.compare(beside, ALL, (ALL, slice(0, BLOCK)), both)
    threshold.update(beside, 0, None)
    assert alone.history[0].written[0] == 3 * BLOCK - 10
    assert np.array_equal(beside.history[0].kept(0), alone.history[0].kept(0))
    assert beside.threshold[0] == alone.threshold[0]


def test_while_it_settles_a_peak_lowers_no_threshold() -> None:
    errors = noise(BLOCK * 4)
    errors[BLOCK * 3 + 10 : BLOCK * 3 + 20] = 0.17  # it would be found, and the threshold chosen
    quiet, chosen = (made(settle_samples=count) for count in (10_000, 0))
    states = quiet.start(), chosen.start()
    assert not run(quiet, errors, states[0])[2]
    assert run(chosen, errors, states[1])[2]
    assert states[0].threshold[0, 0] > states[1].threshold[0, 0]
    assert states[0].history[0].written[0] == BLOCK * 4


def test_unnaturally_small_errors_are_outside_too() -> None:
    threshold = made(calm=[0.05], z_max=3.0)
    errors = noise(600)
    errors[520:540] = [[0.01]] * 20
    state = threshold.start()
    outside, _, _ = run(threshold, errors, state)
    assert np.flatnonzero(outside[:, 0]).tolist() == list(range(520, 540))
    assert compare(threshold, state, errors[530:531]).ratio[0, 0] == pytest.approx(5, rel=0.01)
    spread = noise(600) * np.linspace(0.3, 3, 600, dtype=np.float32)[:, None]
    assert not run(made(calm=[0.05], z_max=3.0, floor=[0.5]), spread)[0][300:].any()


def test_an_error_of_nothing_is_far_out_but_not_infinitely() -> None:
    state = made(calm=[0.05]).start()
    zero = np.zeros((1, 1), np.float32)
    assert compare(made(calm=[0.05]), state, zero).ratio[0, 0] == 1e6
    assert compare(made(), made().start(), zero).ratio[0, 0] == 0
    missing = np.full((1, 1), np.nan, np.float32)
    assert np.isnan(compare(made(calm=[0.05]), state, missing).ratio[0, 0])


def selected(errors: list[float], z: np.ndarray) -> float:
    """The candidate of models/README.md, step 6, one by one."""
    mean, deviation = np.mean(errors), np.std(errors)
    best, best_merit = z[-1], 0.0
    for factor in z:
        over = [error > mean + factor * deviation for error in errors]
        count = sum(over)
        if count == 0 or mean == 0 or deviation == 0:
            break
        if 2 * count >= len(errors):
            continue
        rest = [error for error, is_over in zip(errors, over, strict=True) if not is_over]
        runs = sum(b and not a for a, b in pairwise([False, *over]))
        drop = (mean - np.mean(rest)) / mean + (deviation - np.std(rest)) / deviation
        if drop / (runs**2 + count) >= best_merit:
            best, best_merit = factor, drop / (runs**2 + count)
    return float(mean + best * deviation)


def sequences(found: list[bool]) -> list[list[int]]:
    places = [place for place, one in enumerate(found) if one]
    return [
        [place for _, place in run]
        for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0])
    ]


def updated(
    settings: Threshold, history: list[float], block: list[float], limit: float
) -> tuple[float, list[int], list[float]]:
    """Threshold, places of the block found, and history after one update of one row."""
    floor = settings.floor[0]
    usable = [error <= limit for error in block]  # false for NaN as well
    kept = history + [error for error, use in zip(block, usable, strict=True) if use]
    after = kept[-settings.history_samples :]
    if len(kept) < settings.update_samples:
        return floor, [], after
    mean, deviation = np.mean(kept), np.std(kept)
    quiet = max(floor, mean + settings.z_max * deviation)
    least = np.float32(max(floor, mean + settings.z_min * deviation))
    if not any(use and error > least for error, use in zip(block, usable, strict=True)):
        return quiet, [], after
    count = round((settings.z_max - settings.z_min) / settings.z_step) + 1
    z = np.linspace(settings.z_min, settings.z_max, count)
    chosen = float(np.float32(max(floor, selected(kept, z))))
    over = [use and error > chosen for error, use in zip(block, usable, strict=True)]
    runs = sorted(sequences(over), key=lambda run: -max(block[place] for place in run))
    ladder = [max(block[place] for place in run) for run in runs]
    ladder.append(max(error for error in kept if error <= chosen))
    drops = [(a - b) / a >= settings.prune_drop for a, b in pairwise(ladder)]
    left = [run for rank, run in enumerate(runs) if any(drops[rank:])]
    found = sorted(place for run in left for place in run)
    normal = [
        e for at, (e, use) in enumerate(zip(block, usable, strict=True)) if use and at not in found
    ]
    return chosen if found else quiet, found, (history + normal)[-settings.history_samples :]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.6])
def test_what_half_of_the_errors_exceed_is_no_candidate(share: float) -> None:
    errors = noise(100, seed=8)[:, 0].astype(np.float64)
    errors[: round(100 * share)] += 1.0
    z = np.linspace(0.1, 3.0, 30)
    chosen = most_telling(errors, errors.mean(), errors.std(), z)
    assert chosen == pytest.approx(selected(errors.tolist(), z))


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 6, 7, 8, 11])
def test_every_update_is_as_the_page_defines_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    changes: dict[str, object] = {
        "history_samples": int(random.integers(60, 300)),
        "z_max": float(random.uniform(3, 12)),
        "z_step": float(random.uniform(0.3, 1.0)),
        "prune_drop": float(random.choice([0.0, 0.1, 0.3])),
        "floor": [float(random.choice([0.01, 0.12, 0.14]))],
    }
    threshold, state = made(**changes), made(**changes).start()
    errors = noise(1500, seed=seed)[:, 0]
    for begin in random.integers(0, 1500, 25):
        errors[begin : begin + random.integers(1, 12)] *= random.uniform(1.1, 2.5)
    errors[random.random(1500) < 0.02] = np.nan
    history: list[float] = []
    late = 0
    for begin in range(0, 1500, BLOCK):
        block = errors[begin : begin + BLOCK]
        limit, found, history = updated(
            settings_of(**changes), history, block.tolist(), float(state.threshold[0, 0])
        )
        compare(threshold, state, block[:, None])
        got = threshold.update(state, 0, None)
        assert state.threshold[0, 0] == pytest.approx(limit, rel=1e-6)
        assert [one.onset for one in got] == found[:1]
        assert [one.peak for one in got] == sorted(found, key=lambda at: -block[at])[:1]
        assert state.history[0].kept(0).tolist() == history
        late += len(got)
    assert late, "this seed shows nothing"


def scores_of(
    threshold: DynamicThreshold, state: ThresholdState, limits: Limits | None = None
) -> Float32:
    with np.errstate(divide="ignore", invalid="ignore"):
        return threshold.normal_scores(state, 0, limits or threshold.limits(state, 0))


def test_the_scores_of_normal_samples_follow_from_the_history() -> None:
    threshold, errors = made(floor=[0.2, 0.4]), noise(3 * BLOCK, rows=2)
    state = threshold.start()
    assert len(scores_of(threshold, state)) == 0
    run(threshold, errors, state)
    expected = (errors / state.threshold[0]).max(axis=1)
    np.testing.assert_allclose(scores_of(threshold, state), expected, rtol=1e-6)
    wider = Limits(np.float32([0.4, 0.8]), np.float32([0, 0]))
    np.testing.assert_allclose(
        scores_of(threshold, state, wider), (errors / wider.threshold).max(axis=1), rtol=1e-6
    )


def test_nothing_above_the_threshold_counts_as_normal() -> None:
    threshold, errors = made(), noise(6 * BLOCK)
    state = threshold.start()
    errors[3 * BLOCK : 3 * BLOCK + 5] = 0.5
    run(threshold, errors, state)
    scores = scores_of(threshold, state)
    assert len(scores) == 6 * BLOCK - 5
    assert scores.max() <= 1
    narrower = Limits(np.float32([0.11]), np.float32([0]))
    normal = errors[errors <= 0.11] / np.float32(0.11)
    np.testing.assert_allclose(scores_of(threshold, state, narrower), normal, rtol=1e-6)


def test_while_an_anomaly_is_open_the_normal_scores_stay() -> None:
    threshold, state = made(), made().start()
    run(threshold, noise(4 * BLOCK), state)
    before = scores_of(threshold, state)
    run(threshold, 4 * noise(2 * BLOCK, seed=2), state, open_samples=70)
    np.testing.assert_array_equal(scores_of(threshold, state), before)


def test_unnaturally_small_errors_are_normal_scores_too() -> None:
    threshold, errors = made(calm=[0.05]), noise(2 * BLOCK)
    errors[10] = 0.06
    state = threshold.start()
    run(threshold, errors, state)
    limits = Limits(np.float32([0.2]), np.float32([0.05]))
    assert scores_of(threshold, state, limits).max() == pytest.approx(0.05 / 0.06, rel=1e-5)


def test_a_row_that_begins_anew_says_nothing_yet() -> None:
    threshold, errors = made(floor=[0.2, 0.4]), noise(4 * BLOCK, rows=2)
    errors[3 * BLOCK :, 0] = np.nan
    state = threshold.start()
    run(threshold, errors, state)
    state.history[0].forget(np.array([True, False]))
    expected = errors[:, 1] / state.threshold[0, 1]
    np.testing.assert_allclose(scores_of(threshold, state), expected, rtol=1e-6)
