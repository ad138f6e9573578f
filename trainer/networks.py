"""The Keras architectures: the sequence form that is trained, the one-step form that runs.

Both hold the same weights. The sequence form steps through whole chunks in one call, which is
what makes training fast; the one-step form takes its memory as an input and returns it, which
makes each sample cost the same on a gateway for as long as it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from models.bundle import Head


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a recurrent forecaster of the next sample."""

    channels: int
    layers: tuple[int, ...]  # cells per LSTM layer
    heads: tuple[Head, ...]
    dropout: float = 0.0  # between layers, while training

    @property
    def state_size(self) -> int:
        """Floats of memory per stream: h and c of each layer."""
        return 2 * sum(self.layers)

    @property
    def prediction_size(self) -> int:
        """Values predicted per sample: one per head and channel."""
        return len(self.heads) * self.channels


def sequence_network(architecture: Architecture) -> Any:
    """Return the form that is trained: ``samples (B, T, C), state (B, S) -> (B, T, P), (B, S)``.

    ``state`` is laid out [h1, c1, h2, c2, …], as in the one-step form.
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
    """Return the form that runs: ``sample (B, C), state (B, S) -> prediction (B, P), (B, S)``.

    It is made of dense layers and gates: a Keras LSTM would bring a loop, or its fused operator,
    and neither converts to quantized builtin operators of every runtime.
    """
    sample = keras.Input((architecture.channels,), name="sample")
    state = keras.Input((architecture.state_size,), name="state")
    flow, memories = sample, []
    for number, (size, (hidden, cell)) in enumerate(_memories(architecture, state)):
        gates = keras.layers.Dense(4 * size, name=_cell(number))(_joined([flow, hidden]))
        flow, cell = _gated(gates, cell, size)
        memories += [flow, cell]
    prediction = keras.layers.Dense(architecture.prediction_size, name=_HEADS)(flow)
    return keras.Model([sample, state], {"prediction": prediction, "next_state": _joined(memories)})


def copy_weights(sequence: Any, step: Any, layers: int) -> None:
    """Give the one-step form the weights of the trained sequence form."""
    for number in range(layers):
        kernel, recurrent, bias = sequence.get_layer(_cell(number)).get_weights()
        joined = keras.ops.concatenate([kernel, recurrent], axis=0)
        step.get_layer(_cell(number)).set_weights([joined, bias])
    step.get_layer(_HEADS).set_weights(sequence.get_layer(_HEADS).get_weights())


_HEADS = "heads"


def _cell(number: int) -> str:
    return f"cell_{number}"


def _memories(architecture: Architecture, state: Any) -> list[tuple[int, list[Any]]]:
    """Return the size of each layer with its h and c, cut out of the state."""
    memories, begin = [], 0
    for size in architecture.layers:
        middle, end = begin + size, begin + 2 * size
        memories.append((size, [state[:, begin:middle], state[:, middle:end]]))
        begin = end
    return memories


def _joined(parts: list[Any]) -> Any:
    return keras.layers.Concatenate(axis=-1)(parts)


def _gated(gates: Any, cell: Any, size: int) -> tuple[Any, Any]:
    """Return h and c after one step; gates in Keras' order: input, forget, candidate, output."""
    entry, forget, candidate, exit_ = (
        gates[:, position * size : (position + 1) * size] for position in range(4)
    )
    sigmoid, tanh = keras.ops.sigmoid, keras.ops.tanh
    cell = sigmoid(forget) * cell + sigmoid(entry) * tanh(candidate)
    return sigmoid(exit_) * tanh(cell), cell
