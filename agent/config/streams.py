"""Tables of the configuration within a stream: the baseline, limits, forecasts, alarms."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Final, Literal, get_args

from agent.config.kinds import Count
from agent.handling.states import Consequence
from agent.wording.message import Message, Value
from models.manifest import (
    PERIOD_S_MIN,
    SAMPLES_MAX,
    Finite,
    HistoryEntries,
    NotNegative,
    Positive,
    Reach,
    check_novelty,
)
from models.names import CHANNEL, usable_channel
from models.settings import Table
from models.times import unix_s
from models.validation import AfterValidator, Field, model_validator

DEVIATIONS_MAX: Final = 6.0  # where the median decides
HISTORY_SAMPLES: Final = 1000  # of it
HISTORY_DAYS_MAX: Final = 3_660
DAY_S: Final = 86_400.0
ACTION_CHARS_MAX: Final = 500  # of a text that each alarm has


def _instant(text: str) -> str:
    try:
        unix_s(_OFFSET.sub("", text) + "Z")
    except ValueError:
        raise ValueError("is no time as in RFC 3339, e.g. 2026-03-01T00:00:00Z") from None
    if not _OFFSET.search(text):
        raise ValueError("there is no zone: end it with Z or an offset such as +01:00")
    return text


_OFFSET: Final = re.compile(r"([Zz]|[+-]\d\d:\d\d)$")
Instant = Annotated[str, AfterValidator(_instant)]  # RFC 3339


class BaselineChannelTable(Table):
    """One channel of a stream without a bundle."""

    name: Annotated[str, AfterValidator(usable_channel)] = Field(
        min_length=1, max_length=64, pattern=CHANNEL, description="Unique; not time"
    )
    unit: str = Field("", max_length=16, description="As shown to people, e.g. mm/s")
    low: Finite | None = Field(None, description="A reading below this is rejected, in unit")
    high: Finite | None = Field(None, description="A reading above this is rejected, in unit")
    resolution: NotNegative = Field(0.0, description="Smallest change that matters, in unit")

    @model_validator(mode="after")
    def _ordered(self) -> BaselineChannelTable:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class BaselineTable(Table):
    """Watches a stream without a bundle; it learns from the first day what is usual.

    By default each channel is compared with the range of what was seen before. With deviations_max
    or history_samples, it is compared with its median instead.
    """

    period_s: Annotated[float, Field(ge=PERIOD_S_MIN, allow_inf_nan=False)] = Field(
        description="Time from one sample to the next; readings are put on this grid"
    )
    channels: list[BaselineChannelTable] = Field(min_length=1, description="In any order")
    reach: Reach = Field(
        1.3,
        description="An anomaly is farther from the middle of the range than this, in half ranges",
    )
    history_days: Annotated[float, Field(gt=0, le=HISTORY_DAYS_MAX, allow_inf_nan=False)] = Field(
        14.0, description="The range covers this many days"
    )
    history_entries: HistoryEntries = Field(
        4032,
        description="Number of entries in these days, each with its largest and smallest value",
    )
    season_s: Positive = Field(86_400.0, description="Length of the season, usually a day")
    deviations_max: Positive | None = Field(
        None,
        description="Compare with the median instead: values farther from it than this, in robust"
        " deviations, are an anomaly; default with history_samples: 6",
    )
    history_samples: int | None = Field(
        None,
        ge=20,
        le=100_000,
        description="Compare with the median of this many normal values; default with"
        " deviations_max: 1000",
    )
    update_samples: int = Field(
        50, ge=1, le=10_000, description="Samples between two updates of the limits"
    )
    warm_up_samples: int = Field(
        200, ge=1, le=100_000, description="Samples before the first score"
    )
    adapt_samples: int = Field(
        432_000, ge=1, le=SAMPLES_MAX, description="An anomaly that lasts longer is the new normal"
    )
    missing_samples: int = Field(
        25, ge=1, le=SAMPLES_MAX, description="Samples without a value until a 'missing' alarm"
    )
    on_samples: int | None = Field(
        None,
        ge=1,
        le=SAMPLES_MAX,
        description="Samples outside until an alarm; default: 1, with the median 3",
    )
    off_samples: int = Field(
        150, ge=1, le=SAMPLES_MAX, description="Samples inside until the alarm closes"
    )
    deadband: float = Field(
        0.7, gt=0, le=1, description="The alarm closes below this fraction of the limit"
    )
    further_ratio: float = Field(
        1.5,
        ge=0,
        le=1000,
        description="While an alarm is open, a further one opens for another channel, or for one"
        " that rises above this times what it had come to rest at, at least the limit; 0: never",
    )

    @property
    def by_median(self) -> bool:
        """Whether the median decides, and not the range."""
        return self.deviations_max is not None or self.history_samples is not None

    @model_validator(mode="after")
    def _consistent(self) -> BaselineTable:
        kept = self.history_samples or HISTORY_SAMPLES
        if self.by_median and self.warm_up_samples > kept:
            raise ValueError("warm_up_samples is more than history_samples")
        if not self.by_median:
            entry = self.history_days * DAY_S / self.period_s / self.history_entries
            longest = entry + self.update_samples  # it ends with an update
            check_novelty(len(self.channels), self.history_entries, longest)
        for name in repeated([channel.name for channel in self.channels]):
            raise ValueError(f"channel {name!r} occurs twice")
        if 0 < self.further_ratio < 1:
            raise ValueError(f"further_ratio {self.further_ratio:g}: 0, or at least 1")
        return self


class LimitTable(Table):
    """Engineering limits of one channel; an alarm opens if a value, or a forecast, passes one."""

    channel: str = Field(description="A channel of the stream's bundle or baseline")
    unit: str | None = Field(
        None, description="A safeguard: if set, it must be the channel's unit there"
    )
    high_critical: Finite | None = Field(None, description="Dangerous above this, in unit")
    high_warning: Finite | None = Field(None, description="Plan work above this, in unit")
    low_warning: Finite | None = Field(None, description="Plan work below this, in unit")
    low_critical: Finite | None = Field(None, description="Dangerous below this, in unit")
    on_delay_s: NotNegative = Field(
        0.0, description="An alarm opens when values have been beyond a limit for this long"
    )
    off_delay_s: NotNegative = Field(
        60.0, description="The alarm closes when values have been back for this long"
    )
    deadband: NotNegative = Field(
        0.0,
        description='"Back" means within the limit by at least this, in unit; it must be less than'
        " the distance from the low to the high limits",
    )
    action: str | None = Field(
        None,
        min_length=1,
        max_length=ACTION_CHARS_MAX,
        description="Advice in the alarms: what to do; absent: general advice",
    )
    high_action: str | None = Field(
        None, min_length=1, max_length=ACTION_CHARS_MAX, description="The same, for high limits"
    )
    low_action: str | None = Field(
        None, min_length=1, max_length=ACTION_CHARS_MAX, description="The same, for low limits"
    )

    def action_of(self, side: Literal["high", "low"]) -> str | None:
        """Return what to do about the limits of a side; None: the configuration does not say."""
        return (self.high_action if side == "high" else self.low_action) or self.action

    @model_validator(mode="after")
    def _ordered(self) -> LimitTable:
        rising = ("low_critical", "low_warning", "high_warning", "high_critical")
        given = [(name, getattr(self, name)) for name in rising if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"no limit: give one of {', '.join(rising)}")
        for (lower, low), (upper, high) in itertools.pairwise(given):
            if low >= high:
                raise ValueError(f"{lower} {low:g} is not below {upper} {high:g}")
        return self

    @model_validator(mode="after")
    def _deadband_is_between_the_sides(self) -> LimitTable:
        lows = [value for value in (self.low_critical, self.low_warning) if value is not None]
        highs = [value for value in (self.high_warning, self.high_critical) if value is not None]
        if lows and highs and self.deadband >= (apart := min(highs) - max(lows)):
            raise ValueError(
                f"deadband {self.deadband:g} is not below {apart:g}, the distance from the low to"
                " the high limit: an alarm of one would last until the value passes the other"
            )
        return self


class PredictionTable(Table):
    """When a forecast that passes a limit raises an alarm."""

    probability: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="An alarm opens at this probability of passing a limit within the horizon",
    )
    clear_probability: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="The alarm closes below this probability; the difference is the deadband",
    )
    on_forecasts: Count = Field(3, description="Forecasts in a row until the alarm opens")
    off_forecasts: Count = Field(3, description="Forecasts in a row until the alarm closes")

    @model_validator(mode="after")
    def _ordered(self) -> PredictionTable:
        if self.clear_probability > self.probability:
            raise ValueError(
                f"clear_probability {self.clear_probability:g} is above probability"
                f" {self.probability:g}"
            )
        return self


AlarmKind = Literal["anomaly", "stuck", "missing", "silent", "limit", "limit_passed"]
ALARM_KINDS: Final[tuple[AlarmKind, ...]] = get_args(AlarmKind)


class WhenTable(Table):
    """The condition of a suppression: values of a channel, or an alarm that is active."""

    stream: str | None = Field(
        None, description="The stream of the channel or the alarm; absent: this stream"
    )
    channel: str | None = Field(
        None, description="A channel of that stream; only measured values count"
    )
    above: Finite | None = Field(None, description="Fulfilled above this, in the channel's unit")
    below: Finite | None = Field(None, description="Fulfilled below this, in the channel's unit")
    deadband: NotNegative = Field(
        0.0, description="Once it applies, it ends this far beyond above or below"
    )
    alarm: AlarmKind | None = Field(
        None, description="In place of a channel: fulfilled while such an alarm is active"
    )
    on_delay_s: NotNegative = Field(
        0.0, description="The suppression begins after the condition was fulfilled for this long"
    )
    off_delay_s: NotNegative = Field(
        0.0, description="It ends after the condition was not fulfilled for this long"
    )
    unknown_s: Positive = Field(
        60.0,
        description="It also ends without a value for this long, because the condition is unknown"
        " then",
    )

    @model_validator(mode="after")
    def _of_one_thing(self) -> WhenTable:
        if (self.channel is None) == (self.alarm is None):
            raise ValueError("give either channel or alarm")
        bounds = [bound for bound in (self.above, self.below) if bound is not None]
        if self.channel is not None and not bounds:
            raise ValueError("channel needs above, below or both")
        if self.alarm is not None and (bounds or self.deadband):
            raise ValueError("above, below and deadband belong to a channel, not to an alarm")
        if len(bounds) == 2 and bounds[0] >= bounds[1]:
            low, high = bounds
            raise ValueError(f"above = {low:g}, below = {high:g}: no value is between the two")
        return self

    def message(self, own: str) -> Message:
        """Return the condition in words; ``own``: name of the stream that has it."""
        stream: dict[str, Value] = {"stream": self.stream or own}
        if self.channel is None:
            return Message("when.alarm", stream | {"kind": self.alarm})
        bounds: dict[str, Value] = {"above": self.above, "below": self.below}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        return Message(f"when.{'_'.join(given)}", stream | {"channel": self.channel} | given)


class SuppressTable(Table):
    """Alarms that mean nothing while a condition applies, such as: the machine is stopped."""

    when: WhenTable = Field(description="The condition")
    reason: str | None = Field(
        None,
        min_length=1,
        max_length=120,
        description="The condition in words, for the logbook; absent: made from when",
    )
    kinds: list[AlarmKind] | None = Field(
        None, min_length=1, description="Only alarms of these kinds; absent: of all kinds"
    )
    channels: list[str] | None = Field(
        None,
        min_length=1,
        description="Only alarms of these channels (stuck, missing, limit, limit_passed); absent:"
        " of all, and those of the whole stream",
    )

    @model_validator(mode="after")
    def _printable(self) -> SuppressTable:
        if self.reason is not None and not self.reason.isprintable():
            raise ValueError("reason must be one line of printable characters")
        return self


class RemainingTable(Table):
    """What the gateway knows of the machine, if the stream's bundle predicts its remaining life."""

    in_service_since: Instant | None = Field(
        None,
        max_length=40,
        description="When the machine was new or overhauled, RFC 3339; without it the age counts"
        " from the first sample of the stream",
    )


class StreamAlarmsTable(Table):
    """How people handle the alarms of a stream."""

    consequence: Consequence = Field(
        "major",
        description="What a failure of this machine costs; with the severity it gives the priority"
        " of the alarms",
    )
    latching: bool = Field(
        False,
        description="A cleared alarm stays latched until a person acknowledges and resets it",
    )
    window_samples: int = Field(
        240,
        ge=0,
        le=5000,
        description="Samples kept from before the onset of an alarm, and as many from after its"
        " opening, with the expected values and the scores; 0: none",
    )
    suppress: list[SuppressTable] = Field(
        default_factory=list,
        max_length=100,
        description="Alarms suppressed by design, while the machine is stopped for example",
    )


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)
