"""The forecaster's Keras architecture: a patch Transformer with quantile heads.

    context ─┬─> patches ─┬─> embedding, position ─> encoder ─┬─> + ─┬─> + ─> median ─┬─> quantiles
             │            └─> seasonal path ──────────────────│───┘  │                │
             └─> linear path ─────────────────────────────────│──────┘                │
                                                              └─> widths ─────────────┘

Each row is one series, normalised (see ``models.forecaster``). The encoder follows PatchTST (Nie
et al., ICLR 2023), with normalisation before each block and learned positions. It sees distances
from the last value and forecasts such (as NLinear does, Zeng et al., AAAI 2023): what comes begins
where the context ends, whatever level that is. Beside it goes a **seasonal path**: what stands at
one place of the coming patches is a linear combination of what stood at that place of the past
ones, the same for all places. It has a few hundred weights, is right where a season is a multiple
of a patch, and leaves the encoder what is left to learn.

The **linear path** is a forecaster of its own, fitted in closed form (see
``trainer.forecast.linear``). While the others learn it repeats the last value; afterwards they are
mixed (``mix``), by default in equal parts: they err differently, and a mean of forecasts is hard
to beat (Bates & Granger, 1969). A proportion found on the validation part is not: what comes is
rarely like the part just before.

Quantiles cannot cross: each lies a positive width from the one nearer to the median. Widths share
a narrow layer, since ``quantiles × horizon`` outputs of the whole encoder would be most of the
file. Everything is made of dense layers, products of matrices and sums: all of it converts to
builtin operators that both interpreters have.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from models.messages import Float32
from trainer.config import ForecastTable

_MEDIAN, _SEASONAL, _LINEAR = "median", "seasonal", "linear"  # layers that add up to the median
WIDTHS_SIZE = 32  # of the layer that all widths follow from


@keras.saving.register_keras_serializable("fieldwatch")
class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Adds a learned vector to each position."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the vectors, of all but the batch."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.vectors = self.add_weight(shape=shape[1:], initializer=start, name="vectors")

    def call(self, inputs: Any) -> Any:
        """Return ``inputs`` (B, N, D) with the vectors added."""
        return inputs + self.vectors


def forecast_network(settings: ForecastTable) -> Any:
    """Return the network, ``context (B, L) -> quantiles (B, H, Q)``."""
    context = keras.Input((settings.context_steps,), name="context")
    patches = _patches(context - context[:, -1:], settings)
    encoded = keras.layers.Flatten()(_encoder(patches, settings))
    horizon = settings.horizon_steps
    small = keras.initializers.RandomNormal(stddev=0.01)
    learnt = keras.layers.Dense(horizon, kernel_initializer=small, name=_MEDIAN)(encoded)
    linear = keras.layers.Dense(horizon, use_bias=False, trainable=False, name=_LINEAR)
    added = linear(context)
    linear.set_weights([_last_value(settings)])
    median = learnt + _seasonal(patches, settings) + added
    quantiles = _quantiles(median, encoded, settings)
    return keras.Model(context, {"quantiles": quantiles})


def _patches(context: Any, settings: ForecastTable) -> Any:
    """Return the newest whole patches, (B, N, P)."""
    size = settings.network.patch_steps
    count = settings.context_steps // size
    return keras.layers.Reshape((count, size))(context[:, settings.context_steps - count * size :])


def _encoder(patches: Any, settings: ForecastTable) -> Any:
    """Return the encoded patches, (B, N, D)."""
    network = settings.network
    drop = keras.layers.Dropout
    flow = drop(network.dropout)(Positions()(keras.layers.Dense(network.d_model)(patches)))
    for _ in range(network.layers):
        attended = _attention(keras.layers.LayerNormalization()(flow), settings)
        flow = flow + drop(network.dropout)(keras.layers.Dense(network.d_model)(attended))
        inner = keras.layers.LayerNormalization()(flow)
        inner = keras.layers.Dense(network.feed_forward, activation="gelu")(inner)
        inner = keras.layers.Dense(network.d_model)(drop(network.dropout)(inner))
        flow = flow + drop(network.dropout)(inner)
    return keras.layers.LayerNormalization()(flow)


def _attention(flow: Any, settings: ForecastTable) -> Any:
    """Return what the patches find in each other, (B, N, D), by scaled dot products."""
    network = settings.network
    count, size = flow.shape[1], network.d_model // network.num_heads

    def heads(name: str) -> Any:
        split = keras.layers.Reshape((count, network.num_heads, size))
        return keras.layers.Permute((2, 1, 3))(split(keras.layers.Dense(network.d_model)(flow)))

    query, key, value = heads("query"), heads("key"), heads("value")
    likeness = keras.ops.matmul(query, keras.layers.Permute((1, 3, 2))(key)) / size**0.5
    weights = keras.layers.Dropout(network.dropout)(keras.ops.softmax(likeness))
    found = keras.layers.Permute((2, 1, 3))(keras.ops.matmul(weights, value))
    return keras.layers.Reshape((count, network.d_model))(found)


def _seasonal(patches: Any, settings: ForecastTable) -> Any:
    """Return the seasonal path's forecast, (B, H); it begins as the mean of the past patches."""
    count, size = patches.shape[1], settings.network.patch_steps
    ahead = -(-settings.horizon_steps // size)
    mean = keras.initializers.Constant(1.0 / count)
    places = keras.layers.Permute((2, 1))(patches)
    coming = keras.layers.Dense(ahead, use_bias=False, kernel_initializer=mean, name=_SEASONAL)
    steps = keras.layers.Reshape((ahead * size,))(keras.layers.Permute((2, 1))(coming(places)))
    return steps[:, : settings.horizon_steps]


def _last_value(settings: ForecastTable) -> Float32:
    """Return the linear map (L, H) that repeats the last value."""
    weights = np.zeros((settings.context_steps, settings.horizon_steps), np.float32)
    weights[-1] = 1.0
    return weights


def mix(network: Any, linear: Float32, share: float) -> None:
    """Let the median be ``share`` of what was learnt and the rest of the linear map (L, H)."""
    [last] = network.get_layer(_LINEAR).get_weights()
    network.get_layer(_LINEAR).set_weights([linear * np.float32(1 - share) + last * share])
    for name in (_MEDIAN, _SEASONAL):
        layer = network.get_layer(name)
        layer.set_weights([weights * np.float32(share) for weights in layer.get_weights()])


def _quantiles(median: Any, encoded: Any, settings: ForecastTable) -> Any:
    """Return the quantiles in order, (B, H, Q)."""
    horizon, side = settings.horizon_steps, len(settings.quantiles) // 2
    narrow = keras.layers.Dense(WIDTHS_SIZE, activation="relu", name="widths_in")(encoded)
    widths = keras.layers.Dense(horizon * 2 * side, name="widths_out")(narrow)
    widths = keras.layers.Reshape((horizon, 2 * side))(widths)
    widths = keras.ops.elu(widths) + 1.0  # above 0; softplus needs an operator too new for some
    middle = keras.layers.Reshape((horizon, 1))(median)
    below, above = [middle], [middle]
    for position in range(side):
        below.append(below[-1] - widths[:, :, position, None])
        above.append(above[-1] + widths[:, :, side + position, None])
    found = [*reversed(below[1:]), middle, *above[1:]]
    return keras.layers.Concatenate(axis=-1)(found)
