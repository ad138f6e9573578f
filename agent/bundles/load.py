"""Loads the detector of a bundle: every bundle is verified and tested before it scores.

    signature, where keys are configured ─> read (digests) ─> version ─> trial in another process
      ─> family ─> known answers ─> detector

``load`` is for commands. ``Loader`` is for an agent, which remembers which bundles have run. The
baseline, configured in the stream's table, watches a stream without a bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from agent.bundles.ledger import Ledger
from agent.bundles.trial import SECONDS_MAX, try_out
from agent.bundles.trust import believe, told
from agent.config.checker import Checker
from agent.config.load import AgentConfig
from agent.config.streams import DAY_S, DEVIATIONS_MAX, HISTORY_SAMPLES, BaselineTable
from models import bundle as bundles
from models import known_answers
from models.bundle import Bundle, Seal
from models.detector import Detector
from models.errors import BundleOutdated
from models.families import detector_of
from models.interpreter import Runtime, runtime_version
from models.manifest import (
    Events,
    Manifest,
    Sampling,
    Severities,
    TelemanomManifest,
    manifest_of,
    unscaled,
)

if TYPE_CHECKING:
    from models.baseline import BaselineSettings
    from models.novelty import NoveltySettings

_LOG = logging.getLogger(__name__)

# for streams without a bundle; the same value as in the trainer
HOLD_SAMPLES_MAX = 2
RESET_GAP_SAMPLES = 50
ON_SAMPLES, ON_SAMPLES_BY_MEDIAN = 1, 3
SEVERITIES = Severities(medium=1e-4, high=1e-6, unrated="medium")


class Loaded(NamedTuple):
    """A trusted bundle and its detector."""

    bundle: Bundle
    detector: Detector


def load(
    path: Path,
    runtime: Runtime = "auto",
    keys: Path | None = None,
    require_signature: bool = True,
    manifest_of: Callable[[str, bytes], Manifest] = manifest_of,
    approve: Callable[[Bundle], object] = lambda bundle: None,
) -> Loaded:
    """Return the bundle at ``path`` and its detector, or refuse it.

    ``keys`` and ``require_signature``: see ``trust``; ``manifest_of``: see ``bundles.read``.
    ``approve`` is called with a complete and trusted bundle before its network is loaded. It raises
    an error to refuse the bundle.

    Raises:
        BundleError: missing, altered, too new, wrongly signed, revoked, of an unknown family,
            or its known answers differ.
        InterpreterMissing: no interpreter is installed.
        ConfigError: the trusted keys cannot be read.

    """
    bundle = bundles.read(path, manifest_of, lambda seal: believe(seal, keys, require_signature))
    approve(bundle)
    detector = detector_of(bundle, runtime)
    known_answers.check(detector, bundle)
    _LOG.info(
        "%s: %s version %d, digest %s, %s",
        *(path, bundle.manifest.name, bundle.manifest.version, bundle.digest),
        told(bundle, keys),
    )
    return Loaded(bundle, detector)


class Loader:
    """Loads an agent's bundles, by its configuration and its ledger; any thread may use it."""

    def __init__(
        self,
        store_directory: Path,
        keys: Path | None = None,
        require_signature: bool = True,
        runtime: Runtime = "auto",
        remember: bool = True,
    ) -> None:
        """Set up; ``keys``: see ``trust``; ``remember``: False for a command: it writes nothing."""
        self._keys, self._require_signature = keys, require_signature
        self._runtime, self._remember = runtime, remember
        self._ledger = Ledger(store_directory)
        self._trial: Checker | None = None  # process of the last trial
        self._abandoned = False

    @classmethod
    def of(cls, config: AgentConfig, remember: bool = True) -> Self:
        """Create the loader that the configuration describes."""
        keys, required = config.keys.directory, config.bundles.require_signature
        return cls(config.store.directory, keys, required, config.runtime.interpreter, remember)

    def read(self, path: Path, manifest_of: Callable[[str, bytes], Manifest]) -> Bundle:
        """Return the bundle at ``path`` if it is trusted, without loading its network.

        Raises:
            BundleError: it is not trusted.
            ConfigError: the trusted keys cannot be read.

        """
        return bundles.read(path, manifest_of, self._believe)

    def _believe(self, seal: Seal) -> None:
        believe(seal, self._keys, self._require_signature)

    def load(
        self, path: Path, manifest_of: Callable[[str, bytes], Manifest] = manifest_of
    ) -> Loaded:
        """Return the bundle at ``path`` and its detector, or refuse it.

        A network that is new to this gateway is tried in another process first, which takes half a
        second. ``manifest_of``: see ``bundles.read``; a running agent passes its checker's.

        Raises:
            BundleError: as ``load``; or older than one that has run here, or its trial failed.
            InterpreterMissing: no interpreter is installed.
            ConfigError: the trusted keys cannot be read.

        """
        return load(
            path,
            self._runtime,
            self._keys,
            self._require_signature,
            manifest_of,
            self._approve,
        )

    def abandon(self) -> None:
        """Abort a trial in progress, and prevent new ones; any thread may call this."""
        self._abandoned = True
        if (trial := self._trial) is not None:
            trial.kill()

    def copy_of_previous(self, stream: str) -> Path | None:
        """Return the copy of the bundle that a stream ran last, to be loaded; None: none."""
        return self._ledger.copy_of_previous(stream)

    def note_running(self, running: Mapping[str, Bundle], streams: Collection[str]) -> None:
        """Record the running bundles for the next start; see ``Ledger.note_running``."""
        self._ledger.note_running(running, streams, self._keys is not None)

    def _approve(self, bundle: Bundle) -> None:
        self._check_version(bundle)
        key = " ".join((bundle.digest, *self._interpreter(bundle)))
        if not self._ledger.tried(key):
            self._try_out(bundle)
            if self._remember:
                self._ledger.note_tried(key)

    def _try_out(self, bundle: Bundle) -> None:
        with Checker(SECONDS_MAX) as self._trial:
            if self._abandoned:
                self._trial.kill()
            try_out(bundle, self._runtime, self._trial)

    def _check_version(self, bundle: Bundle) -> None:
        """Refuse a version older than one that ran here. Only a signature proves a version."""
        if self._keys is None or bundle.signature is None:
            return
        manifest = bundle.manifest
        if manifest.version < (floor := self._ledger.floor(manifest.name)):
            raise BundleOutdated(
                f"{bundle.source}: {manifest.name} version {manifest.version} is older than version"
                f" {floor}, which has run here. To allow this: fieldwatch-agent allow-downgrade"
                f" {manifest.name} --to {manifest.version}"
            )

    def _interpreter(self, bundle: Bundle) -> list[str]:
        """Return the interpreter, on which a trial depends: the network may crash another one."""
        network = isinstance(bundle.manifest, TelemanomManifest)
        return [runtime_version(self._runtime)] if network else []


