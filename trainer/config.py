"""The trainer's configuration: one TOML file, checked as a whole before any work begins."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from models.columns import Sought
from models.environment import Names, Override, overrides
from models.errors import ConfigError
from models.formats.cells import MISSING_WORDS, Decimal
from models.formats.encodings import Encoding
from models.formats.recording import Layout, Long
from models.formats.times import ELAPSED, Times, zone_named
from models.manifest import (
    HORIZON_MAX,
    LEVELS_MAX,
    MAGNITUDE_MIN,
    SAMPLES_MAX,
    SOURCES_MAX,
    SPANS_MAX,
    STEPS_MAX,
    TELEMANOM,
    WINDOW_SAMPLES_MAX,
    WINDOW_SAMPLES_MIN,
    AdaptSamples,
    Cycle,
    Feature,
    Finite,
    Gap,
    Head,
    HistorySamples,
    NotNegative,
    Positive,
    Sampling,
    Severity,
    Share,
    Source,
    Span,
    UpdateSamples,
    check_features,
    check_intervals,
    check_levels,
)
from models.names import BUNDLE, CHANNEL, usable_channel
from models.printable import printable
from models.settings import Table, dotted, explain, nearest, refusal
from models.toml import Location, read_toml
from trainer.passwords import check_no_secret
from trainer.registry.settings import RegistryTable

# settings of the training that change neither its data nor how its validation loss is measured
SEARCHED: Final = (
    "network.layers",
    "network.dropout",
    "fit.epochs",
    "fit.batch",
    "fit.learning_rate",
    "fit.schedule",
    "fit.gradient_norm_max",
    "fit.patience",
)
Choice = bool | int | float | str | list[int] | list[float] | list[str]
OF_FAMILY: Final = "family.settings."

LABELS_SUFFIX = ".labels.csv"

# of an optimizer whose steps are as large as this, whatever the gradient (Kingma and Ba, 2015)
Rate = Annotated[float, Field(ge=MAGNITUDE_MIN, le=1)]
# of the ratio of a limit to what normal operation reached: a larger one would find nothing
Margin = Annotated[float, Field(ge=MAGNITUDE_MIN, le=1000)]
# how a network's numbers are stored; see ``trainer.detector.export``
Quantization = Literal["float32", "float16", "dynamic-range-int8", "int8", "int16x8"]


def _refuse_repeated(names: Sequence[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what}{twice[0]!r} occurs twice")


class BundleTable(Table):
    """The bundle and its directory."""

    name: str = Field(
        pattern=BUNDLE,
        description="Name of the bundle: lower-case letters, digits, points and hyphens",
    )
    version: int = Field(1, ge=1, description="Increase it with each training of the same name")
    output: str = Field(".", description="Directory of the bundle, its report and its metrics")


class FamilyTable(Table):
    """The family of models that is trained."""

    name: str = Field(
        TELEMANOM,
        pattern=BUNDLE,
        description="telemanom: a network predicts the next sample; hampel: the distance from the"
        " median, without a network; or a family of an installed package",
    )
    settings: dict[str, Any] = Field(
        {}, description="Settings of a package's family, which checks them itself"
    )


class ColumnTable(Table):
    """A column of the recordings."""

    name: Annotated[str, AfterValidator(usable_channel)] = Field(
        min_length=1,
        max_length=64,
        pattern=CHANNEL,
        description="Name in alarms, messages and `agent.toml`; not time",
    )
    unit: str = Field("", max_length=16, description="Unit as shown to people, e.g. mm/s")
    low: Finite | None = Field(None, description="Lower values are rejected, in unit")
    high: Finite | None = Field(None, description="Higher values are rejected, in unit")
    column: str | None = Field(None, description="Column of the recordings; default: name")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self

    @property
    def source(self) -> str:
        """The column of the recordings that contains this channel."""
        return self.column or self.name


class ChannelTable(ColumnTable):
    """One channel; the order of the tables is the order of the network's inputs."""

    scored: bool = Field(
        True, description="False for a command or set point: an input that is not predicted"
    )
    feature: Feature | None = Field(
        None, description="Computes the channel from a source; absent: the channel has a column"
    )

    @model_validator(mode="after")
    def _either(self) -> ChannelTable:
        odd = [name for name in ("low", "high", "column") if getattr(self, name) is not None]
        if self.feature is not None and odd:
            raise ValueError(f"{odd[0]}: set it for the feature's source, not for the feature")
        return self


class SourceTable(ColumnTable):
    """A raw channel, at least as fast as the grid, from which features are computed."""

    rate_hz: Positive = Field(description="Values per second, evenly spaced")
    window_samples: int = Field(
        ge=WINDOW_SAMPLES_MIN, le=WINDOW_SAMPLES_MAX, description="Length of a feature's window"
    )
    missing_share_max: float = Field(
        0.1, ge=0, lt=1, description="A window with a larger share missing has no features"
    )


class QueryTable(Table):
    """A query of a database; its rows are one recording."""

    name: str = Field(
        min_length=1, max_length=64, pattern=CHANNEL, description="Name of the recording in reports"
    )
    url: str = Field(
        description="SQLAlchemy's URL of the database, without a password, such as"
        " postgresql+psycopg://reader@db.plant/history or sqlite:///history.db"
    )
    query: str = Field(
        min_length=1, description="SELECT statement; its columns are those of a recording"
    )
    password_env: str | None = Field(
        None, min_length=1, description="Environment variable with the password"
    )
    password_file: str | None = Field(
        None, min_length=1, description="File with the password, in its first line"
    )

    @model_validator(mode="after")
    def _secrets_are_elsewhere(self) -> Self:
        check_no_secret(self.url)
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file exclude each other")
        return self


