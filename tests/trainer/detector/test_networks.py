"""The form that is trained, the form that ships, and the pipeline around it: the same numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.interpreter import StepNetwork
from models.manifest import NETWORK, Channel, Head, Lineage
from models.messages import Samples
from models.pipeline import Pipeline
from trainer import prepare, seal
from trainer.config import Config, NetworkTable, Quantization
from trainer.detector.export import Exported, contents, export
from trainer.detector.networks import Architecture, sequence_network

BUILTIN = {"ADD", "CONCATENATION", "FULLY_CONNECTED", "LOGISTIC", "MUL", "STRIDED_SLICE", "TANH"}

QUANTIZATIONS: list[Quantization] = ["float16", "dynamic-range-int8", "int8", "int16x8"]
FORMS: list[tuple[tuple[int, ...], tuple[Head, ...]]] = [
    ((24,), ("value",)),
    ((24, 8), ("change",)),
    ((40, 16), ("value", "change")),
]


@pytest.fixture(scope="module", params=FORMS, ids=str)
def made(request: pytest.FixtureRequest) -> tuple[Architecture, Any, Exported]:
    layers, heads = request.param
    architecture = Architecture(3, (0, 1, 2), layers, heads)
    network = sequence_network(architecture)
    random = np.random.default_rng(1)
    # as built, biases are 0 and 1: a mistake in copying them would not show
    network.set_weights([random.normal(0, 0.3, w.shape) for w in network.get_weights()])
    inputs = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    return architecture, network, export(network, architecture, QUANTIZATIONS, inputs)


def stepped(
    model: bytes, architecture: Architecture, samples: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Predictions (B, n, P) and the last state (B, S) of samples (B, n, C)."""
    network = StepNetwork(model, "litert")
    state = np.zeros((len(samples), architecture.state_size), np.float32)
    predictions, state = network.run(samples.transpose(1, 0, 2), state)
    return predictions.transpose(1, 0, 2), state


def test_one_step_at_a_time_is_the_whole_sequence(
    made: tuple[Architecture, Any, Exported],
) -> None:
    architecture, network, exported = made
    samples = np.random.default_rng(2).normal(0, 1, (3, 60, 3)).astype(np.float32)
    nothing = np.zeros((3, architecture.state_size), np.float32)
    predictions, state = network([samples, nothing])
    got, got_state = stepped(exported.networks["float32"], architecture, samples)
    np.testing.assert_allclose(got, predictions.numpy(), atol=2e-6)
    np.testing.assert_allclose(got_state, state.numpy(), atol=2e-6)


@pytest.mark.parametrize(
    ("form", "limit"),
    [("float16", 0.002), ("dynamic-range-int8", 0.05), ("int8", 0.5), ("int16x8", 1.0)],
)
def test_quantization_changes_little(
    made: tuple[Architecture, Any, Exported], form: Quantization, limit: float
) -> None:
    architecture, network, exported = made
    assert not exported.refused
    samples = np.random.default_rng(2).normal(0, 1, (2, 60, 3)).astype(np.float32)
    nothing = np.zeros((2, architecture.state_size), np.float32)
    predictions, _ = network([samples, nothing])
    got, _ = stepped(exported.networks[form], architecture, samples)
    assert 0 < np.abs(got - predictions.numpy()).max() < limit


def test_only_builtin_operators_and_8_bit_weights(
    made: tuple[Architecture, Any, Exported],
) -> None:
    architecture, _, exported = made
    quantized = contents(exported.networks["dynamic-range-int8"])
    floating = contents(exported.networks["float32"])
    assert set(quantized.operators) <= BUILTIN
    recurrent = [4 * size * size for size in architecture.layers]
    assert quantized.integer_weights >= sum(size for size in recurrent if size >= 1024) > 0
    assert floating.integer_weights == 0
    assert quantized.integer_weights + quantized.float_weights >= floating.float_weights - 64


def test_the_tensors_have_the_names_and_sizes_of_the_contract(
    made: tuple[Architecture, Any, Exported],
) -> None:
    architecture, _, exported = made
    assert len(exported.networks) == 5
    for model in exported.networks.values():
        network = StepNetwork(model, "litert")
        network.expect(3, architecture.state_size, architecture.prediction_size)


def bundle_of(architecture: Architecture, model: bytes) -> Bundle:
    config = Config.model_validate(
        {
            "bundle": {"name": "x"},
            "data": {"files": ["x"], "channels": [{"name": name} for name in "abc"]},
            "sampling": {"period_s": 1.0, "warm_up_samples": 0},
            "network": {"layers": architecture.layers, "heads": architecture.heads},
        }
    )
    channels = [
        Channel(
            name=name, unit="", low=None, high=None, center=center, scale=scale, stuck_samples=None
        )
        for name, center, scale in zip("abc", (0.0, 5.0, -100.0), (1.0, 0.1, 20.0), strict=True)
    ]
    lineage = Lineage(
        data_digest="", data_files=[], parts={}, config_digest="", seed=1, software={}
    )
    manifest = seal.draft(config, channels, lineage, datetime.now(UTC), "float")
    return seal.assemble(manifest, {NETWORK: model})


def test_what_is_learnt_from_is_what_a_gateway_feeds(
    made: tuple[Architecture, Any, Exported],
) -> None:
    architecture, network, exported = made
    bundle = bundle_of(architecture, exported.networks["float32"])
    random = np.random.default_rng(3)
    values = random.normal([0.0, 5.0, -100.0], [1.0, 0.1, 20.0], (80, 3)).astype(np.float32)
    values[5, 1] = 50.0  # far beyond the clip
    values[20:30, 0] = np.nan
    values[:3, 2] = np.nan  # unknown from the start
    samples = Samples(np.arange(80.0), values)
    how = prepare.preprocessing(
        bundle.manifest.channels, NetworkTable(heads=list(architecture.heads))
    )
    [stretch] = prepare.series(samples, how, 1.0)
    nothing = np.zeros((1, architecture.state_size), np.float32)
    predictions = network([stretch.inputs[None], nothing])[0].numpy()[0]

    pipeline = Pipeline(bundle, "litert")
    state = pipeline.start()
    smoothed = pipeline.step(state, samples).smoothed
    errors = np.abs(stretch.targets - predictions)
    known = ~np.isnan(errors)
    keep = 1 - 2 / (bundle.manifest.smoothing.spans_samples[0] + 1)
    enough = known & (keep ** np.cumsum(known, axis=0) <= 0.5)  # half of the weight is there
    assert enough.any(axis=0).all()
    np.testing.assert_array_equal(np.isnan(smoothed[1:]), ~enough)
    # the sum tells of every error
    for row in range(architecture.prediction_size):
        row_errors = errors[known[:, row], row]
        weights = keep ** np.arange(len(row_errors))[::-1]
        np.testing.assert_allclose(
            state.telemanom.smoothed_sum[0, 0, row], (weights * row_errors).sum(), rtol=1e-4
        )
