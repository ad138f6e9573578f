"""The work on one stream: prepare, train, export, calibrate, evaluate; a worker does it.

A stream is done if its bundle has the digests of these data and these settings in its lineage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleError
from models.manifest import SharedNetwork
from trainer import gates, train
from trainer.config import ConfigFile
from trainer.fleet import shared
from trainer.fleet.config import Stream
from trainer.fleet.log import Log
from trainer.fleet.outcome import Figures, Outcome, State
from trainer.prepared import Prepared, prepare_data
from trainer.workers import peak_memory_bytes


def bundle_path(output: Path, name: str, passed: bool = True) -> Path:
    """Return the path of a stream's bundle."""
    return output / f"{name}{'' if passed else '.failed'}.fieldwatch"


@dataclass(frozen=True, slots=True)
class TrainWork:
    """The training of a stream's bundle; a ``Work``."""

    stream: Stream
    output: Path
    log: Path
    network: Path | None = None  # of its type; None: it has its own
    again: bool = False  # train even if its bundle is there
    tflite_python: Path | None = None

    def perform(self) -> Outcome:
        """Make the bundle, unless it is there.

        Raises:
            FieldwatchError: it cannot be made.

        """
        with Log(self.log) as log:
            file = self.stream.file
            train.check(self.output, file.config, self.tflite_python)
            prepared = prepare_data(file, log)
            seconds = {"prepare": round(log.seconds, 3)}
            there = None if self.again else self._done(prepared)
            if there is not None:
                log(f"{there.source} is of these data and settings: nothing to train")
            else:
                there = bundles.read(self._train(prepared, log))
                seconds["train"] = round(log.seconds - seconds["prepare"], 3)
            return _outcome(there, "train" in seconds, seconds)

    def _train(self, prepared: Prepared, log: Log) -> Path:
        network = None if self.network is None else shared.read(self.network)
        file = _with_version(self.stream.file, self._next_version())
        made = train.train_on(file, prepared, self.output, self.tflite_python, log, network=network)
        for line in (*made.lines, *made.warnings, made.summary):
            log(line)
        return made.path

    def _there(self) -> Iterator[Bundle]:
        """Yield the bundles of earlier runs, that which passed first."""
        for passed in (True, False):
            path = bundle_path(self.output, self.stream.bundle, passed)
            try:
                yield bundles.read(path)
            except BundleError:  # it is missing or damaged: then it is made again
                continue

    def _done(self, prepared: Prepared) -> Bundle | None:
        """Return the bundle of these data and settings, if there is one."""
        sharing = None if self.network is None else shared.shared_by(self.network)
        for bundle in self._there():
            if _is_of(bundle, prepared.used.digest, self.stream.file.digest, sharing):
                return bundle
        return None

    def _next_version(self) -> int:
        """Return the version of the bundle: a gateway takes no older one."""
        versions = (bundle.manifest.version + 1 for bundle in self._there())
        return max(self.stream.file.config.bundle.version, *versions, 1)


def _is_of(bundle: Bundle, data: str, settings: str, sharing: SharedNetwork | None) -> bool:
    lineage = bundle.manifest.lineage
    return (
        lineage.data is not None
        and lineage.data.digest == data
        and lineage.config_digest == settings
        and lineage.shared == sharing
    )


def _with_version(file: ConfigFile, version: int) -> ConfigFile:
    table = file.config.bundle.model_copy(update={"version": version})
    return replace(file, config=file.config.model_copy(update={"bundle": table}))


def _outcome(bundle: Bundle, trained: bool, seconds: dict[str, float]) -> Outcome:
    verdict = bundle.manifest.metrics["verdict"]
    passed = verdict["passed"] or verdict["accepted"]
    state: State = "rejected" if not passed else "trained" if trained else "unchanged"
    data = bundle.manifest.lineage.data
    return Outcome(
        state,
        "" if passed else gates.summary(verdict),
        Path(bundle.source),
        bundle.manifest.version,
        bundle.digest,
        None if data is None else data.digest,
        seconds,
        Figures.of(bundle),
        peak_memory_bytes() >> 20,
    )


@dataclass(frozen=True, slots=True)
class CheckWork:
    """The check of a stream's data, without a training; a ``Work``."""

    stream: Stream
    log: Path

    def perform(self) -> Outcome:
        """Prepare the data as for a training.

        Raises:
            FieldwatchError: they cannot be used.

        """
        with Log(self.log) as log:
            prepared = prepare_data(self.stream.file, log)
            seconds = {"prepare": round(log.seconds, 3)}
            return Outcome("usable", data_digest=prepared.used.digest, seconds=seconds)
