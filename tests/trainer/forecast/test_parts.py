"""The pieces of the forecaster's training, each against what it must be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.messages import Float32
from trainer.config import EncoderTable, ForecastTable
from trainer.detector.export import convert
from trainer.forecast import calibrate, references
from trainer.forecast.choose import choose, predict
from trainer.forecast.evaluate import Accuracy, season_error
from trainer.forecast.network import closed_network, on_top, residual_network
from trainer.forecast.windows import Windows

SETTINGS = ForecastTable(
    context_steps=50,  # not whole patches: the oldest two are left out
    horizon_steps=10,
    network=EncoderTable(patch_steps=8, d_model=8, num_heads=2, layers=1, feed_forward=16),
)


def noise(shape: tuple[int, ...], seed: int = 1) -> Float32:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"d_model": 10, "num_heads": 4}, "d_model 10 is not a multiple of num_heads 4"),
        ({"dropout": 1.0}, "less than 1"),
        ({"patch_steps": 0}, "greater than or equal to 1"),
    ],
)
def test_an_odd_encoder_is_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EncoderTable.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantiles": [0.1, 0.25, 0.5, 0.75, 0.9]}, r"quantiles lack 0.025, 0.975"),
        ({"context_steps": 12}, "patch_steps 24 is more than context_steps 12"),
        ({"horizon_steps": 0}, "greater than or equal to 1"),
    ],
)
def test_an_odd_forecaster_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ForecastTable.model_validate(settings)


def wild(network: Any) -> Any:
    """Give a network large weights."""
    weights = [noise(kernel.shape, seed) for seed, kernel in enumerate(network.get_weights())]
    network.set_weights(weights)
    return network


def test_quantiles_cannot_cross_and_survive_the_export() -> None:
    network = on_top(wild(residual_network(SETTINGS)), noise((50, 10)), 0.5)
    context = noise((20, 50))
    quantiles = np.asarray(network(context)["quantiles"])
    assert quantiles.shape == (20, 10, 7)
    assert (np.diff(quantiles, axis=2) >= 0).all()
    exported = predict(convert(network, "float32"), context)
    np.testing.assert_allclose(exported, quantiles, rtol=1e-3, atol=1e-3)


def test_a_share_of_what_the_network_finds_is_on_top_of_the_map() -> None:
    residual, weights, context = wild(residual_network(SETTINGS)), noise((50, 10)), noise((5, 50))
    found = np.asarray(residual(context)["quantiles"])
    mixed = np.asarray(on_top(residual, weights, 0.25)(context)["quantiles"])
    median = context @ weights + 0.25 * found[:, :, 3]
    np.testing.assert_allclose(mixed[:, :, 3], median, atol=1e-3)
    distances = found - found[:, :, 3:4]
    np.testing.assert_allclose(mixed, median[:, :, None] + distances, atol=1e-3)


def test_a_map_alone_is_a_network_too_and_loses_nothing_as_integers() -> None:
    weights, context = noise((50, 10)) / 50, noise((5, 50))
    weights[-1, 0] = 1.0  # one column is far larger than the others
    distances = np.linspace(-1, 1, 7, dtype=np.float32)[None] * np.ones((10, 1), np.float32)
    network = closed_network(weights, distances)
    expected = (context @ weights)[:, :, None] + distances
    exact = predict(convert(network, "float32"), context)
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    np.testing.assert_allclose(
        predict(convert(network, "dynamic-range-int8"), context), expected, atol=0.03
    )


def test_references_are_what_they_are_called() -> None:
    context = np.arange(50, dtype=np.float32)[None]
    assert (references.last_value(SETTINGS)(context) == 49).all()
    assert references.seasonal(SETTINGS, 4)(context)[0, :6].tolist() == [46, 47, 48, 49, 46, 47]
    ramp = np.arange(100, dtype=np.float32)[:, None]
    found = references.evaluate(references.last_value(SETTINGS), ramp, np.ones(1, "f"), SETTINGS)
    assert found.total()["mae"] == 5.5  # 1 to 10 steps behind
    assert found.count[0, 0] == 41


def windows_of(quantiles: Float32, actual: Float32) -> Windows:
    count = len(actual)
    return Windows(noise((count, 50)), actual, np.ones(count, np.float32), np.zeros(count, int))


def test_offsets_make_the_quantiles_cover() -> None:
    actual = 3 * noise((4000, 10)) + 1  # wider than claimed, and off
    claimed = np.broadcast_to(np.linspace(-0.3, 0.3, 7, dtype=np.float32), (4000, 10, 7))
    found = calibrate.intervals(claimed, windows_of(claimed, actual), 1, SETTINGS)
    assert found.leads_steps[0] == 1
    assert found.leads_steps[-1] == 10
    offsets = np.array(found.offsets)[:, 0]  # (Q, G)
    assert (offsets[3] == 0).all()  # the median stays the network's
    fresh = 3 * noise((20_000, 10), seed=9) + 1
    at = np.array(found.leads_steps) - 1
    moved = claimed[0, 0, :, None] + offsets
    for position, level in enumerate(SETTINGS.quantiles):
        if level != 0.5:
            covered = (fresh[:, at] <= moved[position]).mean()
            assert covered == pytest.approx(level, abs=0.015)


def test_accuracy_is_computed_by_hand() -> None:
    levels = SETTINGS.quantiles
    accuracy = Accuracy(np.array([2.0], np.float32), 2, levels, 0.01)
    quantiles = np.array([[[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]]], np.float32)
    accuracy.add(quantiles, np.array([[7.0, np.nan]], np.float32))
    accuracy.add(quantiles, np.array([[5.0, 0.0]], np.float32))
    total = accuracy.total(np.array([0.5]))
    assert total["mae"] == pytest.approx((4 + 2 + 3) / 2 / 3, rel=1e-4)
    assert total["mse"] == pytest.approx((4 + 1 + 2.25) / 3, rel=1e-4)
    assert total["mase"] == pytest.approx(total["mae"] / 0.5, rel=1e-4)
    assert total["coverage_95"] == pytest.approx(2 / 3, rel=1e-4)
    assert total["coverage_80"] == pytest.approx(1 / 3, rel=1e-4)
    assert total["width_80"] == pytest.approx(2.0)
    assert total["smape"] == pytest.approx(100 * (4 / 5 + 2 / 4 + 3 / 1.5) / 3, rel=1e-4)
    assert total["mape"] == pytest.approx(100 * (4 / 7 + 2 / 5 + 3 / 0.02) / 3, rel=1e-4)
    spread = sum((value - 4) ** 2 for value in (7, 5, 0)) / 2**2  # of 7, 5 and 0, in scales
    assert total["r2"] == pytest.approx(1 - (4 + 1 + 2.25) / spread, rel=1e-4)
    by_hand = sum(
        max(t * (7 - q), (t - 1) * (7 - q)) for t, q in zip(levels, range(7), strict=True)
    )
    by_hand += sum(
        max(t * (5 - q), (t - 1) * (5 - q)) for t, q in zip(levels, range(7), strict=True)
    )
    by_hand += sum(max(t * -q, (t - 1) * -q) for t, q in zip(levels, range(7), strict=True))
    assert total["pinball"] == pytest.approx(by_hand / 7 / 2 / 3, rel=1e-4)
    assert accuracy.by_lead()["mae"] == [1.5, 1.5]
    below = accuracy.below()  # 7 is above all, 5 at or below two, 0 at or below all
    assert (below["0.025"], below["0.9"]) == pytest.approx((1 / 3, 2 / 3), rel=1e-3)


def test_figures_stay_finite_at_zero() -> None:
    accuracy = Accuracy(np.ones(1, np.float32), 1, SETTINGS.quantiles, 0.01)
    accuracy.add(np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.float32))
    assert accuracy.total()["smape"] == accuracy.total()["mape"] == 0
    assert "r2" not in accuracy.total()  # the actual values do not change
    constant = season_error(np.ones((10, 1), np.float32), np.ones(1, np.float32), 2)
    assert constant[0] > 0  # what MASE divides by


def test_r2_is_the_mean_over_the_channels_that_change_and_keeps_its_digits() -> None:
    accuracy = Accuracy(np.ones(3, np.float32), 2, SETTINGS.quantiles, 0.01)
    far = 1e6  # where float32 tells 1/16 apart
    rows = [[[0, 4], [far, far + 2], [5, 5]], [[8, 4], [far + 4, far + 6], [5, 5]]]
    for row in rows:
        actual = np.array(row, np.float32)
        accuracy.add(actual[:, :, None] + np.array([[[1]], [[2]], [[0]]], np.float32), actual)
    first, second = 1 - 4 * 1 / 32, 1 - 4 * 4 / 20
    assert accuracy.total()["r2"] == pytest.approx((first + second) / 2, rel=1e-4)


def test_the_smallest_form_that_forecasts_as_well_is_chosen() -> None:
    network, context = residual_network(SETTINGS), noise((60, 50))
    good = convert(network, "float32")
    actual = predict(good, context)[:, :, 3] + 0.5 * noise((60, 10))
    windows = Windows(context, actual, np.ones(60, np.float32), np.zeros(60, int))
    half = convert(network, "float16")
    for layer in network.layers:
        layer.set_weights([weights * 1.5 for weights in layer.get_weights()])
    worse = convert(network, "dynamic-range-int8")
    assert len(worse) < len(half) < len(good)
    trials = choose(
        {"float32": good, "dynamic-range-int8": worse, "float16": half},
        {"int8": "no"},
        windows,
        SETTINGS.parity,
        None,
    )
    assert [(trial.quantization, trial.passed) for trial in trials] == [
        ("float16", True),
        ("float32", True),
        ("dynamic-range-int8", False),
        ("int8", False),
    ]
    assert "squared error grows" in trials[2].reason
    assert trials[3].reason == "does not convert: no"


def test_every_call_of_every_instance_forecasts_alike(tmp_path: Path) -> None:
    network, contexts = residual_network(ForecastTable()), noise((70, 336))
    kernels = network.get_weights()
    network.set_weights(
        [kernel + 0.05 * noise(kernel.shape, at) for at, kernel in enumerate(kernels)]
    )
    expected = np.asarray(network(contexts)["quantiles"])
    (tmp_path / "model.tflite").write_bytes(convert(network, "float32"))
    np.save(tmp_path / "contexts.npy", contexts)
    command = [sys.executable, "-c", EVERY_CALL, str(tmp_path)]  # as alone as on a gateway
    subprocess.run(command, check=True)
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, np.stack([expected] * len(found)), atol=1e-2, rtol=1e-2)


EVERY_CALL = """
import sys
from pathlib import Path
from typing import Any
import numpy as np
from models.interpreter import ForecastNetwork

directory = Path(sys.argv[1])
model, contexts = (directory / "model.tflite").read_bytes(), np.load(directory / "contexts.npy")
found, random = [], np.random.default_rng(1)
for _ in range(30):
    ballast = np.ones(int(random.integers(1, 2_000_000)))  # none lies where the one before did
    forecaster = ForecastNetwork(model, "litert")
    calls = [forecaster.run(contexts[begin : begin + 7]) for begin in range(0, 70, 7)]
    found.append(np.concatenate(calls))
np.save(directory / "found.npy", found)
"""
