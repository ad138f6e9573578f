"""From a bundle's path to a detector that may be trusted: nothing goes live on hope.

signature, where keys are configured ─> read (digests) ─> family ─> known answers ─> detector

A stream without a bundle is watched by the baseline, which its table sets up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from agent.bundles.trust import believe, told
from agent.config.streams import BaselineTable
from models import bundle as bundles
from models import known_answers
from models.baseline import BaselineSettings
from models.bundle import Bundle
from models.detector import Detector
from models.families import detector_of
from models.interpreter import Runtime
from models.manifest import Events, Manifest, Sampling, Severities, manifest_of, unscaled

_LOG = logging.getLogger(__name__)

# of streams without a bundle; as the trainer's own
HOLD_SAMPLES_MAX = 2
RESET_GAP_SAMPLES = 50
SEVERITIES = Severities(medium=1e-4, high=1e-6, unrated="medium")


def load(
    path: Path,
    runtime: Runtime = "auto",
    trusted_keys_dir: Path | None = None,
    require_signature: bool = True,
    manifest_of: Callable[[str, bytes], Manifest] = manifest_of,
) -> tuple[Bundle, Detector]:
    """Return the bundle at ``path`` and its detector, or refuse it.

    ``trusted_keys_dir`` and ``require_signature``: see ``trust``; ``manifest_of``: see
    ``bundles.read``.

    Raises:
        BundleError: missing, altered, too new, wrongly signed, revoked, of an unknown family,
            or its known answers differ.
        InterpreterMissing: there is nothing to run it with.
        ConfigError: the trusted keys cannot be read.

    """
    bundle = bundles.read(
        path, manifest_of, lambda seal: believe(seal, trusted_keys_dir, require_signature)
    )
    detector = detector_of(bundle, runtime)
    known_answers.check(detector, bundle)
    _LOG.info(
        "%s: %s version %d, digest %s, %s",
        *(path, bundle.manifest.name, bundle.manifest.version, bundle.digest),
        told(bundle, trusted_keys_dir),
    )
    return bundle, detector


def baseline(table: BaselineTable) -> Detector:
    """Return the detector of a stream without a bundle."""
    channels = [
        unscaled(channel.name, channel.unit, channel.low, channel.high)
        for channel in table.channels
    ]
    return detector_of(
        BaselineSettings(
            channels=channels,
            resolution=[channel.resolution for channel in table.channels],
            sampling=Sampling(
                period_s=table.period_s,
                hold_samples_max=HOLD_SAMPLES_MAX,
                missing_samples=table.missing_samples,
                reset_gap_samples=RESET_GAP_SAMPLES,
                warm_up_samples=table.warm_up_samples,
            ),
            history_samples=table.history_samples,
            update_samples=table.update_samples,
            deviations_max=table.deviations_max,
            adapt_samples=table.adapt_samples,
            events=Events(
                on_samples=table.on_samples,
                off_samples=table.off_samples,
                deadband=table.deadband,
            ),
            severities=SEVERITIES,
        )
    )
