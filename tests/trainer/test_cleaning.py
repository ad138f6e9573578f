"""Outliers are marked, short gaps are filled, and each step says how many values it touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.manifest import Channel
from models.messages import Float32, Samples
from tests.trainer.conftest import CONFIG, machine, write_recording
from trainer import cleaning, config, prepare
from trainer.config import PrepareTable
from trainer.prepare import Preprocessing
from trainer.prepared import prepare_data


def wave(samples: int = 400, season: int = 40) -> Float32:
    """Two channels that repeat after a season, and a third that follows the first."""
    at = np.arange(samples)
    one, other = np.sin(2 * np.pi * at / season), np.cos(2 * np.pi * at / season)
    return np.stack([one, other, 2 * one + other], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("settings", "off_max"),
    [
        ({"fill": "linear"}, 0.5),
        ({"fill": "seasonal", "season_samples": 40}, 1e-5),
        ({"fill": "neighbours", "neighbours": 1}, 1e-5),
    ],
)
def test_each_method_fills_short_gaps_only(settings: dict[str, Any], off_max: float) -> None:
    values = wave()
    gappy = values.copy()
    gappy[100:108, 2] = np.nan
    gappy[200:230, 2] = np.nan  # too long
    filled = cleaning.filled(gappy, PrepareTable(fill_samples_max=8, **settings))
    assert np.abs(filled - values)[100:108, 2].max() < off_max
    assert np.isnan(filled[200:230, 2]).all()
    untouched = ~np.isnan(gappy)
    assert np.array_equal(filled[untouched], gappy[untouched])


def test_nothing_is_filled_unless_it_is_wanted() -> None:
    gappy = wave()
    gappy[100:103, 0] = np.nan
    assert cleaning.filled(gappy, PrepareTable()) is gappy


def test_a_channel_without_a_value_and_rows_without_any_stay_as_they_are() -> None:
    gappy = wave()
    gappy[:, 0] = np.nan
    gappy[50:52] = np.nan
    for method in ("linear", "neighbours"):
        filled = cleaning.filled(gappy, PrepareTable(fill=method))
        assert np.isnan(filled[:, 0]).all()


def test_outliers_are_marked_and_left_out_only_if_wanted() -> None:
    scaled = np.zeros((10, 2), np.float32)
    scaled[3, 1], scaled[5, 0] = 25, np.nan
    marked, left_out = PrepareTable(), PrepareTable(outliers="leave-out")
    assert np.argwhere(cleaning.outliers(scaled, marked)).tolist() == [[3, 1]]
    assert cleaning.known(scaled, marked) is scaled
    assert np.isnan(cleaning.known(scaled, left_out)[3, 1])


def test_each_step_counts_what_it_touches() -> None:
    values = wave()
    values[10, 0] = 1000.0
    values[20:25, 1] = np.nan
    values[30, 2] = 8.0
    parts = {
        "train": Samples(np.arange(400.0), values),
        "test": Samples(np.arange(2.0), values[:2]),
    }
    channels = [Channel(name=name, unit="", center=0, scale=1) for name in "abc"]
    settings = PrepareTable(outliers="leave-out", fill="linear")
    found = [tuple(step) for step in cleaning.steps(parts, channels, settings, clip=5.0)]
    assert found == [
        ("outliers, marked, left out of the training part", 1, "values", {"a": 1}),
        ("filled in the training part, linear", 6, "values", {"a": 1, "b": 5}),
        ("clipped to ±5 scales as inputs", 2, "values", {"a": 1, "c": 1}),
    ]


def test_a_filled_value_is_an_input_and_never_a_target() -> None:
    how = Preprocessing(np.zeros(1, np.float32), np.ones(1, np.float32), [0], 5.0, ("value",))
    part = Samples(np.arange(6.0), np.array([[0, 1, np.nan, 3, 4, 5]], np.float32).T)
    [filled] = prepare.series(part, how, 1.0, PrepareTable(fill="linear"))
    assert filled.inputs[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(filled.targets[1, 0])
    [held] = prepare.series(part, how, 1.0)
    assert held.inputs[:, 0].tolist() == [0, 1, 1, 3, 4]


@pytest.mark.parametrize(
    "settings", [{"fill": "seasonal"}, {"fill": "linear", "season_samples": 7}]
)
def test_a_season_is_for_the_seasonal_method(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="season_samples is for fill = 'seasonal'"):
        PrepareTable.model_validate(settings)


def test_the_steps_of_a_whole_preparation_are_in_the_metrics(tmp_path: Any) -> None:
    times, values = machine(4000, seed=1)
    values[50, 0] = 77.0  # over the channel's high
    values[60, 1] = 4000.0
    values[100:104, 1] = np.nan
    times[70] = times[69]
    write_recording(tmp_path / "normal.csv", times, values)
    text = CONFIG.partition("[forecast]")[0] + '[prepare]\nfill = "linear"\n'
    (tmp_path / "tiny.toml").write_text(text)
    prepared = prepare_data(config.read(tmp_path / "tiny.toml"), lambda line: None)
    steps = {step["what"]: step for step in prepared.metrics()["steps"]}
    assert steps["out of range, set to missing"]["touched"] == 1
    assert steps["not on the grid: duplicate"]["touched"] == 1
    assert steps["outliers, marked"]["channels"] == {"power": 1}
    assert steps["filled in the training part, linear"]["channels"] == {"power": 2}
    assert steps["between two parts, in neither"]["touched"] == 40
