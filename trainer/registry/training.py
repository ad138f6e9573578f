"""A training that is recorded: a run with its curves, and a version if the bundle is good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from models import bundle as bundles
from trainer import train as training
from trainer.config import Config, ConfigFile
from trainer.family import OnEpoch
from trainer.prepared import Say
from trainer.registry.errors import RegistryError
from trainer.registry.records import VERDICT, Version
from trainer.registry.registry import Registry
from trainer.registry.runs import Run
from trainer.train import Outcome


class Recorded(NamedTuple):
    """The files of a training, and its version."""

    outcome: Outcome
    version: Version | None  # None: the bundle fails its gates


def train(
    registry: Registry,
    file: ConfigFile,
    output: Path,
    tflite_python: Path | None,
    say: Say,
    accept: bool = False,
    stream: str | None = None,
    tags: Mapping[str, str] = {},
) -> Recorded:
    """Train a bundle and register it; the run shows its curves while it goes on.

    A bundle that fails its gates has a run with its metrics and its report, and no version.

    Args:
        registry: that records it.
        file: the configuration.
        output: directory of the results.
        tflite_python: see ``trainer.train.train``.
        say: called with each line of progress.
        accept: register the bundle even if it fails a gate.
        stream: None: the name of the bundle.
        tags: of people, for the run and for the version.

    Raises:
        RegistryError: the registry cannot be written. If the bundle is finished then, it is in
            ``output``, and ``Registry.register`` registers it later.
        DataError, ConfigError, BundleError: see ``trainer.train.train``.

    """

    def make(on_epoch: OnEpoch) -> Outcome:
        return training.train(file, output, tflite_python, say, accept, on_epoch)

    return record(registry, stream or file.config.bundle.name, file.config, make, say, tags)


def record(
    registry: Registry,
    stream: str,
    config: Config,
    make: Callable[[OnEpoch], Outcome],
    say: Say,
    tags: Mapping[str, str] = {},
    log: Path | None = None,
) -> Recorded:
    """Record what makes a bundle as a run, and register the bundle; see ``train``.

    Args:
        registry: that records it.
        stream: name of the registered model.
        config: of the training.
        make: makes the bundle; it calls its argument after each epoch.
        say: called with each line of progress.
        tags: of people, for the run and for the version.
        log: a file to keep with the run.

    """
    with registry.run(stream, tags) as run:
        run.settings(config)
        made = make(run.epoch)
        if run.lost is not None:
            say(f"points of the curves are missing in the registry: {run.lost}")
        run.metrics(bundles.read(made.path).manifest.metrics)
        if log is not None:
            run.file(log)
        if made.passed:
            version = _registered(registry, made.path, run, tags)
            say(f"registered: {version.name}")
            return Recorded(made, version)
        run.tag(VERDICT, "failed")
        run.file(made.report)
        return Recorded(made, None)


def _registered(registry: Registry, path: Path, run: Run, tags: Mapping[str, str]) -> Version:
    try:
        return registry.register(path, run, tags=tags)
    except (RegistryError, OSError) as error:
        raise RegistryError(
            f"{error}. The bundle is finished, but not registered: when that is mended, run"
            f" `fieldwatch-trainer register {path}`"
        ) from error
