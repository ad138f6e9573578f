"""The work on one channel of a benchmark: a worker turns its arrays into an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from models.baseline import BaselineSettings
from models.bundle import Bundle
from models.console import say
from models.families import detector_of
from models.manifest import Channel, Lineage, Manifest
from trainer import prepare, seal
from trainer.benchmark.cases import BENCHMARKS, Case, Unit, on_grid
from trainer.benchmark.counts import union
from trainer.benchmark.curves import telling
from trainer.benchmark.judge import Scored, judge, score, watched
from trainer.benchmark.outcome import DETECTORS, Detector, Judged, Outcome, WorkDirectory
from trainer.benchmark.references import HEADS, reference
from trainer.benchmark.settings import Settings
from trainer.config import Config
from trainer.detector.family import Telemanom
from trainer.family import Job, build
from trainer.prepare import Parts


class Task(NamedTuple):
    """A channel to process; it is sent to a worker."""

    benchmark: str
    data: Path
    name: str
    settings: Settings
    work: WorkDirectory
    key: str
    tflite_python: Path | None


def perform(task: Task) -> None:
    """Train the network of one case, judge its units, and save their outcomes.

    Raises:
        DataError: the case's data cannot be used.

    """
    case = BENCHMARKS[task.benchmark].read(task.data, task.name)
    config = task.settings.config
    apart = config.sampling.reset_gap_samples + 1
    train = on_grid(case.train, config.sampling.period_s, 0, apart)
    bundles = _bundles(case, prepare.split_all(train, config), task)
    after = round(train.times[-1] / config.sampling.period_s) + 1
    detectors: dict[Detector, Any] = {name: detector_of(each) for name, each in bundles.items()}
    detectors["baseline"] = detector_of(_baseline(bundles["quantized"].manifest, config))
    states = {
        name: watched(each, train if case.goes_on or name == "baseline" else None)
        for name, each in detectors.items()
    }
    for unit in case.units:
        test = on_grid([unit.values], config.sampling.period_s, after, apart)
        scored = {name: score(each, test, states[name]) for name, each in detectors.items()}
        outcome = Outcome(
            name=unit.name,
            key=task.key,
            steps=len(unit.values),
            rows=unit.rows,
            fails=unit.fails,
            seconds=list(unit.seconds),
            quantization=bundles["quantized"].telemanom.network.quantization,
            detectors=_judged(scored, bundles, unit, config.sampling.period_s),
        )
        curves = telling(bundles["quantized"].telemanom, test, scored["quantized"].result)
        task.work.keep(outcome, curves)


def _judged(
    scored: Mapping[Detector, Scored],
    bundles: Mapping[Detector, Bundle],
    unit: Unit,
    period_s: float,
) -> dict[Detector, Judged]:
    labels = union(label for row in unit.rows for label in row)
    size = {name: len(bundle.network) for name, bundle in bundles.items()}
    return {
        name: judge(scored[name], labels, period_s, size.get(name, 0), unit.fails)
        for name in DETECTORS
    }


def _baseline(manifest: Manifest, config: Config) -> BaselineSettings:
    """Return the baseline for the same stream; it learns only while it scores."""
    return BaselineSettings(
        channels=manifest.channels,
        resolution=[0.0] * len(manifest.channels),
        sampling=manifest.sampling,
        adapt_samples=config.threshold.adapt_samples,
        events=manifest.events,
        severities=manifest.severities,
    )


def _bundles(case: Case, parts: Parts, task: Task) -> dict[Detector, Bundle]:
    """Return the bundles of the detectors that have a network."""
    config = task.settings.config
    lineage = Lineage(
        data_digest=case.sha256,
        data_files=[case.name],
        parts={},
        config_digest=task.settings.digest,
        seed=config.fit.seed,
        software=seal.software(),
    )
    detector_alone = {"forecast": None, "remaining": None}  # they have benchmarks of their own
    job = Job(
        config=config.model_copy(update=detector_alone),
        parts=parts,
        channels=_channels(case, parts),
        origin=lineage,
        created=datetime.now(UTC),
        tflite_python=task.tflite_python,
        say=_say,
    )
    built = build(Telemanom(), job)
    from trainer.detector.export import zero_network

    zero = zero_network(len(case.channels), built.bundle.manifest.scored)
    bundles: dict[Detector, Bundle] = {"quantized": built.bundle, "float": built.rest.floating}
    for detector, head in HEADS.items():
        bundles[detector] = reference(built.bundle, head, zero, parts, config.calibrate)
    return bundles


def _say(line: str) -> None:
    """Write a line of progress to the worker's log."""
    say(line, error=True)


def _channels(case: Case, parts: Parts) -> list[Channel]:
    described = prepare.channels(parts, case.channels)
    if not case.prescaled:
        return described
    as_it_is = {"center": 0.0, "scale": 1.0}
    return [channel.model_copy(update=as_it_is) for channel in described]
