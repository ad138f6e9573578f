"""The one-step network in the interpreter: batches and steps change nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.errors import BundleCorrupt, InterpreterMissing
from models.interpreter import StepNetwork, runtime_version

DATA = Path(__file__).parent / "data"  # made by make_step_network.py
LAYERS = (16, 4)
TOLERANCE = 0.03  # of 8-bit weights, on values of about 1


@pytest.fixture(scope="module")
def network(zoo_bundle: Bundle) -> StepNetwork:
    return StepNetwork(zoo_bundle.network)


def made(network: StepNetwork, steps: int, batch: int) -> np.ndarray:
    random = np.random.default_rng(5)
    return random.standard_normal((steps, batch, network.sample_size)).astype(np.float32)


def test_many_steps_at_once_are_the_same_as_one_by_one(network: StepNetwork) -> None:
    samples = made(network, 30, 1)
    state = np.zeros((1, network.state_size), np.float32)
    whole, end = network.run(samples, state)
    for step in range(30):
        one, state = network.run(samples[step : step + 1], state)
        assert np.array_equal(one[0], whole[step])
    assert np.array_equal(state, end)


def test_streams_in_a_batch_are_scored_as_if_alone(network: StepNetwork) -> None:
    samples = made(network, 20, 5)
    zeros = np.zeros((5, network.state_size), np.float32)
    together, end = network.run(samples, zeros)
    for stream in range(5):
        alone, state = network.run(samples[:, stream : stream + 1], zeros[:1])
        assert np.allclose(alone[:, 0], together[:, stream], atol=1e-5)
        assert np.allclose(state[0], end[stream], atol=1e-5)


def test_what_is_returned_is_not_overwritten_by_the_next_call(network: StepNetwork) -> None:
    samples = made(network, 2, 1)
    prediction, state = network.run(samples, np.zeros((1, network.state_size), np.float32))
    kept = prediction.copy(), state.copy()
    network.run(samples * 2, state)
    assert np.array_equal(prediction, kept[0])
    assert np.array_equal(state, kept[1])


def test_the_state_after_may_take_the_place_of_the_one_before(network: StepNetwork) -> None:
    """Also where calls of other sizes, for which the tensors move, come between."""
    samples = made(network, 6, 3)
    state, kept = np.zeros((2, 3, network.state_size), np.float32)
    for step in range(6):
        expected, state = network.run(samples[step : step + 1], state)
        got, after = network.run(samples[step : step + 1], kept, after=kept)
        assert after is kept
        assert np.array_equal(got, expected)
        assert np.array_equal(kept, state)
        network.run(made(network, 2, 40), np.zeros((40, network.state_size), np.float32))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_a_network_computes_what_the_page_says() -> None:
    """Gates, their order and the layout of the state, in numpy and with the weights as floats."""
    weights = np.load(DATA / "step_network.npz")
    network = StepNetwork((DATA / "step_network.tflite").read_bytes())
    network.expect(sample_size=3, state_size=2 * sum(LAYERS), prediction_size=6)
    samples = np.random.default_rng(6).standard_normal((60, 1, 3)).astype(np.float32)
    got, end = network.run(samples, np.zeros((1, network.state_size), np.float32))
    memory = [(np.zeros(size), np.zeros(size)) for size in LAYERS]
    for step in range(60):
        flow = samples[step, 0].astype(np.float64)
        for number, (h, c) in enumerate(memory):
            z = np.concatenate([flow, h]) @ weights[f"kernel_{number}"] + weights[f"bias_{number}"]
            i, f, g, o = np.split(z, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            flow = sigmoid(o) * np.tanh(c)
            memory[number] = flow, c
        expected = flow @ weights["kernel_heads"] + weights["bias_heads"]
        assert np.abs(got[step, 0] - expected).max() < TOLERANCE
    assert np.abs(end[0] - np.concatenate([*memory[0], *memory[1]])).max() < TOLERANCE


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("names", r"signature has the tensors \['next_state', 'output', 'sample', 'state'\]"),
        ("type", "tensor sample is not float32 with 2 dimensions"),
        ("rank", "tensor sample is not float32 with 2 dimensions"),
        ("batch", "cannot load the network"),
        ("size", "state and next_state differ"),
    ],
)
def test_a_network_of_another_form_is_a_corrupt_bundle(odd: str, said: str) -> None:
    with pytest.raises(BundleCorrupt, match=said):
        StepNetwork((DATA / f"odd_{odd}.tflite").read_bytes())


def test_a_network_of_other_sizes_than_the_manifest_says_is_refused(network: StepNetwork) -> None:
    network.expect(network.sample_size, network.state_size, network.prediction_size)
    with pytest.raises(BundleCorrupt, match="but the manifest has"):
        network.expect(network.sample_size, network.state_size, network.prediction_size + 1)


@pytest.mark.parametrize("model", [b"", b"no network", b"\0" * 1000])
def test_what_is_no_network_is_a_corrupt_bundle(model: bytes) -> None:
    with pytest.raises(BundleCorrupt, match="cannot load the network"):
        StepNetwork(model)


def test_without_any_runtime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        for module in [m for m in sys.modules if m.split(".")[0] == name] + [name]:
            monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setitem(sys.modules, f"{name}.interpreter", None)
    with pytest.raises(InterpreterMissing, match="install ai-edge-litert"):
        runtime_version()
