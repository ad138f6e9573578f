"""From trained weights to the ``.tflite`` that gateways run.

Dynamic-range: weights of at least 1,024 elements become 8-bit integers, activations and the
memory stay floats. Of the quantizations tried this one cost the least accuracy, and the 8-bit
memory of full integer quantization cost the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from trainer.networks import Architecture, copy_weights, step_network
from trainer.quiet import quiet


class Exported(NamedTuple):
    """The same network twice: as it ships, and unquantized to compare with."""

    quantized: bytes
    floating: bytes
    quantization: str = "dynamic-range-int8"


class Contents(NamedTuple):
    """What is inside a ``.tflite``."""

    operators: list[str]  # builtin operators by name; a custom one would not load on a gateway
    integer_weights: int  # elements stored as 8-bit integers
    float_weights: int  # elements stored as 32-bit floats


def export(network: Any, architecture: Architecture) -> Exported:
    """Convert a trained sequence network to its one-step form, quantized and not.

    The signature ``serving_default`` names the tensors ``sample``, ``state``, ``prediction`` and
    ``next_state``; the batch axis is open.
    """
    step = step_network(architecture)
    copy_weights(network, step, architecture)
    return Exported(_convert(step, quantize=True), _convert(step, quantize=False))


def zero_network(channels: int, scored: Sequence[int]) -> bytes:
    """Return a one-step network, as ``export`` makes them, that answers zero and nothing else.

    It has one head and one cell; predictors without learning are made of it.
    """
    step = step_network(Architecture(channels, tuple(scored), layers=(1,), heads=("value",)))
    step.set_weights([np.zeros_like(weights) for weights in step.get_weights()])
    return _convert(step, quantize=False)


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


def _convert(step: Any, quantize: bool) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(step)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # per-channel scales of dense layers need an operator version that tflite-runtime 2.14 lacks
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    with quiet():
        model: bytes = converter.convert()
    return model
