"""Scores new data of a stream with its bundle, by the code that runs on gateways; no training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import InsufficientDataError
from models.families import detector_of
from models.messages import Samples
from models.times import iso_time, unix_s
from trainer import evaluate, gates, prepare
from trainer.config import ConfigFile
from trainer.datasets import Label, time_in
from trainer.datasets.labels import read_labels
from trainer.evaluate import Judged, Judgement, Labelled
from trainer.fleet.config import FleetFile, Stream
from trainer.fleet.log import Log
from trainer.fleet.outcome import Figures, Outcome
from trainer.fleet.run import log_path
from trainer.fleet.stream import bundle_path, registry_of
from trainer.fleet.work import Work
from trainer.prepare import Grid
from trainer.prepared import sources
from trainer.registry.registry import Registry


def plan(file: FleetFile, streams: Sequence[Stream], since: str | None) -> dict[str, Work]:
    """Return the work on each stream.

    Raises:
        DataError: ``since`` is no time.

    """
    begin = None if since is None else time_in("--since", "time", since, "2026-11-01T00:00:00Z")
    return {
        stream.name: ValidateWork(
            stream,
            bundle_path(file.output, stream.bundle),
            log_path(file, f"validate.{stream.name}"),
            begin,
        )
        for stream in streams
    }


@dataclass(frozen=True, slots=True)
class ValidateWork:
    """The validation of a stream's bundle; a ``Work``."""

    stream: Stream
    path: Path  # of the bundle
    log: Path
    since: float | None  # Unix seconds; None: the end of what the bundle was made of

    def perform(self) -> Outcome:
        """Score the data since then, and compare the figures with the limits.

        Raises:
            BundleError: there is no usable bundle.
            DataError: the recordings cannot be used, or nothing in them is new.

        """
        with Log(self.log) as log:
            registry = registry_of(self.stream)
            bundle = self._bundle(registry)
            since = _end_of(bundle) if self.since is None else self.since
            log(
                f"{self.path.name}, version {bundle.manifest.version}; data since {iso_time(since)}"
            )
            samples = self._samples(bundle, since, log)
            labels = _labels(self.stream.file, since)
            settings = self.stream.file.config.evaluate
            judged = evaluate.judge(
                detector_of(bundle),
                Labelled(self.stream.name, samples, labels),
                settings.grace_s,
            )
            outcome = self._outcome(bundle, judged, log)
            if registry is not None:
                _record(registry, self.stream.bundle, outcome, self.log)
            return outcome

    def _bundle(self, registry: Registry | None) -> Bundle:
        """Return the champion of the registry, or else the bundle in the output folder."""
        champion = None if registry is None else registry.champion(self.stream.bundle)
        if registry is None or champion is None:
            return bundles.read(self.path)
        with tempfile.TemporaryDirectory() as folder:
            return bundles.read(registry.fetch(champion, Path(folder)))

    def _samples(self, bundle: Bundle, since: float, log: Log) -> Samples:
        recordings = [source.recording for source in sources(self.stream.file, log)]
        samples, _ = prepare.align(recordings, Grid.of(bundle.manifest))
        new = samples.times > since
        needed = bundle.manifest.sampling.warm_up_samples + prepare.TEST_SAMPLES_MIN
        if (count := int(np.count_nonzero(new))) < needed:
            raise InsufficientDataError(
                f"{count} samples are newer than {iso_time(since)}; {needed} are needed. The newest"
                f" is of {iso_time(float(samples.times[-1]))}"
            )
        quality = None if samples.quality is None else samples.quality[new]
        return Samples(samples.times[new], samples.values[new], quality)

    def _outcome(self, bundle: Bundle, judged: Judged, log: Log) -> Outcome:
        config = self.stream.file.config
        metrics = evaluate.metrics(Judgement(judged, []), bundle.manifest)
        days = judged.scored_days
        metrics["normal"]["events_per_day"] = round(len(judged.false) / days, 3) if days else None
        found = gates.judge(metrics | {"parity": []}, config.gates, config.parity)
        for line in gates.lines(found):
            log(line)
        labelled = evaluate.label_metrics([judged]) if judged.detections else {}
        figures = Figures(
            metrics["normal"]["events_per_day"],
            labelled.get("true_positives"),
            labelled.get("false_negatives"),
            labelled.get("false_positives"),
        )
        verdict = gates.document(found, accepted=False)
        return Outcome(
            "valid" if verdict["passed"] else "invalid",
            "" if verdict["passed"] else gates.summary(verdict),
            self.path,
            bundle.manifest.version,
            bundle.digest,
            seconds={"score": round(log.seconds, 3)},
            figures=figures,
        )


def _record(registry: Registry, name: str, outcome: Outcome, log: Path) -> None:
    """Record a validation as a run of the stream."""
    figures = {**asdict(outcome.figures), "f1": outcome.figures.f1}
    numbers = {f"validate/{key}": value for key, value in figures.items() if value is not None}
    tags = {"validation": outcome.state, "digest": outcome.digest or ""}
    with registry.run(name, tags) as run:
        run.numbers(numbers)
        run.file(log)


def _end_of(bundle: Bundle) -> float:
    """Return the time of the last sample that a bundle was trained, calibrated or tested on."""
    return max(unix_s(last) for _, last, _ in bundle.manifest.lineage.parts.values())


def _labels(file: ConfigFile, since: float) -> list[Label]:
    """Return the labels of the new data; none if there is no file of them."""
    if file.labels is None:
        return []
    return [
        label for label in read_labels(file.labels, file.config.data.layout) if label.end > since
    ]
