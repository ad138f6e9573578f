"""Summaries: the statistics are those of all samples at once, however they came."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.scoring.summary import Summary
from models.messages import GOOD, HELD, INTERPOLATED, MISSING, Float32, Samples


def made(seed: int, count: int = 400) -> tuple[Samples, Float32]:
    random = np.random.default_rng(seed)
    times = 1_700_000_000.0 + np.arange(count) * 0.5
    values = random.normal(1000, 0.01, (count, 2)).astype(np.float32)
    values[random.random((count, 2)) < 0.1] = np.nan
    score = random.random(count).astype(np.float32) * 1.2
    score[:20] = np.nan
    codes = random.choice([GOOD, HELD, INTERPOLATED], (count, 2), p=[0.8, 0.1, 0.1])
    quality = np.where(np.isnan(values), MISSING, codes).astype(np.uint8)
    return Samples(times, values, quality), score


def summarise(samples: Samples, score: Float32, cuts: list[int], restart: bool) -> list[Any]:
    summary, found = Summary(["a", "b"], 60.0), []
    for begin, end in pairwise([0, *sorted(cuts), len(samples.times)]):
        found += summary.add(samples.part(begin, end), score[begin:end])
        if restart:
            saved, doubts = summary.to_bytes(), summary.doubts_to_bytes()
            summary = Summary(["a", "b"], 60.0)
            summary.restore(saved)
            summary.restore_doubts(doubts)
    return found + summary.close()


def test_an_interval_is_what_numpy_says_of_its_samples() -> None:
    samples, scores = made(1)
    first = summarise(samples, scores, [], False)[0]
    inside = samples.times < np.floor(samples.times[0] / 60) * 60 + 60
    values, score = samples.values[inside].astype(np.float64), scores[inside]
    assert first["n"] == inside.sum()
    assert first["scored"] == (~np.isnan(score)).sum()
    assert first["score_max"] == pytest.approx(np.nanmax(score))
    assert first["share_anomalous"] == pytest.approx((score > 1).sum() / (~np.isnan(score)).sum())
    for index, name in enumerate("ab"):
        channel = first["channels"][name]
        assert channel["missing"] == np.isnan(values[:, index]).sum()
        assert channel["mean"] == pytest.approx(np.nanmean(values[:, index]), rel=1e-5)
        assert channel["std"] == pytest.approx(np.nanstd(values[:, index]), rel=1e-4)
        assert channel["min"] == pytest.approx(np.nanmin(values[:, index]), rel=1e-5)
        assert samples.quality is not None
        quality = samples.quality[inside, index]
        assert channel["held"] == (quality == HELD).sum() > 0
        assert channel["interpolated"] == (quality == INTERPOLATED).sum() > 0
    doubted = (samples.quality[inside] != GOOD).any(axis=1)
    assert 0 < first["uncertain"] == (doubted & ~np.isnan(score)).sum() < first["scored"]


def test_each_interval_counts_its_own() -> None:
    samples, scores = made(2)
    found = summarise(samples, scores, [100, 200], False)
    assert samples.quality is not None
    assert len(found) > 2
    for index, name in enumerate("ab"):
        held = sum(summary["channels"][name].get("held", 0) for summary in found)
        assert held == (samples.quality[:, index] == HELD).sum()


def test_where_all_was_measured_nothing_is_said_of_it() -> None:
    samples, scores = made(5)
    calm = Samples(samples.times, np.nan_to_num(samples.values))
    for summary in summarise(calm, scores, [], False):
        assert summary["uncertain"] == 0
        assert summary["channels"]["a"].keys() == {"missing", "min", "mean", "max", "std"}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_chunks_and_restarts_do_not_change_a_summary(cuts: list[int], restart: bool) -> None:
    samples, scores = made(2)
    whole = summarise(samples, scores, [], False)
    parts = summarise(samples, scores, cuts, restart)
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        assert {k: v for k, v in one.items() if k != "channels"} == {
            k: v for k, v in other.items() if k != "channels"
        }
        for name in "ab":
            assert one["channels"][name] == pytest.approx(other["channels"][name], rel=1e-4)


def test_a_channel_without_a_value_has_no_statistics() -> None:
    samples, scores = made(3, 10)
    samples.values[:, 0] = np.nan
    samples = Samples(samples.times, samples.values)
    summary = summarise(samples, scores, [], False)[0]
    assert summary["channels"]["a"] == {
        "missing": 10, "min": None, "mean": None, "max": None, "std": None,
    }  # fmt: skip
    assert summary["score_max"] is None
    assert summary["share_anomalous"] is None


def test_intervals_lie_on_multiples_of_their_length() -> None:
    found = summarise(*made(4), [], False)
    assert len(found) == 4
    assert all(summary["from"].endswith(":00.000Z") for summary in found)
    assert sum(summary["n"] for summary in found) == 400
