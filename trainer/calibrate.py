"""Sets what is left to set once the network is there, on held-out normal data only.

The least threshold of each error row is a margin over the largest smoothed error that the
calibration part shows: through the deployed code, on the network as it ships. What a machine
did in hours of normal operation never raises an alarm, and the margin covers what it did not
happen to do in them. However well a channel is forecast, a deviation far below its normal
spread is of no meaning to the machine: the floor has a least value too.
"""

from __future__ import annotations

import numpy as np

from models.bundle import Bundle
from models.errors import DataError
from models.known_answers import record as recorded
from models.messages import Samples
from models.pipeline import Pipeline
from trainer.config import CalibrateTable

KNOWN_SAMPLES = 100  # calm after the warm-up, as many disturbed, as many calm
DISTURBANCE = np.float32(6.0)  # in units of the channels' scales


def floors(draft: Bundle, samples: Samples, settings: CalibrateTable) -> list[float]:
    """Return the least threshold of each error row, in scaled units.

    Args:
        draft: the bundle so far; its own floors do not matter.
        samples: the calibration part.
        settings: the margin over the largest smoothed error, and the least floor of all.

    Raises:
        DataError: a channel has no value in the calibration part.

    """
    pipeline = Pipeline(draft)
    smoothed = pipeline.step(pipeline.start(), samples).smoothed
    unknown = np.flatnonzero(np.isnan(smoothed).all(axis=0))
    if len(unknown):
        name = draft.manifest.channel_names[unknown[0] % len(draft.manifest.channels)]
        raise DataError(
            f"channel {name} has no value in the calibration part: its threshold cannot be set"
        )
    largest = np.nanmax(smoothed, axis=0)
    return [max(settings.floor_min, settings.floor_margin * float(error)) for error in largest]


def known_answers(bundle: Bundle, samples: Samples) -> bytes:
    """Return the known answers of a calibrated bundle, recorded on some of ``samples``.

    Calm samples, then every other channel is lifted for a while, then calm ones again: an event
    opens, far above its threshold on any machine.

    Raises:
        DataError: no event opened: the thresholds are too high to find anything.

    """
    manifest = bundle.manifest
    count = manifest.sampling.warm_up_samples + 3 * KNOWN_SAMPLES
    values = samples.values[:count].copy()
    lift = np.array([channel.scale for channel in manifest.channels], np.float32) * DISTURBANCE
    values[-2 * KNOWN_SAMPLES : -KNOWN_SAMPLES, ::2] += lift[::2]
    disturbed = Samples(samples.times[:count], values)
    pipeline = Pipeline(bundle)
    result = pipeline.step(pipeline.start(), disturbed)
    if not any(event.kind == "anomaly" for event in result.events):
        raise DataError(
            "the known answers raise no event: the calibration part is so unlike the training"
            f" part that a lift by {DISTURBANCE:g} scales does not stand out; check the recordings"
        )
    return recorded(disturbed, result)
