"""The Keras architectures: the sequence form for training, and the one-step form for gateways.

Both have the same weights. The sequence form runs through whole chunks in one call, which makes
training fast. The one-step form takes its state as an input and returns it, so on a gateway each
sample has the same cost, however long the gateway runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from models.manifest import Head
from models.messages import Float32


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a recurrent forecaster of the next sample."""

    channels: int  # number of input channels
    scored: tuple[int, ...]  # positions of the channels that it predicts
    layers: tuple[int, ...]  # cells per LSTM layer
    heads: tuple[Head, ...]
    dropout: float = 0.0  # between layers, in training only

    @property
    def state_size(self) -> int:
        """Floats of state per stream: h and c of each layer."""
        return 2 * sum(self.layers)

    @property
    def prediction_size(self) -> int:
        """Values predicted per sample: one per head and scored channel."""
        return len(self.heads) * len(self.scored)


def sequence_network(architecture: Architecture) -> Any:
    """Return the form for training: ``samples (B, T, C), state (B, S) -> (B, T, P), (B, S)``.

    The layout of ``state`` is [h1, c1, h2, c2, …], as in the one-step form.
    """
    samples = keras.Input((None, architecture.channels), name="samples")
    state = keras.Input((architecture.state_size,), name="state")
    flow, memories = samples, []
    for number, (size, memory) in enumerate(_memories(architecture, state)):
        if number and architecture.dropout:
            flow = keras.layers.Dropout(architecture.dropout)(flow)
        recurrent = keras.layers.LSTM(
            size, return_sequences=True, return_state=True, name=_cell(number)
        )
        flow, *memory = recurrent(flow, initial_state=memory)
        memories += memory
    predictions = keras.layers.Dense(architecture.prediction_size, name=_HEADS)(flow)
    return keras.Model([samples, state], [predictions, _joined(memories)])


def step_network(architecture: Architecture) -> Any:
    """Return the form for gateways: ``sample (B, C), state (B, S) -> prediction (B, P), (B, S)``.

    It consists of dense layers and gates. A Keras LSTM would add a loop or a fused operator, and
    neither converts to builtin operators that every runtime has in quantized form.

    The layers next to the sample and the prediction are split into small matrices, one per gate and
    one per head. Quantization keeps matrices of fewer than 1,024 elements in floats. This removes
    two thirds of its error (measured), and costs a few kilobytes.
    """
    sample = keras.Input((architecture.channels,), name="sample")
    state = keras.Input((architecture.state_size,), name="state")
    flow, memories = sample, []
    for number, (size, (hidden, cell)) in enumerate(_memories(architecture, state)):
        entering = [keras.layers.Dense(size, name=name)(flow) for name in _gate_names(number)]
        recurrent = keras.layers.Dense(4 * size, use_bias=False, name=_recurrent(number))(hidden)
        flow, cell = _gated(_joined(entering) + recurrent, cell, size)
        memories += [flow, cell]
    heads = [
        keras.layers.Dense(len(architecture.scored), name=name)(flow) for name in architecture.heads
    ]
    return keras.Model(
        [sample, state], {"prediction": _joined(heads), "next_state": _joined(memories)}
    )


def copy_weights(sequence: Any, step: Any, architecture: Architecture) -> None:
    """Copy the weights of the trained sequence form to the one-step form."""
    for number in range(len(architecture.layers)):
        kernel, recurrent, bias = sequence.get_layer(_cell(number)).get_weights()
        _set_columns(step, _gate_names(number), kernel, bias)
        step.get_layer(_recurrent(number)).set_weights([recurrent])
    _set_columns(step, architecture.heads, *sequence.get_layer(_HEADS).get_weights())


def _set_columns(step: Any, names: Sequence[str], kernel: Float32, bias: Float32) -> None:
    """Set each of the dense layers to its share of the columns."""
    shares = np.split(kernel, len(names), axis=1), np.split(bias, len(names))
    for name, *weights in zip(names, *shares, strict=True):
        step.get_layer(name).set_weights(weights)


_HEADS = "heads"
_GATES = ("input", "forget", "candidate", "output")  # in Keras' order


def _cell(number: int) -> str:
    return f"cell_{number}"


def _recurrent(number: int) -> str:
    return f"{_cell(number)}_recurrent"


def _gate_names(number: int) -> list[str]:
    return [f"{_cell(number)}_{gate}" for gate in _GATES]


def _memories(architecture: Architecture, state: Any) -> list[tuple[int, list[Any]]]:
    """Return the size of each layer with its h and c, which are slices of the state."""
    memories, begin = [], 0
    for size in architecture.layers:
        middle, end = begin + size, begin + 2 * size
        memories.append((size, [state[:, begin:middle], state[:, middle:end]]))
        begin = end
    return memories


def _joined(parts: list[Any]) -> Any:
    return keras.layers.Concatenate(axis=-1)(parts)


def _gated(gates: Any, cell: Any, size: int) -> tuple[Any, Any]:
    """Return h and c after one step."""
    entry, forget, candidate, exit_ = (
        gates[:, position * size : (position + 1) * size] for position in range(len(_GATES))
    )
    sigmoid, tanh = keras.ops.sigmoid, keras.ops.tanh
    cell = sigmoid(forget) * cell + sigmoid(entry) * tanh(candidate)
    return sigmoid(exit_) * tanh(cell), cell
