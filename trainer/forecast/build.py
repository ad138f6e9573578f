"""The forecaster's wiring: from steps to the part of a bundle.

steps ─> fit ─> every form ─> choose ─> intervals ─> part of the manifest + network
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.errors import DataError
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork, Runtime
from models.manifest import ForecastPart, Imputation, Intervals, TelemanomManifest
from models.messages import Float32
from trainer.config import ForecastTable, Quantization
from trainer.forecast import calibrate, linear
from trainer.forecast.choose import (
    GATE_WINDOWS_MAX,
    ForecasterTrial,
    choose,
    predict,
    representative,
)
from trainer.forecast.windows import Cutter, Windows
from trainer.quiet import quiet

if TYPE_CHECKING:
    from trainer.detector.fit import Epoch

Say = Callable[[str], None]


class StepParts(NamedTuple):
    """The steps of each part, (n, C) in the channels' units, NaN where missing."""

    train: Float32
    validate: Float32  # says when to stop; may begin with a context of the part before
    calibrate: Float32  # sets form and intervals


class Form(NamedTuple):
    """One form of the forecaster, with the intervals that belong to it."""

    part: ForecastPart
    network: bytes

    def forecaster(self, manifest: TelemanomManifest, runtime: Runtime = "auto") -> Forecaster:
        """Return it as it runs on a gateway, for the channels of ``manifest``."""
        whole = manifest.model_copy(update={"forecaster": self.part})
        return Forecaster(whole, ForecastNetwork(self.network, runtime))


@dataclass(frozen=True, slots=True)
class BuiltForecaster:
    """The result of the training: the forecaster that ships, and its float32 form."""

    shipped: Form
    floating: Form
    linear: Float32  # (L, H) its linear path, which is a forecaster too
    epochs: list[Epoch]
    trials: list[ForecasterTrial]  # the chosen form first

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the training."""
        best = next(epoch for epoch in reversed(self.epochs) if epoch.best)
        return {
            "epochs": len(self.epochs),
            "best_epoch": best.number,
            "validation_loss": round(best.validation_loss, 6),
            "quantization": [trial.as_json() for trial in self.trials],
        }


def build(
    settings: ForecastTable,
    scales: Float32,
    parts: StepParts,
    tflite_python: Path | None,
    say: Say,
    progress_epochs: int = 1,
) -> BuiltForecaster:
    """Train a forecaster and choose its form.

    Args:
        settings: of the forecaster.
        scales: (C,) of the scored channels, in their units.
        parts: the steps.
        tflite_python: a Python with ``tflite-runtime`` to check the forms on as well.
        say: called with each line of progress.
        progress_epochs: epochs per line of progress; 0: no such lines.

    Raises:
        DataError: there is too little data for training or calibration.

    """
    with quiet():
        from trainer.detector.export import convert, in_every_form
        from trainer.forecast.fit import fit
    train, validate, held_out = cutters(settings, scales, parts)
    checked = validate.some(settings.fit.validation_windows_max)
    weights = linear.fit(train, validate, checked)

    def progress(epoch: Epoch) -> None:
        if progress_epochs and epoch.number % progress_epochs == 0:
            say(_line(epoch, settings))

    say(f"training the forecaster, at most {settings.fit.epochs} epochs")
    fitted = fit(train, validate, weights, settings, progress)
    gate = held_out.cut(held_out.some(GATE_WINDOWS_MAX))
    floating = convert(fitted.network, "float32")
    exported = in_every_form(
        fitted.network, floating, settings.parity.quantizations, lambda: representative(gate)
    )
    trials = choose(exported.networks, exported.refused, gate, settings.parity, tflite_python)
    for trial in trials:
        say(_gate_line(trial))
    windows = held_out.cut(held_out.some(calibrate.WINDOWS_MAX))
    forms = _Forms(exported.networks, windows, len(scales), settings)
    return BuiltForecaster(
        shipped=forms.calibrated(trials[0].quantization),
        floating=forms.calibrated("float32"),
        linear=weights,
        epochs=fitted.epochs,
        trials=trials,
    )


def cutters(
    settings: ForecastTable, scales: Float32, parts: StepParts
) -> tuple[Cutter, Cutter, Cutter]:
    """Return what cuts the windows of each part.

    Raises:
        DataError: a part has no whole window.

    """
    needed = settings.context_steps + settings.horizon_steps
    made = []
    for part, values in zip(("training", "validation", "calibration"), parts, strict=True):
        check_length(part, len(values), needed)
        made.append(Cutter(values, scales, settings))
        if len(made[-1].places) == 0:
            raise DataError(
                f"the {part} part has no window of the forecaster without a gap: make"
                " forecast.context_steps shorter, or record without interruptions"
            )
    train, validate, held_out = made
    return train, validate, held_out


def check_length(part: str, found: int, needed: int) -> None:
    """Refuse a part of too few steps.

    Raises:
        DataError: has the actual and the needed number.

    """
    if found < needed:
        raise DataError(
            f"too little data for the forecaster: the {part} part has {found} steps and needs"
            f" {needed}. Make forecast.context_steps or forecast.horizon_steps shorter, or give"
            " longer recordings"
        )


class _Forms:
    """Every form of one network, and the windows to set the intervals by."""

    def __init__(
        self,
        networks: Mapping[Quantization, bytes],
        windows: Windows,
        channels: int,
        settings: ForecastTable,
    ) -> None:
        self._networks, self._windows = networks, windows
        self._channels, self._settings = channels, settings

    def calibrated(self, name: Quantization) -> Form:
        """Return a form with its intervals."""
        network = self._networks[name]
        quantiles = predict(network, self._windows.context)
        found = calibrate.intervals(quantiles, self._windows, self._channels, self._settings)
        return Form(_part(self._settings, name, found), network)


def _part(settings: ForecastTable, quantization: str, intervals: Intervals) -> ForecastPart:
    network = settings.network
    return ForecastPart(
        step_samples=settings.step_samples,
        context_steps=settings.context_steps,
        horizon_steps=settings.horizon_steps,
        stride_steps=settings.stride_steps,
        quantiles=settings.quantiles,
        scale_floor=settings.scale_floor,
        patch_steps=network.patch_steps,
        width=network.d_model,
        heads=network.num_heads,
        layers=network.layers,
        imputation=Imputation(**settings.imputation.model_dump()),
        intervals=intervals,
        quantization=quantization,
    )


def _line(epoch: Epoch, settings: ForecastTable) -> str:
    return (
        f"forecaster epoch {epoch.number:2d}/{settings.fit.epochs}  loss {epoch.loss:.5f}"
        f"  validation {epoch.validation_loss:.5f}{' *' if epoch.best else '  '}"
        f"  {epoch.seconds:.1f} s"
    )


def _gate_line(trial: ForecasterTrial) -> str:
    verdict = "passes" if trial.passed else f"fails: {trial.reason}"
    size = "" if trial.size_bytes is None else f"{trial.size_bytes:,} B, "
    return f"forecaster {trial.quantization}: {size}{verdict}"