class DataTable(Table):
    """The recordings of normal operation to train on."""

    files: list[str] = Field(
        [],
        description="Paths or patterns, e.g. recordings/*.csv; also .csv.gz, .parquet, .npy, .npz;"
        " a folder stands for all Parquet files below it",
    )
    queries: list[QueryTable] = Field([], description="Queries of databases, beside files")
    channel_column: str | None = Field(
        None,
        description="Column of the channels' names, if each row has one value (the long form);"
        " `column` of a channel is then its name there",
    )
    value_column: str | None = Field(None, description="Column of the values in the long form")
    row_period_s: Positive | None = Field(
        None, description="Seconds from row to row, of arrays and Parquet files without times"
    )
    time_column: str = Field("time", description="Column of the recordings' times")
    clock_column: str | None = Field(
        None, description="Column of the time of day, if time_column has only the date"
    )
    encoding: Encoding = Field("utf-8", description="Text encoding of the recordings")
    separator: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="Separates two cells; default: the separator of the header",
    )
    decimal: Decimal | None = Field(
        None, description="Decimal point or comma; default: as in the first rows"
    )
    missing_words: list[str] = Field(
        list(MISSING_WORDS), description="Words in place of a value that mean it is missing"
    )
    time_format: str = Field(
        ELAPSED,
        description="elapsed: Unix time, RFC 3339, or seconds since a start; excel: days of a"
        " spreadsheet; or a pattern of strptime",
    )
    time_zone: str | None = Field(None, description="Time zone of times without an offset")
    bad_share_max: float = Field(
        Layout().bad_share_max,
        ge=0,
        le=1,
        description="If a larger share of the rows, or of a column's cells, cannot be read, the"
        " training stops and names the first: another setting here is probably wrong",
    )
    labels: str | None = Field(
        None,
        description="File of labels, from `fieldwatch-agent labels export`: confirmed faults,"
        " maintenance and what is not explained yet are cut out of the recordings",
    )
    labels_margin_samples: int = Field(
        50,
        ge=0,
        le=SAMPLES_MAX,
        description="Samples before and after each label that are cut out, too",
    )
    channels: list[ChannelTable] = Field(min_length=1)
    sources: list[SourceTable] = Field(
        [], max_length=SOURCES_MAX, description="Raw channels; features are computed from them"
    )

    @property
    def layout(self) -> Layout:
        """The format of the recordings."""
        return Layout(
            self.encoding,
            self.separator,
            self.decimal,
            self.missing_words,
            self.time_format,
            self.time_zone,
            self.bad_share_max,
            self._long,
            self.row_period_s,
        )

    @property
    def _long(self) -> Long | None:
        if self.channel_column is None or self.value_column is None:
            return None
        return Long(self.channel_column, self.value_column)

    @property
    def columns(self) -> list[ColumnTable]:
        """The columns of the recordings: channels that are not features, then the sources."""
        passing = [channel for channel in self.channels if channel.feature is None]
        return [*passing, *self.sources]

    @property
    def sought(self) -> Sought:
        """The columns of the recordings that hold the times and ``columns``."""
        columns = [(column.source,) for column in self.columns]
        return Sought((self.time_column,), columns, self.clock_column)

    @model_validator(mode="after")
    def _times_can_be_read(self) -> DataTable:
        Times(self.time_format, self.time_zone)
        if self.clock_column == self.time_column:
            raise ValueError(f"clock_column is time_column, {self.time_column!r}: leave it out")
        return self

    @model_validator(mode="after")
    def _sources_are_there(self) -> DataTable:
        if not self.files and not self.queries:
            raise ValueError("there are no recordings: set files, or add [[data.queries]]")
        _refuse_repeated([query.name for query in self.queries], "queries: name ")
        if (self.channel_column is None) != (self.value_column is None):
            raise ValueError("channel_column and value_column belong together: set both or none")
        return self

    @model_validator(mode="after")
    def _printable(self) -> DataTable:
        for column in (*self.channels, *self.sources):
            if printable(column.unit) != column.unit:
                raise ValueError(
                    f"unit of {column.name}: {printable(column.unit)!r} is not printable: use"
                    " letters, digits, signs and spaces"
                )
        return self

    @model_validator(mode="after")
    def _unique(self) -> DataTable:
        _refuse_repeated([channel.name for channel in self.channels], "channel ")
        if not any(channel.scored for channel in self.channels):
            raise ValueError("no channel is scored")
        return self


class SamplingTable(Table):
    """The grid of the samples, the same as on the gateway."""

    period_s: Positive = Field(description="Seconds from one sample to the next")
    hold_samples_max: int = Field(
        2,
        ge=0,
        le=SAMPLES_MAX,
        description="A missing channel keeps its last value for this many samples",
    )
    gap: Gap = Field("hold", description="How a sample's missing value is filled; see samples.md")
    missing_samples: int = Field(
        25,
        ge=1,
        le=SAMPLES_MAX,
        description="This many samples without a value open a 'missing' event",
    )
    reset_gap_samples: int = Field(
        50,
        ge=1,
        le=SAMPLES_MAX,
        description="After a longer gap the network starts from a fresh state",
    )
    warm_up_samples: int = Field(
        100, ge=0, le=SAMPLES_MAX, description="Samples after a start or a gap that get no score"
    )


