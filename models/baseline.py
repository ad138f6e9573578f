"""The family ``hampel``: robust distance from the median of normal operation, without a network.

It also scores streams without a bundle. Its settings are then in the gateway's configuration.

It is a streaming Hampel identifier (Hampel, JASA 1974): per channel, the distance of a value from
the median of a bounded history, in robust standard deviations. It needs no training, and it ignores
relations between channels and over time. It is for streams that have no network yet.

- **The history contains only normal values**, like that of the dynamic threshold. Values outside
  the limits are left out. Nothing enters while an anomaly is open, until ``adapt_samples`` make it
  the new normal.
- **Exact for constant signals**: a value equal to all values before it is never outside. Any change
  above the channel's resolution is outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.bundle import Bundle
from models.events import EventState, Recent
from models.history import History
from models.manifest import (
    AdaptSamples,
    HampelManifest,
    HistorySamples,
    Positive,
    StreamRules,
    UpdateSamples,
    check_baseline,
)
from models.messages import ALL, FLOAT32_TINY, Bool, Event, Float32, Samples
from models.names import HAMPEL
from models.sensors import SensorState
from models.threshold import RATIO_MAX, Exceedance
from models.validation import Field, model_validator
from models.watching import Watcher, WatchSettings

NORMAL_MAD: Final = 1.4826  # standard deviations per median absolute deviation, normal distribution
NORMAL_QUANTILES: Final = (0.005, 0.995)
NORMAL_SPAN: Final = 5.15  # standard deviations between these quantiles
RESOLUTION: Final = 1e-6  # relative to a value; float32 cannot represent smaller differences


class BaselineSettings(WatchSettings):
    """Everything that changes a score of the baseline."""

    history_samples: HistorySamples = 1000
    update_samples: UpdateSamples = 50
    deviations_max: Positive = Field(6.0, description="A value farther from the median is outside")
    adapt_samples: AdaptSamples

    @model_validator(mode="after")
    def _consistent(self) -> BaselineSettings:
        check_baseline(self.channels, self.resolution, self.sampling, self.history_samples)
        return self

    @classmethod
    def of(cls, manifest: HampelManifest) -> BaselineSettings:
        """Return the settings of a bundle."""
        return cls(
            name=manifest.name,
            channels=manifest.channels,
            sampling=manifest.sampling,
            events=manifest.events,
            severities=manifest.severities,
            **dict(manifest.baseline),
        )

    @property
    def detector(self) -> str:
        """The detector's name in events."""
        return HAMPEL


@dataclass(eq=False, slots=True)
class BaselineState:
    """The memory of one stream, of constant size. A row ``R`` is a scored channel."""

    history: History  # normal values of each scored channel, in its unit
    median: Float32  # (R,) in the channels' units; NaN until there are enough values
    deviation: Float32  # (R,) robust standard deviation, in the channels' units
    outside: Bool  # (U, R) which values of the block are outside
    recent: Recent  # the block
    pending: int  # rows of the block in use
    sensors: SensorState
    events: EventState


class Baseline(Watcher[BaselineState]):
    """Scores streams without a network. It holds the settings but no memory.

    Errors are dimensionless: the distance from the median, 1 at ``deviations_max`` robust standard
    deviations. A row is a scored channel.
    """

    def __init__(self, settings: BaselineSettings, sealed: Bundle | None = None) -> None:
        """``sealed`` is the bundle with the settings; None: they come from a configuration."""
        self._settings = settings
        self._scored = settings.scored
        self._resolution = np.array(settings.resolution, np.float32)[self._scored]
        rules: StreamRules = settings if sealed is None else sealed.manifest
        digest = settings.digest if sealed is None else sealed.digest
        super().__init__(rules, digest, len(self._scored), settings.update_samples)

    def _start(self) -> BaselineState:
        settings, rows = self._settings, len(self._scored)
        block, channels = settings.update_samples, len(settings.channels)
        return BaselineState(
            history=History.empty(rows, settings.history_samples),
            median=np.full(rows, np.nan, np.float32),
            deviation=np.full(rows, np.nan, np.float32),
            outside=np.zeros((block, rows), np.bool_),
            recent=Recent.empty((block,), channels),
            pending=0,
            sensors=self._sensors.start(),
            events=self._events.start(),
        )

    def _block(
        self, state: BaselineState, block: Samples, ratio: Float32, expected: Float32
    ) -> list[Event]:
        expected[:, self._scored] = state.median
        ratio[:] = self._ratio(state, block)
        return self._judge(state, block, ratio, expected)

    def _ratio(self, state: BaselineState, block: Samples) -> Float32:
        """Return the distance from the median in units of the limit, (n, R)."""
        limit = state.deviation * np.float32(self._settings.deviations_max)
        with np.errstate(over="ignore"):  # infinity is clipped later
            ratio = np.abs(block.values[:, self._scored] - state.median) / limit
        return np.asarray(np.minimum(ratio, RATIO_MAX))

    def _judge(
        self, state: BaselineState, block: Samples, ratio: Float32, expected: Float32
    ) -> list[Event]:
        begin, end = state.pending, state.pending + len(ratio)
        state.recent.times[begin:end] = block.times
        state.recent.observed[begin:end] = block.values
        state.recent.expected[begin:end] = expected
        state.outside[begin:end] = ratio > 1
        state.pending = end
        runs = self._sensors.step(state.sensors, ALL, block.values[:, None]).of(0)
        seen = Exceedance(np.ones_like(ratio), ratio, ratio > 1)
        events = self._events.step(state.events, state.recent, begin, seen, runs)
        if end == self._settings.update_samples:
            self._update(state)
        return events

    def _update(self, state: BaselineState) -> None:
        """Move the full block's normal values to the history; recompute median and deviation."""
        state.pending = 0
        open_samples = state.events.open_samples
        if open_samples is not None:
            if open_samples < self._settings.adapt_samples:
                return
            state.history.forget(np.asarray(state.outside.any(axis=0)))
            state.outside[:] = False
        for row, channel in enumerate(self._scored):
            values = state.recent.observed[:, channel]
            state.history.remember(row, values[~np.isnan(values) & ~state.outside[:, row]])
            self._limit(state, row)

    def _limit(self, state: BaselineState, row: int) -> None:
        kept = state.history.kept(row)
        first = np.isnan(state.median[row])
        if len(kept) < (max(self._settings.sampling.warm_up_samples, 1) if first else 1):
            return
        median = np.median(kept)
        spread = float(np.median(np.abs(kept - median))) * NORMAL_MAD
        # a channel with few levels may have a median deviation of 0 although its value changes
        low, high = np.quantile(kept, NORMAL_QUANTILES)
        least = max(float(self._resolution[row]), RESOLUTION * abs(float(median)))
        floor = max(least / self._settings.deviations_max, FLOAT32_TINY)
        state.median[row] = median
        state.deviation[row] = max(spread, float(high - low) / NORMAL_SPAN, floor)

    def _own_arrays(self, state: BaselineState) -> dict[str, np.ndarray[Any, Any]]:
        return {
            "median": state.median,
            "deviation": state.deviation,
            "outside": state.outside[: state.pending],
        }
