"""The manifest of a bundle: its keys, their limits, and the checks between them.

``README.md`` beside this file is the normative description.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Annotated, Any, Final, Literal, Protocol

from models.errors import BundleCorrupt, BundleTooNew, FamilyUnknown
from models.names import BUNDLE, CHANNEL, DIGEST, HAMPEL, REMAINING_LIFE
from models.plainly import reason
from models.validation import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

FORMAT_VERSION: Final = 2  # the newest that is read; see ``Manifest.format_version``
TELEMANOM: Final = "telemanom"
EVALUATED: Final = "evaluated_digest"  # key of the metrics: the bundle they were measured on
FAMILIES: Final = "fieldwatch.families"  # group of the entry points of other packages
MANIFEST = "manifest.json"
NETWORK: Final = "network.tflite"
FORECASTER: Final = "forecaster.tflite"
KNOWN_ANSWERS: Final = "known_answers.json"
TRAINING: Final = "training.json"  # the configuration of the training; gateways do not read it
SAMPLES_MAX = 1_000_000  # of any count of samples
ERRORS_KEPT_BYTES_MAX = 32 * 2**20  # history and block of the threshold, per stream
CANDIDATES_MAX = 1_000  # of the threshold, at each update
ENTRIES_MAX = 100_000  # of a history of novelty, per row
NOVELTY_ROWS = 8  # of that history, per channel: two ends of four views
SPANS_MAX = 4  # of the smoothing
HORIZON_MAX = 1_000  # samples from a prediction to the sample that it is for
STEPS_MAX = 10_000  # of a forecaster's context and horizon
LEVELS_MAX = 16  # of a command
OFFSETS_MAX = 100_000  # of a forecaster's quantiles, in all
LEARNT_BYTES_MAX = 2**20  # of intervals that adapt, per stream
PENDING_BYTES_MAX = 16 * 2**20  # forecasts whose steps have not all come, per stream
PERIOD_S_MIN = 0.001
SOURCES_MAX = 16
WINDOW_SAMPLES_MIN = 2
WINDOW_SAMPLES_MAX = 65_536
WINDOW_PERIODS_MAX = 1_000  # of the grid
MAGNITUDE_MAX = 1e30  # products and quotients of two such numbers and 10⁶ still fit a float32
MAGNITUDE_MIN = 1e-30


def _finite(value: float) -> float:
    if not abs(value) <= MAGNITUDE_MAX:
        raise ValueError(f"must be a finite number of at most {MAGNITUDE_MAX:g}")
    return value


def _json(value: dict[str, Any]) -> dict[str, Any]:
    json.dumps(value, allow_nan=False)
    return value


Finite = Annotated[float, AfterValidator(_finite)]
Positive = Annotated[float, Field(ge=MAGNITUDE_MIN), AfterValidator(_finite)]
Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0), AfterValidator(_finite)]
Span = Annotated[float, Field(ge=1, le=SAMPLES_MAX)]  # of an exponentially weighted mean, samples

# of the baseline, sealed or in a gateway's configuration
HistorySamples = Annotated[
    int, Field(ge=20, le=SAMPLES_MAX, description="Normal values kept, per channel")
]
UpdateSamples = Annotated[
    int,
    Field(ge=1, le=SAMPLES_MAX, description="Samples between two updates of median and deviation"),
]
AdaptSamples = Annotated[
    int,
    Field(
        ge=1,
        le=SAMPLES_MAX,
        description="After this many samples of an open event, its values count as normal",
    ),
]

# of the novelty of a stream without a bundle
HistoryEntries = Annotated[
    int, Field(ge=20, le=ENTRIES_MAX, description="Entries kept, per channel and view")
]
Reach = Annotated[
    float, Field(gt=1, le=1000, description="Half ranges from the middle; farther is outside")
]

# what a head of the network predicts: the next sample, or its difference from this one
Head = Literal["value", "change"]
Severity = Literal["low", "medium", "high"]
# hours in a cycle of the calendar; see ``models.calendar``
CYCLES: Final = {"day": 24, "week": 168}
Cycle = Literal["day", "week"]
# the features of a window of a fast channel; see ``models.features``
FeatureKind = Literal[
    "mean",
    "rms",
    "peak",
    "peak_to_peak",
    "crest_factor",
    "kurtosis",
    "band_energy",
    "std",
    "min",
    "max",
    "last",
    "lag",
]
# the value of a slot that a channel has no value for; see ``models.gaps``
Gap = Literal["hold", "interpolate", "missing"]


def _without(document: dict[str, Any], **defaults: object) -> dict[str, Any]:
    """Leave out keys of later versions that have their default: older digests do not change."""
    return {
        key: value
        for key, value in document.items()
        if key not in defaults or value != defaults[key]
    }


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def check_levels(name: str, levels: Sequence[float]) -> None:
    """Raise ValueError unless levels of quantiles rise, symmetric about 0.5, which is in them."""
    if any(a >= b for a, b in itertools.pairwise(levels)):
        raise ValueError(f"{name} do not rise")
    mirrored = [1 - level for level in reversed(levels)]
    if any(abs(a - b) > 1e-9 for a, b in zip(levels, mirrored, strict=True)):
        raise ValueError(f"{name} are not symmetric about 0.5")
    if len(levels) % 2 == 0:
        raise ValueError(f"{name} lack 0.5")


class Feature(_Part):
    """How a channel is computed from a source.

    See ``models.features``.
    """

    source: str = Field(description="Name of the source from which it is computed")
    kind: FeatureKind = Field(description="The statistic of a window")
    low_hz: NotNegative | None = Field(None, description="Lower edge of the band, for band_energy")
    high_hz: Positive | None = Field(None, description="Upper edge of the band, for band_energy")
    samples: int | None = Field(
        None,
        ge=1,
        le=WINDOW_SAMPLES_MAX,
        description="Only this many newest values of the window; absent: all",
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), samples=None)

    @model_validator(mode="after")
    def _has_band(self) -> Feature:
        if (self.kind == "band_energy") != (self.low_hz is not None and self.high_hz is not None):
            raise ValueError("low_hz and high_hz are for kind band_energy, which needs both")
        if self.low_hz is not None and self.high_hz is not None and self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz {self.low_hz:g} is not below high_hz {self.high_hz:g}")
        return self


class Source(_Part):
    """A raw channel, at least as fast as the grid, that features are computed from."""

    name: str = Field(min_length=1, max_length=64, pattern=CHANNEL)
    unit: str = Field(max_length=16, description="Unit as shown to people, e.g. m/s2")
    low: Finite | None = Field(None, description="Below this the value is rejected, in unit")
    high: Finite | None = Field(None, description="Above this the value is rejected, in unit")
    rate_hz: Positive = Field(description="Values per second, evenly spaced")
    window_samples: int = Field(
        ge=WINDOW_SAMPLES_MIN, le=WINDOW_SAMPLES_MAX, description="Length of a feature's window"
    )
    missing_share_max: float = Field(
        ge=0, lt=1, description="A window with a larger share missing has no features"
    )

    def periods(self, sampling: Sampling, samples: int | None = None) -> int:
        """Return the length of a window, or of its newest values, in periods, rounded up."""
        return ceil((samples or self.window_samples) / self.rate_hz / sampling.period_s - 1e-9)


class Channel(_Part):
    """One channel, in the order the network takes them."""

    name: str = Field(min_length=1, max_length=64, pattern=CHANNEL)
    unit: str = Field(max_length=16, description="Unit as shown to people, e.g. mm/s")
    low: Finite | None = Field(None, description="Below this the reading is rejected, in unit")
    high: Finite | None = Field(None, description="Above this the reading is rejected, in unit")
    center: Finite = Field(description="Subtracted from the network's input, in unit")
    scale: Positive = Field(description="Divides the network's input, in unit")
    scored: bool = Field(
        True, description="False: a command or set point, an input that is not predicted"
    )
    stuck_samples: int | None = Field(
        None,
        ge=2,
        le=SAMPLES_MAX,
        description="This many equal samples in a row open a 'stuck' event",
    )
    feature: Feature | None = Field(None, description="None: the channel is measured, not computed")

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), feature=None)

    @model_validator(mode="after")
    def _ordered(self) -> Channel:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"channel {self.name}: low {self.low} is not below high {self.high}")
        return self


def unscaled(name: str, unit: str, low: float | None, high: float | None) -> Channel:
    """Return a channel without scaling: its center is 0 and its scale 1."""
    return Channel(name=name, unit=unit, low=low, high=high, center=0.0, scale=1.0)


class Sampling(_Part):
    """The grid of the samples, and the treatment of gaps."""

    period_s: Annotated[float, Field(ge=PERIOD_S_MIN), AfterValidator(_finite)]
    hold_samples_max: int = Field(
        ge=0,
        le=SAMPLES_MAX,
        description="A missing channel keeps its last value for this many samples",
    )
    gap: Gap = Field("hold", description="How a slot's missing value is filled")
    missing_samples: int = Field(
        ge=1, le=SAMPLES_MAX, description="This many samples without a value open a 'missing' event"
    )
    reset_gap_samples: int = Field(
        ge=1, le=SAMPLES_MAX, description="After a longer gap the network starts from a fresh state"
    )
    warm_up_samples: int = Field(
        ge=0, le=SAMPLES_MAX, description="Samples after a start that get no score"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), gap="hold")


class NetworkPart(_Part):
    """The one-step network: ``sample, state -> prediction of the next sample, state``."""

    file: Literal["network.tflite"] = NETWORK
    layers: list[int] = Field(min_length=1, description="Cells per LSTM layer")
    heads: list[Head] = Field(min_length=1)
    horizon_samples: int = Field(
        1, ge=1, le=HORIZON_MAX, description="Samples from the input to the predicted sample"
    )
    state_size: int = Field(ge=1, description="Floats of state: h and c of each layer")
    input_clip: Positive = Field(description="Scaled inputs are clipped to ±this")
    quantization: str = Field(description="e.g. dynamic-range-int8")


class Smoothing(_Part):
    """Exponentially weighted means of the absolute error; see ``models.telemanom.Smoother``."""

    spans_samples: list[Span] = Field(
        min_length=1,
        max_length=SPANS_MAX,
        description="One mean, and one error row, each: a short one for spikes, a long for drifts",
    )


class LevelPart(_Part):
    """The levels that the training recordings show; see ``models.telemanom``."""

    span_samples: Span = Field(description="Span of the mean that is a channel's level")
    middle: list[Finite] = Field(
        min_length=1, description="Middle of the known levels per scored channel, scaled"
    )
    half: list[NotNegative] = Field(
        min_length=1, description="Distance from there to the outermost known level, scaled"
    )

    @model_validator(mode="after")
    def _alike(self) -> LevelPart:
        if len(self.half) != len(self.middle):
            raise ValueError("middle and half differ in length")
        return self


class Threshold(_Part):
    """Settings of the nonparametric dynamic threshold; see ``models.threshold``."""

    history_samples: int = Field(
        ge=50, le=SAMPLES_MAX, description="Errors of normal samples kept, per error row"
    )
    update_samples: int = Field(
        ge=1, le=SAMPLES_MAX, description="Samples between two updates of the threshold"
    )
    z_min: Positive
    z_max: Positive
    z_step: Positive
    prune_drop: float = Field(ge=0, lt=1, description="Least relative drop to the next error")
    settle_samples: int = Field(
        ge=0,
        le=SAMPLES_MAX,
        description="The first scored samples of a new stream raise no event",
    )
    adapt_samples: int = Field(
        ge=1,
        le=SAMPLES_MAX,
        description="After this many samples of an open event its values are the new normal",
    )
    floor: list[Positive] = Field(
        min_length=1, description="Least threshold per error row, from the calibration part"
    )
    calm: list[NotNegative] = Field(
        min_length=1, description="A smaller error is abnormal too; 0: no error is too small"
    )
    accepts: bool = Field(
        False, description="An event of adapt_samples closes: its values are the new normal"
    )

    settle_judged: bool = Field(
        False, description="Of those samples only the ones within the limits enter the history"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), accepts=False, settle_judged=False)

    @model_validator(mode="after")
    def _bounded(self) -> Threshold:
        if not 0 <= (self.z_max - self.z_min) / self.z_step < CANDIDATES_MAX:
            raise ValueError(f"z_min to z_max in steps of z_step: not 1 to {CANDIDATES_MAX} steps")
        if len(self.calm) != len(self.floor):
            raise ValueError("floor and calm differ in length")
        kept = 4 * len(self.floor) * (self.history_samples + self.update_samples)
        if kept > ERRORS_KEPT_BYTES_MAX:
            raise ValueError(f"history and block take {kept} bytes, over {ERRORS_KEPT_BYTES_MAX}")
        return self


class BaselinePart(_Part):
    """Settings of the robust distance from the median; see ``models.baseline``."""

    resolution: list[NotNegative] = Field(description="Least change that counts, per channel")
    history_samples: HistorySamples
    update_samples: UpdateSamples
    deviations_max: Positive = Field(description="A value farther from the median is outside")
    adapt_samples: AdaptSamples


class Events(_Part):
    """From scores to events."""

    on_samples: int = Field(
        ge=1, le=SAMPLES_MAX, description="Samples above the threshold until opened"
    )
    off_samples: int = Field(
        ge=1, le=SAMPLES_MAX, description="Samples below the deadband until closed"
    )
    deadband: float = Field(gt=0, le=1, description="Closed below this part of the threshold")
    persistent_on_samples: int | None = Field(
        None,
        ge=1,
        le=SAMPLES_MAX,
        description="Samples until a persistent deviation is opened; none: on_samples",
    )
    further_ratio: float = Field(
        0.0, ge=0, le=1000, description="A further event opens above this times the rest; 0: never"
    )
    rest_samples: int = Field(
        50, ge=1, le=SAMPLES_MAX, description="Samples without a new maximum until it is at rest"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(
            serialize(self), persistent_on_samples=None, further_ratio=0.0, rest_samples=50
        )

    @model_validator(mode="after")
    def _above_the_rest(self) -> Events:
        if 0 < self.further_ratio < 1:
            raise ValueError(f"further_ratio {self.further_ratio:g}: 0, or at least 1")
        return self


class Tail(_Part):
    """The probability of a score in normal operation; see ``models.score_tail``."""

    scores: list[Positive] = Field(
        min_length=1, max_length=16, description="Rising; the tail begins at the last"
    )
    shares: list[Share] = Field(
        min_length=1, max_length=16, description="Share of normal operation above each of scores"
    )
    shape: float = Field(ge=0, lt=1, description="Shape of the generalized Pareto distribution")
    scale: Positive = Field(description="Scale of that distribution, in units of the score")
    samples: int = Field(ge=1, description="Scores of normal operation that it was fitted to")

    @model_validator(mode="after")
    def _ordered(self) -> Tail:
        if len(self.scores) != len(self.shares):
            raise ValueError("scores and shares differ in length")
        if any(a >= b for a, b in itertools.pairwise(self.scores)):
            raise ValueError("scores do not rise")
        if any(a <= b for a, b in itertools.pairwise(self.shares)):
            raise ValueError("shares do not fall")
        return self


class Severities(_Part):
    """The severity of an event, by the probability of its score in normal operation."""

    medium: Share = Field(description="An event of at most this probability is medium")
    high: Share = Field(description="An event of at most this probability is high")
    unrated: Severity = Field(description="Severity of events without a probability (sensors)")

    @model_validator(mode="after")
    def _ordered(self) -> Severities:
        if self.high > self.medium:
            raise ValueError(f"high {self.high:g} is above medium {self.medium:g}")
        return self


class Imputation(_Part):
    """How steps without a value are filled before a forecast; see ``models.impute``."""

    method: Literal["linear", "seasonal"]
    season_steps: int | None = Field(
        None, ge=2, le=STEPS_MAX, description="Length of the season, for method seasonal"
    )
    gap_steps_max: int = Field(
        ge=0, le=STEPS_MAX, description="With more missing in a row there is no forecast"
    )
    missing_share_max: float = Field(
        ge=0, lt=1, description="With more missing in the whole context there is no forecast"
    )

    @model_validator(mode="after")
    def _has_season(self) -> Imputation:
        if (self.method == "seasonal") != (self.season_steps is not None):
            raise ValueError("season_steps is for method seasonal, which needs it")
        return self


class Aggregation(_Part):
    """How the widths of intervals follow what the gateway sees; see ``models.aggregated``."""

    widths: list[list[list[Finite]]] = Field(
        description="Mean distance of each quantile, scored channel and lead from the median, as"
        " exported, in units of the context's scale"
    )
    rates: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        max_length=8, description="Of the experts of a channel, beside one that stays"
    )
    delay_share: Positive = Field(description="Largest rate of an expert times a lead's forecasts")
    pooled_rate: float = Field(ge=0, lt=1, description="Of what the channels have in common")
    pooled_delay_share: Positive = Field(description="Largest such rate times a lead's forecasts")
    integral_rate: float = Field(ge=0, lt=1, description="Of the correction by the coverage so far")
    sharpness: NotNegative = Field(description="How strongly a better expert is preferred")
    memory: float = Field(ge=0, lt=1, description="What remains of an expert's loss at the next")
    lead_rate: float = Field(
        0.0, ge=0, lt=1, description="Of the correction of each lead by its coverage; 0: none"
    )
    lead_delay_share: Positive = Field(
        0.5, description="Largest such rate times a lead's forecasts"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), lead_rate=0.0, lead_delay_share=0.5)


class Intervals(_Part):
    """The offsets that calibrate the network's quantiles; see ``models.intervals``."""

    leads_steps: list[Annotated[int, Field(ge=1, le=STEPS_MAX)]] = Field(
        min_length=1, description="Rising; offsets hold there and are interpolated between"
    )
    offsets: list[list[list[Finite]]] = Field(
        description="Per quantile, scored channel and lead, in units of the context's scale"
    )
    rate: float = Field(ge=0, lt=1, description="Rate of adaptation on the gateway; 0: none")
    aggregated: Aggregation | None = Field(
        None, description="None: each offset adapts alone, at the rate"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), aggregated=None)

    @model_validator(mode="after")
    def _rising(self) -> Intervals:
        if not _rise(self.leads_steps):
            raise ValueError("leads_steps do not rise")
        return self