class SplitTable(Table):
    """Shares of the recordings' time, in this order."""

    train: Share = Field(0.6, description="Training part: the network learns from it")
    calibrate: Share = Field(
        0.2, description="Calibration part: it sets thresholds, tail and intervals"
    )
    test: Share = Field(0.2, description="Test part: all metrics and the verdict come from it")
    gap_samples: int | None = Field(
        None,
        ge=0,
        le=SAMPLES_MAX,
        description="Samples between two parts that belong to neither; default: the longest of"
        " sampling.warm_up_samples, the forecaster's context and the windows of the sources",
    )
    repeated_samples_max: int = Field(
        50,
        ge=10,
        le=SAMPLES_MAX,
        description="Longest stretch of the calibration or test part, or of a labelled recording,"
        " that may have the same values as a stretch to learn from; only a machine that repeats"
        " itself exactly needs more",
    )

    @model_validator(mode="after")
    def _whole(self) -> SplitTable:
        total = self.train + self.calibrate + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, calibrate and test must add up to 1, not {total:g}")
        return self


class PrepareTable(Table):
    """Outliers and gaps of the training part; each step counts the values that it touches.

    A gateway does none of this, so the calibration and test parts stay as they are.
    """

    outlier_deviations: Positive = Field(
        20.0,
        description="A value farther from the channel's median, in scales of the channel, is an"
        " outlier; a scale is about one standard deviation of normal operation",
    )
    outliers: Literal["mark", "leave-out"] = Field(
        "mark",
        description="mark: outliers are counted and reported; leave-out: the network does not learn"
        " from them either",
    )
    fill: Literal["none", "linear", "seasonal", "neighbours"] = Field(
        "none",
        description="How short gaps of the network's inputs are filled: a straight line, the value"
        " one season apart, or the mean of the rows most similar in the other channels; none: the"
        " last known value, as on a gateway. A filled value is never a target",
    )
    fill_samples_max: int = Field(
        10, ge=1, le=SAMPLES_MAX, description="Longer gaps are not filled by this method"
    )
    season_samples: int | None = Field(
        None, ge=2, le=STEPS_MAX, description="Length of the season, for fill = seasonal"
    )
    neighbours: int = Field(5, ge=1, le=100, description="Similar rows, for fill = neighbours")

    @model_validator(mode="after")
    def _fitting(self) -> PrepareTable:
        if (self.fill == "seasonal") != (self.season_samples is not None):
            raise ValueError("season_samples is for fill = 'seasonal', which needs it")
        return self


class NetworkTable(Table):
    """The recurrent network."""

    layers: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        [64], min_length=1, max_length=8, description="Cells of each LSTM layer"
    )
    heads: list[Head] = Field(
        ["value", "change"],
        min_length=1,
        max_length=2,
        description="Predictions of the network: the next sample, or its change from this one",
    )
    horizon_samples: int = Field(
        1, ge=1, le=HORIZON_MAX, description="Samples from the input to the predicted sample"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout between layers, in training")
    input_clip: Positive = Field(5.0, description="Inputs are clipped to ± this, in scales")

    @model_validator(mode="after")
    def _unique(self) -> NetworkTable:
        _refuse_repeated(self.heads, "")
        return self


class FitTable(Table):
    """The training of the network."""

    epochs: int = Field(60, ge=1, description="Largest number of passes over the training part")
    chunk_samples: int = Field(100, ge=2, description="Samples of truncated backpropagation")
    batch: int = Field(64, ge=1, description="Sequences trained in parallel")
    loss: Literal["absolute", "squared", "huber"] = Field(
        "absolute", description="Loss function of an error; scores use absolute errors"
    )
    learning_rate: Rate = Field(0.004, description="Learning rate of the optimizer Adam")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="How the learning rate changes over the epochs"
    )
    gradient_norm_max: Positive = Field(1.0, description="Gradients are clipped to this norm")
    patience: int = Field(12, ge=1, description="Epochs without progress until training stops")
    validation: Share = Field(
        0.15, description="Share of the training part, at its end, for validation"
    )
    seed: int = Field(1, ge=0, description="The same seed and data give the same network")
    progress_epochs: int = Field(
        1, ge=0, description="Epochs per progress line, of the forecaster too; 0: no lines"
    )


class SmoothingTable(Table):
    """The exponentially weighted means of the prediction errors."""

    spans_samples: list[Span] = Field(
        [60.0],
        min_length=1,
        max_length=SPANS_MAX,
        description="A span for each mean: a short one for spikes, a long one for drifts",
    )
    level_span_samples: Span | None = Field(
        None,
        description="Span of the mean value that is a channel's level; without it: levels are not"
        " judged",
    )


