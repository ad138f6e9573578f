"""Chooses the form of a forecaster that ships: the smallest one about as accurate as float32.

It checks each form on windows of the calibration part. The growth of the squared error, and the
difference of quantiles between interpreters, must stay within tolerances.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from models.errors import BundleCorrupt, DataError, ParityError
from models.interpreter import ForecastNetwork, Runtime
from models.messages import Float32
from trainer.config import ForecastParityTable, Quantization
from trainer.detector.parity import run_elsewhere
from trainer.forecast.windows import Windows

GATE_WINDOWS_MAX = 1000
BATCH = 50
REPRESENTATIVE_WINDOWS = 200  # windows that set the ranges of activations
TIMED_RUNS = 10


@dataclass(frozen=True, slots=True)
class ForecasterTrial:
    """One form of the forecaster and the result of its checks."""

    quantization: Quantization
    size_bytes: int | None  # None: the form has no file
    window_ms: float | None  # time for one window, on LiteRT on this machine
    error_change: float | None  # of the squared error, relative to float32's
    interpreter_change: float | None  # largest of a quantile; None: only one was tried
    passed: bool
    reason: str  # why it did not pass

    def as_json(self) -> dict[str, Any]:
        """Return the trial for the metrics."""
        return asdict(self)


def choose(
    networks: Mapping[Quantization, bytes],
    refused: Mapping[Quantization, str],
    windows: Windows,
    settings: ForecastParityTable,
    tflite_python: Path | None,
) -> list[ForecasterTrial]:
    """Check every form of the forecaster; return the results, the chosen form first.

    Args:
        networks: the ``.tflite`` file of each form, including float32.
        refused: the reason for each form that cannot be converted.
        windows: windows of the calibration part.
        settings: the tolerances.
        tflite_python: a Python with ``tflite-runtime``; None: there is none.

    Raises:
        ParityError: even float32 differs between the interpreters by more than the tolerance.

    """
    reference = _squared_error(predict(networks["float32"], windows.context), windows)
    trials = [
        _trial(name, network, reference, windows, settings, tflite_python)
        for name, network in networks.items()
    ]
    trials += [_missing(name, f"does not convert: {why}") for name, why in refused.items()]
    passed = [trial for trial in trials if trial.passed]
    if not passed:
        raise ParityError(
            f"no form of the forecaster passes; float32: {trials[0].reason}. Train longer, or raise"
            " forecast.parity.interpreter_tolerance"
        )
    chosen = min(passed, key=lambda trial: trial.size_bytes or 0)
    return [chosen, *(trial for trial in trials if trial is not chosen)]


def representative(windows: Windows) -> Iterator[dict[str, Float32]]:
    """Yield contexts one by one, to calibrate the ranges of activations."""
    for row in windows.context[:REPRESENTATIVE_WINDOWS]:
        yield {"context": row[None]}


def predict(model: bytes, contexts: Float32, runtime: Runtime = "litert") -> Float32:
    """Return the network's quantiles (n, H, Q) of normalised contexts (n, L)."""
    network = ForecastNetwork(model, runtime)
    batches = [contexts[begin : begin + BATCH] for begin in range(0, len(contexts), BATCH)]
    return np.concatenate([network.run(batch).copy() for batch in batches])


def _trial(
    name: Quantization,
    network: bytes,
    reference: float,
    windows: Windows,
    settings: ForecastParityTable,
    tflite_python: Path | None,
) -> ForecasterTrial:
    moved = None
    try:
        here = predict(network, windows.context)
        if tflite_python is not None:
            there = _predict_elsewhere(tflite_python, network, windows.context)
            moved = float(np.abs(there - here).max())
    except (BundleCorrupt, DataError) as error:  # for example, the runtime lacks an operator
        return _missing(name, str(error).strip().splitlines()[-1], len(network))
    change = _squared_error(here, windows) / reference - 1
    reasons = []
    if not change <= settings.error_tolerance:
        reasons.append(f"the squared error grows by {change:.2%}")
    if moved is not None and not moved <= settings.interpreter_tolerance:
        reasons.append(f"a quantile changes by {moved:.3g} between interpreters")
    return ForecasterTrial(
        quantization=name,
        size_bytes=len(network),
        window_ms=_window_ms(network, windows.context[:1]),
        error_change=change,
        interpreter_change=moved,
        passed=not reasons,
        reason="; ".join(reasons),
    )


def _squared_error(quantiles: Float32, windows: Windows) -> float:
    """Return the mean squared error of the median, in scales of the channels."""
    errors = (quantiles[:, :, quantiles.shape[2] // 2] - windows.future) * windows.scale[:, None]
    return float(np.nanmean(np.square(errors)))


def _missing(name: Quantization, reason: str, size_bytes: int | None = None) -> ForecasterTrial:
    return ForecasterTrial(name, size_bytes, None, None, None, False, reason)


def _window_ms(model: bytes, context: Float32) -> float:
    network = ForecastNetwork(model, "litert")
    network.run(context)  # warm-up call
    began = time.perf_counter()
    for _ in range(TIMED_RUNS):
        network.run(context)
    return round((time.perf_counter() - began) / TIMED_RUNS * 1e3, 3)


def _predict_elsewhere(python: Path, model: bytes, contexts: Float32) -> Float32:
    """Predict as ``predict`` does, but on ``tflite-runtime`` in a process of another Python."""
    with tempfile.TemporaryDirectory() as directory:
        network, given, gotten = (Path(directory) / name for name in ("n", "given.npy", "got.npy"))
        network.write_bytes(model)
        np.save(given, contexts)
        run_elsewhere(python, "trainer.forecast.choose", *map(str, (network, given, gotten)))
        return cast(Float32, np.load(gotten))


def _main(network: str, given: str, gotten: str) -> None:
    """Run in the other Python: predict, and write the quantiles into a file."""
    np.save(gotten, predict(Path(network).read_bytes(), np.load(given), "tflite"))


if __name__ == "__main__":
    _main(*sys.argv[1:])
