"""The forecaster's Keras architectures: a linear path, alone or with a patch Transformer on top.

    context ─┬─> patches ─> embedding, position ─> encoder ─┬─> + ─> median ─┬─> quantiles
             └─> linear path ───────────────────────────────│───┘            │
                                                            └─> widths ──────┘

Each row is one series, normalised (see ``models.forecaster``): without a plan, networks that saw
all channels gained nothing that lasts over coupling and commands in closed form
(``docs/benchmarks.md``, "The Transformer with all channels"). The **linear path** is the mix of
best closed forms (see ``trainer.forecast.maps``); its weights are fixed. The encoder learns the
residual of the path. It follows PatchTST (Nie et al., ICLR 2023), with normalisation before each
block and learned positions. Its inputs are distances from the last value. A share of its output is
added to the path (``on_top``). If the gain is too small (see ``trainer.forecast.stack``), the path
ships alone.

Quantiles cannot cross, because each lies a positive width from the one nearer to the median. The
widths share a narrow layer: ``quantiles × horizon`` outputs of the whole encoder would take up most
of the file. The network consists of dense layers, matrix products and sums, which convert to
builtin operators of both interpreters.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from models.messages import Float32
from trainer.config import ForecastTable

WIDTHS_SIZE = 32  # size of the layer that all widths are computed from


@keras.saving.register_keras_serializable("fieldwatch")
class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Adds a learned vector to each position."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the vectors; their shape is that of the inputs without the batch."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.vectors = self.add_weight(shape=shape[1:], initializer=start, name="vectors")

    def call(self, inputs: Any) -> Any:
        """Return ``inputs`` (B, N, D) with the vectors added."""
        return inputs + self.vectors


def residual_network(settings: ForecastTable) -> Any:
    """Return the encoder with its heads, ``context (B, L) -> quantiles (B, H, Q)``.

    The quantiles are those of the linear path's residual. ``L`` is the longest context.
    """
    context = keras.Input((settings.longest_steps,), name="context")
    patches = _patches(context - context[:, -1:], settings)
    encoded = keras.layers.Flatten()(encoder(patches, settings))
    small = keras.initializers.RandomNormal(stddev=0.01)
    median = keras.layers.Dense(settings.horizon_steps, kernel_initializer=small)(encoded)
    return keras.Model(context, {"quantiles": _quantiles(median, encoded, settings)})


def on_top(residual: Any, weights: Float32, share: float) -> Any:
    """Return the linear path with a network on top, ``context (B, L) -> quantiles (B, H, Q)``.

    Args:
        residual: see ``residual_network``.
        weights: (L, H) of the linear path.
        share: share of the residual's median that is added; its intervals are added in full.

    """
    context = keras.Input((len(weights),), name="context")
    found = residual(context)["quantiles"]
    middle = found.shape[2] // 2
    median = found[:, :, middle : middle + 1]
    linear = keras.layers.Reshape((weights.shape[1], 1))(_linear(context, weights))
    return keras.Model(context, {"quantiles": found + (linear + median * (share - 1))})


def closed_network(weights: Float32, distances: Float32) -> Any:
    """Return a network with only the linear path, ``context (B, L) -> quantiles (B, H, Q)``.

    Args:
        weights: (L, H) of the linear path.
        distances: (H, Q) of the quantiles from the median, in scales of the context.

    """
    context = keras.Input((len(weights),), name="context")
    median = keras.layers.Reshape((weights.shape[1], 1))(_linear(context, weights))
    return keras.Model(context, {"quantiles": median + distances[None]})


def _linear(context: Any, weights: Float32) -> Any:
    """Return the linear path's forecast, (B, H).

    Its matrix is stored with columns of magnitude 1, so 8-bit integers are equally precise for all.
    """
    size = np.maximum(np.abs(weights).max(axis=0), np.finfo(np.float32).tiny)
    layer = keras.layers.Dense(weights.shape[1], use_bias=False)
    found = layer(context)
    layer.set_weights([weights / size])
    return found * size[None]


def _patches(context: Any, settings: ForecastTable) -> Any:
    """Return the newest whole patches, (B, N, P), of at most ``context_steps``."""
    size = settings.network.patch_steps
    count = settings.context_steps // size
    return keras.layers.Reshape((count, size))(context[:, context.shape[1] - count * size :])


def encoder(patches: Any, settings: ForecastTable) -> Any:
    """Return the encoded patches (B, N, D) of patches or other tokens (B, N, F)."""
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
    """Return the self-attention of the patches, (B, N, D), by scaled dot products."""
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


def _quantiles(median: Any, encoded: Any, settings: ForecastTable) -> Any:
    """Return the quantiles in order, (B, H, Q)."""
    horizon, side = settings.horizon_steps, len(settings.quantiles) // 2
    narrow = keras.layers.Dense(WIDTHS_SIZE, activation="relu", name="widths_in")(encoded)
    widths = keras.layers.Dense(horizon * 2 * side, name="widths_out")(narrow)
    widths = keras.layers.Reshape((horizon, 2 * side))(widths)
    widths = keras.ops.elu(widths) + 1.0  # above 0; some interpreters lack softplus
    middle = keras.layers.Reshape((horizon, 1))(median)
    below, above = [middle], [middle]
    for position in range(side):
        below.append(below[-1] - widths[:, :, position, None])
        above.append(above[-1] + widths[:, :, side + position, None])
    found = [*reversed(below[1:]), middle, *above[1:]]
    return keras.layers.Concatenate(axis=-1)(found)
