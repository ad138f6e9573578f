"""Features of a channel over time: signal features, rolling figures and lags.

    raw readings ─> windows, one per period of the grid ─> figures ─┬─> readings ─> models.align
    other channels ─────────────────────────────────────────────────┘

Trainer and agent both use this module, so that the figures are identical. A window ends at each
multiple of the grid's period, in Unix time. It contains the newest ``window_samples`` raw values up
to then, and its figures are readings of that time. Raw values are assumed to be evenly spaced, in
the order of arrival, so coarse times, or one time for a whole read, do no harm. A raw value that
arrives after the end of its window is late and not used. Missing values are skipped. A window has
no figures if it lacks more than ``missing_share_max`` of its values, or would have to reach back
more periods than its length. With ``samples`` a feature has a window of only that many values.

The figures are those of vibration condition monitoring (ISO 13373-1, ISO 13373-2, ISO 20816-1;
kurtosis after Dyer and Stewart, J. Mech. Design 1978; the spectrum's scaling after Harris, Proc.
IEEE 1978). All except the mean are computed after subtraction of the mean:

- ``mean``;
- ``rms``: root of the mean square;
- ``peak``: largest magnitude;
- ``peak_to_peak``: maximum minus minimum;
- ``crest_factor``: peak / rms; 1, its minimum, for a constant signal;
- ``kurtosis``: fourth moment / square of the second (Pearson: 3 for a normal distribution); 1, its
  minimum, for a constant signal;
- ``band_energy``: mean square from ``low_hz`` to ``high_hz``, excluding the upper limit unless it
  is half of the rate; a sine of amplitude A inside has A²/2, and adjacent bands are additive.

For a channel as slow as the grid, a window of N values is a rolling one of N samples:

- ``std``: (population) standard deviation; it is the same as ``rms``;
- ``min``, ``max``: the least and the largest value;
- ``last``: the newest value, if the window's last period has one: the channel as it is;
- ``lag``: the oldest value, if the window's first period has one: the channel N - 1 samples ago.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.align import FAR_LATE_ROWS
from models.grid import windows_of
from models.manifest import Feature, Sampling, Source, StreamRules
from models.messages import Bool, Float32, Float64, Int64, Readings

COUNTERS = ("raw_late", "windows_short")
_ON_TIME = 1e-4  # tolerance in spectral lines: frequencies are quotients of floats


def figure(feature: Feature, window: Float64, rate_hz: float) -> float:
    """Return a feature of ``window`` (n,), evenly spaced values; the module docstring defines it.

    Its unit is the source's; that of ``band_energy`` is its square; ``crest_factor`` and
    ``kurtosis`` are dimensionless. ``rate_hz`` is in values per second.
    """
    match feature.kind:
        case "mean":
            return float(window.mean())
        case "min":
            return float(window.min())
        case "max":
            return float(window.max())
        case "last":
            return float(window[-1])
        case "lag":
            return float(window[0])
    moving = window - float(window.mean())
    squares = moving * moving
    power = float(squares.mean())
    match feature.kind:
        case "rms" | "std":
            return math.sqrt(power)
        case "peak":
            return float(np.abs(moving).max())
        case "peak_to_peak":
            return float(moving.max() - moving.min())
        case "crest_factor":
            return float(np.abs(moving).max()) / math.sqrt(power) if power else 1.0
        case "kurtosis":
            return float((squares * squares).mean()) / power**2 if power else 1.0
        case "band_energy":
            assert feature.low_hz is not None and feature.high_hz is not None
            return _band_energy(moving, feature.low_hz / rate_hz, feature.high_hz / rate_hz)


def _band_energy(moving: Float64, low: float, high: float) -> float:
    """Return the mean square between two frequencies, given as fractions of the rate.

    By Parseval's theorem the squares of a one-sided spectrum add up to the mean square. A Hann
    window limits the leakage of a sine to the neighbouring bins.
    """
    count = len(moving)
    hann = _hann(count)
    squares = np.abs(np.fft.rfft(moving * hann)) ** 2
    squares[1 : (count + 1) // 2] *= 2  # lines that also represent a negative frequency
    first = math.ceil(low * count - _ON_TIME)
    end = len(squares) if high >= 0.5 else math.ceil(high * count - _ON_TIME)
    return float(squares[first:end].sum() / (count * (hann * hann).sum()))


@functools.lru_cache(maxsize=8)
def _hann(count: int) -> Float64:
    """Return the periodic window: a sine on a bin leaks into its two neighbours only."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)