class CouplingPart(_Part):
    """What the channels tell of each other's future; see ``models.coupling``."""

    spans_steps: list[Annotated[int, Field(ge=1, le=STEPS_MAX)]] = Field(
        min_length=1, max_length=8, description="Numbers of newest steps whose means are inputs"
    )
    weights: list[list[list[Finite]]] = Field(
        description="Per lead, scored channel and input: by span and channel, then the constant"
    )
    plannable: list[Annotated[int, Field(ge=0)]] = Field(
        description="Indices, among the scored channels, of those whose future may be given"
    )
    effects: list[list[list[Finite]]] = Field(
        description="Per lead, scored channel and distance of a plannable channel from its"
        " forecast: at the lead, then the mean up to it"
    )


class CommandsPart(_Part):
    """What channels that are not scored tell of the future; see ``models.commands``."""

    channels: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="Indices, among all channels, of those that are inputs"
    )
    levels: list[Annotated[list[Finite], Field(max_length=LEVELS_MAX)]] = Field(
        description="Per command: its levels, rising, each of which has an effect of its own;"
        " empty: it is a number"
    )
    spans_steps: list[Annotated[int, Field(ge=1, le=STEPS_MAX)]] = Field(
        min_length=1, max_length=8, description="Numbers of newest steps whose means are inputs"
    )
    weights: list[list[list[Finite]]] = Field(
        description="Per lead, scored channel and input: by span and column, then the constant;"
        " empty: what commands were corrects nothing"
    )
    plannable: list[Annotated[int, Field(ge=0)]] = Field(
        description="Indices, among the commands, of those whose future may be given"
    )
    expected: list[list[list[Finite]]] = Field(
        description="Per plannable column, lead and input: by span of the same column, then the"
        " constant; how it usually goes on"
    )
    taps_steps: list[Annotated[int, Field(ge=1, le=STEPS_MAX)]] = Field(
        min_length=1, max_length=8, description="Rising; lags before which each tap ends"
    )
    response: list[list[list[Finite]]] = Field(
        description="Per scored channel, plannable column and tap: what a distance of 1 adds"
    )

    @model_validator(mode="after")
    def _consistent(self) -> CommandsPart:
        if len(self.levels) != len(self.channels):
            raise ValueError("commands.levels must have one list per command")
        if any(len(levels) == 1 or not _rise(levels) for levels in self.levels):
            raise ValueError("commands.levels of a command must rise, and be none or at least two")
        if not _rise(self.taps_steps):
            raise ValueError("commands.taps_steps do not rise")
        return self

    @property
    def columns(self) -> list[int]:
        """The number of columns of each command."""
        return [max(1, len(levels) - 1) for levels in self.levels]


