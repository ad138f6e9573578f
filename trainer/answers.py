"""Records the known answers of a bundle: calm samples, a disturbance, calm samples.

The deployed code scores them, so that a gateway can compare (``models.known_answers``).
"""

from __future__ import annotations

import numpy as np

from models.bundle import Bundle
from models.errors import DataError
from models.families import detector_of
from models.known_answers import record, with_features
from models.manifest import KNOWN_ANSWERS, Manifest
from models.messages import Samples
from trainer.seal import assemble

KNOWN_SAMPLES = 100  # length of each section after the warm-up: calm, disturbed, calm
# sizes of the swing that are tried in turn, in units of the channels' scales; limits that were
# calibrated on few samples are wide
DISTURBANCES = (6.0, 12.0, 24.0, 48.0)


def known_answers(bundle: Bundle, samples: Samples, before: int) -> bytes:
    """Return the known answers of a calibrated bundle, recorded on some of ``samples``.

    Normal samples come first, then every other scored channel swings for a while, then normal
    samples follow. The smallest swing of ``DISTURBANCES`` that opens an event is recorded. If there
    are too few samples, they are repeated.

    Args:
        bundle: calibrated; without known answers.
        samples: (n, C) of normal operation.
        before: samples until a fresh detector judges.

    Raises:
        DataError: no event opens, because the thresholds are too high.

    """
    detector, manifest = detector_of(bundle), bundle.manifest
    for scales in DISTURBANCES:
        disturbed = _disturbed(manifest, samples, np.float32(scales), before)
        result = detector.step(detector.start(), disturbed)
        if any(event.kind == "anomaly" for event in result.events):
            return with_features(record(disturbed, result), manifest)
    raise DataError(
        "the known answers raise no event: the calibration part differs so much from the training"
        f" part that the bundle does not detect a swing by {DISTURBANCES[-1]:g} scales; check the"
        " recordings"
    )


def with_answers(bundle: Bundle, samples: Samples, before: int) -> Bundle:
    """Return a calibrated bundle with its known answers; see ``known_answers``.

    Raises:
        DataError: no event opens, because the thresholds are too high.

    """
    answers = known_answers(bundle, samples, before)
    return assemble(bundle.manifest, dict(bundle.parts) | {KNOWN_ANSWERS: answers})


def _disturbed(manifest: Manifest, samples: Samples, scales: np.float32, before: int) -> Samples:
    """Return calm samples, samples in which channels swing by ``scales``, and calm ones."""
    count = before + 3 * KNOWN_SAMPLES
    values = np.resize(samples.values, (count, samples.values.shape[1]))
    lift = np.array([channel.scale for channel in manifest.channels], np.float32) * scales
    lifted = manifest.scored[::2]
    swing = np.where(np.arange(KNOWN_SAMPLES) % 2, -1, 1)[:, None]
    values[-2 * KNOWN_SAMPLES : -KNOWN_SAMPLES, lifted] += swing * lift[lifted]
    times = samples.times[0] + np.arange(count) * manifest.sampling.period_s
    return Samples(times, values)
