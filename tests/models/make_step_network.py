"""Makes the small networks that the tests of ``models`` run, and the weights of the good one.

Run by hand, with the extra ``trainer``, only when the contract of step networks changes:

    python tests/models/make_step_network.py

It writes ``data/step_network.tflite`` and ``data/step_network.npz``: the kernels and biases as
floats, from which a test computes the same network in numpy. The weights are random (seeded), not
trained, and scaled so that the gates leave the middle of their range. The first layer has more
than 1,024 weights, so that the converter stores them as 8-bit integers. ``data/odd_*.tflite`` are
networks that are no step networks, each for one reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

DATA = Path(__file__).parent / "data"
CHANNELS = 3
LAYERS = (16, 4)
HEADS = 2
SEED = 20


def weights() -> dict[str, np.ndarray[Any, Any]]:
    """Return kernel (inputs, outputs) and bias of every dense layer."""
    random = np.random.default_rng(SEED)
    arrays, width = {}, CHANNELS
    for number, size in enumerate(LAYERS):
        arrays[f"kernel_{number}"] = random.normal(0, 0.4, (width + size, 4 * size))
        arrays[f"bias_{number}"] = random.normal(0, 0.2, 4 * size)
        width = size
    arrays["kernel_heads"] = random.normal(0, 0.5, (width, HEADS * CHANNELS))
    arrays["bias_heads"] = random.normal(0, 0.1, HEADS * CHANNELS)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def network() -> Any:
    """Return the step network, its weights not set."""
    sample = keras.Input((CHANNELS,), name="sample")
    state = keras.Input((2 * sum(LAYERS),), name="state")
    flow, memories, begin = sample, [], 0
    for number, size in enumerate(LAYERS):
        hidden = state[:, begin : begin + size]
        cell = state[:, begin + size : begin + 2 * size]
        begin += 2 * size
        entering = keras.layers.Concatenate()([flow, hidden])
        gates = keras.layers.Dense(4 * size, name=f"{number}")(entering)
        entry, forget, candidate, exit_ = (
            gates[:, gate * size : (gate + 1) * size] for gate in range(4)
        )
        sigmoid, tanh = keras.ops.sigmoid, keras.ops.tanh
        cell = sigmoid(forget) * cell + sigmoid(entry) * tanh(candidate)
        flow = sigmoid(exit_) * tanh(cell)
        memories += [flow, cell]
    prediction = keras.layers.Dense(HEADS * CHANNELS, name="heads")(flow)
    following = keras.layers.Concatenate()(memories)
    return keras.Model([sample, state], {"prediction": prediction, "next_state": following})


def odd_networks() -> dict[str, Any]:
    """Return networks whose names, types, ranks, sizes or batch are not a step network's."""
    sample, state = keras.Input((CHANNELS,), name="sample"), keras.Input((4,), name="state")
    whole = keras.Input((CHANNELS,), name="sample", dtype="int32")
    window = keras.Input((5, CHANNELS), name="sample")
    more, same = keras.layers.Dense(CHANNELS), keras.layers.Dense(4)(state)
    as_floats = keras.ops.cast(whole, "float32")
    pair = keras.Input(batch_shape=(2, CHANNELS), name="sample")
    both = keras.layers.Dense(2 * CHANNELS)(keras.ops.reshape(pair, (1, 2 * CHANNELS)))
    pair_state = keras.Input(batch_shape=(2, 4), name="state")
    return {
        "names": keras.Model([sample, state], {"output": more(sample), "next_state": same}),
        "type": keras.Model([whole, state], {"prediction": more(as_floats), "next_state": same}),
        "rank": keras.Model([window, state], {"prediction": more(window), "next_state": same}),
        "batch": keras.Model(
            [pair, pair_state],
            {
                "prediction": keras.ops.reshape(both, (2, CHANNELS)),
                "next_state": keras.layers.Dense(4)(pair_state),
            },
        ),
        "size": keras.Model(
            [sample, state],
            {"prediction": more(sample), "next_state": keras.layers.Dense(1)(state)},
        ),
    }


def convert(model: Any) -> bytes:
    """Return the dynamic-range quantized ``.tflite``."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    network: bytes = converter.convert()
    return network


def main() -> None:
    """Write all files."""
    keras.utils.set_random_seed(SEED)
    arrays, step = weights(), network()
    for name in [*map(str, range(len(LAYERS))), "heads"]:
        step.get_layer(name).set_weights([arrays[f"kernel_{name}"], arrays[f"bias_{name}"]])
    DATA.mkdir(exist_ok=True)
    (DATA / "step_network.tflite").write_bytes(convert(step))
    for name, odd in odd_networks().items():
        (DATA / f"odd_{name}.tflite").write_bytes(convert(odd))
    np.savez(DATA / "step_network.npz", **arrays)


if __name__ == "__main__":
    main()
