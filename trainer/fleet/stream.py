"""The work on one stream: prepare, train, export, calibrate, evaluate; a worker does it.

A stream is done if its bundle has the digest of these data and settings in its lineage, and is
registered where there is a registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleError, FieldwatchError
from trainer import gates, train
from trainer.config import ConfigFile
from trainer.family import OnEpoch, unheard
from trainer.fleet import shared
from trainer.fleet.config import Stream
from trainer.fleet.log import Log
from trainer.fleet.outcome import Figures, Outcome, State
from trainer.prepared import Prepared, prepare_data
from trainer.registry import identity, training
from trainer.registry.records import Version
from trainer.registry.registry import Registry
from trainer.train import Outcome as Made
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
    register: bool = True  # where the stream has a registry

    def perform(self) -> Outcome:
        """Make the bundle and register it, unless that is done.

        Raises:
            FieldwatchError: it cannot be made.

        """
        with Log(self.log) as log:
            train.check(self.stream.file.config, self.output, self.tflite_python)
            registry = registry_of(self.stream) if self.register else None
            prepared = self._prepared(registry, log)
            seconds = {"prepare": round(log.seconds, 3)}
            there = None if self.again else self._done(prepared)
            if there is not None:
                log(f"{there.source} is of these data and settings: nothing to train")
            version = None
            if there is None:
                there, version = self._made(registry, prepared, log)
                seconds["train"] = round(log.seconds - seconds["prepare"], 3)
            elif registry is not None and _passed(there):
                version = registry.register(Path(there.source))
            return _outcome(there, version, seconds)

    def _prepared(self, registry: Registry | None, log: Log) -> Prepared:
        """Return the data; unusable ones are a failed run of the registry."""
        try:
            return prepare_data(self.stream.file, log)
        except FieldwatchError:
            if registry is None:
                raise
            with registry.run(self.stream.bundle) as run:
                run.file(self.log)
                raise

    def _made(
        self, registry: Registry | None, prepared: Prepared, log: Log
    ) -> tuple[Bundle, Version | None]:
        network = None if self.network is None else shared.read(self.network)
        file = _with_version(self.stream.file, self._next_version(registry))

        def make(on_epoch: OnEpoch) -> Made:
            made = train.train_on(
                file,
                prepared,
                self.output,
                self.tflite_python,
                log,
                on_epoch=on_epoch,
                network=network,
            )
            for line in (*made.lines, *made.warnings, made.summary):
                log(line)
            return made

        if registry is None:
            return bundles.read(make(unheard).path), None
        made, version = training.record(
            registry, self.stream.bundle, file.config, make, log, log=self.log
        )
        return bundles.read(made.path), version

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
        wanted = identity.lineage_digest(self.stream.file.config, prepared.used.digest)
        sharing = None if self.network is None else shared.shared_by(self.network)
        for bundle in self._there():
            same = bundle.manifest.lineage.shared == sharing
            if same and identity.lineage_of(bundle) == wanted:
                return bundle
        return None

    def _next_version(self, registry: Registry | None) -> int:
        """Return the version of the bundle: a gateway takes no older one."""
        known = [bundle.manifest.version for bundle in self._there()]
        if registry is not None:
            known += [each.bundle_version for each in registry.versions(self.stream.bundle)]
        return max(self.stream.file.config.bundle.version, *(each + 1 for each in known), 1)


def registry_of(stream: Stream) -> Registry | None:
    """Return the registry of a stream, open; None: it has none.

    Raises:
        ExtraMissing: MLflow is not installed.
        RegistryError: it cannot be reached.

    """
    settings = stream.file.config.registry
    return None if settings is None else Registry(settings, stream.file.path.parent)


def _passed(bundle: Bundle) -> bool:
    verdict = bundle.manifest.metrics["verdict"]
    return bool(verdict["passed"] or verdict["accepted"])


def _with_version(file: ConfigFile, version: int) -> ConfigFile:
    table = file.config.bundle.model_copy(update={"version": version})
    return replace(file, config=file.config.model_copy(update={"bundle": table}))


def _outcome(bundle: Bundle, version: Version | None, seconds: dict[str, float]) -> Outcome:
    passed = _passed(bundle)
    state: State = "trained" if "train" in seconds else "unchanged"
    data = bundle.manifest.lineage.data
    return Outcome(
        state if passed else "rejected",
        "" if passed else gates.summary(bundle.manifest.metrics["verdict"]),
        Path(bundle.source),
        bundle.manifest.version,
        bundle.digest,
        None if data is None else data.digest,
        seconds,
        Figures.of(bundle),
        peak_memory_bytes() >> 20,
        None if version is None else version.name,
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
