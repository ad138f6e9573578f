"""Predictors without learning in the network's place: what is left is what the network is worth.

A one-step network that answers zero expects the last value again if it predicts the change, and
the training median if it predicts the value. All else stays as it is with the trained network:
smoothing, threshold and events; the limits are calibrated on the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.bundle import Bundle
from models.manifest import NETWORK, Channel, Head, NetworkPart
from models.messages import Samples
from trainer.benchmark.outcome import Detector
from trainer.config import CalibrateTable
from trainer.detector.calibrate import calibrated
from trainer.prepare import Parts
from trainer.seal import assemble

HEADS: Final[dict[Detector, Head]] = {"last_value": "change", "constant": "value"}

_LAYERS = [1]  # of the least network that a bundle may have


def reference(
    bundle: Bundle, head: Head, zero: bytes, parts: Parts, settings: CalibrateTable
) -> Bundle:
    """Return ``bundle`` with a network that answers zero, calibrated anew.

    Args:
        bundle: of the trained network.
        head: what zero means.
        zero: the network, see ``trainer.detector.export.zero_network``.
        parts: that ``bundle`` was trained and calibrated on.
        settings: that it was calibrated by.

    """
    manifest = bundle.telemanom
    network = NetworkPart(
        layers=_LAYERS,
        heads=[head],
        state_size=2 * sum(_LAYERS),
        input_clip=manifest.network.input_clip,
        quantization="float32",
    )
    scored = len(manifest.scored)
    rows = len(manifest.smoothing.spans_samples) * scored + manifest.level_rows
    threshold = manifest.threshold.model_copy(update={"floor": [1.0] * rows, "calm": [0.0] * rows})
    draft = manifest.model_copy(
        update={
            "channels": _centered(manifest.channels, parts.train),
            "network": network,
            "threshold": threshold,
            "tail": None,
        }
    )
    files = {NETWORK: zero}
    manifest = calibrated(draft, files, parts.train, parts.calibrate, settings)
    return assemble(manifest, files)


def _centered(channels: Sequence[Channel], train: Samples) -> list[Channel]:
    """Return the channels with the training median as their center, whatever it was before."""
    medians = np.nan_to_num(np.nanmedian(train.values, axis=0))
    return [
        channel.model_copy(update={"center": float(median)})
        for channel, median in zip(channels, medians, strict=True)
    ]
