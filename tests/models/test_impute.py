"""Imputation: exact where the method's own law holds, and never the mean."""

from __future__ import annotations

import numpy as np
import pytest

from models.impute import fill, longest_gap
from models.manifest import Imputation
from models.messages import Float32

LINEAR = Imputation(method="linear", gap_steps_max=50, missing_share_max=0.5)
SEASONAL = Imputation(method="seasonal", season_steps=8, gap_steps_max=50, missing_share_max=0.5)


def with_holes(values: Float32, *holes: slice) -> Float32:
    broken = values.copy()
    for hole in holes:
        broken[hole, 0] = np.nan
    return broken


def test_linear_is_exact_on_a_line_and_holds_the_ends() -> None:
    line = (3 + 0.5 * np.arange(40, dtype=np.float32))[:, None]
    filled = fill(with_holes(line, slice(5, 9), slice(20, 21)), LINEAR)
    np.testing.assert_allclose(filled, line, rtol=1e-6)
    ends = fill(with_holes(line, slice(0, 3), slice(37, 40)), LINEAR)[:, 0]
    assert ends[:3].tolist() == [4.5] * 3
    assert ends[37:].tolist() == [21.0] * 3


@pytest.mark.parametrize("hole", [slice(20, 26), slice(0, 5), slice(34, 40), slice(12, 28)])
def test_seasonal_is_exact_on_seasons_that_drift(hole: slice) -> None:
    at = np.arange(40)
    # each season is one higher than the one before: the level moves, the shape stays
    seasons = (10 * np.sin(at * np.pi / 4) + at // 8).astype(np.float32)[:, None]
    if hole == slice(12, 28):  # longer than a season: what is filled first tells the rest
        seasons -= (at // 8).astype(np.float32)[:, None]
    filled = fill(with_holes(seasons, hole), SEASONAL)
    apart = np.abs(filled - seasons).max()
    assert apart < 1.1  # the step of the level lies somewhere in the gap
    assert apart < np.abs(fill(with_holes(seasons, hole), LINEAR) - seasons).max() / 2


def test_what_a_season_cannot_tell_is_filled_linearly() -> None:
    values = np.arange(10, dtype=np.float32)[:, None]
    season = SEASONAL.model_copy(update={"season_steps": 9})
    np.testing.assert_allclose(fill(with_holes(values, slice(4, 6)), season), values)


def test_the_other_channels_and_the_input_stay() -> None:
    values = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)
    broken = with_holes(values, slice(3, 6))
    before = broken.copy()
    filled = fill(broken, SEASONAL)
    np.testing.assert_array_equal(broken, before)
    np.testing.assert_array_equal(filled[:, 1:], values[:, 1:])
    assert not np.isnan(filled).any()


def test_the_longest_gap_is_of_one_channel() -> None:
    values = np.zeros((20, 2), np.float32)
    assert longest_gap(values) == 0
    values[0:3, 0] = values[3:7, 1] = values[18:, 0] = np.nan
    assert longest_gap(values) == 4
