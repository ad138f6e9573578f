"""The family ``novelty``: the distance of a sample beyond the range of all earlier samples.

It watches streams without a bundle. It needs no training and no network, and learns from the first
sample on. It has four views of each scored channel:

    value    the sample itself
    change   its difference from the previous sample
    mean     an exponentially weighted mean of the last samples: shows shifts that noise hides
    season   its difference from the usual value at this time of the day

Each view has a bounded history. An entry covers one sample or some minutes, and consists of the
largest and the smallest value. A few entries at either end are left out (``dropped_share``); the
others span the range. A sample is outside if it is more than ``reach`` half ranges from the middle.
This is novelty detection by the range of a sliding window, a nonparametric tolerance interval
(Wilks, "Determination of Sample Sizes for Setting Tolerance Limits", 1941). It is applied to a
value and to residuals of simple predictions (the last value, the mean, the season).

- **Wide at first**: limits are about (1 + ``learning_entries`` / ``n``) times as wide after ``n``
  entries, and 11 times with the first entry, because few entries do not show the whole range.
- **Wider for many channels**: with more channels, one of them is beyond its range by chance more
  often.
- **It learns all samples**, because a value that was seen before is not novel. This does not end an
  alarm: while an alarm is open, the limits of value and mean from its beginning keep it open, for
  at most ``adapt_samples``.
- **Its own probabilities**: a tail is fitted to the scores of the entries in the history, and rates
  the alarms; see ``models.score_tail``. With fewer than ``TAIL_ENTRIES_MIN`` there is no tail.
- **Exact for constant signals**: a value equal to all values before it is never outside. Any change
  above the channel's resolution is outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.events import EventState, Recent
from models.forecaster import Forecaster, ForecastState
from models.history import History
from models.manifest import (
    SAMPLES_MAX,
    AdaptSamples,
    ForecastPart,
    HistoryEntries,
    Positive,
    Reach,
    Share,
    Tail,
    UpdateSamples,
    check_novelty,
    check_resolution,
)
from models.messages import (
    ALL,
    FLOAT32_MAX,
    FLOAT32_TINY,
    Bool,
    Event,
    Float32,
    Float64,
    Int64,
    Samples,
)
from models.names import NOVELTY
from models.score_tail import ScoreTail
from models.season_forecast import SeasonForecast, part_of, season_steps
from models.sensors import SensorState
from models.tail_fit import BODY_SHARES, fit
from models.threshold import RATIO_MAX, Exceedance
from models.validation import Field, model_validator
from models.watching import Watcher, WatchSettings

VIEWS: Final = ("value", "change", "mean", "season")
_CLEAREST: Final = ("season", "value", "change", "mean")  # for people, clearest first
BINS_MAX: Final = 500
TAIL_ENTRIES_MIN: Final = 500  # least number of scores for a tail, and so for probabilities
REFIT_ENTRIES: Final = 50  # entries between two fits of the tail
_SCORE_MAX = 10.0  # higher scores carry no more information about the tail
_TAIL_NUMBERS = 2 * len(BODY_SHARES) + 3
WIDER_MAX: Final = 10.0  # additional factor of the limits before the first entry
RESOLUTION: Final = 1e-6  # relative to a value; float32 cannot represent smaller differences

Int32 = npt.NDArray[np.int32]


class NoveltySettings(WatchSettings):
    """Everything that changes a score."""

    history_entries: HistoryEntries = 4032
    entry_samples: int = Field(
        1,
        ge=1,
        le=SAMPLES_MAX,
        description="Samples whose largest and smallest value are an entry: 1, or a multiple of"
        " update_samples",
    )
    update_samples: UpdateSamples = 50
    dropped_share: float = Field(
        0.001, ge=0, lt=0.5, description="Of the entries, at either end of the range, left out"
    )
    reach: Reach = 1.3
    learning_entries: float = Field(
        50.0, ge=0, le=SAMPLES_MAX, description="After so many entries limits are twice as wide"
    )
    mean_samples: float = Field(
        12.0, ge=1, le=SAMPLES_MAX, description="Span of the exponentially weighted mean"
    )
    season_s: Positive = Field(86_400.0, description="After this time a season begins again")
    season_bins: int = Field(
        96, ge=1, le=BINS_MAX, description="Parts of a season, with a mean each"
    )
    season_rate: Share = Field(0.3, description="Weight of the newest season, at least")
    adapt_samples: AdaptSamples
    foretells: bool = Field(False, description="Whether scored channels are forecast, too")

    @model_validator(mode="after")
    def _consistent(self) -> NoveltySettings:
        check_resolution(self.channels, self.resolution)
        check_novelty(len(self.scored), self.history_entries, self.entry_samples)
        if self.entry_samples > 1 and self.entry_samples % self.update_samples:
            raise ValueError("entry_samples is neither 1 nor a multiple of update_samples")
        return self

    @property
    def detector(self) -> str:
        """The detector's name in events."""
        return NOVELTY

    @property
    def season_steps(self) -> int:
        """The length of a season, in forecaster steps; a step is as long as a bin or a sample."""
        return season_steps(self.season_s, self._step_samples * self.sampling.period_s)

    @property
    def _step_samples(self) -> int:
        return max(1, round(self.season_s / self.season_bins / self.sampling.period_s))

    @property
    def forecaster(self) -> ForecastPart | None:
        """The forecaster of the scored channels; None: there is none, or a season is too short."""
        if not self.foretells:
            return None
        return part_of(self._step_samples, self.season_steps, len(self.scored))


