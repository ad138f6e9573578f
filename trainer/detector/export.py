"""Converts trained weights to the ``.tflite`` file that gateways run.

- ``float16``: weights as 16-bit floats.
- ``dynamic-range-int8``: tensors of at least 1,024 weights as 8-bit integers; activations and state
  stay floats.
- ``int8``: activations and state as 8-bit integers, too.
- ``int16x8``: weights as 8-bit integers, activations and state as 16-bit integers.

``trainer.detector.quantize`` measures all of them, and chooses the one that ships.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python.convert import ConverterError

from models.interpreter import StepNetwork
from models.messages import Float32
from trainer.config import Quantization
from trainer.detector.networks import Architecture, copy_weights, step_network
from trainer.quiet import quiet

REPRESENTATIVE_SAMPLES = 200  # they set the ranges of the activations


class Exported(NamedTuple):
    """The same network in several forms."""

    networks: dict[Quantization, bytes]  # float32 is always there
    refused: dict[Quantization, str]  # the forms that failed to convert, with the reason


class Contents(NamedTuple):
    """The operators and weights of a ``.tflite`` file."""

    operators: list[str]  # names of builtin operators; a gateway could not load a custom one
    integer_weights: int  # elements stored as 8-bit integers
    float_weights: int  # elements stored as 32-bit floats


def export(
    network: Any, architecture: Architecture, quantizations: Sequence[Quantization], inputs: Float32
) -> Exported:
    """Convert a trained sequence network to its one-step form, in float32 and quantized.

    The signature ``serving_default`` names the tensors ``sample``, ``state``, ``prediction`` and
    ``next_state``. Their batch axis is open, and all four are float32 in every form.

    Args:
        network: see ``networks.sequence_network``.
        architecture: of the network.
        quantizations: the wanted forms besides float32.
        inputs: (n, C) scaled and clipped samples that calibrate the ranges of activations.

    """
    step = step_network(architecture)
    copy_weights(network, step, architecture)
    floating = convert(step, "float32")
    return in_every_form(step, floating, quantizations, _Representative(floating, inputs))


def in_every_form(
    network: Any,
    floating: bytes,
    quantizations: Sequence[Quantization],
    seen: Callable[[], Iterator[dict[str, Float32]]],
) -> Exported:
    """Convert a Keras network to the wanted forms; ``floating`` is its float32 form."""
    networks: dict[Quantization, bytes] = {"float32": floating}
    refused: dict[Quantization, str] = {}
    for quantization in [one for one in quantizations if one not in networks]:
        try:
            networks[quantization] = convert(network, quantization, seen)
        except (ConverterError, RuntimeError, ValueError) as error:
            refused[quantization] = str(error).strip().splitlines()[0]
    return Exported(networks, refused)


class _Representative:
    """Samples with the network's state before each of them."""

    def __init__(self, floating: bytes, inputs: Float32) -> None:
        self._floating, self._inputs = floating, inputs[-REPRESENTATIVE_SAMPLES:]

    def __call__(self) -> Iterator[dict[str, Float32]]:
        network = StepNetwork(self._floating)
        state = np.zeros((1, network.state_size), np.float32)
        for sample in self._inputs[:, None, None, :]:
            yield {"sample": sample[0], "state": state}
            _, state = network.run(sample, state)


def zero_network(channels: int, scored: Sequence[int]) -> bytes:
    """Return a one-step network, in the form of ``export``, whose prediction is always zero.

    It has one head and one cell. Use it for predictors without training.
    """
    step = step_network(Architecture(channels, tuple(scored), layers=(1,), heads=("value",)))
    step.set_weights([np.zeros_like(weights) for weights in step.get_weights()])
    return convert(step, "float32")


def contents(model: bytes) -> Contents:
    """Return the operators and the number of weights of a ``.tflite`` file."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    operators = sorted({names[code.builtinCode] for code in parsed.operatorCodes})
    weights = {schema.TensorType.INT8: 0, schema.TensorType.FLOAT32: 0}
    for tensor in parsed.subgraphs[0].tensors:
        data = parsed.buffers[tensor.buffer].data
        if data is not None and tensor.type in weights:
            weights[tensor.type] += len(data) // _ITEM_BYTES[tensor.type]
    return Contents(operators, weights[schema.TensorType.INT8], weights[schema.TensorType.FLOAT32])


_ITEM_BYTES = {schema.TensorType.INT8: 1, schema.TensorType.FLOAT32: 4}


def convert(
    network: Any,
    quantization: Quantization,
    seen: Callable[[], Iterator[dict[str, Float32]]] | None = None,
) -> bytes:
    """Return a Keras network as ``.tflite``; ``seen`` yields representative inputs."""
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    operators = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization in _INTEGER_OPERATORS:
        operators.insert(0, _INTEGER_OPERATORS[quantization])
        converter.representative_dataset = seen
        converter._experimental_disable_per_channel = True
    converter.target_spec.supported_ops = operators
    # per-channel scales of dense layers need an operator version that tflite-runtime 2.14 lacks
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # TensorFlow's interpreter is deprecated
        model: bytes = converter.convert()
    return model


_INTEGER_OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}