def baseline(table: BaselineTable) -> Detector:
    """Return the detector of a stream without a bundle."""
    shared: dict[str, Any] = {
        "channels": [
            unscaled(channel.name, channel.unit, channel.low, channel.high)
            for channel in table.channels
        ],
        "resolution": [channel.resolution for channel in table.channels],
        "sampling": Sampling(
            period_s=table.period_s,
            hold_samples_max=HOLD_SAMPLES_MAX,
            missing_samples=table.missing_samples,
            reset_gap_samples=RESET_GAP_SAMPLES,
            warm_up_samples=table.warm_up_samples,
        ),
        "update_samples": table.update_samples,
        "adapt_samples": table.adapt_samples,
        "events": Events(
            on_samples=table.on_samples
            or (ON_SAMPLES_BY_MEDIAN if table.by_median else ON_SAMPLES),
            off_samples=table.off_samples,
            deadband=table.deadband,
            further_ratio=table.further_ratio,
        ),
        "severities": SEVERITIES,
    }
    return detector_of(_by_median(table, shared) if table.by_median else _by_range(table, shared))


def _by_median(table: BaselineTable, shared: Mapping[str, Any]) -> BaselineSettings:
    from models.baseline import BaselineSettings  # only for a stream without a bundle

    return BaselineSettings(
        **shared,
        history_samples=table.history_samples or HISTORY_SAMPLES,
        deviations_max=table.deviations_max or DEVIATIONS_MAX,
    )


def _by_range(table: BaselineTable, shared: Mapping[str, Any]) -> NoveltySettings:
    from models.novelty import NoveltySettings, entry_samples  # only for such a stream

    return NoveltySettings(
        **shared,
        reach=table.reach,
        history_entries=table.history_entries,
        entry_samples=entry_samples(
            table.history_days * DAY_S, table.period_s, table.history_entries, table.update_samples
        ),
        season_s=table.season_s,
        foretells=True,
    )