@dataclass(eq=False, slots=True)
class _Signal:
    """The newest values of one source; of bounded size."""

    values: Float32  # at most ``window_samples``, oldest first
    counts: Int64  # values received in each of the last periods, the current one last
    period: int | None = None  # number of the current one; None before the first value
    far_late_rows: int = 0

    def forget(self) -> None:
        """Reset the signal."""
        self.values, self.counts[:], self.period = self.values[:0], 0, None
        self.far_late_rows = 0


class _Window(NamedTuple):
    """A completed period of a source."""

    at: int  # the row that ended it
    period: int
    values: Float32  # the newest ones, at most ``window_samples``
    counts: Int64  # of each period that the window reaches back, the one that ended last


class _Reach(NamedTuple):
    """The part of a window that a feature is computed from: its newest values."""

    size: int  # values, at most
    needed: int  # values, at least
    periods: int

    @classmethod
    def of(cls, source: Source, sampling: Sampling, samples: int | None = None) -> _Reach:
        """Return that of ``samples`` values; None: of a whole window."""
        size = samples or source.window_samples
        needed = math.ceil((1 - source.missing_share_max) * size)
        return cls(size, needed, source.periods(sampling, samples))

    def values(self, window: _Window, feature: Feature | None = None) -> Float32 | None:
        """Return the values that ``feature`` is computed from; None if it lacks one."""
        counts = window.counts[-self.periods :]
        count = min(int(counts.sum()), self.size, len(window.values))
        if count < max(self.needed, 1):
            return None
        kind = None if feature is None else feature.kind
        if kind == "last" and not counts[-1]:
            return None
        if kind == "lag" and count <= int(counts[1:].sum()):
            return None
        return window.values[-count:]


class _Cutter:
    """Splits one source's values into windows."""

    def __init__(self, source: Source, sampling: Sampling, counters: Counter[str]) -> None:
        self._whole = _Reach.of(source, sampling)
        self._gap_max = sampling.reset_gap_samples
        self._counters = counters

    def start(self) -> _Signal:
        """Create an empty signal."""
        return _Signal(np.empty(0, np.float32), np.zeros(self._whole.periods, np.int64))

    def take(
        self, signal: _Signal, rows: Int64, periods: Int64, values: Float32, in_time: Bool
    ) -> Iterator[_Window]:
        """Add values, (n,), of these rows and periods; yield the windows that they complete.

        ``in_time``, by row, is set to False for late values.
        """
        breaks = (np.flatnonzero(np.diff(periods)) + 1).tolist()
        for begin, end in itertools.pairwise([0, *breaks, len(rows)]):
            period = int(periods[begin])
            if signal.period is not None and period < signal.period:
                first = begin + self._late(signal, period, end - begin)
                in_time[rows[begin:first]] = False
                begin = first
            elif signal.period is not None and period > signal.period:
                yield from self._move_on(signal, period, int(rows[begin]))
            if begin < end:
                signal.period, signal.far_late_rows = period, 0
                signal.values = np.concatenate([signal.values, values[begin:end]])[
                    -self._whole.size :
                ]
                signal.counts[-1] += end - begin

    def _late(self, signal: _Signal, period: int, count: int) -> int:
        """Return how many of the next values are late; a clock that was set resets the signal.

        This is the same rule as in ``models.align``; then not all values count as late.
        """
        assert signal.period is not None
        far = period < signal.period - self._gap_max
        rows = signal.far_late_rows + count if far else 0
        late = count
        if rows >= FAR_LATE_ROWS:
            late = FAR_LATE_ROWS - 1 - signal.far_late_rows
            signal.forget()
        else:
            signal.far_late_rows = rows
        self._counters["raw_late"] += late
        return late

    def _move_on(self, signal: _Signal, period: int, at: int) -> Iterator[_Window]:
        """Yield the windows up to a period that contain any values."""
        assert signal.period is not None
        for over in range(signal.period, min(period, signal.period + self._whole.periods)):
            if count := min(int(signal.counts.sum()), len(signal.values)):
                window = _Window(at, over, signal.values[-count:], signal.counts.copy())
                self._counters["windows_short"] += self._whole.values(window) is None
                yield window
            signal.counts[:-1], signal.counts[-1] = signal.counts[1:].copy(), 0


