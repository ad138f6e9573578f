"""The family ``telemanom``: a network that predicts the next sample, with a dynamic threshold.

    fit ─> the trained network ─export─> forms of it ─calibrate─> the smallest that passes
                                  with it: forecaster and remaining life, if they are configured

Importing TensorFlow takes seconds. It happens in ``fit``, after the checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from models.bundle import Bundle
from models.manifest import NETWORK, Channel, TelemanomManifest
from models.messages import Samples
from trainer import answers, prepare, seal
from trainer import remaining as lives
from trainer.config import Config, Quantization
from trainer.detector import calibrate, parity, quantize
from trainer.detector.parity import Agreement
from trainer.detector.quantize import DetectorTrial
from trainer.detector.trained import TrainedNetwork
from trainer.epochs import Epoch, kept
from trainer.evaluate import Judgement
from trainer.family import Built, Evaluated, Family, Job, OnEpoch, Say, unheard
from trainer.forecast import bundle as forecasting
from trainer.forecast.build import BuiltForecaster
from trainer.forecast.bundle import Foretold
from trainer.quiet import quiet

if TYPE_CHECKING:
    from trainer.detector.networks import Architecture

DETECTOR: Final = "detector"  # name of the network, in curves of its epochs
MEASURED_ON = {
    "fit": "train; its end for validation_loss",
    "quantization": "calibrate",
    "forecaster": "test; the choice: train; its end for validation",
    "parity": "test and evaluate",
    "remaining": "lives; each on machines that its fit had not seen",
    "network": "none: it is of the file",
}


Machines = Sequence[tuple[Samples, list[Channel]]]  # training parts (n, C), and their C channels


class Learnt(NamedTuple):
    """What was fitted to training parts."""

    network: Any  # see ``networks.sequence_network``
    architecture: Architecture
    epochs: list[Epoch]
    seen: prepare.Series  # of a training part; for the ranges of activations


@dataclass(eq=False, frozen=True, slots=True)
class Rest:
    """What the evaluation needs besides the bundle."""

    floating: Bundle  # with the float32 network
    forecaster: BuiltForecaster | None


class Telemanom(Family[Learnt | TrainedNetwork, TrainedNetwork]):
    """Trains the network, its thresholds, and what is built on it."""

    packages = ("tensorflow",)
    tables = ("network", "smoothing", "threshold", "calibrate", "forecast", "remaining")

    def check(self, config: Config) -> None:
        """Accept the settings: their tables have checked them."""

    def fit(self, job: Job) -> Learnt | TrainedNetwork:
        """Train the network on the training part, whose end validates; or take that of its type."""
        _draft(job)  # fails before the long work
        if job.network is not None:
            return job.network
        return _fitted(job.config, [(job.parts.train, job.channels)], job.say, job.on_epoch)

    def export(self, job: Job, fitted: Learnt | TrainedNetwork) -> TrainedNetwork:
        """Convert the network to ``.tflite``, in float32 and quantized."""
        if isinstance(fitted, TrainedNetwork):
            return fitted
        return _exported(job.config, fitted, job.say)

    def calibrate(self, job: Job, exported: TrainedNetwork) -> Built:
        """Set the thresholds, choose the form that ships, and add forecaster and remaining life."""
        found = _detector(job, exported)
        bundle, metrics, forecaster = found.bundle, dict(found.metrics), None
        settings, config = job.config.forecast, job.config
        if settings is not None:
            tell = _progress(config, job.say, job.on_epoch)
            bundle, forecaster = forecasting.extend(
                bundle, settings, job.parts, job.tflite_python, job.say, tell
            )
        if config.remaining is not None:
            bundle, learnt = lives.extend(bundle, job.lives, config.remaining)
            metrics |= learnt
        rest = Rest(found.floating, forecaster)
        return Built(bundle=bundle, metrics=metrics, epochs=exported.epochs, rest=rest)

    def evaluate(self, job: Job, built: Built, sealed: Bundle, judged: Judgement) -> Evaluated:
        """Compare with the float network and other interpreters; judge the forecaster."""
        rest: Rest = built.rest
        held_out = [job.parts.test, *(recording.samples for recording in job.labelled)]
        agreements = parity.compare(sealed, rest.floating.network, held_out, job.tflite_python)
        metrics: dict[str, Any] = {"parity": [agreement._asdict() for agreement in agreements]}
        foretold = None
        if job.config.forecast is not None and rest.forecaster is not None:
            foretold = forecasting.judge(sealed, rest.forecaster, job.parts, job.config.forecast)
            metrics["forecaster"] = foretold.metrics
        return Evaluated(
            metrics=metrics,
            measured_on=MEASURED_ON,
            lines=[_agreement_line(agreement) for agreement in agreements],
            sections=partial(_sections, epochs=built.epochs, foretold=foretold),
        )


def train_network(
    config: Config, machines: Machines, say: Say, on_epoch: OnEpoch = unheard
) -> TrainedNetwork:
    """Train one network on the training parts of machines, each with its own scaling.

    Args:
        config: the configuration; its ``data`` is not used.
        machines: samples on the grid, and their channels.
        say: called with each line of progress.
        on_epoch: called after each epoch, with the name of the network.

    Raises:
        DataError: the samples cannot be used.
        ConfigError: the training diverged.

    """
    return _exported(config, _fitted(config, machines, say, on_epoch), say)


def _fitted(config: Config, machines: Machines, say: Say, on_epoch: OnEpoch) -> Learnt:
    say("loading TensorFlow")
    with quiet():
        from trainer.detector.fit import fit
    learn: list[prepare.Series] = []
    validate: list[prepare.Series] = []
    for part, channels in machines:
        how = prepare.preprocessing(channels, config.network)
        pieces = prepare.training_and_validation(part, config)
        for series, samples in zip((learn, validate), pieces, strict=True):
            series += prepare.series(samples, how, config.sampling.period_s, config.prepare)
    count, epochs = sum(len(part.times) for part, _ in machines), config.fit.epochs
    say(f"training on {count} samples, at most {epochs} epochs")
    architecture, warm_up = _architecture(config, machines[0][1]), config.sampling.warm_up_samples
    tell = partial(_progress(config, say, on_epoch), DETECTOR)
    fitted = fit(architecture, learn, validate, config.fit, warm_up, tell)
    return Learnt(fitted.network, architecture, fitted.epochs, learn[-1])


def _architecture(config: Config, channels: list[Channel]) -> Architecture:
    from trainer.detector.networks import Architecture

    return Architecture(
        channels=len(channels),
        scored=tuple(prepare.preprocessing(channels, config.network).scored),
        layers=tuple(config.network.layers),
        heads=tuple(config.network.heads),
        dropout=config.network.dropout,
    )


def _exported(config: Config, fitted: Learnt, say: Say) -> TrainedNetwork:
    from trainer.detector.export import export

    say("converting the network")
    forms = config.parity.quantizations
    exported = export(fitted.network, fitted.architecture, forms, fitted.seen.inputs)
    return TrainedNetwork(exported, fitted.epochs)


def _draft(job: Job) -> TelemanomManifest:
    return seal.draft(job.config, job.channels, job.origin, job.created, "float32")


def _sections(bundle: Bundle, epochs: Sequence[Epoch], foretold: Foretold | None) -> Iterable[str]:
    from trainer.detector import report  # it draws; a check or a second training does not

    return report.sections(bundle, epochs, foretold)


class _Detector(NamedTuple):
    """The calibrated detector: the form that ships, and the float32 form."""

    bundle: Bundle
    floating: Bundle
    metrics: dict[str, Any]


def _detector(job: Job, network: TrainedNetwork) -> _Detector:
    draft, exported, epochs = _draft(job), network.exported, network.epochs
    job.say("calibrating")
    floating = _calibrated(draft, exported.networks["float32"], job)
    job.say("comparing the forms of the network")
    trials = quantize.choose(
        floating,
        exported.networks,
        exported.refused,
        job.parts,
        job.config.parity,
        job.tflite_python,
    )
    for trial in trials:
        job.say(_gate_line(trial))
    chosen = trials[0].quantization
    metrics = {
        "fit": _fit_metrics(epochs),
        "quantization": [trial.as_json() for trial in trials],
        "network": _network_metrics(exported.networks, chosen),
    }
    if chosen == "float32":
        return _Detector(floating, floating, metrics)
    part = draft.network.model_copy(update={"quantization": chosen})
    draft = draft.model_copy(update={"network": part})
    return _Detector(_calibrated(draft, exported.networks[chosen], job), floating, metrics)


def _calibrated(draft: TelemanomManifest, network: bytes, job: Job) -> Bundle:
    """Set the thresholds and record the known answers, both on the calibration part."""
    files, train, part = {NETWORK: network}, job.parts.train, job.parts.calibrate
    manifest = calibrate.calibrated(draft, files, train, part, job.config.calibrate)
    return _with_answers(seal.assemble(manifest, files), part)


def _with_answers(bundle: Bundle, part: Samples) -> Bundle:
    manifest = bundle.telemanom
    before = manifest.sampling.warm_up_samples + manifest.threshold.settle_samples
    return answers.with_answers(bundle, part, before)


def _progress(config: Config, say: Say, on_epoch: OnEpoch) -> OnEpoch:
    """Return what hears the epochs of all networks, and prints a line if one is due."""
    every = config.fit.progress_epochs

    def tell(network: str, epoch: Epoch) -> None:
        on_epoch(network, epoch)
        if not every or epoch.number % every:
            return
        if network == DETECTOR or config.forecast is None:
            say(epoch.text(config.fit.epochs))
        else:
            say(f"forecaster {epoch.text(config.forecast.fit.epochs)}")

    return tell


def _fit_metrics(epochs: Sequence[Epoch]) -> dict[str, Any]:
    best = kept(epochs)
    return {
        "epochs": len(epochs),
        "best_epoch": best.number,
        "loss": round(best.loss, 6),
        "validation_loss": round(best.validation_loss, 6),
    }


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


def _agreement_line(found: Agreement) -> str:
    return (
        f"{found.network} on {found.runtime}: {found.change} changes scores by at most"
        f" {found.difference:.2g}; the events are identical in"
        f" {found.identical} of {found.recordings} recordings"
    )
