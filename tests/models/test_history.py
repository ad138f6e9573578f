"""The history's rings and moments, against a plain list of the newest values."""

from __future__ import annotations

import numpy as np
import pytest

from models.history import PART_COLUMNS, History, merged, moments

ROWS, SIZE = 3, 150


def test_all_values_at_once_are_the_same_as_row_by_row() -> None:
    random = np.random.default_rng(3)
    one, other = History.empty(ROWS, SIZE), History.empty(ROWS, SIZE)
    newest = np.empty((ROWS, 0), np.float32)
    for count in random.integers(1, 2 * SIZE, 60).tolist():
        values = random.random((ROWS, count), np.float32)
        newest = np.concatenate([newest, values], axis=1)[:, -SIZE:]
        one.changed.clear()
        other.changed.clear()
        one.remember_where(values, None)
        other.remember_where(values, np.ones(values.shape, np.bool_))
        assert np.array_equal(one.values, other.values)
        assert one.changed >= other.changed
        for row in range(ROWS):
            assert np.array_equal(one.kept(row), newest[row])


@pytest.mark.parametrize("count", [1, 70, 149, 150, 151, 400])
def test_rows_with_more_values_than_others_take_all_at_once_too(count: int) -> None:
    random = np.random.default_rng(count)
    one, other = History.empty(ROWS, SIZE), History.empty(ROWS, SIZE)
    for history in (one, other):
        history.remember(1, np.arange(130, dtype=np.float32))
        history.changed.clear()
    for _ in range(3):
        values = random.random((ROWS, count), np.float32)
        one.remember_where(values, None)
        other.remember_where(values, np.ones(values.shape, np.bool_))
        assert np.array_equal(one.written, other.written)
        for row in range(ROWS):
            assert np.array_equal(one.kept(row), other.kept(row))
        afresh = History(one.values, one.written).moments()
        for found, expected in zip(one.moments(), afresh, strict=True):
            assert np.array_equal(found, expected)
    assert one.changed == other.changed


def test_few_values_change_few_parts() -> None:
    history = History.empty(ROWS, 10 * PART_COLUMNS)
    history.remember_where(np.ones((ROWS, 630), np.float32), None)
    history.changed.clear()
    history.remember_where(np.ones((ROWS, 20), np.float32), None)
    assert history.changed == {9, 0}


@pytest.mark.parametrize("count", [1, 70, 149, 150, 151, 400])
def test_moments_are_those_of_what_is_kept_and_more(count: int) -> None:
    random = np.random.default_rng(count)
    values = random.normal(1000, 1, (ROWS, count)).astype(np.float32)
    more = random.normal(1000, 1, (ROWS, 20)).astype(np.float32)
    history = History.empty(ROWS, SIZE)
    for begin in range(0, count, 37):
        history.moments()  # looked at now and then, so that only parts of it are new
        history.remember_where(values[:, begin : begin + 37], None)
    counts, mean, squares = merged(history.moments(), moments(more, None))
    for row in range(ROWS):
        kept = np.concatenate([history.kept(row), more[row]]).astype(np.float64)
        assert counts[row] == len(kept)
        assert mean[row] == pytest.approx(kept.mean(), rel=1e-12)
        assert squares[row] == pytest.approx(((kept - kept.mean()) ** 2).sum(), rel=1e-6)
