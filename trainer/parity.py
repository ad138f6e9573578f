"""Does the network that ships score as the trained one does, on every interpreter at hand?

The reference is the float network on LiteRT. Beside it: the quantized network, and both under
``tflite-runtime``, which cannot be installed next to TensorFlow and runs in a Python of its own
(``python -m trainer.parity`` there; it needs ``models`` and its dependencies only).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models import bundle as bundles
from models.bundle import NETWORK, Bundle
from models.errors import DataError
from models.interpreter import Runtime
from models.messages import Float32, Samples
from models.pipeline import Pipeline
from trainer.seal import assemble

REPLAY_TIMEOUT_S = 600


class Replayed(NamedTuple):
    """What one network on one interpreter made of some recordings."""

    runtime: str  # name and version
    score: Float32  # (n,) of all recordings, one after the other
    events: list[str]  # kind, state and time of each, in order


class Agreement(NamedTuple):
    """A network on an interpreter against the float network on LiteRT."""

    form: str
    runtime: str
    difference: float  # largest |a - b| / (1 + |b|) of a score
    events_identical: bool


def compare(
    bundle: Bundle, floating: bytes, recordings: Sequence[Samples], tflite_python: Path | None
) -> list[Agreement]:
    """Replay recordings on every form and interpreter; the first row is the reference itself.

    Args:
        bundle: with the network that ships.
        floating: the same network, not quantized.
        recordings: to replay, each from a fresh state.
        tflite_python: a Python with ``tflite-runtime``; None where there is none.

    Raises:
        DataError: ``tflite_python`` cannot replay; says what it printed.

    """
    unquantized = assemble(bundle.manifest, dict(bundle.parts) | {NETWORK: floating})
    forms = {"float": unquantized, bundle.manifest.network.quantization: bundle}
    replays = [(form, replay(held, recordings, "litert")) for form, held in forms.items()]
    if tflite_python is not None:
        replays += [
            (form, _replay_elsewhere(tflite_python, held, recordings))
            for form, held in forms.items()
        ]
    reference = replays[0][1]
    return [_agreement(form, replayed, reference) for form, replayed in replays]


def replay(bundle: Bundle, recordings: Sequence[Samples], runtime: Runtime) -> Replayed:
    """Score recordings on one interpreter, each from a fresh state."""
    pipeline = Pipeline(bundle, runtime)
    results = [pipeline.step(pipeline.start(), samples) for samples in recordings]
    return Replayed(
        pipeline.runtime,
        np.concatenate([result.scores.score for result in results]),
        [
            f"{event.kind} {event.state} {event.time:.3f}"
            for result in results
            for event in result.events
        ],
    )


def _agreement(form: str, replayed: Replayed, reference: Replayed) -> Agreement:
    difference = np.abs(replayed.score - reference.score) / (1 + np.abs(reference.score))
    return Agreement(
        form,
        replayed.runtime,
        float(np.nanmax(difference, initial=0.0)),
        replayed.events == reference.events,
    )


def _replay_elsewhere(python: Path, bundle: Bundle, recordings: Sequence[Samples]) -> Replayed:
    with tempfile.TemporaryDirectory() as directory:
        sealed, given, gotten = (Path(directory) / name for name in ("b", "given.npz", "got.npz"))
        bundles.write(sealed, bundle.manifest, bundle.parts, None)
        arrays: dict[str, Any]
        arrays = {f"times_{i}": samples.times for i, samples in enumerate(recordings)}
        arrays |= {f"values_{i}": samples.values for i, samples in enumerate(recordings)}
        np.savez(given, **arrays)
        _run([str(python), "-m", "trainer.parity", str(sealed), str(given), str(gotten)])
        with np.load(gotten) as got:
            return Replayed(str(got["runtime"]), got["score"], got["events"].tolist())


def _run(command: list[str]) -> None:
    path = str(Path(__file__).resolve().parent.parent)
    try:
        subprocess.run(  # noqa: S603  whoever trains names this Python
            command,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=REPLAY_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise DataError(f"{command[0]} cannot replay: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{command[0]} cannot replay: {error}") from error


def _main(sealed: str, given: str, gotten: str) -> None:
    """Be the other Python: replay there and leave the scores in a file."""
    with np.load(given) as arrays:
        recordings = [
            Samples(arrays[f"times_{i}"], arrays[f"values_{i}"]) for i in range(len(arrays) // 2)
        ]
    replayed = replay(bundles.read(Path(sealed)), recordings, "tflite")
    events = np.array(replayed.events, np.str_)
    np.savez(gotten, runtime=replayed.runtime, score=replayed.score, events=events)


if __name__ == "__main__":
    _main(*sys.argv[1:])