class ThresholdTable(Table):
    """The dynamic threshold of the smoothed errors (Hundman et al., KDD 2018)."""

    history_samples: int = Field(
        2100, ge=50, le=SAMPLES_MAX, description="Errors of normal samples that are kept"
    )
    update_samples: int = Field(70, ge=1, le=SAMPLES_MAX, description="Samples between two updates")
    z_min: Positive = Field(2.5, description="Lowest threshold tried, in standard deviations")
    z_max: Positive = Field(6.0, description="Highest threshold tried, in standard deviations")
    z_step: Positive = Field(0.5, description="Step from one threshold tried to the next")
    prune_drop: float = Field(
        0.13, ge=0, lt=1, description="Least relative drop from an anomaly to the next lower error"
    )
    settle_samples: int = Field(
        0,
        ge=0,
        le=SAMPLES_MAX,
        description="Samples at the start without events, for machines that the training did not"
        " see",
    )
    settle_judged: bool = Field(
        False, description="Whether what is outside the limits then is kept out of the history"
    )
    adapt_samples: int = Field(
        432_000,
        ge=1,
        le=SAMPLES_MAX,
        description="Samples of an event until its errors count as normal",
    )
    accepts: bool = Field(
        False,
        description="Whether the event closes then, at the latest after as many samples as were"
        " trained and calibrated on",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdTable:
        if self.z_min > self.z_max:
            raise ValueError(f"z_min {self.z_min:g} is above z_max {self.z_max:g}")
        return self


class EventsTable(Table):
    """The rules that open and close events."""

    on_samples: int = Field(
        3, ge=1, le=SAMPLES_MAX, description="Samples above the threshold until an event opens"
    )
    off_samples: int = Field(
        150, ge=1, le=SAMPLES_MAX, description="Samples below the deadband until it closes"
    )
    deadband: float = Field(
        0.7, gt=0, le=1, description="An event closes below this fraction of the threshold"
    )
    persistent_on_samples: int | None = Field(
        None,
        ge=1,
        le=SAMPLES_MAX,
        description="Samples of a persistent deviation (a level, or the error of a longer span)"
        " until an event opens; default: on_samples",
    )
    further_ratio: float = Field(
        1.5,
        ge=0,
        le=1000,
        description="A further event opens while one is open, if a score rises above this times"
        " what it had come to rest at, at least the threshold; 0: never",
    )
    rest_samples: int = Field(
        50,
        ge=1,
        le=SAMPLES_MAX,
        description="Samples without a new maximum of an open event until it is at rest",
    )


class CalibrateTable(Table):
    """The rules for the minimum thresholds, from the training and calibration parts."""

    floor_margin: Margin = Field(
        1.5,
        description="Minimum threshold, divided by the calibration part's largest smoothed error",
    )
    margin_samples: float = Field(
        0.0,
        ge=0,
        le=SAMPLES_MAX,
        description="Divided by the number of samples trained and calibrated on, it is added to"
        " floor_margin: the largest error of few samples says little",
    )
    floor_min: Margin = Field(
        0.1, description="Minimum threshold in any case, as a fraction of the channel's scale"
    )
    floor_changes: list[Annotated[float, Field(ge=0, le=1000)]] = Field(
        [],
        description="Minimum threshold, divided by the smoothed change in normal operation, per"
        " span; for recordings so short that the network overfits",
    )
    changes_quantile: float = Field(
        1.0, gt=0, le=1, description="Which of the smoothed changes that is; 1: the largest"
    )
    calm_margin: float = Field(
        2.0,
        ge=1,
        le=1000,
        description="The calibration part's smallest smoothed error, divided by the lower limit",
    )
    level_min: Margin = Field(
        0.2, description="Least distance of a limit from the known levels, in scales"
    )
    level_samples: float = Field(
        500.0,
        ge=0,
        le=SAMPLES_MAX,
        description="Divided by the number of samples trained and calibrated on, it is the margin"
        " over the range of the known levels",
    )
    level_spread: float = Field(
        0.5,
        ge=0,
        le=1000,
        description="Part of a channel's spread that is added to that range for the margin",
    )
    level_growth: float = Field(
        2.0,
        ge=0,
        le=10,
        description="Power of the ratio of the range of all known levels to that of a quarter of"
        " the recording: a range that has grown may go on growing; 0: no such growth",
    )

    def margin(self, samples: int) -> float:
        """Return the margin over the largest error of this many samples."""
        return self.floor_margin + self.margin_samples / samples


class HampelTable(Table):
    """The family `hampel`: the robust distance from the median."""

    history_samples: HistorySamples = 1000
    update_samples: UpdateSamples = 50
    deviations_min: Positive = Field(
        2.0, description="Least limit of the distance from the median, in standard deviations"
    )
    deviations_margin: Margin = Field(
        1.5, description="The limit, divided by the largest distance of the calibration part"
    )
    adapt_samples: AdaptSamples = 432_000


class SeveritiesTable(Table):
    """The severity of an event, by the probability of its score in normal operation."""

    medium: Share = Field(1e-4, description="An event of at most this probability is medium")
    high: Share = Field(1e-6, description="An event of at most this probability is high")
    unrated: Severity = Field("medium", description="Severity of events without a probability")

    @model_validator(mode="after")
    def _ordered(self) -> SeveritiesTable:
        if self.high > self.medium:
            raise ValueError(f"high {self.high:g} is above medium {self.medium:g}")
        return self


class ParityTable(Table):
    """The largest changes that quantization and another interpreter may cause.

    The first default follows from ``floor_margin``: the highest score of the calibration part
    (2/3), changed by the tolerance, still raises no alarm.
    """

    quantizations: list[Quantization] = Field(
        ["dynamic-range-int8", "float16", "int8", "int16x8"],
        min_length=1,
        description="Forms of the network to try; the smallest that passes ships, or float32",
    )
    quantization_tolerance: Positive = Field(
        0.2, description="Largest change of a score in normal operation, absolute + relative"
    )
    event_tolerance_samples: int = Field(
        3, ge=0, description="Largest shift of an event's opening or closing"
    )
    interpreter_tolerance: Positive = Field(
        0.02, description="The same between interpreters, and for the known answers on gateways"
    )


class EncoderTable(Table):
    """The forecaster's network, a patched transformer encoder on top of linear maps."""

    patch_steps: int = Field(
        24, ge=1, le=STEPS_MAX, description="Steps per patch; preferably a season or a part of it"
    )
    d_model: int = Field(16, ge=1, le=1024, description="Width of the encoder")
    num_heads: int = Field(4, ge=1, le=64, description="Attention heads; they share d_model")
    layers: int = Field(2, ge=1, le=16, description="Layers of the encoder")
    feed_forward: int = Field(64, ge=1, le=4096, description="Width of a layer's inner part")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout, in training")

    @model_validator(mode="after")
    def _whole_heads(self) -> EncoderTable:
        if self.d_model % self.num_heads:
            raise ValueError(
                f"d_model {self.d_model} is not a multiple of num_heads {self.num_heads}"
            )
        return self


class ForecastFitTable(Table):
    """The training of the forecaster's network."""

    epochs: int = Field(10, ge=1, description="Largest number of passes over the windows")
    batch: int = Field(256, ge=1, description="Windows of one channel each, per step")
    steps_per_epoch_max: int = Field(500, ge=1, description="Shortens epochs of long recordings")
    learning_rate: Rate = Field(0.0003, description="Learning rate of the optimizer AdamW")
    weight_decay: NotNegative = Field(0.0, description="Weight decay of the optimizer AdamW")
    gradient_norm_max: Positive = Field(1.0, description="Gradients are clipped to this norm")
    squared_weight: NotNegative = Field(
        0.5, description="Weight of the median's squared error, added to the pinball loss"
    )
    trend_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the windows with an added trend: machines drift as they wear, and"
        " recordings of normal operation do not",
    )
    patience: int = Field(3, ge=1, description="Epochs without progress until training stops")
    validation: Share = Field(
        0.15, description="Share of the training part, at its end, for validation"
    )
    validation_windows_max: int = Field(2000, ge=1, description="Windows used for validation")
    seed: int = Field(1, ge=0, description="The same seed and data give the same network")


