"""What a sample costs by the one-step network against Telemanom's window: `python -m …`.

The published form (Hundman et al., KDD 2018) runs its LSTM over a window of 250 steps for every
sample. Both forms hold the same random weights, run on LiteRT in one thread, and predict the same;
the times are of the bare networks, the ratio is what a reader may take along.

    python -m tests.bench.windowed
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from models.interpreter import StepNetwork, module_of
from trainer.detector.export import export
from trainer.detector.networks import Architecture, sequence_network
from trainer.quiet import quiet

WINDOW = 250
ARCHITECTURE = Architecture(25, (0,), (80, 80), ("value",))
REPEATS = 5


def windowed(network: keras.Model, architecture: Architecture, samples: int) -> bytes:
    """Return the network as a ``.tflite`` that takes a whole window and predicts after it."""
    window = keras.Input(batch_shape=(1, samples, architecture.channels), name="window")
    flow = window
    for number, size in enumerate(architecture.layers):
        layer = keras.layers.LSTM(size, return_sequences=True, name=f"windowed_{number}")
        flow = layer(flow)
        layer.set_weights(network.get_layer(f"cell_{number}").get_weights())
    head = keras.layers.Dense(architecture.prediction_size, name="head")
    model = keras.Model(window, head(flow[:, -1]))
    head.set_weights(network.get_layer("heads").get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    with quiet():
        converted: bytes = converter.convert()
    return converted


def best_us(run: Callable[[], object], samples: int) -> float:
    """Return the least time of some runs, per sample."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times) / samples * 1e6


def main() -> None:
    """Print both costs and their ratios."""
    keras.utils.set_random_seed(1)
    network = sequence_network(ARCHITECTURE)
    samples = np.random.default_rng(1).normal(0, 0.5, (WINDOW, 1, 25)).astype(np.float32)
    exported = export(network, ARCHITECTURE, ["dynamic-range-int8"], samples[:, 0]).networks

    module, _ = module_of("litert")
    window = module.Interpreter(
        model_content=windowed(network, ARCHITECTURE, WINDOW), num_threads=1
    )
    window.allocate_tensors()
    given = window.get_input_details()[0]["index"]
    answer = window.get_output_details()[0]["index"]
    window.set_tensor(given, samples.transpose(1, 0, 2))
    window_us = best_us(window.invoke, 1)
    expected = window.get_tensor(answer)

    print(f"window of {WINDOW}, float32, {ARCHITECTURE.layers}: {window_us:9.1f} µs per sample")
    for name, model in exported.items():
        step = StepNetwork(model, "litert")
        nothing = np.zeros((1, step.state_size), np.float32)
        step_us = best_us(lambda step=step, nothing=nothing: step.run(samples, nothing), WINDOW)
        apart = float(np.abs(step.run(samples, nothing)[0][-1] - expected).max())
        print(
            f"one step, {name}: {step_us:9.1f} µs per sample, {window_us / step_us:.0f} times"
            f" cheaper; the predictions differ by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