class CalendarPart(_Part):
    """What is usual at each hour of the day or of the week; see ``models.calendar``."""

    zone: str = Field(max_length=64, description="Time zone of the machine, e.g. Europe/Berlin")
    cycle: Cycle = Field(description="The hours are those of the day, or of the week from Monday")
    usual: list[list[Finite]] = Field(
        description="Per scored channel and hour of the cycle: distance from the channel's mean,"
        " in scales, in the middle of the hour"
    )


class ForecastPart(_Part):
    """The forecaster: ``context -> quantiles`` of the steps after it; see ``models.forecaster``."""

    file: Literal["forecaster.tflite"] = FORECASTER
    step_samples: int = Field(ge=1, le=SAMPLES_MAX, description="Samples whose mean is a step")
    context_steps: int = Field(ge=2, le=STEPS_MAX, description="Steps that a forecast is made from")
    horizon_steps: int = Field(ge=1, le=STEPS_MAX, description="Steps that are forecast")
    stride_steps: int = Field(ge=1, le=STEPS_MAX, description="Steps from one forecast to the next")
    quantiles: list[Share] = Field(
        min_length=3, max_length=31, description="Rising, symmetric about 0.5, which is in it"
    )
    scale_floor: Positive = Field(
        description="Least scale of a context, as a part of the channel's scale"
    )
    patch_steps: int = Field(ge=1, le=STEPS_MAX, description="Steps that the network reads at once")
    width: int = Field(ge=0, description="Width of the encoder, d_model; 0: there is no encoder")
    heads: int = Field(ge=0, description="Attention heads")
    layers: int = Field(ge=0, description="Layers of the encoder; 0: a linear map alone")
    imputation: Imputation
    intervals: Intervals
    coupling: CouplingPart | None = Field(
        None, description="None: each channel is forecast from its own past alone"
    )
    calendar: CalendarPart | None = Field(
        None, description="None: the forecast knows no hour of the day or week"
    )
    commands: CommandsPart | None = Field(
        None, description="None: the forecast knows only the scored channels"
    )
    held: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list,
        description="Indices, among the scored channels, of those whose forecast is their last"
        " value",
    )
    quantization: str = Field(description="e.g. dynamic-range-int8")

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), coupling=None, calendar=None, commands=None, held=[])

    @model_validator(mode="after")
    def _consistent(self) -> ForecastPart:
        check_levels("quantiles", self.quantiles)
        if self.intervals.leads_steps[-1] != self.horizon_steps:
            raise ValueError("intervals.leads_steps do not end at horizon_steps")
        return self

    @property
    def slots(self) -> int:
        """The most forecasts at one time whose steps have not all come."""
        return -(-self.horizon_steps // self.stride_steps)


class RemainingPart(_Part):
    """The map from smoothed values to the remaining life; see ``models.remaining``."""

    unit: str = Field(max_length=16, description="Of the life, e.g. h")
    unit_samples: Positive = Field(description="Samples in one unit of life")
    cap: Positive = Field(description="Longest life that is predicted, in unit")
    spans_samples: list[Span] = Field(
        min_length=1, max_length=SPANS_MAX, description="Spans of the smoothed values"
    )
    by_age: bool = Field(description="Whether the age of the machine is an input, too")
    mean: list[Finite] = Field(description="Per input: by span and scored channel, then the age")
    scale: list[NotNegative] = Field(description="Per input; 0: the input is not used")
    weights: list[Finite] = Field(
        description="Per input, then per square of an input, then the constant; in unit"
    )
    stride_samples: int = Field(
        ge=1, le=SAMPLES_MAX, description="Samples from one prediction to the next"
    )
    levels: list[Share] = Field(
        min_length=3, max_length=31, description="Quantiles, rising, symmetric about 0.5"
    )
    offsets: list[list[Finite]] = Field(
        min_length=1,
        max_length=100,
        description="From the prediction to each quantile, in unit, per equal part of 0 to cap",
    )

    @property
    def inputs(self) -> int:
        """``F``, the number of inputs."""
        return len(self.mean)

    @model_validator(mode="after")
    def _consistent(self) -> RemainingPart:
        check_levels("levels", self.levels)
        if not {0.1, 0.9} <= set(self.levels):
            raise ValueError("levels lack those of the 80 % interval, 0.1 and 0.9")
        if len(self.scale) != self.inputs or len(self.weights) != 2 * self.inputs + 1:
            raise ValueError(f"scale and weights do not fit {self.inputs} inputs")
        if any(len(offsets) != len(self.levels) for offsets in self.offsets):
            raise ValueError(f"offsets must have {len(self.levels)} values in each part")
        if any(a > b for row in self.offsets for a, b in itertools.pairwise(row)):
            raise ValueError("offsets do not rise")
        return self


class KnownAnswers(_Part):
    """Samples with the trainer's scores. They are replayed before a bundle is used."""

    file: Literal["known_answers.json"] = KNOWN_ANSWERS
    tolerance: Positive = Field(description="Largest difference of a score, absolute + relative")


class DataPart(_Part):
    """Readings that a training used, as they were recorded: before any preparation."""

    digest: str = Field(pattern=DIGEST, description="See docs/lineage.md")
    rows: int = Field(ge=0, description="Different times with a value")
    first: str = Field("", description="Time of the first row, RFC 3339; empty without rows")
    last: str = Field("", description="Time of the last row")


class DataSource(_Part):
    """A recording, as the training found it."""

    name: str
    sha256: str = Field(description="Of its bytes")
    dvc: str | None = Field(None, description="Hash that DVC tracks it or its folder by")
    query: str | None = Field(None, description="Of the database that it is from")

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), dvc=None, query=None)