class MapsTable(Table):
    """The forecasters in closed form, linear maps of the context."""

    contexts_steps: list[Annotated[int, Field(ge=2, le=STEPS_MAX)]] = Field(
        [],
        max_length=8,
        description="Contexts of ridge maps, beside forecast.context_steps; a gateway keeps the"
        " longest that is used",
    )
    penalties: list[Positive] = Field(
        [0.01, 0.1, 1.0],
        min_length=1,
        max_length=8,
        description="Penalties of the ridge maps, in mean squares of a step of the context",
    )
    season_steps: int | None = Field(
        None,
        ge=2,
        le=STEPS_MAX,
        description="Season for the maps that repeat or fold it, e.g. a day; none: without them",
    )


class ChoiceTable(Table):
    """The choice between the closed forms, their mix, and the network on top of it."""

    origins: int = Field(
        4,
        ge=1,
        le=20,
        description="Rolling origins that candidates are fitted before and judged after, evenly"
        " over the second half of the training part; a mix or a network needs two",
    )
    network: bool = Field(True, description="False: no network is tried")
    margin: NotNegative = Field(
        1.0,
        description="A network ships only if its gain over the closed form is above this, in"
        " standard errors of the gain over the origins",
    )
    gain_min: NotNegative = Field(
        0.01, description="and above this, as a fraction of the closed form's squared error"
    )


class ImputationTable(Table):
    """How steps without a value are filled before a forecast."""

    method: Literal["linear", "seasonal"] = Field(
        "linear", description="A straight line, or the value one season before or after"
    )
    season_steps: int | None = Field(
        None, ge=2, le=STEPS_MAX, description="Length of the season, for method seasonal"
    )
    gap_steps_max: int = Field(
        12,
        ge=0,
        le=STEPS_MAX,
        description="If more steps in a row are missing, there is no forecast",
    )
    missing_share_max: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="If a larger share of the context is missing, there is no forecast",
    )


class IntervalsTable(Table):
    """The calibration of the forecast intervals."""

    leads: int = Field(
        8, ge=1, le=64, description="Number of calibrated lead times, from 1 to the horizon"
    )
    rate: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Rate of a channel's adaptation on the gateway; 0: nothing adapts",
    )
    delay_share: Positive = Field(
        0.25, description="Upper limit of a channel's rate times the lead"
    )
    pooled_rate: float = Field(
        0.02, ge=0, lt=1, description="Rate of the adaptation that all channels share; 0: none"
    )
    pooled_delay_share: Positive = Field(
        0.5, description="Upper limit of the shared rate times the lead"
    )
    integral_rate: float = Field(
        0.02, ge=0, lt=1, description="Rate of the correction by the observed coverage; 0: none"
    )
    lead_rate: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Rate of the correction of each lead by its own observed coverage, with which"
        " a lead also starts from what shorter leads have learnt; 0: none",
    )
    lead_delay_share: Positive = Field(0.5, description="Upper limit of that rate times the lead")
    sharpness: NotNegative = Field(
        1.0,
        description="How strongly the experts that fit a channel better are preferred; 0: none is",
    )
    memory: float = Field(
        0.995, ge=0, lt=1, description="Factor by which a loss counts less with each forecast"
    )


