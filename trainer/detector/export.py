"""From trained weights to the ``.tflite`` that gateways run.

- ``float16``: weights as 16-bit floats.
- ``dynamic-range-int8``: weights of at least 1,024 elements as 8-bit integers; activations and
  the memory stay floats.
- ``int8``: activations and memory as 8-bit integers too.
- ``int16x8``: 8-bit weights, activations and memory as 16-bit integers.

Which one ships is decided by evidence; see ``trainer.detector.quantize``.
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

REPRESENTATIVE_SAMPLES = 200  # that the ranges of activations are set by


class Exported(NamedTuple):
    """The same network in several forms."""

    networks: dict[Quantization, bytes]  # float32 is always there
    refused: dict[Quantization, str]  # what did not convert, and why


class Contents(NamedTuple):
    """The operators and weights of a ``.tflite`` file."""

    operators: list[str]  # builtin operators by name; a custom one would not load on a gateway
    integer_weights: int  # elements stored as 8-bit integers
    float_weights: int  # elements stored as 32-bit floats


def export(
    network: Any, architecture: Architecture, quantizations: Sequence[Quantization], inputs: Float32
) -> Exported:
    """Convert a trained sequence network to its one-step form, quantized and not.

    The signature ``serving_default`` names the tensors ``sample``, ``state``, ``prediction`` and
    ``next_state``; the batch axis is open, and all four are float32 in every form.

    Args:
        network: see ``networks.sequence_network``.
        architecture: of the network.
        quantizations: the forms wanted beside float32.
        inputs: (n, C) scaled and clipped samples, to calibrate the ranges of activations.

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
    """Convert a Keras network, of which ``floating`` is the float32 form, to the forms wanted."""
    networks: dict[Quantization, bytes] = {"float32": floating}
    refused: dict[Quantization, str] = {}
    for quantization in [one for one in quantizations if one not in networks]:
        try:
            networks[quantization] = convert(network, quantization, seen)
        except (ConverterError, RuntimeError, ValueError) as error:
            refused[quantization] = str(error).strip().splitlines()[0]
    return Exported(networks, refused)


class _Representative:
    """Samples with the states that the network is in when it meets them."""

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

    It has one head and one cell. It is for predictors that are not trained.
    """
    step = step_network(Architecture(channels, tuple(scored), layers=(1,), heads=("value",)))
    step.set_weights([np.zeros_like(weights) for weights in step.get_weights()])
    return convert(step, "float32")


def contents(model: bytes) -> Contents:
    """Read operators and weights out of a ``.tflite``."""
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
    """Return a Keras network as ``.tflite``; ``seen`` yields inputs as it will meet them."""
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
        warnings.simplefilter("ignore", UserWarning)  # that its own interpreter is deprecated
        model: bytes = converter.convert()
    return model


_INTEGER_OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}