class DataUsed(_Part):
    """The values that a training used; the same for every file format and partitioning."""

    digest: str = Field(pattern=DIGEST, description="Of everything below, except the sources")
    channels: dict[str, DataPart] = Field(
        description="By name of the column's channel or source: its readings in all recordings"
    )
    parts: dict[str, DataPart] = Field(
        description="train, calibrate, test, and of other recordings lives, evaluate, labels"
    )
    sources: list[DataSource] = Field(description="Every file that was read")


class Code(_Part):
    """The version of the code that trained."""

    version: str
    commit: str | None = Field(None, description="Of git; None: it was not run in a git tree")
    dirty: bool | None = Field(
        None, description="Whether the tree had changes that the commit lacks; None: no git tree"
    )


class SharedNetwork(_Part):
    """The training of a network that the streams of a type of machine share."""

    type: str
    streams: dict[str, str] = Field(
        description="Digest of the data of each stream that it was trained on, by name"
    )


class Lineage(_Part):
    """The origin of the bundle."""

    data_digest: str = Field(description="sha256 over the recordings, in order")
    data_files: list[str]
    parts: dict[str, tuple[str, str, int]] = Field(
        description="train, calibrate, test: first time, last time, number of samples"
    )
    config_digest: str
    seed: int
    software: dict[str, str]
    time_column: str = Field("time", description="Column of the recordings' times")
    clock_column: str | None = Field(
        None, description="Column of the time of day, if time_column has only the date"
    )
    columns: dict[str, str] = Field(
        {}, description="Columns of the channels whose column has another name"
    )
    cuts: list[tuple[str, str]] = Field(
        [], description="Begin and end of what labels cut out of the recordings"
    )
    data: DataUsed | None = Field(None, description="None: an older version did not record it")
    code: Code | None = Field(None, description="None: an older version did not record it")
    seeds: dict[str, int] = Field({}, description="By the table of the configuration")
    shared: SharedNetwork | None = Field(
        None, description="Of the network; None: it was trained on the data of this bundle"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later: dict[str, Any] = {"data": None, "code": None, "seeds": {}, "shared": None}
        return _without(
            serialize(self), time_column="time", clock_column=None, columns={}, cuts=[], **later
        )


class FilePart(_Part):
    """Size and digest of one part."""

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=DIGEST)


