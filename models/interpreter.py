"""The only door to a TFLite interpreter: LiteRT (``ai-edge-litert``) or ``tflite-runtime``.

Both have the same Python interface. LiteRT is 2 to 4 times faster, but has no wheel for 32-bit Arm.
The interpreter is imported when a network is loaded, so commands that score nothing stay small.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import threading
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from models.errors import BundleCorrupt, InterpreterMissing
from models.messages import Float32

Runtime = Literal["auto", "litert", "tflite"]

_DISTRIBUTIONS = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
_CHOICES: dict[Runtime, tuple[str, ...]] = {
    "auto": ("ai-edge-litert", "tflite-runtime"),
    "litert": ("ai-edge-litert",),
    "tflite": ("tflite-runtime",),
}
_TENSORS = {"sample": 2, "state": 2, "prediction": 2, "next_state": 2}  # name -> rank
_FORECAST_TENSORS = {"context": 2, "quantiles": 3}


class StepNetwork:
    """A one-step recurrent network: ``sample, state -> prediction, next_state``.

    Keep an instance for as long as the process runs, because an interpreter does not return its
    memory. Use it in one thread. The batch axis is open: one call steps ``B`` streams that share
    the network.

    Raises:
        BundleCorrupt: the bytes are not a network of this form, or need a newer interpreter.
        InterpreterMissing: no interpreter is installed.

    """

    def __init__(self, model: bytes, runtime: Runtime = "auto") -> None:
        module, self.runtime = module_of(runtime)
        try:
            self._interpreter = module.Interpreter(model_content=model, num_threads=1)
            tensors = _tensors(self._interpreter)
            _check_form(tensors, _TENSORS)
            self._index = {name: int(tensor["index"]) for name, tensor in tensors.items()}
            width = {name: int(tensor["shape"][1]) for name, tensor in tensors.items()}
            if width["state"] != width["next_state"]:
                raise BundleCorrupt("the network's state and next_state differ in size")
            self.sample_size = width["sample"]  # C, the channels
            self.state_size = width["state"]  # S, floats of state per stream
            self.prediction_size = width["prediction"]  # P, heads × channels
            self._batch = 0
            self._resize(1)
        except (ValueError, RuntimeError) as error:
            raise BundleCorrupt(f"{self.runtime} cannot load the network: {error}") from error

    def expect(self, sample_size: int, state_size: int, prediction_size: int) -> None:
        """Refuse a network that does not fit its manifest.

        Raises:
            BundleCorrupt: a size differs.

        """
        found = (self.sample_size, self.state_size, self.prediction_size)
        expected = (sample_size, state_size, prediction_size)
        if found != expected:
            raise BundleCorrupt(
                f"the network's sizes (sample, state, prediction) are {found},"
                f" but the manifest has {expected}"
            )

    def run(
        self, samples: Float32, state: Float32, after: Float32 | None = None
    ) -> tuple[Float32, Float32]:
        """Run ``samples`` through the network, in order.

        Args:
            samples: ``(n, B, C)``, n ≥ 1, scaled and clipped.
            state: ``(B, S)`` as the last call returned it; zeros at the start.
            after: ``(B, S)`` array that receives the state after the last sample; may be
                ``state``. None: a new array.

        Returns:
            The scaled prediction of each sample's successor, ``(n, B, P)``, and the state after
            the last sample, ``(B, S)``.

        """
        steps, batch, _ = samples.shape
        if batch != self._batch:
            self._resize(batch)
        sample, state_in, prediction, state_out = self._views
        predictions = np.empty((steps, batch, self.prediction_size), np.float32)
        state_in[...] = state
        for step in range(steps):
            if step:
                state_in[...] = state_out
            sample[...] = samples[step]
            self._interpreter.invoke()
            predictions[step] = prediction
        if after is None:
            return predictions, state_out.copy()
        after[...] = state_out
        return predictions, after

    def _resize(self, batch: int) -> None:
        for name, width in (("sample", self.sample_size), ("state", self.state_size)):
            self._interpreter.resize_tensor_input(self._index[name], [batch, width])
        with (
            contextlib.nullcontext() if self._batch else without_chatter()
        ):  # XNNPACK logs its start
            self._interpreter.allocate_tensors()
        self._batch = batch
        tensors = [self._interpreter.tensor(self._index[name]) for name in _TENSORS]
        before = [tensor().ctypes.data for tensor in tensors]
        self._interpreter.invoke()
        if [tensor().ctypes.data for tensor in tensors] != before:
            raise ValueError("its tensors do not keep their places")
        self._views = [_lasting(tensor()) for tensor in tensors]


def _lasting(tensor: Float32) -> Float32:
    """Return a view of a tensor that stays valid until the next ``allocate_tensors``.

    The interpreter's own views hold a reference to it. It refuses to run while one exists, so each
    call would have to create them again.
    """
    floats = (ctypes.c_float * tensor.size).from_address(tensor.ctypes.data)
    view: Float32 = np.frombuffer(memoryview(floats), np.float32).reshape(tensor.shape)
    return view


class ForecastNetwork:
    """A forecaster: ``context -> quantiles`` of the following steps, one series per row.

    Keep an instance for as long as the process runs, and use it in one thread; see ``StepNetwork``.

    Raises:
        BundleCorrupt: the bytes are not a network of this form, or need a newer interpreter.
        InterpreterMissing: no interpreter is installed.

    """

    def __init__(self, model: bytes, runtime: Runtime = "auto") -> None:
        module, self.runtime = module_of(runtime)
        # with XNNPACK, some instances of LiteRT 2.3 compute these networks wrongly from the second
        # call on; the plain kernels are right, and cost 0.1 ms more
        plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            self._interpreter = module.Interpreter(
                model_content=model, num_threads=1, experimental_op_resolver_type=plain
            )
            tensors = _tensors(self._interpreter)
            _check_form(tensors, _FORECAST_TENSORS)
            self._index = {name: int(tensor["index"]) for name, tensor in tensors.items()}
            self._batch = 0
            self._context_steps = int(tensors["context"]["shape"][1])
            self._resize(1)
            _, horizon, quantiles = self._interpreter.get_tensor(self._index["quantiles"]).shape
        except (ValueError, RuntimeError) as error:
            raise BundleCorrupt(f"{self.runtime} cannot load the forecaster: {error}") from error
        self.shape = (self._context_steps, int(horizon), int(quantiles))  # L, H, Q

    def expect(self, context_steps: int, horizon_steps: int, quantiles: int) -> None:
        """Refuse a network that does not fit its manifest.

        Raises:
            BundleCorrupt: a size differs.

        """
        expected = (context_steps, horizon_steps, quantiles)
        if self.shape != expected:
            raise BundleCorrupt(
                f"the forecaster's sizes (context, horizon, quantiles) are {self.shape},"
                f" but the manifest has {expected}"
            )

    def run(self, context: Float32) -> Float32:
        """Return the quantiles (B, H, Q) of the steps after each context (B, L), all normalised."""
        if len(context) != self._batch:
            self._resize(len(context))
        interpreter = self._interpreter
        interpreter.tensor(self._index["context"])()[:] = context
        interpreter.invoke()
        quantiles: Float32 = interpreter.get_tensor(self._index["quantiles"])
        return quantiles

    def _resize(self, batch: int) -> None:
        shape = [batch, self._context_steps]
        self._interpreter.resize_tensor_input(self._index["context"], shape)
        self._interpreter.allocate_tensors()
        self._interpreter.invoke()  # only this sets the shapes of some outputs
        self._batch = batch


def opened(model: bytes, runtime: Runtime = "auto") -> Any:
    """Return a single-threaded interpreter that has loaded a network of any form.

    Raises:
        InterpreterMissing: no interpreter is installed.
        ValueError: it cannot run the network. It may also raise RuntimeError.

    """
    module, _ = module_of(runtime)
    interpreter = module.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


_CHATTER = b"INFO: "  # begins a line that is neither a warning nor an error
_REDIRECTED = threading.Lock()  # the whole process shares stderr


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Keep the info lines of native code off stderr; there is no setting for them.

    Other output to stderr in the meantime, also by other threads, appears after the block.
    """
    with _REDIRECTED:
        try:
            stderr, said = os.dup(2), os.memfd_create("stderr")
        except (OSError, AttributeError):  # no stderr, or no memory files here: let the lines pass
            yield
            return
        os.dup2(said, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            lines = os.pread(said, os.fstat(said).st_size, 0).splitlines(keepends=True)
            if told := b"".join(line for line in lines if not line.startswith(_CHATTER)):
                os.write(stderr, told)
            os.close(said)
            os.close(stderr)


def runtime_version(runtime: Runtime = "auto") -> str:
    """Return the name and version of the interpreter in use, e.g. ``ai-edge-litert 2.3.0``.

    Raises:
        InterpreterMissing: no interpreter is installed.

    """
    return module_of(runtime)[1]


def module_of(runtime: Runtime) -> tuple[Any, str]:
    """Return the module of an interpreter, and its name and version.

    Raises:
        InterpreterMissing: none of the choices is installed and usable.

    """
    reasons = []
    for distribution in _CHOICES[runtime]:
        try:
            module = importlib.import_module(_DISTRIBUTIONS[distribution])
        except ImportError as error:
            reasons.append(f"{distribution}: {error}")
            continue
        if distribution == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
            # it is built against numpy 1: the import works, but the first Interpreter() fails
            reasons.append(f"{distribution}: needs numpy < 2, found {np.__version__}")
            continue
        # importlib.metadata would also have the version, but takes 1 MB
        package = importlib.import_module(_DISTRIBUTIONS[distribution].partition(".")[0])
        return module, f"{distribution} {package.__version__}"
    raise InterpreterMissing(
        "no usable TFLite interpreter (" + "; ".join(reasons) + "); install ai-edge-litert,"
        " or on 32-bit Arm: pip install 'fieldwatch[tflite]'"
    )


def _tensors(interpreter: Any) -> dict[str, dict[str, Any]]:
    """Return tensor details by signature name; positions and raw names depend on the converter."""
    # the runner's reference blocks allocate_tensors(), so it must not outlive this function
    runner = interpreter.get_signature_runner("serving_default")
    return dict(runner.get_input_details()) | dict(runner.get_output_details())


def _check_form(tensors: dict[str, dict[str, Any]], ranks: dict[str, int]) -> None:
    """Refuse other types, ranks or names, which would be cast or broadcast silently."""
    if tensors.keys() != ranks.keys():
        raise BundleCorrupt(
            f"the network's signature has the tensors {sorted(tensors)}, not {sorted(ranks)}"
        )
    for name, tensor in tensors.items():
        if tensor["dtype"] is not np.float32 or len(tensor["shape"]) != ranks[name]:
            raise BundleCorrupt(
                f"the network's tensor {name} is not float32 with {ranks[name]} dimensions"
            )