class Features:
    """Computes the features of one stream, and passes on its other channels.

    The input has the ``P`` channels that are not features, in their order, then the ``S`` sources
    (``StreamRules.source_channels``). The output has the ``C`` channels of the bundle. In a row
    with a value of a source, the newest value of each other channel goes into the reading at the
    end of the window. So a device that sends all of its channels in every row results in one
    complete reading per period. Other rows pass unchanged. Rows without any value pass once per
    period, because they show that time advances.

    ``counters`` has ``raw_late``, values that arrived after their window, and ``windows_short``,
    windows with too few values.

    Args:
        channels: the feature of each of the bundle's channels; None: the channel passes.
        sources: the raw channels.
        sampling: the grid.

    """

    def __init__(
        self, channels: Sequence[Feature | None], sources: Sequence[Source], sampling: Sampling
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._channels = len(channels)
        self._period_s = sampling.period_s
        self._passing = [at for at, feature in enumerate(channels) if feature is None]
        self._made = [
            [
                (at, feature, _Reach.of(source, sampling, feature.samples))
                for at, feature in enumerate(channels)
                if feature is not None and feature.source == source.name
            ]
            for source in sources
        ]
        self._rates_hz = [source.rate_hz for source in sources]
        self._cutters = [_Cutter(source, sampling, self.counters) for source in sources]
        self._signals = [cutter.start() for cutter in self._cutters]
        self._beside = np.full(len(self._passing), np.nan, np.float32)
        self._empty_period = -1  # last period in which a row without any value passed

    def push(self, readings: Readings) -> Readings:
        """Process readings (n, P + S), in order of arrival; return the complete ones, (m, C)."""
        periods = windows_of(readings.times, self._period_s).astype(np.int64)
        beside, raw = np.split(readings.values, [len(self._passing)], axis=1)
        known = ~np.isnan(raw)
        in_time = known.copy()
        ends: dict[tuple[int, int], Float32] = {}  # by the row that ended it, and the period
        for source, (cutter, signal) in enumerate(zip(self._cutters, self._signals, strict=True)):
            (rows,) = np.nonzero(known[:, source])
            if len(rows) == 0:
                continue
            taken = cutter.take(signal, rows, periods[rows], raw[rows, source], in_time[:, source])
            for window in taken:
                row = ends.setdefault((window.at, window.period), self._blank())
                self._fill(row, source, window)
        lent = np.asarray(in_time.any(axis=1))
        self._lend(ends, beside, lent)
        empty = np.asarray(np.isnan(readings.values).all(axis=1))
        passed = self._passed(beside, ~lent, empty, periods)
        return self._in_order(ends, passed, readings.times, beside)

    def _blank(self) -> Float32:
        return np.full(self._channels, np.nan, np.float32)

    def _fill(self, row: Float32, source: int, window: _Window) -> None:
        """Put a source's figures into a reading; values beyond float32 become missing."""
        for channel, feature, reach in self._made[source]:
            if (values := reach.values(window, feature)) is None:
                continue
            found = figure(feature, values.astype(np.float64), self._rates_hz[source])
            with np.errstate(over="ignore"):
                row[channel] = found
            if np.isinf(row[channel]):
                row[channel] = np.nan

    def _lend(self, ends: Mapping[tuple[int, int], Float32], beside: Float32, lent: Bool) -> None:
        """Move other channels' values in rows with a source's to the end of the next window."""
        begin = 0
        for at, period in sorted(ends):
            self._newest_of(beside[begin:at][lent[begin:at]])
            ends[at, period][self._passing] = self._beside
            self._beside[:] = np.nan
            begin = at
        self._newest_of(beside[begin:][lent[begin:]])

    def _newest_of(self, rows: Float32) -> None:
        for column, values in enumerate(rows.T):
            (known,) = np.nonzero(~np.isnan(values))
            if len(known):
                self._beside[column] = values[known[-1]]

    def _passed(self, beside: Float32, alone: Bool, empty: Bool, periods: Int64) -> Int64:
        """Return the rows that pass: those with own values, and the first empty row of each period.

        Args:
            beside: (n, P) the other channels.
            alone: (n,) whether no value of the row is in a window.
            empty: (n,) whether it has no value at all.
            periods: (n,) the row's period.

        """
        passes = alone & ~np.isnan(beside).all(axis=1)
        for row in np.flatnonzero(empty).tolist():
            if periods[row] != self._empty_period:
                self._empty_period = int(periods[row])
                passes[row] = True
        return np.flatnonzero(passes)

    def _in_order(
        self,
        ends: Mapping[tuple[int, int], Float32],
        passed: Int64,
        times: Float64,
        beside: Float32,
    ) -> Readings:
        """Return the readings of windows and the rows that pass, in order of arrival."""
        made = sorted(ends)
        rows = np.full((len(made) + len(passed), self._channels), np.nan, np.float32)
        for number, end in enumerate(made):
            rows[number] = ends[end]
        rows[len(made) :, self._passing] = beside[passed]
        ended_s = np.array([period for _, period in made], np.float64) * self._period_s
        came = np.concatenate([np.array([at for at, _ in made], np.int64), passed])
        order = np.argsort(came, kind="stable")
        return Readings(np.concatenate([ended_s, times[passed]])[order], rows[order])

    def to_bytes(self) -> bytes:
        """Serialise the state for the store: a line of JSON, then the raw values as float32."""
        document = {
            "signals": [
                {
                    "size": len(signal.values),
                    "counts": signal.counts.tolist(),
                    "period": signal.period,
                    "far_late_rows": signal.far_late_rows,
                }
                for signal in self._signals
            ],
            "beside": [None if math.isnan(value) else value for value in self._beside.tolist()],
            "empty_period": self._empty_period,
        }
        values = b"".join(signal.values.tobytes() for signal in self._signals)
        return json.dumps(document).encode() + b"\n" + values

    def replace(self, before: Features) -> None:
        """Take over the raw values of another instance with the same sources."""
        self._signals, self._beside = before._signals, before._beside
        self._empty_period = before._empty_period
        self.counters.update(before.counters)

    def restore(self, data: bytes) -> None:
        """Set the state to what ``to_bytes`` returned."""
        head, _, values = data.partition(b"\n")
        document, begin = json.loads(head), 0
        for signal, saved in zip(self._signals, document["signals"], strict=True):
            signal.values = np.frombuffer(values, np.float32, saved["size"], begin)
            begin += signal.values.nbytes
            signal.counts = np.array(saved["counts"], np.int64)
            signal.period, signal.far_late_rows = saved["period"], saved["far_late_rows"]
        self._beside = np.array(document["beside"], np.float32)
        self._empty_period = document["empty_period"]


def features_of(rules: StreamRules) -> Features | None:
    """Return the features of a stream; None if it has no sources."""
    if not rules.sources:
        return None
    made = [channel.feature for channel in rules.channels]
    return Features(made, rules.sources, rules.sampling)
