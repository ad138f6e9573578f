"""Makes the small forecaster that the tests run; its quantiles are known in closed form.

Run by hand, with the extra ``trainer``, only when the contract of forecasters changes:

    python tests/models/make_forecast_network.py

``data/forecast_network.tflite`` forecasts a random walk: every quantile of level τ, h steps
ahead, is the context's last value plus ``WIDTH √h z(τ)``, with z of the normal distribution.
``data/odd_forecaster.tflite`` has another rank and is no forecaster.
"""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist
from typing import Any

import keras
import numpy as np
import tensorflow as tf

DATA = Path(__file__).parent / "data"
CONTEXT, HORIZON = 24, 12
LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
WIDTH = 0.1  # of one step, in scales of the context


def offsets() -> np.ndarray[Any, Any]:
    """Return what is added to the last value, (H, Q)."""
    z = [NormalDist().inv_cdf(level) for level in LEVELS]
    return (WIDTH * np.sqrt(np.arange(1, HORIZON + 1))[:, None] * np.array(z)).astype(np.float32)


def network() -> Any:
    """Return the forecaster."""
    context = keras.Input((CONTEXT,), name="context")
    dense = keras.layers.Dense(HORIZON * len(LEVELS))
    quantiles = keras.layers.Reshape((HORIZON, len(LEVELS)))(dense(context))
    kernel = np.zeros((CONTEXT, HORIZON * len(LEVELS)), np.float32)
    kernel[-1] = 1.0
    dense.set_weights([kernel, offsets().ravel()])
    return keras.Model([context], {"quantiles": quantiles})


def odd_network() -> Any:
    """Return a network whose quantiles have another rank."""
    context = keras.Input((CONTEXT,), name="context")
    return keras.Model([context], {"quantiles": keras.layers.Dense(HORIZON)(context)})


def main() -> None:
    """Write both files, unquantized: what they compute is exact."""
    for name, model in (("forecast_network", network()), ("odd_forecaster", odd_network())):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        (DATA / f"{name}.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