def entry_samples(history_s: float, period_s: float, entries: int, update_samples: int) -> int:
    """Return the samples per entry with which ``entries`` entries cover ``history_s`` seconds."""
    samples = history_s / period_s / entries
    return 1 if samples <= 1 else math.ceil(samples / update_samples) * update_samples


@dataclass(eq=False, slots=True)
class Season:
    """The usual value at each time of the season: ``B`` bins, ``R`` scored channels."""

    bin: Int64  # (1,) number of the current bin since 1970; -1 before the first sample
    total: Float64  # (R,) sum of the values in the current bin, in the channels' units
    count: Int64  # (R,) number of these values
    profile: Float32  # (B, R) usual values in the channels' units; NaN: not seen yet
    seasons: Int32  # (B, R) number of seasons that each mean covers

    @staticmethod
    def empty(bins: int, channels: int) -> Season:
        """Return a season of so many bins without values."""
        return Season(
            bin=np.full(1, -1),
            total=np.zeros(channels),
            count=np.zeros(channels, np.int64),
            profile=np.full((bins, channels), np.nan, np.float32),
            seasons=np.zeros((bins, channels), np.int32),
        )


@dataclass(eq=False, slots=True)
class NoveltyState:
    """The memory of one stream, of constant size. A row is a scored channel in a view.

    There are ``R`` scored channels and ``V`` views; rows are ordered by view, then channel.
    """

    # the largest values of each row; if entries are longer, the smallest; then the scores
    history: History
    extremes: Float32  # (2, VR) largest and smallest of the entry in progress; NaN: none
    filled: Int64  # (1,) samples of the entry in progress
    heard: Int64  # (VR,) values ever seen
    middle: Float32  # (VR,) of the range; NaN until there are enough values
    scores: Float32  # (U,) largest ratio of each sample of the block
    peak: Float32  # (1,) the largest of the entry in progress
    tail: Float64  # of the scores, see ``_pack_tail``; NaN until there are enough scores
    limit: Float32  # (VR,) the largest distance from the middle that is not outside
    held_middle: Float32  # (VR,) the middle when the open alarm began; NaN: none is held
    held_limit: Float32  # (VR,) the limit at the same time
    last: Float32  # (R,) the previous sample, in the channels' units; NaN: none
    mean: Float64  # (R,) in the channels' units; NaN: none
    season: Season
    views: Float32  # (U, VR) the block
    recent: Recent  # the block
    pending: int  # rows of the block in use
    sensors: SensorState
    events: EventState
    forecast: ForecastState | None


