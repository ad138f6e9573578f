"""Checks that the network that ships has the scores of the trained one, on every interpreter.

The quantized network is compared with the float one, both on LiteRT. Then each of them is compared
with itself on ``tflite-runtime``. That cannot be installed beside TensorFlow, so it runs in another
Python, as ``python -m trainer.detector.parity``, and needs only ``models`` and its dependencies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import DataError
from models.interpreter import Runtime, runtime_version
from models.manifest import FORECASTER, NETWORK
from models.messages import Float32, Samples
from models.pipeline import Pipeline
from trainer.seal import assemble

REPLAY_TIMEOUT_S = 600


class Replayed(NamedTuple):
    """The results of one network on one interpreter, for some recordings."""

    network: str  # "float", or its quantization
    runtime: str  # name and version of the interpreter
    scores: list[Float32]  # (n,) of each recording
    events: list[list[str]]  # kind, state and time of each, in order, of each recording


class Agreement(NamedTuple):
    """The changes of scores by quantization or by another interpreter.

    A difference is the largest |a - b| / (1 + |b|) of a score. Normal operation and faults have
    their own: while an event is open, the dynamic threshold amplifies the smallest difference.
    """

    change: Literal["quantization", "interpreter"]
    network: str
    runtime: str
    difference: float  # on the first recording, the test part
    difference_in_faults: float  # on the others
    identical: int  # recordings with the same events, at the same samples
    recordings: int


def compare(
    bundle: Bundle, floating: bytes, recordings: Sequence[Samples], tflite_python: Path | None
) -> list[Agreement]:
    """Replay recordings on both networks and every interpreter.

    Args:
        bundle: the sealed bundle with the network that ships; its forecaster is not used.
        floating: the same network, not quantized.
        recordings: each is replayed from a fresh state; the first is of normal operation.
        tflite_python: a Python with ``tflite-runtime``; None if there is none.

    Raises:
        DataError: ``tflite_python`` cannot replay; the text has its output.

    """
    unquantized, shipped = _detector(bundle, floating), _detector(bundle, bundle.network)
    network = bundle.telemanom.network.quantization
    reference = replay("float", unquantized, recordings, "litert")
    quantized = replay(network, shipped, recordings, "litert")
    agreements = [agreement("quantization", quantized, reference)]
    if tflite_python is not None:
        for held, here in ((unquantized, reference), (shipped, quantized)):
            there = replay_elsewhere(tflite_python, here.network, held, recordings, "tflite")
            agreements.append(agreement("interpreter", there, here))
    return agreements


def _detector(bundle: Bundle, network: bytes) -> Bundle:
    """Return the bundle with this network and without its forecaster, which makes no scores."""
    manifest = bundle.telemanom.model_copy(update={"forecaster": None})
    parts = {name: data for name, data in bundle.parts.items() if name != FORECASTER}
    return assemble(manifest, parts | {NETWORK: network})


def replay(
    network: str, bundle: Bundle, recordings: Sequence[Samples], runtime: Runtime
) -> Replayed:
    """Score recordings on one interpreter, each from a fresh state."""
    pipeline = Pipeline(bundle, runtime)
    results = [pipeline.step(pipeline.start(), samples) for samples in recordings]
    return Replayed(
        network,
        pipeline.runtime,
        [result.scores.score for result in results],
        [
            [f"{event.kind} {event.state} {event.time:.3f}" for event in result.events]
            for result in results
        ],
    )


def agreement(
    change: Literal["quantization", "interpreter"], replayed: Replayed, reference: Replayed
) -> Agreement:
    """Return the comparison of two replays of the same recordings."""
    differences = [
        largest_change(a, b) for a, b in zip(replayed.scores, reference.scores, strict=True)
    ]
    return Agreement(
        change,
        replayed.network,
        replayed.runtime,
        differences[0],
        max(differences[1:], default=0.0),
        sum(a == b for a, b in zip(replayed.events, reference.events, strict=True)),
        len(differences),
    )


def largest_change(scores: Float32, reference: Float32) -> float:
    """Return the largest |a - b| / (1 + |b|); 0 if there is nothing to compare."""
    return float(np.nanmax(np.abs(scores - reference) / (1 + np.abs(reference)), initial=0.0))


def replay_elsewhere(
    python: Path, network: str, bundle: Bundle, recordings: Sequence[Samples], runtime: Runtime
) -> Replayed:
    """Do as ``replay`` does, in a process of another Python.

    Raises:
        DataError: that Python cannot replay; the text has its output.

    """
    with tempfile.TemporaryDirectory() as directory:
        sealed, given, gotten = (Path(directory) / name for name in ("b", "given.npz", "got.npz"))
        bundles.write(sealed, bundle.manifest, bundle.parts, None)
        arrays: dict[str, Any]
        arrays = {f"times_{i}": samples.times for i, samples in enumerate(recordings)}
        arrays |= {f"values_{i}": samples.values for i, samples in enumerate(recordings)}
        np.savez(given, **arrays)
        words = runtime, str(sealed), str(given), str(gotten)
        run_elsewhere(python, "trainer.detector.parity", *words)
        with np.load(gotten) as got:
            scores = [got[f"score_{i}"] for i in range(len(recordings))]
            events = [got[f"events_{i}"].tolist() for i in range(len(recordings))]
            return Replayed(network, str(got["runtime"]), scores, events)


def check_python(python: Path) -> None:
    """Refuse a Python that cannot replay, before the training.

    Raises:
        DataError: that Python cannot replay; the text has its output.

    """
    run_elsewhere(python, "trainer.detector.parity", "tflite")


def run_elsewhere(python: Path, module: str, *arguments: str) -> None:
    """Run a module of this package in another Python.

    Raises:
        DataError: the module fails; the text has its output.

    """
    path = str(Path(__file__).resolve().parents[2])  # that the package lies in
    try:
        subprocess.run(  # noqa: S603  the person who trains names this Python
            [str(python), "-m", module, *arguments],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=REPLAY_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise DataError(f"{python} cannot replay: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{python} cannot replay: {error}") from error


def _main(runtime: Runtime, sealed: str, given: str, gotten: str) -> None:
    """Run in the other Python: replay, and write the scores to a file."""
    with np.load(given) as arrays:
        recordings = [
            Samples(arrays[f"times_{i}"], arrays[f"values_{i}"]) for i in range(len(arrays) // 2)
        ]
    replayed = replay("", bundles.read(Path(sealed)), recordings, runtime)
    results: dict[str, Any] = {"runtime": replayed.runtime}
    results |= {f"score_{i}": score for i, score in enumerate(replayed.scores)}
    results |= {f"events_{i}": np.array(said, np.str_) for i, said in enumerate(replayed.events)}
    np.savez(gotten, **results)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        runtime_version(cast(Runtime, sys.argv[1]))
    else:
        _main(cast(Runtime, sys.argv[1]), *sys.argv[2:])