class StreamRules(Protocol):
    """The properties of a stream for every detector: of a manifest, or of settings without one."""

    @property
    def name(self) -> str:
        """Name of the bundle or of the settings."""

    @property
    def version(self) -> int:
        """Counts up with each training of the same name, from 1."""

    @property
    def detector(self) -> str:
        """Name of the family."""

    @property
    def channels(self) -> list[Channel]:
        """The ``C`` channels of a sample, with their units, in the order of its columns."""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the ``C`` channels, in order."""

    @property
    def scored(self) -> list[int]:
        """Indices of the channels that are predicted and scored, rising, at least one."""

    @property
    def sources(self) -> Sequence[Source]:
        """The ``S`` raw channels that features are computed from."""

    @property
    def source_channels(self) -> list[Channel]:
        """The columns of a reading: the channels that are no features, then the sources."""

    @property
    def sampling(self) -> Sampling:
        """The grid and the treatment of gaps; its period is in seconds."""

    @property
    def events(self) -> Events:
        """The rules that open and close events, in samples."""

    @property
    def tail(self) -> Tail | None:
        """Probabilities of scores; None: the detector has none."""

    @property
    def severities(self) -> Severities:
        """The severity of each probability."""


class Manifest(_Part):
    """The keys of every family's manifest. The digest and the signature are of its bytes.

    ``detector`` is the tag of the form, see ``MANIFESTS``.
    """

    format_version: int = Field(description="1, or 2 where the family came with that format")
    name: str = Field(pattern=BUNDLE)
    version: int = Field(ge=1, description="Counts up with each training of the same name")
    created: str = Field(description="RFC 3339, UTC")
    detector: str = Field(description="The family; named in every score, alarm and message")
    channels: list[Channel] = Field(min_length=1)
    sources: list[Source] = Field(
        [], max_length=SOURCES_MAX, description="Raw channels from which features are computed"
    )
    sampling: Sampling
    events: Events
    tail: Tail | None = Field(None, description="None: the detector has no probabilities")
    severities: Severities
    known_answers: KnownAnswers
    lineage: Lineage
    metrics: Annotated[dict[str, Any], AfterValidator(_json)] = Field(
        description="Measured on the test part, with the deployed code"
    )
    files: dict[str, FilePart]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = self.channel_names
        if len(set(names)) != len(names):
            raise ValueError("channel names are not unique")
        if not self.scored:
            raise ValueError("no channel is scored")
        check_features(
            {channel.name: channel.feature for channel in self.channels},
            self.sources,
            self.sampling,
        )
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), sources=[])

    @property
    def parts_needed(self) -> tuple[str, ...]:
        """Names of the parts without which a bundle cannot score."""
        return (self.known_answers.file,)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels in the detector's order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def source_channels(self) -> list[Channel]:
        """The columns of a reading: the channels that are no features, then the sources."""
        passing = [channel for channel in self.channels if channel.feature is None]
        return passing + [
            unscaled(source.name, source.unit, source.low, source.high) for source in self.sources
        ]

    @property
    def scored(self) -> list[int]:
        """Indices of the channels that are predicted and scored."""
        return [position for position, channel in enumerate(self.channels) if channel.scored]

    def to_bytes(self) -> bytes:
        """Return the canonical form: JSON, sorted keys, two spaces, one newline at the end."""
        return _canonical(self.model_dump(mode="json"))


class TelemanomManifest(Manifest):
    """The manifest of a network that predicts the next sample; see ``models.pipeline``."""

    format_version: Literal[1] = 1
    detector: Literal["telemanom"] = TELEMANOM
    network: NetworkPart
    smoothing: Smoothing
    threshold: Threshold
    level: LevelPart | None = Field(None, description="None: no error row is a channel's level")
    forecaster: ForecastPart | None = Field(None, description="None: nothing is forecast")
    remaining: RemainingPart | None = Field(
        None, description="None: the remaining life is not predicted"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), sources=[], level=None, remaining=None)

    @model_validator(mode="after")
    def _fitting(self) -> TelemanomManifest:
        if len(set(self.network.heads)) != len(self.network.heads):
            raise ValueError("network.heads are not unique")
        if self.network.state_size != 2 * sum(self.network.layers):
            raise ValueError("network.state_size is not h and c of network.layers")
        if len(self.threshold.floor) != self.error_rows:
            raise ValueError(f"threshold.floor must have {self.error_rows} values")
        if self.level is not None and len(self.level.middle) != len(self.scored):
            raise ValueError(f"level.middle must have {len(self.scored)} values")
        if self.forecaster is not None:
            _check_forecaster(self.forecaster, self.channels)
        if self.remaining is not None:
            self._check_remaining(self.remaining)
        return self

    def _check_remaining(self, part: RemainingPart) -> None:
        if REMAINING_LIFE in self.channel_names:
            raise ValueError(f"a channel has the name {REMAINING_LIFE!r}, as the remaining life")
        if part.inputs != len(part.spans_samples) * len(self.scored) + part.by_age:
            raise ValueError("remaining.mean does not fit the scored channels")

    @property
    def parts_needed(self) -> tuple[str, ...]:
        """Names of the parts without which a bundle cannot score."""
        forecaster = () if self.forecaster is None else (self.forecaster.file,)
        return (self.network.file, *forecaster, self.known_answers.file)

    @property
    def error_rows(self) -> int:
        """``R``, the smoothed errors of a sample: by span, head and channel, then the levels."""
        return len(self.smoothing.spans_samples) * self.prediction_size + self.level_rows

    @property
    def level_rows(self) -> int:
        """The last error rows, which are levels: one per scored channel, or none."""
        return 0 if self.level is None else len(self.scored)

    @property
    def prediction_size(self) -> int:
        """``P``, the predicted values of a sample: one per head and scored channel."""
        return len(self.network.heads) * len(self.scored)


class HampelManifest(Manifest):
    """The manifest of a robust distance from the median; see ``models.baseline``."""

    format_version: Literal[2] = 2
    detector: Literal["hampel"] = HAMPEL
    baseline: BaselinePart

    @model_validator(mode="after")
    def _fitting(self) -> HampelManifest:
        part = self.baseline
        check_baseline(self.channels, part.resolution, self.sampling, part.history_samples)
        return self


class ForeignManifest(Manifest):
    """The manifest of another package's family, which checks ``settings`` itself."""

    format_version: Literal[2] = 2
    detector: str = Field(pattern=BUNDLE)
    settings: Annotated[dict[str, Any], AfterValidator(_json)] = Field(
        {}, description="Settings of the family"
    )


