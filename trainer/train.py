"""The training: makes a sealed bundle and its report from a configuration.

    recordings ─> prepare ─> fit ─> export ─> calibrate ─┐
                        └─> forecaster (trainer.forecast) ┴> seal ─> evaluate ─> gates ─> report

The training opens the sealed file as a gateway does, and evaluates it. Afterwards it adds only the
metrics, with the verdict of ``trainer.gates``.

Importing TensorFlow takes seconds. It happens after the checks of the configuration and the
recordings, so you see their errors at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.bundle import Bundle
from models.files import replace
from models.manifest import (
    KNOWN_ANSWERS,
    NETWORK,
    Channel,
    Lineage,
    SharedNetwork,
    TelemanomManifest,
)
from models.messages import Samples
from trainer import (
    destination,
    evaluate,
    gates,
    prepare,
    report,
    seal,
)
from trainer import remaining as lives
from trainer.config import Config, ConfigFile, Quantization
from trainer.detector import calibrate, parity, quantize, score_tail
from trainer.detector.parity import Agreement
from trainer.detector.quantize import DetectorTrial
from trainer.forecast import bundle as forecasting
from trainer.forecast.build import BuiltForecaster
from trainer.prepared import Prepared, Say, lineage_of, prepare_data
from trainer.quiet import quiet

if TYPE_CHECKING:
    from trainer.detector.export import Exported
    from trainer.detector.networks import Architecture
    from trainer.epochs import Epoch

OnEpoch = Callable[[str, "Epoch"], None]  # called with the name of a network after each epoch
DETECTOR, FORECASTER = "detector", "forecaster"


def unheard(network: str, epoch: Epoch) -> None:
    """Take no note of an epoch."""


# the part that each table of the metrics comes from
MEASURED_ON = {
    "fit": "train; its end for validation_loss",
    "quantization": "calibrate",
    "forecast": "test",
    "normal": "test",
    "tail": "test",
    "forecaster": "test; the choice: train; its end for validation",
    "parity": "test and evaluate",
    "labelled": "evaluate",
    "remaining": "lives; each on machines that its fit had not seen",
    "network": "none: it is of the file",
}


@dataclass(frozen=True, slots=True)
class Built:
    """The result of the training: the network that ships and its float32 form, calibrated."""

    bundle: Bundle
    floating: Bundle
    epochs: list[Epoch]
    metrics: dict[str, Any]  # of the training itself


class Outcome(NamedTuple):
    """The files of a training, and its verdict."""

    path: Path  # of the bundle; its name contains .failed if it fails and nobody accepts it
    report: Path
    passed: bool  # it passes all gates, or a person has accepted it
    lines: list[str]  # the figures of parity and of each gate
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
        KnownAnswerMismatch: the sealed file does not reproduce the scores of the training.

    """
    check(output, file.config, tflite_python)
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
    """Train on data that are prepared; as ``train`` apart from that.

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
    config = file.config
    sealed, epochs, measured = learn(file, prepared, tflite_python, say, on_epoch, network)
    found = gates.judge(measured.metrics, config.gates, config.parity)
    verdict = gates.document(found, accept)
    path = _path(output, config, verdict["passed"] or accept)
    metrics_file, report_file = _beside(path)
    output.mkdir(parents=True, exist_ok=True)
    shipped = seal.ship(sealed, measured.metrics | {"verdict": verdict}, path)
    _write_metrics(shipped, metrics_file)
    report.write(shipped, measured.judged, epochs, measured.foretold, report_file)
    _remove_failed(output, config, path, say)
    summary = report.summary(shipped.manifest.metrics)
    lines = [*map(_agreement_line, measured.agreements), *gates.lines(found)]
    warnings = list(score_tail.warnings(sealed.manifest))
    return Outcome(path, report_file, verdict["passed"] or accept, lines, warnings, summary)


class TrainedNetwork(NamedTuple):
    """A network before its calibration, in several forms."""

    exported: Exported
    epochs: list[Epoch]
    metrics: dict[str, Any]  # of its training
    shared: SharedNetwork | None = None  # who shares it; None: it is one bundle's own


class Learnt(NamedTuple):
    """A sealed bundle without metrics, and its results on held-out data."""

    sealed: Bundle
    epochs: list[Epoch]
    measured: Measured


def learn(
    file: ConfigFile,
    prepared: Prepared,
    tflite_python: Path | None,
    say: Say,
    on_epoch: OnEpoch = unheard,
    network: TrainedNetwork | None = None,
) -> Learnt:
    """Train, seal and evaluate a bundle, without writing files.

    Args:
        file: the configuration.
        prepared: its data.
        tflite_python: a Python with ``tflite-runtime``, or None.
        say: called with each line of progress.
        network: of a type of machine; None: this trains its own.
        on_epoch: called after each epoch, with the name of the network.

    Raises:
        DataError: the recordings cannot be used.
        ConfigError: a bundle cannot have these settings.
        KnownAnswerMismatch: the sealed file does not reproduce the scores of the training.

    """
    config, origin = file.config, lineage_of(file, prepared)
    if network is not None:
        origin = origin.model_copy(update={"shared": network.shared})
    built = build(
        config,
        prepared.parts,
        prepared.channels,
        origin,
        tflite_python,
        say,
        on_epoch,
        network,
    )
    bundle, forecaster = _with_forecaster(
        built.bundle, prepared.parts, config, tflite_python, say, on_epoch
    )
    learnt: dict[str, Any] = {}
    if config.remaining is not None:
        bundle, learnt = lives.extend(bundle, prepared.lives, config.remaining)
    say("sealing and evaluating the file")
    sealed = seal.sealed(seal.with_training(bundle, config))
    measured = _measure(sealed, built, forecaster, prepared, config, tflite_python)
    measured.metrics.update(learnt)
    return Learnt(sealed, built.epochs, measured)


def check(output: Path, config: Config, tflite_python: Path | None) -> None:
    """Refuse, before the long work, what would end it.

    Raises:
        ConfigError: the results cannot be written, or the Python lacks ``tflite-runtime``.

    """
    for passed in (True, False):
        path = _path(output, config, passed)
        destination.check_directory(output, tuple(each.name for each in (path, *_beside(path))))
    if tflite_python is not None:
        parity.check_python(tflite_python)


def _with_forecaster(
    bundle: Bundle,
    parts: prepare.Parts,
    config: Config,
    tflite_python: Path | None,
    say: Say,
    on_epoch: OnEpoch,
) -> tuple[Bundle, BuiltForecaster | None]:
    """Return the bundle with a forecaster, if one is configured."""
    settings = config.forecast
    if settings is None:
        return bundle, None
    extended, forecaster = forecasting.extend(
        bundle, settings, parts, tflite_python, say, config.fit.progress_epochs
    )
    for epoch in forecaster.epochs:  # of the network that ships, of the several that were tried
        on_epoch(FORECASTER, epoch)
    return extended, forecaster


class Measured(NamedTuple):
    """The results of a sealed file on held-out data."""

    metrics: dict[str, Any]
    agreements: list[Agreement]
    judged: evaluate.Judgement
    foretold: forecasting.Foretold | None


def _measure(
    sealed: Bundle,
    built: Built,
    forecaster: BuiltForecaster | None,
    prepared: Prepared,
    config: Config,
    tflite_python: Path | None,
) -> Measured:
    """Measure a sealed bundle on the test part and on the labelled recordings."""
    test, foretold = prepared.parts.test, None
    held_out = [test, *(recording.samples for recording in prepared.labelled)]
    agreements = parity.compare(sealed, built.floating.network, held_out, tflite_python)
    judged = evaluate.judge_all(sealed, test, prepared.labelled, config.evaluate)
    metrics = built.metrics | evaluate.metrics(judged, sealed.manifest)
    metrics["data"] = prepared.metrics()
    metrics["parity"] = [agreement._asdict() for agreement in agreements]
    metrics["measured_on"] = MEASURED_ON
    if config.forecast is not None and forecaster is not None:
        foretold = forecasting.judge(sealed, forecaster, prepared.parts, config.forecast)
        metrics["forecaster"] = foretold.metrics
    return Measured(metrics, agreements, judged, foretold)


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


def build(
    config: Config,
    parts: prepare.Parts,
    channels: list[Channel],
    origin: Lineage,
    tflite_python: Path | None,
    say: Say,
    on_epoch: OnEpoch = unheard,
    network: TrainedNetwork | None = None,
) -> Built:
    """Train, export and calibrate a network, without writing files.

    Args:
        config: the configuration; its ``data`` is not used.
        parts: samples (n, C) on the grid; the test part is not used.
        channels: the ``C`` channels of the samples, in order.
        origin: for the manifest.
        tflite_python: a Python with ``tflite-runtime``, to check the quantization on it as well.
        say: called with each line of progress.
        network: of a type of machine, to calibrate only; None: this trains one.
        on_epoch: called after each epoch, with the name of the network.

    Raises:
        DataError: the samples cannot be used.
        ConfigError: a bundle cannot have these settings.

    """
    created = datetime.now(UTC)
    draft = seal.draft(config, channels, origin, created, "float32")  # fails before the long work
    if network is None:
        network = train_network(config, [(parts.train, channels)], say, on_epoch)
    exported, epochs, metrics, _ = network
    say("calibrating")
    floating = _calibrated(draft, exported.networks["float32"], parts, config)
    say("comparing the forms of the network")
    trials = quantize.choose(
        floating, exported.networks, exported.refused, parts, config.parity, tflite_python
    )
    for trial in trials:
        say(_gate_line(trial))
    chosen = trials[0].quantization
    metrics = metrics | {"quantization": [trial.as_json() for trial in trials]}
    metrics["network"] = _network_metrics(exported.networks, chosen)
    if chosen == "float32":
        return Built(floating, floating, epochs, metrics)
    part = draft.network.model_copy(update={"quantization": chosen})
    draft = draft.model_copy(update={"network": part})
    bundle = _calibrated(draft, exported.networks[chosen], parts, config)
    return Built(bundle, floating, epochs, metrics)


def _gate_line(trial: DetectorTrial) -> str:
    verdict = "passes" if trial.passed else f"fails: {trial.reason}"
    size = "" if trial.size_bytes is None else f"{trial.size_bytes:,} B, "
    return f"{trial.quantization}: {size}{verdict}"


def _network_metrics(
    networks: Mapping[Quantization, bytes], chosen: Quantization
) -> dict[str, Any]:
    from trainer.detector.export import contents

    return {
        "size_bytes": len(networks[chosen]),
        "float_size_bytes": len(networks["float32"]),
    } | contents(networks[chosen])._asdict()


def train_network(
    config: Config,
    machines: Sequence[tuple[Samples, list[Channel]]],
    say: Say,
    on_epoch: OnEpoch = unheard,
) -> TrainedNetwork:
    """Train one network on the training parts of machines, each with its own scaling.

    Args:
        config: the configuration; its ``data`` is not used.
        machines: samples (n, C) on the grid, and their ``C`` channels, in order.
        say: called with each line of progress.
        on_epoch: called after each epoch, with the name of the network.

    Raises:
        DataError: the samples cannot be used.
        ConfigError: the training diverged.

    """
    say("loading TensorFlow")
    with quiet():
        from trainer.detector.export import export
        from trainer.detector.fit import fit
    learnt: list[prepare.Series] = []
    judged: list[prepare.Series] = []
    for part, channels in machines:
        how = prepare.preprocessing(channels, config.network)
        pieces = prepare.training_and_validation(part, config)
        for series, samples in zip((learnt, judged), pieces, strict=True):
            series += prepare.series(samples, how, config.sampling.period_s, config.prepare)
    count = sum(len(part.times) for part, _ in machines)
    say(f"training on {count} samples, at most {config.fit.epochs} epochs")
    architecture, warm_up = _architecture(config, machines[0][1]), config.sampling.warm_up_samples
    tell = _progress(config, say, on_epoch)
    fitted = fit(architecture, learnt, judged, config.fit, warm_up, tell)
    say("converting the network")
    forms = config.parity.quantizations
    exported = export(fitted.network, architecture, forms, learnt[-1].inputs)
    return TrainedNetwork(exported, fitted.epochs, {"fit": _fit_metrics(fitted.epochs)})


def _architecture(config: Config, channels: Sequence[Channel]) -> Architecture:
    from trainer.detector.networks import Architecture

    return Architecture(
        channels=len(channels),
        scored=tuple(at for at, channel in enumerate(channels) if channel.scored),
        layers=tuple(config.network.layers),
        heads=tuple(config.network.heads),
        dropout=config.network.dropout,
    )


def _progress(config: Config, say: Say, on_epoch: OnEpoch) -> Callable[[Epoch], None]:
    """Return what tells of an epoch, and prints a line of progress if it is due."""

    def tell(epoch: Epoch) -> None:
        on_epoch(DETECTOR, epoch)
        every = config.fit.progress_epochs
        if every and epoch.number % every == 0:
            say(_line(epoch, config))

    return tell


def _fit_metrics(epochs: Sequence[Epoch]) -> dict[str, Any]:
    best = next(epoch for epoch in reversed(epochs) if epoch.best)
    return {
        "epochs": len(epochs),
        "best_epoch": best.number,
        "loss": round(best.loss, 6),
        "validation_loss": round(best.validation_loss, 6),
    }


def _line(epoch: Epoch, config: Config) -> str:
    return (
        f"epoch {epoch.number:3d}/{config.fit.epochs}  loss {epoch.loss:.5f}"
        f"  validation {epoch.validation_loss:.5f}{' *' if epoch.best else '  '}"
        f"  {epoch.seconds:.1f} s"
    )


def _calibrated(
    draft: TelemanomManifest, network: bytes, parts: prepare.Parts, config: Config
) -> Bundle:
    """Set the thresholds and record the known answers, both on the calibration part."""
    files = {NETWORK: network}
    manifest = calibrate.calibrated(draft, files, parts.train, parts.calibrate, config.calibrate)
    bundle = seal.assemble(manifest, files)
    answers = calibrate.known_answers(bundle, parts.calibrate)
    return seal.assemble(manifest, files | {KNOWN_ANSWERS: answers})


def _agreement_line(found: Agreement) -> str:
    return (
        f"{found.network} on {found.runtime}: {found.change} changes scores by at most"
        f" {found.difference:.2g}; the events are identical in"
        f" {found.identical} of {found.recordings} recordings"
    )


def _write_metrics(bundle: Bundle, path: Path) -> None:
    document = {"digest": bundle.digest} | bundle.manifest.metrics
    replace(path, f"{json.dumps(document, indent=2)}\n".encode())
