"""The forecasting benchmark, by the standard protocol of ETT.

12 months to learn from, 4 to validate on, 4 to test; a month has 30 days. Values are z-scored with
mean and deviation of the training part; errors are means over all windows of the test part, stride
1, and all variables. The validation part also sets form and intervals. Forecasts come from
``models.forecaster``, streaming, on the ``.tflite``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from models.errors import ConfigError, DataError
from models.manifest import Channel, Intervals, Lineage, TelemanomManifest
from models.messages import Float32, Samples
from models.settings import Table, explain, refusal
from models.shown import shown
from models.toml import read_toml
from trainer import seal
from trainer.config import (
    BundleTable,
    ChannelTable,
    Config,
    DataTable,
    ForecastTable,
    SamplingTable,
)
from trainer.datasets.ett import EttFile
from trainer.epochs import Epoch
from trainer.forecast import references
from trainer.forecast.build import BuiltForecaster, Form, Say, build
from trainer.forecast.calendar import Moments
from trainer.forecast.corrections import StepParts
from trainer.forecast.evaluate import Accuracy, Told, evaluate, season_error
from trainer.forecast.windows import Steps

PROTOCOL: Final = " ".join((__doc__ or "").split("\n\n", 1)[1].split()).replace("``", "")
CONFIG: Final = Path(__file__).with_name("ett.toml")
HORIZON_MAX: Final = 2000

_MONTH_S = 30 * 86400.0
_MONTHS = (12, 16, 20)  # ends of the training, validation and test parts
_SEASON_S = 86400.0
_TIMED_FORECASTS = 50


class EttConfig(Table):
    """The benchmark's configuration file."""

    forecast: ForecastTable = ForecastTable()


@dataclass(eq=False, frozen=True, slots=True)
class Outcome:
    """The result for one horizon."""

    horizon: int
    figures: dict[str, dict[str, Any]]  # by forecaster: quantized, float and the references
    by_lead: dict[str, dict[str, list[float]]]
    fans: list[Told]
    trained: dict[str, Any]  # the choice, its evidence, and the forms
    seconds: float


def read_config(path: Path | None, seed: int | None) -> tuple[ForecastTable, str]:
    """Return the settings of a file and their digest.

    Raises:
        ConfigError: the file is not readable or not TOML, or a setting is invalid. The message
            names file, key and value.

    """
    path = path or CONFIG
    document, _ = read_toml(path)
    try:
        settings = EttConfig.model_validate(document).forecast
    except ValidationError as error:
        raise refusal(path, explain(EttConfig, error)) from error
    if seed is not None:
        fit = settings.fit.model_copy(update={"seed": seed})
        settings = settings.model_copy(update={"fit": fit})
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return settings, hashlib.sha256(text.encode()).hexdigest()