# by ``detector``; all other families are foreign
MANIFESTS: Final[Mapping[str, type[Manifest]]] = {
    TELEMANOM: TelemanomManifest,
    HAMPEL: HampelManifest,
}


def _canonical(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def check_baseline(
    channels: Sequence[Channel],
    resolution: Sequence[float],
    sampling: Sampling,
    history_samples: int,
) -> None:
    """Check that the settings of a baseline fit each other.

    Raises:
        ValueError: they do not.

    """
    check_resolution(channels, resolution)
    if sampling.warm_up_samples > history_samples:
        raise ValueError("sampling.warm_up_samples is more than history_samples")


def check_novelty(channels: int, entries: int, entry_samples: float) -> None:
    """Check that a history of novelty is no longer and no larger than a gateway can keep.

    Raises:
        ValueError: it is; the text says what to change.

    """
    if entry_samples > SAMPLES_MAX:
        raise ValueError(
            f"an entry of the history has {entry_samples:.3g} samples, over {SAMPLES_MAX}: keep"
            " fewer days, or more entries"
        )
    kept = 4 * NOVELTY_ROWS * channels * entries
    if kept > ERRORS_KEPT_BYTES_MAX:
        raise ValueError(
            f"the history of {channels} channels takes {kept} bytes, over"
            f" {ERRORS_KEPT_BYTES_MAX}: lower history_entries"
        )


def check_resolution(channels: Sequence[Channel], resolution: Sequence[float]) -> None:
    """Check that each channel has a resolution.

    Raises:
        ValueError: they are not as many.

    """
    if len(resolution) != len(channels):
        raise ValueError("resolution needs a value per channel")


def check_features(
    channels: Mapping[str, Feature | None], sources: Sequence[Source], sampling: Sampling
) -> None:
    """Check that features, by the name of their channel, and sources fit each other.

    Raises:
        ValueError: they do not.

    """
    by_name = {source.name: source for source in sources}
    if len(by_name) < len(sources):
        raise ValueError("names of sources are not unique")
    passing = {name for name, feature in channels.items() if feature is None}
    if both := sorted(by_name.keys() & passing):
        raise ValueError(f"{both[0]} is a channel and a source")
    for source in sources:
        _check_source(source, sampling)
    features = {name: feature for name, feature in channels.items() if feature is not None}
    for name, feature in features.items():
        _check_feature(name, feature, by_name)
    if idle := sorted(by_name.keys() - {feature.source for feature in features.values()}):
        raise ValueError(f"no feature is computed from source {idle[0]}")


def _check_source(source: Source, sampling: Sampling) -> None:
    if source.low is not None and source.high is not None and source.low >= source.high:
        raise ValueError(f"source {source.name}: low {source.low} is not below high {source.high}")
    if source.rate_hz * sampling.period_s < 1 - 1e-9:
        raise ValueError(
            f"source {source.name}: {source.rate_hz:g} Hz is slower than the grid, a period of"
            f" which is {sampling.period_s:g} s: make it a channel, or set a longer period"
        )
    if (periods := source.periods(sampling)) > WINDOW_PERIODS_MAX:
        raise ValueError(
            f"source {source.name}: a window is {periods} periods of the grid long, over"
            f" {WINDOW_PERIODS_MAX}"
        )


def _check_feature(name: str, feature: Feature, sources: Mapping[str, Source]) -> None:
    source = sources.get(feature.source)
    if source is None:
        raise ValueError(f"channel {name}: there is no source {feature.source}")
    if feature.samples is not None and feature.samples > source.window_samples:
        raise ValueError(
            f"channel {name}: samples {feature.samples} is over window_samples"
            f" {source.window_samples} of source {source.name}"
        )
    if feature.low_hz is None or feature.high_hz is None:
        return
    if feature.high_hz > source.rate_hz / 2:
        raise ValueError(
            f"channel {name}: high_hz {feature.high_hz:g} is over half of the rate of source"
            f" {source.name}, {source.rate_hz:g} Hz"
        )
    resolution = source.rate_hz / (feature.samples or source.window_samples)
    if feature.high_hz - feature.low_hz < resolution:
        raise ValueError(
            f"channel {name}: a band of {feature.high_hz - feature.low_hz:g} Hz is narrower than"
            f" the resolution of a window, {resolution:g} Hz: increase window_samples"
        )


def coupling_weights(leads: int, channels: int, spans: int, plannable: int) -> int:
    """Return how many weights a coupling has; at most ``OFFSETS_MAX`` fit into a bundle."""
    return leads * channels * (spans * channels + 1 + 2 * plannable)


def command_weights(
    leads: int, scored: int, spans: int, columns: int, plans: int, taps: int
) -> int:
    """Return how many weights commands have; at most ``OFFSETS_MAX`` fit into a bundle.

    ``columns``: of all commands; ``plans``: of those whose future may be given.
    """
    given = leads * (scored * (spans * columns + 1) + plans * (spans + 1))
    return given + scored * plans * taps


def _check_coupling(part: CouplingPart, channels: int, leads: int) -> None:
    """Refuse weights that do not fit, or that are too many."""
    inputs, plans = len(part.spans_steps) * channels + 1, 2 * len(part.plannable)
    _check_shape("coupling.weights", part.weights, (leads, channels, inputs))
    _check_shape("coupling.effects", part.effects, (leads, channels, plans))
    if coupling_weights(leads, channels, len(part.spans_steps), len(part.plannable)) > OFFSETS_MAX:
        raise ValueError(f"forecaster.coupling has more than {OFFSETS_MAX} weights")
    _check_indices("coupling.plannable", part.plannable, channels)


def _check_commands(part: CommandsPart, channels: Sequence[Channel], leads: int) -> None:
    """Refuse commands that are none, and weights that do not fit or are too many."""
    scored, spans = sum(channel.scored for channel in channels), len(part.spans_steps)
    _check_indices("commands.plannable", part.plannable, len(part.channels), "command")
    _check_indices("commands.channels", part.channels, len(channels), "channel")
    if any(channels[at].scored for at in part.channels):
        raise ValueError("commands.channels has a channel that is scored")
    columns, plans = sum(part.columns), sum(part.columns[at] for at in part.plannable)
    if part.weights:
        _check_shape("commands.weights", part.weights, (leads, scored, spans * columns + 1))
    _check_shape("commands.expected", part.expected, (plans, leads, spans + 1))
    _check_shape("commands.response", part.response, (scored, plans, len(part.taps_steps)))
    if command_weights(leads, scored, spans, columns, plans, len(part.taps_steps)) > OFFSETS_MAX:
        raise ValueError(f"forecaster.commands has more than {OFFSETS_MAX} weights")


def _rise(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


def _check_indices(name: str, found: list[int], count: int, what: str = "scored channel") -> None:
    if any(at >= count for at in found):
        raise ValueError(f"{name} has an index that no {what} has")
    if len(set(found)) != len(found):
        raise ValueError(f"{name} has an index twice")


def _check_forecaster(part: ForecastPart, every: Sequence[Channel]) -> None:
    """Refuse offsets that do not fit, or that would take a gateway's memory."""
    channels = sum(channel.scored for channel in every)
    shape = (len(part.quantiles), channels, len(part.intervals.leads_steps))
    _check_shape("intervals.offsets", part.intervals.offsets, shape)
    if part.intervals.aggregated is not None:
        _check_shape("intervals.aggregated.widths", part.intervals.aggregated.widths, shape)
        check_intervals(*shape, rates=len(part.intervals.aggregated.rates))
    count = shape[0] * shape[1] * shape[2]
    if count > OFFSETS_MAX:
        raise ValueError(f"forecaster.intervals.offsets are more than {OFFSETS_MAX}")
    if part.coupling is not None:
        _check_coupling(part.coupling, channels, shape[2])
    if part.commands is not None:
        _check_commands(part.commands, every, shape[2])
    if part.calendar is not None:
        hours = CYCLES[part.calendar.cycle]
        _check_shape("calendar.usual", [part.calendar.usual], (1, channels, hours))
    _check_indices("held", part.held, channels)
    pending = 4 * part.slots * count
    if pending > PENDING_BYTES_MAX:
        raise ValueError(
            f"forecasts that wait take {pending} bytes, over {PENDING_BYTES_MAX}: make"
            " forecaster.stride_steps longer"
        )


def check_intervals(quantiles: int, channels: int, leads: int, rates: int) -> None:
    """Refuse intervals whose learnt state (``models.aggregated.Learnt``) takes too much memory.

    Raises:
        ValueError: it has more than ``LEARNT_BYTES_MAX`` bytes.

    """
    own = (rates + 1) * quantiles * channels * leads  # and as many losses
    learnt = 8 * (2 * own + quantiles * leads + quantiles)
    if learnt > LEARNT_BYTES_MAX:
        raise ValueError(
            f"intervals of {quantiles} quantiles, {channels} scored channels and {leads} leads"
            f" learn {learnt} bytes, over {LEARNT_BYTES_MAX}: reduce one of them"
        )


def _check_shape(
    name: str, values: Sequence[Sequence[Sequence[float]]], shape: tuple[int, int, int]
) -> None:
    if (
        len(values) != shape[0]
        or any(len(rows) != shape[1] for rows in values)
        or any(len(row) != shape[2] for rows in values for row in rows)
    ):
        raise ValueError(f"forecaster.{name} are not {shape}")


def manifest_of(source: str, data: bytes) -> Manifest:
    """Return the manifest with these bytes.

    Args:
        source: names the bundle in errors.
        data: the bytes of ``manifest.json``.

    Raises:
        BundleCorrupt: the bytes are no manifest, or its metrics are those of another bundle.
        BundleTooNew: a newer version of this software wrote it.
        FamilyUnknown: no installed package knows its family.

    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleCorrupt(f"{source}: {MANIFEST} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BundleCorrupt(f"{source}: {MANIFEST} is no JSON object")
    version = document.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleTooNew(
            f"{source}: format_version {version}; this software reads up to {FORMAT_VERSION}:"
            " update fieldwatch on the gateway first"
        )
    try:
        manifest = _form(source, document).model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BundleCorrupt(f"{source}: {MANIFEST}: {where}: {reason(first)}") from error
    _check_evaluated(source, manifest, data)
    return manifest


def evaluated_digest(data: bytes) -> str:
    """Return the digest of a manifest without its metrics, 64 hexadecimal digits.

    The trainer evaluates the file with this digest, and then adds nothing but the metrics. ``data``
    are the bytes of ``manifest.json``.
    """
    return hashlib.sha256(_canonical(json.loads(data) | {"metrics": {}})).hexdigest()


def _check_evaluated(source: str, manifest: Manifest, data: bytes) -> None:
    """Refuse the metrics of another bundle; in older bundles, metrics do not name theirs."""
    said = manifest.metrics.get(EVALUATED)
    if said is not None and said != (found := evaluated_digest(data)):
        raise BundleCorrupt(
            f"{source}: {MANIFEST}: metrics.{EVALUATED} does not match: another file was evaluated;"
            f" the digest of this file without its metrics is {found}: train it again"
        )


def _form(source: str, document: Mapping[str, Any]) -> type[Manifest]:
    """Return the form of the document's family; without a family, that of the first format."""
    family = document.get("detector", TELEMANOM)
    if not isinstance(family, str) or not re.fullmatch(BUNDLE, family):
        raise BundleCorrupt(f"{source}: {MANIFEST}: detector: not a valid name of a model family")
    if family in MANIFESTS:
        return MANIFESTS[family]
    foreign = foreign_families()
    if family in foreign:
        return ForeignManifest
    raise FamilyUnknown(
        f"{source}: its model is of the family {family!r}, which nothing installed here knows;"
        f" known are {', '.join(sorted([*MANIFESTS, *foreign]))}. Install the package that"
        f" brings {family!r} (its entry point is in the group {FAMILIES}), or use another bundle"
    )


def foreign_families() -> list[str]:
    """Return the sorted names of the families of other packages, without loading any."""
    from importlib.metadata import entry_points  # takes 1 MB, which few need

    return sorted(entry_points(group=FAMILIES).names - MANIFESTS.keys())
