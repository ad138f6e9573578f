"""The training: makes a sealed bundle and its report from a configuration.

    recordings ─> prepare ─> fit ─> export ─> calibrate ─> seal ─> evaluate ─> gates ─> report

The training opens the sealed file as a gateway does, and evaluates it. Afterwards it adds only the
metrics, with the verdict of ``trainer.gates``. What depends on the family of models is behind
``trainer.family``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.bundle import Bundle
from models.files import replace
from trainer import (
    destination,
    evaluate,
    extras,
    families,
    gates,
    seal,
)
from trainer.config import Config, ConfigFile
from trainer.detector import parity, score_tail
from trainer.evaluate import Judgement
from trainer.family import AnyFamily, Built, Evaluated, Job, OnEpoch, build, unheard
from trainer.prepared import Prepared, Say, lineage_of, prepare_data

if TYPE_CHECKING:
    from trainer.detector.trained import TrainedNetwork

# the part that each table of every bundle's metrics comes from
MEASURED_ON = {
    "forecast": "test",
    "normal": "test",
    "tail": "test",
    "labelled": "evaluate",
}


class Outcome(NamedTuple):
    """The files of a training, and its verdict."""

    path: Path  # of the bundle; its name contains .failed if it fails and nobody accepts it
    report: Path
    passed: bool  # it passes all gates, or a person has accepted it
    lines: list[str]  # the figures of the family, and of each gate
    warnings: list[str]  # limits of the calibration
    summary: str  # the verdict and the results, in some sentences


def train(
    file: ConfigFile,
    output: Path,
    tflite_python: Path | None,
    say: Say,
    accept: bool = False,
    on_epoch: OnEpoch = unheard,
) -> Outcome:
    """Train the bundle that ``file`` describes; write it with its report and metrics.

    Args:
        file: the configuration.
        output: directory of the results; created if missing.
        tflite_python: a Python with ``tflite-runtime`` to check parity on; None: no such check.
        say: called with each line of progress.
        accept: write the bundle under its name even if it fails a gate.
        on_epoch: called after each epoch, with the name of the network.

    Raises:
        DataError: the recordings cannot be used.
        ConfigError: the configuration does not fit the recordings, or the results cannot be
            written.
        ExtraMissing: a package that the family needs is not installed.
        KnownAnswerMismatch: the sealed file does not reproduce the scores of the training.

    """
    check(file.config, output, tflite_python)
    prepared = prepare_data(file, say)
    return train_on(file, prepared, output, tflite_python, say, accept, on_epoch)


def train_on(
    file: ConfigFile,
    prepared: Prepared,
    output: Path,
    tflite_python: Path | None,
    say: Say,
    accept: bool = False,
    on_epoch: OnEpoch = unheard,
    network: TrainedNetwork | None = None,
) -> Outcome:
    """Train on data that are prepared, after ``check``; as ``train`` apart from that.

    Args:
        file: the configuration.
        prepared: its data.
        output: see ``train``.
        tflite_python: see ``train``.
        say: see ``train``.
        accept: see ``train``.
        on_epoch: see ``train``.
        network: of a type of machine; None: this trains its own.

    """
    from trainer import report  # it draws: status, check and validate of a fleet do not

    config = file.config
    family = ready(config)
    job = job_of(file, prepared, tflite_python, say, on_epoch, network)
    learnt = learn(family, job, prepared)
    found = gates.judge(learnt.metrics, config.gates, config.parity)
    verdict = gates.document(found, accept)
    path = _path(output, config, verdict["passed"] or accept)
    metrics_file, report_file = _beside(path)
    output.mkdir(parents=True, exist_ok=True)
    shipped = seal.ship(learnt.sealed, learnt.metrics | {"verdict": verdict}, path)
    _write_metrics(shipped, metrics_file)
    report.write(shipped, learnt.judged, learnt.evaluated.sections(shipped), report_file)
    _remove_failed(output, config, path, say)
    summary = report.summary(shipped.manifest.metrics)
    lines = [*learnt.evaluated.lines, *gates.lines(found)]
    warnings = list(score_tail.warnings(shipped.manifest))
    return Outcome(path, report_file, verdict["passed"] or accept, lines, warnings, summary)


def ready(config: Config) -> AnyFamily:
    """Return the family to train; what it needs is installed.

    Raises:
        ConfigError: it is unknown, or it refuses the settings.
        ExtraMissing: a package that it needs is not installed.

    """
    family = families.family_of(config)
    extras.require(f"a training of the family {config.family.name}", family.packages)
    return family


class Learnt(NamedTuple):
    """A sealed bundle without metrics, and its results on held-out data."""

    sealed: Bundle
    judged: Judgement
    evaluated: Evaluated
    metrics: dict[str, Any]


def learn(family: AnyFamily, job: Job, prepared: Prepared) -> Learnt:
    """Train, seal and evaluate a bundle, without writing files.

    Args:
        family: of the bundle, see ``ready``.
        job: of ``job_of``.
        prepared: its data.

    Raises:
        DataError: the recordings cannot be used.
        ConfigError: a bundle cannot have these settings.
        KnownAnswerMismatch: the sealed file does not reproduce the scores of the training.

    """
    built = build(family, job)
    job.say("sealing and evaluating the file")
    sealed = seal.sealed(seal.with_training(built.bundle, job.config))
    judged = evaluate.judge_all(sealed, job.parts.test, job.labelled, job.config.evaluate)
    evaluated = family.evaluate(job, built, sealed, judged)
    metrics = _metrics(built, evaluated, evaluate.metrics(judged, sealed.manifest))
    return Learnt(sealed, judged, evaluated, metrics | {"data": prepared.metrics()})


def job_of(
    file: ConfigFile,
    prepared: Prepared,
    tflite_python: Path | None,
    say: Say,
    on_epoch: OnEpoch = unheard,
    network: TrainedNetwork | None = None,
) -> Job:
    """Return what a family is given; for the arguments see ``train_on``."""
    origin = lineage_of(file, prepared)
    if network is not None:
        origin = origin.model_copy(update={"shared": network.shared})
    return Job(
        config=file.config,
        parts=prepared.parts,
        channels=prepared.channels,
        origin=origin,
        created=datetime.now(UTC),
        labelled=prepared.labelled,
        lives=prepared.lives,
        tflite_python=tflite_python,
        say=say,
        on_epoch=on_epoch,
        network=network,
    )


def _metrics(built: Built, evaluated: Evaluated, judged: dict[str, Any]) -> dict[str, Any]:
    """Return all metrics; what every bundle has cannot be replaced by a family."""
    measured_on = {"measured_on": dict(evaluated.measured_on) | MEASURED_ON}
    return built.metrics | evaluated.metrics | judged | measured_on


def check(config: Config, output: Path, tflite_python: Path | None) -> None:
    """Refuse, before the long work, what would end it.

    Raises:
        ConfigError: the settings do not fit the family, the results cannot be written, or the
            Python lacks ``tflite-runtime``.
        ExtraMissing: a package that the family needs is not installed.

    """
    ready(config)
    for passed in (True, False):
        path = _path(output, config, passed)
        destination.check_directory(output, tuple(each.name for each in (path, *_beside(path))))
    if tflite_python is not None:
        parity.check_python(tflite_python)


def _remove_failed(output: Path, config: Config, made: Path, say: Say) -> None:
    """Remove what an earlier training left that failed, where this one has its own name."""
    failed = _path(output, config, passed=False)
    if made == failed:
        return
    there = [path for path in (failed, *_beside(failed)) if path.exists()]
    for path in there:
        path.unlink()
    if there:
        names = ", ".join(path.name for path in there)
        say(f"removed what an earlier training left that failed: {names}")


def _path(output: Path, config: Config, passed: bool) -> Path:
    return output / f"{config.bundle.name}{'' if passed else '.failed'}.fieldwatch"


def _beside(path: Path) -> tuple[Path, Path]:
    """Return the paths of a bundle's metrics (JSON) and report (HTML)."""
    return path.with_suffix(".metrics.json"), path.with_suffix(".report.html")


def _write_metrics(bundle: Bundle, path: Path) -> None:
    document = {"digest": bundle.digest} | bundle.manifest.metrics
    replace(path, f"{json.dumps(document, indent=2)}\n".encode())
