"""Builds fleets from the configured streams: a refused bundle affects only its own stream.

A stream whose bundle is refused runs the bundle that it ran last. If there is none, it runs the
baseline of its table. If there is none either, nothing watches the stream. Log and status show what
runs, what is refused and why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.alarms.limit import check_limits, limitable
from agent.bundles.load import Loaded, Loader, baseline
from agent.bundles.trial import SECONDS_MAX
from agent.clock import Clock
from agent.config.load import AgentConfig, StreamTable
from agent.journal import STREAM
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.scoring.origin import BASELINE, Origin, Refusal, Unwatched
from models.bundle import Bundle
from models.detector import Detector
from models.errors import BundleError, ConfigError, NoStreamRuns, SignatureInvalid
from models.manifest import Manifest, manifest_of
from models.signing import signer_of

_LOG = logging.getLogger(__name__)

# on a busy machine: two trials (the bundle and the previous one) and the steps after them
CHOICE_S_MAX: Final = 2 * SECONDS_MAX + 60


class Choice(NamedTuple):
    """The detector of a stream and its origin."""

    table: StreamTable
    detector: Detector | None  # None: the stream is not watched
    bundle: Bundle | None  # None: the baseline
    origin: Origin

    def __str__(self) -> str:
        """Describe the detector."""
        if self.detector is None:
            return "nothing watches the stream"
        if self.bundle is None:
            return "the baseline watches the stream"
        manifest = self.bundle.manifest
        return f"the stream runs {manifest.name} version {manifest.version}"


def its_baseline(table: StreamTable) -> Choice:
    """Return the baseline for a stream that has no bundle."""
    assert table.baseline is not None
    return Choice(table, baseline(table.baseline), None, Origin())


def its_bundle(table: StreamTable, loaded: Loaded) -> Choice:
    """Return the trusted bundle of a stream."""
    return Choice(table, loaded.detector, loaded.bundle, Origin(_signer(loaded.bundle)))


class Chooser:
    """Chooses what each stream runs with; one thread at a time uses it.

    Args:
        config: The agent's.
        loader: Loads its bundles.
        manifest_of: See ``agent.bundles.load.Loader.load``.

    """

    def __init__(
        self,
        config: AgentConfig,
        loader: Loader,
        manifest_of: Callable[[str, bytes], Manifest] = manifest_of,
    ) -> None:
        self._config, self._loader, self._manifest_of = config, loader, manifest_of
        self._loaded: dict[Path, Loaded | BundleError] = {}  # shared by streams of a bundle

    def choose(self, table: StreamTable) -> Choice:
        """Choose the detector of a stream; ``origin`` states why it is not the stream's own bundle.

        Raises:
            ConfigError: a limit does not fit the bundle, or the trusted keys cannot be read.
            InterpreterMissing: no interpreter is installed.

        """
        if table.bundle is None:
            return its_baseline(table)
        try:
            loaded = self._load(table.bundle)
        except BundleError as error:
            return self._in_place(table, table.bundle, str(error))
        return its_bundle(table, loaded)

    def _load(self, path: Path) -> Loaded:
        """Return the bundle at a path, or raise the same error as the first time."""
        if path not in self._loaded:
            try:
                self._loaded[path] = self._loader.load(path, self._manifest_of)
            except BundleError as error:
                self._loaded[path] = error
        found = self._loaded[path]
        if isinstance(found, BundleError):
            raise found
        return found

    def _in_place(self, table: StreamTable, path: Path, why: str) -> Choice:
        """Choose a substitute for the refused bundle at ``path``."""
        if (copy := self._loader.copy_of_previous(table.name)) is not None:
            try:
                loaded = self._load(copy)
                check_fit(self._config, table, loaded.detector)
            except (BundleError, ConfigError) as error:
                why += f"; its previous bundle cannot run either: {error}"
            else:
                origin = Origin(_signer(loaded.bundle), Refusal(path, why), "previous_bundle")
                return Choice(table, loaded.detector, loaded.bundle, origin)
        if table.baseline is not None:
            detector = baseline(table.baseline)
            try:
                check_fit(self._config, table, detector, limits=False)
            except ConfigError as error:
                why += f"; its baseline cannot run either: {error}"
            else:
                return Choice(table, detector, None, Origin(None, Refusal(path, why), BASELINE))
        return Choice(table, None, None, Origin(None, Refusal(path, why)))


def log_refused(choices: Sequence[Choice]) -> None:
    """Log which bundles are refused, and what runs instead."""
    for choice in choices:
        if (refused := choice.origin.refused) is not None:
            name = choice.table.name
            _LOG.error(
                "stream %s: bundle refused: %s. Until you correct this, %s",
                *(name, refused.why, choice),
                extra={STREAM: name},
            )


def check_fit(
    config: AgentConfig, table: StreamTable, detector: Detector, limits: bool = True
) -> None:
    """Raise ConfigError if the inputs of a stream, or its limits, do not fit a detector."""
    if limits:
        check_limits(table.name, table.limits, limitable(detector.manifest))
    for source in config.inputs:
        if source.stream == table.name:
            LineParser(source.lines, detector.manifest.source_channels)


def fleets_of(choices: Sequence[Choice], summary_interval_s: float, clock: Clock) -> list[Fleet]:
    """Group the watched streams into fleets; the streams of one detector share its network.

    Raises:
        ConfigError: a limit does not fit the bundle.
        NoStreamRuns: none of the streams can be watched.

    """
    together: dict[Detector, list[Choice]] = {}
    for choice in choices:
        if choice.detector is not None:
            together.setdefault(choice.detector, []).append(choice)
    if not together:
        refused = [choice.origin.refused for choice in choices]
        why = [one.why for one in refused if one is not None]
        raise NoStreamRuns("no stream can run:\n" + "\n".join(dict.fromkeys(why)))
    return [
        Fleet(
            detector,
            [choice.table for choice in own],
            summary_interval_s,
            clock,
            [choice.origin for choice in own],
        )
        for detector, own in together.items()
    ]


def unwatched_of(
    choices: Sequence[Choice], open_alarms: Callable[[str], Sequence[dict[str, Any]]]
) -> list[Unwatched]:
    """Return the streams that nothing watches; ``open_alarms`` returns a stream's open alarms."""
    return [
        Unwatched(choice.table.name, choice.origin.refused, open_alarms(choice.table.name))
        for choice in choices
        if choice.detector is None and choice.origin.refused is not None
    ]


def _signer(bundle: Bundle) -> dict[str, str] | None:
    """Return who signed a trusted bundle, for ``status``."""
    try:
        signer = signer_of(bundle)
    except SignatureInvalid:  # if signatures count, the bundle was refused before
        return None
    return None if signer is None else signer._asdict()
