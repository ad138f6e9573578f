"""Makes the small networks that ``fieldwatch-agent bench`` runs: `python -m …`.

Run by hand, with the extra ``trainer``, only when the form of exported networks changes:

    python -m tests.bench.make_network

The weights are random (seeded), not trained: what a network costs does not depend on what it has
learnt. The one-step network is exported as a trained one is, with 8-bit weights, for eight channels
and two heads. Beside it, and for the reference bundle's network too, there is Telemanom's published
form: float weights, and the loop over a window inside.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from agent.bench.bare import WINDOW_SAMPLES
from tests.bench.windowed import windowed
from trainer.detector.export import export
from trainer.detector.networks import Architecture, sequence_network

NETWORKS = Path(__file__).resolve().parents[2] / "agent" / "bench" / "networks"
CHANNELS = 8
LAYERS = (80, 80)
REFERENCE_LAYERS = (64,)
SEED = 5


def architecture(layers: tuple[int, ...]) -> Architecture:
    """Return that of a network with these layers."""
    return Architecture(CHANNELS, tuple(range(CHANNELS)), layers, ("value", "change"))


def main() -> None:
    """Write the files, named by their layers."""
    keras.utils.set_random_seed(SEED)
    samples = np.random.default_rng(SEED).normal(0, 0.5, (200, CHANNELS)).astype(np.float32)
    network = sequence_network(architecture(LAYERS))
    made = export(network, architecture(LAYERS), ["dynamic-range-int8"], samples)
    name = "-".join(map(str, LAYERS))
    (NETWORKS / f"{name}.tflite").write_bytes(made.networks["dynamic-range-int8"])
    for layers in (LAYERS, REFERENCE_LAYERS):
        write_windowed(layers)


def write_windowed(layers: tuple[int, ...]) -> None:
    """Write the published form; its weights have few digits, so that the wheel stays small."""
    own = architecture(layers)
    network = sequence_network(own)
    network.set_weights([np.round(weights * 16) / 16 for weights in network.get_weights()])
    file = NETWORKS / "windowed" / f"{'-'.join(map(str, layers))}.tflite"
    file.write_bytes(windowed(network, own, WINDOW_SAMPLES))


if __name__ == "__main__":
    main()