class ForecastParityTable(Table):
    """The largest changes of a forecast that quantization and another interpreter may cause."""

    quantizations: list[Quantization] = Field(
        ["dynamic-range-int8", "float16", "int8", "int16x8"],
        min_length=1,
        description="Forms of the network to try; the smallest that passes ships, or float32",
    )
    error_tolerance: Positive = Field(
        0.01, description="Largest relative change of the squared error on the calibration part"
    )
    interpreter_tolerance: Positive = Field(
        0.02, description="Largest change of a quantile between interpreters, in context scales"
    )


class CouplingTable(Table):
    """What the channels tell of each other's future; it ships only where it gains enough."""

    tried: bool = Field(True, description="Whether it is tried")
    spans_steps: list[Annotated[int, Field(ge=1, le=STEPS_MAX)]] = Field(
        [1, 4, 16, 64],
        min_length=1,
        max_length=8,
        description="Numbers of newest steps whose means are inputs; beside them the whole context",
    )
    penalties: list[Positive] = Field(
        [0.001, 0.01, 0.1, 1.0],
        min_length=1,
        description="Penalties of the ridge regression, in mean squares; the origins choose one",
    )
    margin: NotNegative = Field(
        3.2,
        description="It ships only if its gain over the closed form is above this, in standard"
        " errors of the gain over the origins; more than a network needs, as it knows absolute"
        " levels, which a later season can leave. 3.2 is the two-sided 95 % bound of Student's t"
        " at four origins",
    )
    plannable: list[str] = Field(
        default_factory=list,
        description="Channels whose future may be given in what-if forecasts, as set points;"
        " one that is not scored only if that future gains enough",
    )
    commands: bool = Field(
        True,
        description="Whether channels that are not scored (commands, set points, modes) are tried"
        " as inputs of the forecast, too; each ships only if it gains enough, as above",
    )
    levels_max: int = Field(
        8,
        ge=0,
        le=LEVELS_MAX,
        description="A command of at most so many values, as a mode, is also tried with an effect"
        " of its own for each of them",
    )


class CalendarTable(Table):
    """The hour of the day and of the week as inputs; a cycle ships only where it gains enough."""

    zone: str | None = Field(
        None,
        description="Time zone of the machine, e.g. Europe/Berlin; absent: no calendar is tried",
    )
    cycles: list[Cycle] = Field(
        ["day", "week"],
        min_length=1,
        description="Cycles that are tried: the hours of the day, or of the week",
    )
    margin: NotNegative = Field(
        3.2,
        description="A cycle ships only if its gain over the closed form without it is above this,"
        " in standard errors of the gain over the origins; see coupling.margin",
    )

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str | None) -> str | None:
        if zone is not None:
            zone_named(zone)
        return zone


class ForecastTable(Table):
    """The forecaster; without this table the bundle has none."""

    step_samples: int = Field(
        1, ge=1, le=SAMPLES_MAX, description="Samples per step; a step is their mean"
    )
    context_steps: int = Field(336, ge=2, le=STEPS_MAX, description="Steps of the input")
    horizon_steps: int = Field(96, ge=1, le=STEPS_MAX, description="Steps of a forecast")
    stride_steps: int = Field(
        1, ge=1, le=STEPS_MAX, description="Steps from one forecast to the next"
    )
    quantiles: list[Share] = Field(
        [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975],
        min_length=5,
        description="Increasing, symmetric about 0.5; must include those of the 80 % and 95 %"
        " intervals",
    )
    scale_floor: Positive = Field(
        0.01, description="Minimum scale of a context, as a fraction of the channel's scale"
    )
    maps: MapsTable = MapsTable()
    choice: ChoiceTable = ChoiceTable()
    calendar: CalendarTable = CalendarTable()
    coupling: CouplingTable = CouplingTable()
    network: EncoderTable = EncoderTable()
    fit: ForecastFitTable = ForecastFitTable()
    imputation: ImputationTable = ImputationTable()
    intervals: IntervalsTable = IntervalsTable()
    parity: ForecastParityTable = ForecastParityTable()

    @model_validator(mode="after")
    def _consistent(self) -> ForecastTable:
        missing = {0.025, 0.1, 0.5, 0.9, 0.975} - set(self.quantiles)
        if missing:
            raise ValueError(f"quantiles lack {', '.join(map(str, sorted(missing)))}")
        if self.network.patch_steps > self.context_steps:
            raise ValueError(
                f"network.patch_steps {self.network.patch_steps} is more than context_steps"
                f" {self.context_steps}"
            )
        season = self.maps.season_steps
        if season is not None and season > self.longest_steps:
            raise ValueError(
                f"maps.season_steps {season} is more than the longest context,"
                f" {self.longest_steps}: give a longer one in maps.contexts_steps"
            )
        return self

    @property
    def contexts_steps(self) -> list[int]:
        """The contexts of the ridge maps, rising."""
        return sorted({self.context_steps, *self.maps.contexts_steps})

    @property
    def longest_steps(self) -> int:
        """The longest context of any candidate."""
        return self.contexts_steps[-1]