class EttBenchmark:
    """The benchmark on one file, which it splits into training, validation and test part."""

    def __init__(self, file: EttFile, settings: ForecastTable, digest: str) -> None:
        self._file, self._settings, self._digest = file, settings, digest
        ends = [round(months * _MONTH_S / file.period_s) for months in _MONTHS]
        if len(file.values) < ends[-1]:
            raise DataError(
                f"{file.name}: {len(file.values)} rows every {file.period_s:g} s; 20 months of 30"
                f" days, or {ends[-1]} rows, are needed"
            )
        self._ends = ends
        train = file.values[: ends[0]].astype(np.float64)
        self._scales = np.maximum(np.nanstd(train, axis=0), 1e-9).astype(np.float32)
        self._centers = np.nanmean(train, axis=0)
        self._season = round(_SEASON_S / file.period_s)

    def run(
        self, horizons: Sequence[int], tflite_python: Path | None, say: Say
    ) -> Iterator[Outcome]:
        """Train and evaluate one horizon after the other.

        Raises:
            ConfigError: a horizon does not fit the data.
            DataError: the data cannot be used.

        """
        for horizon in horizons:
            shortest = self._ends[2] - self._ends[1]
            if not 1 <= horizon < min(shortest, HORIZON_MAX):
                raise ConfigError(
                    f"--horizons {horizon}: 1 to {min(shortest, HORIZON_MAX) - 1} are allowed"
                )
            began = time.perf_counter()
            say(f"horizon {horizon}")
            yield self._horizon(self._for(horizon), tflite_python, say, began)

    def _for(self, horizon: int) -> ForecastTable:
        """Return the settings for a horizon; the season is one day, in steps of the file."""
        chosen = self._settings.maps
        if chosen.season_steps is None and self._season > 1:
            chosen = chosen.model_copy(update={"season_steps": self._season})
        return self._settings.model_copy(update={"horizon_steps": horizon, "maps": chosen})

    def _horizon(
        self, settings: ForecastTable, tflite_python: Path | None, say: Say, began: float
    ) -> Outcome:
        first, second, _ = self._ends
        context = settings.longest_steps
        held_out = self._file.values[first - context : second]
        moments = Moments(self._file.period_s, self._number(0), self._number(first - context))
        parts = StepParts(self._file.values[:second], first, held_out, moments)

        def tell(network: str, epoch: Epoch) -> None:
            say(f"{network} {epoch.text(settings.fit.epochs)}")

        built = build(settings, self._channels(), parts, tflite_python, say, tell)
        figures, leads, fans = self._judge(built, settings)
        for name, reference in self._references(built, settings):
            found = references.evaluate(reference, self._test(context), self._scales, settings)
            figures[name] = found.total(self._naive())
            leads[name] = {"mse": found.by_lead()["mse"]}
        trained = built.metrics()
        seconds = round(time.perf_counter() - began, 1)
        return Outcome(settings.horizon_steps, figures, leads, fans, trained, seconds)

    def _judge(
        self, built: BuiltForecaster, settings: ForecastTable
    ) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[float]]], list[Told]]:
        """Return figures of the forms, their figures by lead, and example forecasts."""
        figures, leads = {}, {}
        fans: list[Told] = []
        for name, form in (("quantized", built.shipped), ("float", built.floating)):
            adaptive, told = self._evaluated(form, settings)
            fixed, _ = self._evaluated(_without_adaptation(form), settings)
            total, before = adaptive.total(self._naive()), fixed.total()
            figures[name] = total | {
                "quantiles": adaptive.below(),
                "before_adaptation": {key: before[key] for key in before if "_" in key},
                "quantization": form.part.quantization,
                "model_bytes": len(form.network),
                "ms_per_forecast": self._ms_per_forecast(form, settings),
            }
            leads[name] = adaptive.by_lead()
            leads[f"{name}, not adapted"] = fixed.by_lead()
            fans = fans or told
        return figures, leads, fans

    def _evaluated(self, form: Form, settings: ForecastTable) -> tuple[Accuracy, list[Told]]:
        context = form.part.context_steps
        values, begin = self._test(context), self._ends[1] - context
        number = self._number(begin)
        numbers = np.arange(number, number + len(values), dtype=np.float64)
        samples = Samples(numbers * self._file.period_s, values)
        forecaster = form.forecaster(self._manifest(settings))
        return evaluate(forecaster, samples, Steps(number, values))

    def _number(self, row: int) -> int:
        """Return the number of the step that ends at a row's time; see ``models.forecaster``."""
        return round(float(self._file.times[0]) / self._file.period_s) + row

    def _ms_per_forecast(self, form: Form, settings: ForecastTable) -> float:
        """Return the time that the deployed code takes to forecast all channels once."""
        forecaster = form.forecaster(self._manifest(settings))
        context = self._test(form.part.context_steps)[: form.part.context_steps]
        offsets = forecaster.intervals.start()
        forecaster.forecast(context, 0, offsets)  # warm-up call
        began = time.perf_counter()
        for _ in range(_TIMED_FORECASTS):
            forecaster.forecast(context, 0, offsets)
        return round((time.perf_counter() - began) / _TIMED_FORECASTS * 1e3, 3)

    def _test(self, context: int) -> Float32:
        return self._file.values[self._ends[1] - context : self._ends[2]]

    def _naive(self) -> Any:
        return season_error(self._file.values[: self._ends[0]], self._scales, self._season)

    def _references(
        self, built: BuiltForecaster, settings: ForecastTable
    ) -> Iterator[tuple[str, references.Reference]]:
        if built.shipped.part.calendar is None:
            yield "linear", references.linear(built.linear)
        yield "seasonal_naive", references.seasonal(settings, self._season)
        yield "last_value", references.last_value(settings)

    def _channels(self) -> list[Channel]:
        return [
            Channel(name=f"variable_{number}", unit="", center=float(center), scale=float(scale))
            for number, (center, scale) in enumerate(zip(self._centers, self._scales, strict=True))
        ]

    def _manifest(self, settings: ForecastTable) -> TelemanomManifest:
        """Return a manifest of the file's channels; the benchmark ignores its detector settings."""
        channels = self._channels()
        config = Config(
            bundle=BundleTable(name="benchmark"),
            data=DataTable(
                files=[self._file.name],
                channels=[ChannelTable(name=each.name) for each in channels],
            ),
            sampling=SamplingTable(period_s=self._file.period_s),
        )
        lineage = Lineage(
            data_digest=self._file.sha256,
            data_files=[self._file.name],
            parts={},
            config_digest=self._digest,
            seed=settings.fit.seed,
            software=seal.software(),
        )
        return seal.draft(config, channels, lineage, datetime.now(UTC), "none")

    def document(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        return {
            "benchmark": "ett",
            "file": self._file.name,
            "sha256": self._file.sha256,
            "protocol": PROTOCOL,
            "config_digest": self._digest,
            "seed": self._settings.fit.seed,
            "software": seal.software(),
            "horizons": {
                str(outcome.horizon): outcome.figures
                | {"by_lead": outcome.by_lead}
                | {"trained": outcome.trained, "seconds": outcome.seconds}
                for outcome in outcomes
            },
        }

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the file's variables."""
        return self._file.channels


def _without_adaptation(form: Form) -> Form:
    settings = form.part.intervals.model_dump() | {"rate": 0.0}
    fixed = form.part.model_copy(update={"intervals": Intervals(**settings)})
    return Form(fixed, form.network)


_COLUMNS = (  # title, key, width, form
    ("MSE", "mse", 8, ".4f"),
    ("MAE", "mae", 8, ".4f"),
    ("MASE", "mase", 8, ".3f"),
    ("sMAPE", "smape", 7, ".1f"),
    ("MAPE", "mape", 7, ".1f"),
    ("R²", "r2", 7, ".3f"),
    ("pinball", "pinball", 9, ".4f"),
    ("80 %", "coverage_80", 7, ".1%"),
    ("95 %", "coverage_95", 7, ".1%"),
    ("width 80", "width_80", 10, ".3f"),
    ("scaled", "scaled_width_80", 8, ".2f"),
    ("bytes", "model_bytes", 10, ",.0f"),
    ("ms", "ms_per_forecast", 8, ".2f"),
)


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the figures as a table for a terminal."""
    for outcome in outcomes:
        header = "".join(f"{title:>{width}}" for title, _, width, _ in _COLUMNS)
        yield f"{f'horizon {outcome.horizon}':16}{header}"
        for name, row in outcome.figures.items():
            cells = (
                f"{shown(row.get(key), form, absent='–'):>{width}}"
                for _, key, width, form in _COLUMNS
            )
            yield f"{name:16}{''.join(cells)}"
        yield ""
