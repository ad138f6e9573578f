"""Makes the small networks that ``fieldwatch-agent bench`` runs: `python -m …`.

Run by hand, with the extra ``trainer``, only when the form of exported networks changes:

    python -m tests.bench.make_network

The weights are random (seeded), not trained: what a network costs does not depend on what it has
learnt. It is exported as a trained one is, with 8-bit weights, for eight channels and two heads.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from trainer.export import export
from trainer.networks import Architecture, sequence_network

NETWORKS = Path(__file__).resolve().parents[2] / "agent" / "bench" / "networks"
CHANNELS = 8
LAYERS = (80, 80)
SEED = 5


def main() -> None:
    """Write the file, named by its layers."""
    keras.utils.set_random_seed(SEED)
    architecture = Architecture(CHANNELS, tuple(range(CHANNELS)), LAYERS, ("value", "change"))
    samples = np.random.default_rng(SEED).normal(0, 0.5, (200, CHANNELS)).astype(np.float32)
    made = export(sequence_network(architecture), architecture, ["dynamic-range-int8"], samples)
    name = "-".join(map(str, LAYERS))
    (NETWORKS / f"{name}.tflite").write_bytes(made.networks["dynamic-range-int8"])


if __name__ == "__main__":
    main()