class RemainingTable(Table):
    """The remaining life, from recordings to failure; without this table the bundle has none."""

    files: list[str] = Field(
        default_factory=list,
        description="Paths or patterns of recordings, each of one machine until it failed; columns"
        " as in data.files",
    )
    unit: str = Field("h", max_length=16, description="Of the life, as shown to people")
    unit_samples: Positive = Field(description="Samples in one unit of life")
    cap: Positive = Field(
        description="Longest life that is predicted, in unit: a healthy machine does not show more"
    )
    spans_samples: list[Span] = Field(
        [20.0, 60.0],
        min_length=1,
        max_length=SPANS_MAX,
        description="Spans of the smoothed values that the life is predicted from",
    )
    by_age: bool = Field(
        True,
        description="Predict from the machine's age, too; the gateway must then know when the"
        " machine was new (remaining.in_service_since)",
    )
    stride_samples: int = Field(
        1, ge=1, le=SAMPLES_MAX, description="Samples from one prediction to the next"
    )
    penalties: list[Positive] = Field(
        [0.1, 1.0, 10.0, 100.0, 1000.0],
        min_length=1,
        description="Penalties of the ridge regression; cross-validation over machines chooses one",
    )
    folds: int = Field(5, ge=2, le=100, description="Folds of machines")
    quantiles: list[Share] = Field(
        [0.025, 0.1, 0.5, 0.9, 0.975],
        min_length=3,
        max_length=31,
        description="Increasing, symmetric about 0.5; must include those of the 80 % interval",
    )
    interval_parts: int = Field(
        5, ge=1, le=100, description="Equal parts of 0 to cap, each with intervals of its own"
    )

    @model_validator(mode="after")
    def _consistent(self) -> RemainingTable:
        check_levels("quantiles", self.quantiles)
        if missing := {0.1, 0.9} - set(self.quantiles):
            raise ValueError(f"quantiles lack {', '.join(map(str, sorted(missing)))}")
        return self


class EvaluateTable(Table):
    """Labelled recordings. They change nothing in the bundle."""

    files: list[str] = Field(
        default_factory=list, description="Paths or patterns; X.csv has its labels in X.labels.csv"
    )
    grace_s: float = Field(
        60.0, ge=0, description="Time after a fault's end in which an event still counts as found"
    )


class GatesTable(Table):
    """The limits of the verdict on held-out data; a bundle that fails gets another file name."""

    events_per_day_max: NotNegative = Field(
        1.0, description="False events per day of normal operation, in the test part"
    )
    tail_factor_max: Positive = Field(
        10.0,
        description="Number of scores above a level in the test part, divided by the number that"
        " the calibration predicts",
    )
    coverage_error_max: Positive = Field(
        0.15, description="Difference between 80 % and the share that the 80 % intervals cover"
    )


