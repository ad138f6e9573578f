"""Replaces the network by a predictor without learning, to show what the network contributes.

A one-step network that always returns zero predicts the last value if its output is the change, and
the training median if its output is the value. Smoothing, threshold and events are the same as with
the trained network. The limits are calibrated on the same samples.
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

_LAYERS = [1]  # of the smallest network that a bundle may have


def reference(
    bundle: Bundle, head: Head, zero: bytes, parts: Parts, settings: CalibrateTable
) -> Bundle:
    """Return ``bundle`` with a network that returns zero, recalibrated.

    Args:
        bundle: bundle of the trained network.
        head: the head of the network; it defines the meaning of zero.
        zero: the network, see ``trainer.detector.export.zero_network``.
        parts: the data that ``bundle`` was trained and calibrated on.
        settings: the settings of its calibration.

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
    """Return the channels with the training median as their center."""
    medians = np.nan_to_num(np.nanmedian(train.values, axis=0))
    return [
        channel.model_copy(update={"center": float(median)})
        for channel, median in zip(channels, medians, strict=True)
    ]