class Novelty(Watcher[NoveltyState]):
    """Scores streams without a bundle. It holds the settings but no memory.

    Errors are dimensionless: the distance from the middle of the range, 1 at the limit.
    """

    def __init__(self, settings: NoveltySettings) -> None:
        self._settings = settings
        self._scored = settings.scored
        self._resolution = np.array(settings.resolution, np.float32)[self._scored]
        self._long = settings.entry_samples > 1
        # neighbouring means are similar, so they show less of the range than as many values
        self._alike = max(1.0, math.sqrt(settings.mean_samples / settings.entry_samples))
        # the season's usual values follow a fault, and a change is over at once
        views = np.repeat(VIEWS, len(self._scored))
        self._holding = (views == "value") | (views == "mean")
        rows, block = len(VIEWS) * len(self._scored), settings.update_samples
        super().__init__(settings, settings.digest, rows, block)
        if settings.forecaster is not None:
            self.forecaster = Forecaster(settings, SeasonForecast(settings.season_steps))

    def _start(self) -> NoveltyState:
        settings, channels, rows = self._settings, len(self._scored), self._rows
        block, width = settings.update_samples, len(settings.channels)

        def unknown(*shape: int) -> Float32:
            return np.full(shape, np.nan, np.float32)

        return NoveltyState(
            history=History.empty(rows * (1 + self._long) + 1, settings.history_entries),
            scores=unknown(block),
            peak=unknown(1),
            tail=np.full(_TAIL_NUMBERS, np.nan),
            extremes=unknown(2, rows),
            filled=np.zeros(1, np.int64),
            heard=np.zeros(rows, np.int64),
            middle=unknown(rows),
            limit=unknown(rows),
            held_middle=unknown(rows),
            held_limit=unknown(rows),
            last=unknown(channels),
            mean=np.full(channels, np.nan),
            season=Season.empty(settings.season_bins, channels),
            views=unknown(block, rows),
            recent=Recent.empty((block,), width),
            pending=0,
            sensors=self._sensors.start(),
            events=self._events.start(),
            forecast=None if self.forecaster is None else self.forecaster.start(),
        )

    def _own_arrays(self, state: NoveltyState) -> dict[str, np.ndarray[Any, Any]]:
        season = state.season
        return {
            "extremes": state.extremes,
            "filled": state.filled,
            "heard": state.heard,
            "middle": state.middle,
            "limit": state.limit,
            "scores": state.scores[: state.pending],
            "peak": state.peak,
            "tail": state.tail,
            "held_middle": state.held_middle,
            "held_limit": state.held_limit,
            "last": state.last,
            "mean": state.mean,
            "season_bin": season.bin,
            "season_total": season.total,
            "season_count": season.count,
            "season_profile": season.profile,
            "season_seasons": season.seasons,
            "views": state.views[: state.pending],
        }

    def _forecast_of(self, state: NoveltyState) -> ForecastState | None:
        return state.forecast

    def tail_of(self, states: list[NoveltyState], stream: int = 0) -> ScoreTail | None:
        """Return the tail that rates a stream's alarms; None: there are too few scores yet."""
        return _unpack_tail(states[stream].tail)

    def _block(
        self, state: NoveltyState, block: Samples, ratio: Float32, expected: Float32
    ) -> list[Event]:
        views = self._look(state, block, expected)
        ratio[:] = _ratio(views, state.middle, state.limit)
        self._explain(state, block, views, ratio, expected)
        return self._judge(state, block, views, ratio, expected)

    def _look(self, state: NoveltyState, block: Samples, expected: Float32) -> Float32:
        """Return the views (n, VR) of a block, and fill in ``expected`` (n, C)."""
        values = block.values[:, self._scored]
        before = np.concatenate([state.last[None], values[:-1]])
        state.last = values[-1].copy()
        ahead, means = self._means(state, values)
        usual = state.season.profile[self._bins(block.times) % self._settings.season_bins]
        expected[:, self._scored] = np.where(np.isnan(usual), ahead, usual)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is limited
            views = (values, values - before, means, values - usual)
        return np.concatenate(views, axis=1)

    def _explain(
        self,
        state: NoveltyState,
        block: Samples,
        views: Float32,
        ratio: Float32,
        expected: Float32,
    ) -> None:
        """Fill in ``expected`` (n, C) where a channel is outside, from its clearest view outside.

        The expected value lies in the middle of that view's range, or of the held range. The mean
        before the sample would be a bad choice: it follows a fault within a few samples, and people
        would hardly see a difference.
        """
        if not (ratio > 1).any():
            return
        shape = (len(ratio), len(VIEWS), len(self._scored))
        middle = np.where(np.isnan(state.held_middle), state.middle, state.held_middle)
        with np.errstate(over="ignore", invalid="ignore"):
            instead = block.values[:, None, self._scored] - (views - middle).reshape(shape)
        outside = (ratio.reshape(shape) > 1) & np.isfinite(instead)
        for view in reversed(_CLEAREST):
            at = outside[:, VIEWS.index(view)]
            mine = instead[:, VIEWS.index(view)]
            expected[:, self._scored] = np.where(at, mine, expected[:, self._scored])

    def _bins(self, times: Float64) -> Int64:
        """Return the numbers (n,) of the bins at ``times``, counted since 1970."""
        width = self._settings.season_s / self._settings.season_bins
        return np.floor_divide(times, width).astype(np.int64)

    def _means(self, state: NoveltyState, values: Float32) -> tuple[Float32, Float32]:
        """Return the weighted means (n, R) before and after each sample; NaN where it has no value.

        The first value is its own mean.
        """
        ahead, means = np.empty_like(values), np.empty_like(values)
        weight = 1.0 / self._settings.mean_samples
        for channel, column in enumerate(values.T.tolist()):
            mean = float(state.mean[channel])
            for at, value in enumerate(column):
                ahead[at, channel] = mean
                if math.isfinite(value):
                    mean = mean + weight * (value - mean) if mean == mean else value
                    means[at, channel] = mean
                else:
                    means[at, channel] = math.nan
            state.mean[channel] = mean
        return ahead, means

    def _learn_season(self, season: Season, recent: Recent) -> None:
        """Add a full block to its bins; a finished bin updates the profile."""
        numbers = self._bins(recent.times)
        values = recent.observed[:, self._scored].astype(np.float64)
        known = np.isfinite(values)
        begins = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        totals = np.add.reduceat(np.where(known, values, 0.0), begins)
        counts = np.add.reduceat(known.astype(np.int64), begins)
        runs = numbers[begins]
        if runs[0] == season.bin[0]:
            totals[0] += season.total
            counts[0] += season.count
        elif season.bin[0] >= 0:
            self._move(season, season.bin, season.total[None], season.count[None])
        at_once = len(np.unique(runs % self._settings.season_bins)) == len(runs)
        for run in (
            [slice(0, -1)] if at_once else [slice(at, at + 1) for at in range(len(runs) - 1)]
        ):
            self._move(season, runs[run], totals[run], counts[run])
        season.bin, season.total, season.count = runs[-1:], totals[-1], counts[-1]

    def _move(self, season: Season, runs: Int64, totals: Float64, counts: Int64) -> None:
        """Move the profile of distinct bins (K,) towards the means (K, R) of the new values."""
        at, had = runs % self._settings.season_bins, counts > 0
        seasons = season.seasons[at] + had
        weight = np.maximum(self._settings.season_rate, 1.0 / np.maximum(seasons, 1))
        mean, before = totals / np.maximum(counts, 1), season.profile[at].astype(np.float64)
        moved = np.where(np.isnan(before), mean, before + weight * (mean - before))
        with np.errstate(over="ignore"):
            season.profile[at] = np.where(had, moved, before)
        season.seasons[at] = seasons

    def _judge(
        self,
        state: NoveltyState,
        block: Samples,
        views: Float32,
        ratio: Float32,
        expected: Float32,
    ) -> list[Event]:
        begin, end = state.pending, state.pending + len(ratio)
        state.recent.times[begin:end] = block.times
        state.recent.observed[begin:end] = block.values
        state.recent.expected[begin:end] = expected
        state.views[begin:end] = np.where(np.isfinite(views), views, np.nan)
        state.pending = end
        runs = self._sensors.step(state.sensors, ALL, block.values[:, None]).of(0)
        held = np.minimum(_ratio(views, state.held_middle, state.held_limit), np.float32(1))
        seen = self._by_channel(np.fmax(ratio, held), ratio > 1)
        state.scores[begin:end] = np.fmax.reduce(ratio, axis=1)
        rules = self._events
        if seen.outside.any() or state.events.anomalies:
            rules = rules.rated_by(_unpack_tail(state.tail))
        events = rules.step(state.events, state.recent, begin, seen, runs)
        if end == self._settings.update_samples:
            self._update(state)
        return events

    def _by_channel(self, ratio: Float32, outside: Bool) -> Exceedance:
        """Return what events see of the views (n, VR): the worst of each channel, (n, R).

        All views of a channel show the same fault. The end of a slow one is a large change, which
        must not pass for a fault of its own.
        """
        shape = (len(ratio), len(VIEWS), len(self._scored))
        worst: Float32 = np.fmax.reduce(ratio.reshape(shape), axis=1)
        beyond: Bool = np.logical_or.reduce(outside.reshape(shape), axis=1)
        return Exceedance(np.ones_like(worst), worst, beyond)

    def _update(self, state: NoveltyState) -> None:
        """Hold the limits of an open alarm, learn the full block, and compute new limits."""
        state.pending = 0
        self._hold(state)
        self._learn_season(state.season, state.recent)
        state.heard += (~np.isnan(state.views)).sum(axis=0)
        if not self._long:
            self._remember(state, state.views.T, state.views.T, state.scores)
        else:
            state.extremes[0] = np.fmax(state.extremes[0], np.fmax.reduce(state.views))
            state.extremes[1] = np.fmin(state.extremes[1], np.fmin.reduce(state.views))
            state.peak[:] = np.fmax(state.peak, np.fmax.reduce(state.scores))
            state.filled += len(state.views)
            if state.filled[0] >= self._settings.entry_samples:
                highs, lows = state.extremes[:, :, None]
                self._remember(state, highs, lows, state.peak)
                state.extremes[:], state.peak[:], state.filled[:] = np.nan, np.nan, 0
        for row in np.flatnonzero(state.heard >= max(self._settings.sampling.warm_up_samples, 1)):
            self._limit(state, int(row))

    def _hold(self, state: NoveltyState) -> None:
        open_samples = state.events.open_samples
        if open_samples is None:
            state.held_middle[:], state.held_limit[:] = np.nan, np.nan
        elif open_samples >= self._settings.adapt_samples:
            state.held_limit[self._holding] = np.inf  # after this time, it is the new normal
        elif np.isnan(state.held_limit).all():
            state.held_middle[self._holding] = state.middle[self._holding]
            state.held_limit[self._holding] = state.limit[self._holding]

    def _remember(
        self, state: NoveltyState, highs: Float32, lows: Float32, scores: Float32
    ) -> None:
        """Append entries (VR, n) and their scores (n,) to the history, without NaN."""
        before = int(state.history.written[-1])
        ends = [highs, lows] if self._long else [highs]
        for row, values in enumerate(np.concatenate([*ends, scores[None]])):
            state.history.remember(row, values[~np.isnan(values)])
        written = int(state.history.written[-1])
        if written >= TAIL_ENTRIES_MIN and written // REFIT_ENTRIES != before // REFIT_ENTRIES:
            self._fit_tail(state)

    def _fit_tail(self, state: NoveltyState) -> None:
        """Fit the tail of the scores anew.

        An entry exceeds a score if any of its samples does. So the share per sample is the share
        per entry divided by the number of samples in an entry.
        """
        kept = state.history.kept(len(state.history.written) - 1)
        tail, length = fit(np.minimum(kept, _SCORE_MAX)), self._settings.entry_samples
        shares = [share / length for share in tail.shares]
        samples = len(kept) * length
        state.tail[:] = _pack_tail(tail.model_copy(update={"shares": shares, "samples": samples}))

    def _limit(self, state: NoveltyState, row: int) -> None:
        """Compute middle and limit of a row from its history and its entry in progress."""
        highs, lows = self._kept(state, row, 0), self._kept(state, row, 1)
        count = len(highs)
        dropped = int(count * self._settings.dropped_share)
        high = float(np.partition(highs, count - 1 - dropped)[count - 1 - dropped])
        low = float(np.partition(lows, dropped)[dropped])
        channel = row % len(self._scored)
        value = (
            abs(float(state.middle[channel])) if row >= len(self._scored) else abs(high + low) / 2
        )
        least = max(float(self._resolution[channel]), RESOLUTION * value)
        wide = self._settings.reach * self._widened(count, VIEWS[row // len(self._scored)])
        state.middle[row] = (high + low) / 2
        state.limit[row] = np.clip(max(wide * (high - low) / 2, least), FLOAT32_TINY, FLOAT32_MAX)

    def _widened(self, count: int, view: str) -> float:
        """Return the factor by which ``count`` entries widen the limits of a view.

        The largest of ``n`` normally distributed values grows with √(ln n), and that of ``m``
        channels with √(ln nm). Limits for many channels are wider by this ratio.
        """
        known = count / self._alike if view == "mean" else count
        at_once = math.log(count * len(self._scored) + 1) / math.log(count + 1)
        return math.sqrt(at_once) * (1 + _yet_unknown(known, self._settings.learning_entries))

    def _kept(self, state: NoveltyState, row: int, end: int) -> Float32:
        """Return a row's entries, with the one in progress; ``end``: 0 largest, 1 smallest."""
        history, at = state.history, row + end * self._rows * self._long
        kept = history.values[at, : min(int(history.written[at]), history.values.shape[1])]
        if np.isnan(state.extremes[end, row]):
            return kept
        return np.append(kept, state.extremes[end, row])


def _pack_tail(tail: Tail) -> list[float]:
    """Return the numbers of a tail, for saving as an array."""
    return [*tail.scores, *tail.shares, tail.shape, tail.scale, float(tail.samples)]


def _unpack_tail(numbers: Float64) -> ScoreTail | None:
    """Return the tail that ``_pack_tail`` packed; None: there is none yet."""
    if np.isnan(numbers[0]):
        return None
    *knots, shape, scale, samples = numbers.tolist()
    scores, shares = knots[: len(BODY_SHARES)], knots[len(BODY_SHARES) :]
    return ScoreTail(
        Tail(scores=scores, shares=shares, shape=shape, scale=scale, samples=int(samples))
    )


def _yet_unknown(count: float, learning: float) -> float:
    """Return the relative widening of the limits after ``count`` entries."""
    return learning / (count + learning / WIDER_MAX) if learning else 0.0


def _ratio(views: Float32, middle: Float32, limit: Float32) -> Float32:
    """Return the distance of views (n, VR) from the middle, in units of the limit."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is limited
        return np.asarray(np.minimum(np.abs(views - middle) / limit, RATIO_MAX))
