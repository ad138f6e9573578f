"""A forecaster trained the whole way, small; and the benchmark's command on a small file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.errors import ConfigError, DataError
from models.messages import Float32
from tests.trainer.forecast.conftest import channels
from trainer.benchmark.forecasting import read_config
from trainer.cli import commands
from trainer.config import ForecastTable
from trainer.forecast.build import BuiltForecaster, build
from trainer.forecast.choose import predict
from trainer.forecast.corrections import StepParts
from trainer.forecast.windows import Cutter

SMALL = """
[forecast]
context_steps = 28

[forecast.network]
patch_steps = 4
d_model = 8
num_heads = 2
layers = 1
feed_forward = 16

[forecast.fit]
epochs = 2
batch = 64
learning_rate = 0.003

[forecast.parity]
quantizations = ["dynamic-range-int8"]
"""


def seasonal(rows: int, seed: int = 1) -> Float32:
    """Two channels with a season of four steps and some noise."""
    random = np.random.default_rng(seed)
    at = np.arange(rows)[:, None]
    season = np.sin(at * np.pi / 2 + [0.3, 1.2]) * [1, 20] + [5, 300]
    return (season + random.normal(0, [0.2, 4], (rows, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ett") / "small.toml"
    path.write_text(SMALL)
    return path


def built(config: Path, seed: int) -> BuiltForecaster:
    settings, _ = read_config(config, seed)
    settings = settings.model_copy(update={"horizon_steps": 8})
    values = seasonal(1500)
    parts = StepParts(values[:1200], 900, values[900:1200])
    return build(settings, channels(0.7, 15), parts, None, lambda line: None)


def test_a_forecaster_learns_and_the_same_seed_gives_the_same(config: Path) -> None:
    first, second = built(config, 1), built(config, 1)
    assert first.shipped.part == second.shipped.part
    assert first.choice == second.choice
    assert first.network == second.network
    assert not first.epochs or first.network is not None
    settings = ForecastTable(context_steps=28, horizon_steps=8)
    fresh = Cutter(seasonal(200, seed=2), np.array([0.7, 15], np.float32), settings)
    windows = fresh.cut(fresh.places)
    context = windows.context[:, -first.shipped.part.context_steps :]
    quantiles = predict(first.shipped.network, context)
    np.testing.assert_array_equal(quantiles, predict(second.shipped.network, context))
    error = np.abs(quantiles[:, :, 3] - windows.future).mean()
    last = np.abs(windows.context[:, -1:] - windows.future).mean()
    assert error < 0.6 * last


def walk(rows: int, seed: int) -> Float32:
    """Two channels that wander: a long context of them has a far larger scale than a short one."""
    random = np.random.default_rng(seed)
    return np.cumsum(random.normal(0, 1, (rows, 2)), axis=0).astype(np.float32)


def test_a_closed_form_has_quantiles_in_scales_of_its_own_context() -> None:
    settings = ForecastTable.model_validate(
        {
            "context_steps": 16,
            "horizon_steps": 4,
            "maps": {"contexts_steps": [400], "penalties": [0.01]},
            "network": {"patch_steps": 4},
            "choice": {"network": False},
            "parity": {"quantizations": ["dynamic-range-int8"]},
        }
    )
    values, scales = walk(1700, 1), np.ones(2, np.float32)
    parts = StepParts(values[:1200], 900, values[1200:])
    found = build(settings, channels(1, 1), parts, None, lambda line: None)
    assert len(found.linear) == 16, "the map with the long context was not chosen"
    cutter = Cutter(walk(3000, 2), scales, settings).shortened(16)
    windows = cutter.cut(cutter.some(400))
    quantiles = predict(found.shipped.network, windows.context)
    low, high = (quantiles[:, :, settings.quantiles.index(level)] for level in (0.1, 0.9))
    covered = np.mean((low <= windows.future) & (windows.future <= high))
    assert abs(covered - 0.8) < 0.12


def test_windows_that_are_all_broken_are_told(config: Path) -> None:
    settings, _ = read_config(config, None)
    settings = settings.model_copy(update={"horizon_steps": 8})
    values = seasonal(300)
    values[::20] = np.nan  # no stretch of 28 steps
    with pytest.raises(DataError, match="the training part has no window"):
        build(settings, channels(1, 1), StepParts(values, 200, values), None, print)


def ett_file(path: Path, rows: int = 2400) -> Path:
    """Twenty months of 30 days, every six hours."""
    began = datetime(2020, 1, 1, tzinfo=UTC)
    lines = [
        f"{began + timedelta(hours=6 * row):%Y-%m-%d %H:%M:%S},{a:.4f},{b:.4f}"
        for row, (a, b) in enumerate(seasonal(rows))
    ]
    path.write_text("\n".join(["date,load,OT", *lines]) + "\n")
    return path


def test_the_benchmark_tells_all_that_it_promises(tmp_path: Path, config: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    arguments = ["benchmark", "ett", "--data", str(ett_file(tmp_path / "ETTx.csv"))]
    arguments += ["--config", str(config), "--horizons", "8"]
    arguments += ["--json", str(out), "--report", str(page)]
    result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    assert set(document["horizons"]) == {"8"}
    for horizon in document["horizons"].values():
        for name in ("quantized", "float"):
            row = horizon[name]
            assert row["mse"] < horizon["last_value"]["mse"] / 2
            assert abs(row["coverage_80"] - 0.8) < 0.06
            assert abs(row["coverage_95"] - 0.95) < 0.04
            assert row["model_bytes"] > 1000
            assert row["ms_per_forecast"] > 0
            assert 0 < row["width_80"] < row["width_95"]
            for level, share in row["quantiles"].items():
                assert abs(share - float(level)) < 0.06
            assert {
                "mae",
                "mase",
                "smape",
                "mape",
                "r2",
                "pinball",
                "before_adaptation",
            } <= row.keys()
        assert horizon["linear"]["mase"] < 1
        assert len(horizon["by_lead"]["quantized"]["coverage_80"]) == 8
        assert horizon["float"]["quantization"] == "float32"
        assert abs(horizon["quantized"]["mse"] / horizon["float"]["mse"] - 1) < 0.02
    text = page.read_text()
    assert "8 steps ahead" in text
    assert text.count("data:image/svg+xml") >= 6


def test_a_file_that_is_too_short_is_told(tmp_path: Path, config: Path) -> None:
    arguments = ["benchmark", "ett", "--data", str(ett_file(tmp_path / "ETTx.csv", 2000))]
    result = CliRunner().invoke(commands, [*arguments, "--config", str(config)])
    assert isinstance(result.exception, DataError)
    assert "2000 rows every 21600 s" in str(result.exception)
    assert "2400 rows, are needed" in str(result.exception)


@pytest.mark.parametrize("horizons", ["0", "480", "96,x"])
def test_odd_horizons_are_refused(tmp_path: Path, config: Path, horizons: str) -> None:
    arguments = ["benchmark", "ett", "--data", str(ett_file(tmp_path / "ETTx.csv"))]
    arguments += ["--config", str(config), "--horizons", horizons]
    result = CliRunner().invoke(commands, arguments)
    assert isinstance(result.exception, ConfigError) or result.exit_code == 2