class RangeTable(Table):
    """A setting that is searched: a range from low to high, or choices."""

    setting: str = Field(
        min_length=1,
        description=f"Dotted name: {', '.join(SEARCHED)}, or {OF_FAMILY}NAME",
    )
    low: Finite | None = Field(None, description="Least value")
    high: Finite | None = Field(None, description="Largest value")
    log: bool = Field(False, description="Search the logarithm; for learning rates, for example")
    choices: list[Choice] = Field([], description="All values, in place of low and high")

    @model_validator(mode="after")
    def _either(self) -> RangeTable:
        if self.setting not in SEARCHED and not self.setting.startswith(OF_FAMILY):
            near = nearest(self.setting, SEARCHED)
            raise ValueError(
                f"{self.setting!r} cannot be searched: another value of it would change what is"
                f" measured, or it does not exist{near}"
            )
        if self.choices:
            if self.low is not None or self.high is not None:
                raise ValueError("choices and low, high exclude each other")
        elif self.low is None or self.high is None:
            raise ValueError("set low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        elif self.log and self.low <= 0:
            raise ValueError("log needs a low above 0")
        return self


class TuneTable(Table):
    """The search of `fieldwatch-trainer tune`; a training does not use it."""

    trials: int = Field(20, ge=1, le=10_000, description="Trainings, each with other settings")
    seed: int = Field(1, ge=0, description="The same seed, settings and data search the same")
    first_trials: int = Field(
        5, ge=1, description="Trials that end regularly before another one may be stopped"
    )
    warm_up_epochs: int = Field(
        5,
        ge=0,
        description="Epochs before a trial may be stopped: it is if its best validation loss is"
        " above the median of the others at that epoch",
    )
    ranges: list[RangeTable] = Field(min_length=1, description="What is searched")

    @model_validator(mode="after")
    def _unique(self) -> TuneTable:
        _refuse_repeated([one.setting for one in self.ranges], "ranges: setting ")
        return self


class Config(Table):
    """The whole file."""

    bundle: BundleTable
    family: FamilyTable = FamilyTable()
    data: DataTable
    sampling: SamplingTable
    split: SplitTable = SplitTable()
    prepare: PrepareTable = PrepareTable()
    network: NetworkTable = NetworkTable()
    fit: FitTable = FitTable()
    smoothing: SmoothingTable = SmoothingTable()
    threshold: ThresholdTable = ThresholdTable()
    events: EventsTable = EventsTable()
    calibrate: CalibrateTable = CalibrateTable()
    hampel: HampelTable = HampelTable()
    severities: SeveritiesTable = SeveritiesTable()
    parity: ParityTable = ParityTable()
    gates: GatesTable = GatesTable()
    forecast: ForecastTable | None = None
    remaining: RemainingTable | None = None
    evaluate: EvaluateTable = EvaluateTable()
    tune: TuneTable | None = None
    registry: RegistryTable | None = None

    @model_validator(mode="after")
    def _features(self) -> Config:
        features = {channel.name: channel.feature for channel in self.data.channels}
        sources = [source_part(source) for source in self.data.sources]
        if sources or any(features.values()):
            check_features(features, sources, Sampling(**self.sampling.model_dump()))
        return self

    @model_validator(mode="after")
    def _neighbours(self) -> Config:
        if self.prepare.fill == "neighbours" and len(self.data.channels) < 2:
            raise ValueError("prepare.fill = 'neighbours' needs at least two channels")
        return self

    @model_validator(mode="after")
    def _plannable(self) -> Config:
        known = [channel.name for channel in self.data.channels]
        for name in () if self.forecast is None else self.forecast.coupling.plannable:
            if name not in known:
                raise ValueError(
                    f"forecast.coupling.plannable: {name!r} is no channel of data.channels"
                )
        return self

    @model_validator(mode="after")
    def _per_span(self) -> Config:
        changes, spans = self.calibrate.floor_changes, self.smoothing.spans_samples
        if changes and len(changes) != len(spans):
            raise ValueError("calibrate.floor_changes needs a value per smoothing.spans_samples")
        return self

    @model_validator(mode="after")
    def _learnt(self) -> Config:
        if self.forecast is not None and self.forecast.intervals.rate > 0:
            scored = sum(channel.scored for channel in self.data.channels)
            leads = min(max(2, self.forecast.intervals.leads), self.forecast.horizon_steps)
            check_intervals(len(self.forecast.quantiles), scored, leads, rates=1)
        return self

    @property
    def gap_samples(self) -> int:
        """Samples between two parts that belong to neither."""
        if self.split.gap_samples is not None:
            return self.split.gap_samples
        sampling, forecast = Sampling(**self.sampling.model_dump()), self.forecast
        return max(
            self.sampling.warm_up_samples,
            0 if forecast is None else forecast.longest_steps * forecast.step_samples,
            *(source_part(source).periods(sampling) for source in self.data.sources),
        )


def source_part(source: SourceTable) -> Source:
    """Return a source in the form of the manifest."""
    return Source(**source.model_dump(exclude={"column"}))


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration and its file; paths in it are relative to that file."""

    path: Path
    config: Config
    digest: str  # sha256 of the file's bytes, and of what the environment sets

    def recordings(self, patterns: list[str], key: str) -> list[Path]:
        """Return the files that match ``patterns``, sorted within each pattern.

        Label files are left out.

        Raises:
            ConfigError: a pattern matches no file; ``key`` names the setting.

        """
        found: list[Path] = []
        for pattern in patterns:
            whole = (self.path.parent / pattern).absolute()
            below = Path(whole.anchor).glob(str(whole.relative_to(whole.anchor)))
            files = sorted(file for file in below if not file.name.endswith(LABELS_SUFFIX))
            if not files:
                raise ConfigError(f"{self.path}: {key} = {pattern!r}: there is no such file")
            found += [file for file in files if file not in found]
        return found

    @property
    def labels(self) -> Path | None:
        """The file of ``data.labels``; None: nothing is cut out of the recordings."""
        named = self.config.data.labels
        return None if named is None else self.path.parent / named

    @property
    def output(self) -> Path:
        """The directory of the results."""
        return self.path.parent / self.config.bundle.output


ENVIRONMENT: Final = Names("FIELDWATCH_TRAINER_")


def read(path: Path) -> ConfigFile:
    """Read and check a configuration: its file, and the environment over it.

    ``FIELDWATCH_TRAINER_FIT__EPOCHS=20`` is ``epochs`` in the table ``fit``.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a setting is wrong; the text has file
            or variable, key and value.

    """
    document, data = read_toml(path)
    found = environment()
    override(document, found)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise refusal(path, explain(Config, error, where=partial(place, found))) from error
    return ConfigFile(path, config, _digest(data, found))


def environment() -> list[Override]:
    """Return the settings of a training that the environment overrides.

    Raises:
        ConfigError: a variable names no setting.

    """
    found, problems = overrides(os.environ, Config, ENVIRONMENT)
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def override(document: dict[str, Any], found: Sequence[Override]) -> None:
    """Put settings of the environment over those of a file."""
    for each in found:
        _set(document, each)


def place(found: Sequence[Override], location: Location) -> str:
    """Return the key of a setting, with the variable that set it."""
    variable = next((each.variable for each in found if each.keys == location), None)
    return dotted(location) + ("" if variable is None else f" (of {variable})")


def read_registry(path: Path | None) -> RegistryTable:
    """Read the table ``[registry]`` of a file that may have others, and the environment over it.

    Args:
        path: of the configuration of a training or a fleet; None: only the environment counts.

    Raises:
        ConfigError: as ``read``, of this table.

    """
    document: dict[str, Any] = {} if path is None else read_toml(path)[0]
    found = [each for each in environment() if each.keys[0] == "registry"]
    only = {"registry": document.get("registry", {})}
    override(only, found)
    try:
        return _Registry.model_validate(only).registry
    except ValidationError as error:
        file = Path("the environment") if path is None else path
        raise refusal(file, explain(_Registry, error, where=partial(place, found))) from error


class _Registry(Table):
    """The table ``[registry]`` alone."""

    registry: RegistryTable


def _set(document: dict[str, Any], override: Override) -> None:
    *tables, key = override.keys
    for name in tables:
        inner = document.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # the file's mistake is told
        document = inner
    document[key] = override.value


def _digest(data: bytes, found: Sequence[Override]) -> str:
    """Return the sha256 of a file's bytes and of the variables that override it, if there are."""
    more = "".join(f"\n{override.variable}={override.value!r}" for override in found)
    return hashlib.sha256(data + more.encode()).hexdigest()
