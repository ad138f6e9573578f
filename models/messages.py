"""The data of the product: readings, samples, scores, forecasts and events.

Data are stored in columns, not objects: ``n`` rows of ``C`` channels are two arrays. So a reading
takes little more memory than its array elements. Times are float64 Unix seconds in UTC, with a
resolution of 0.3 µs. A forecast has ``H`` steps and ``Q`` quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.quality import GOOD as GOOD
from models.quality import HELD as HELD
from models.quality import INTERPOLATED as INTERPOLATED
from models.quality import MISSING as MISSING
from models.quality import QUALITIES as QUALITIES

if TYPE_CHECKING:
    from models.manifest import Severity

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
# not from np.finfo: on 32-bit Arm, which has no subnormal numbers, it warns in each process
FLOAT32_MAX: Final = (2 - 2**-23) * 2.0**127
FLOAT32_TINY: Final = 2.0**-126  # the least normal number
Bool = npt.NDArray[np.bool_]
Uint8 = npt.NDArray[np.uint8]

# a selection of the N streams of a memory: all (in place, without copies), or their indices (B,)
Index = slice | Int64
ALL = slice(None)

EventKind = Literal["anomaly", "stuck", "missing", "silent", "gap", "limit", "limit_passed"]
Course = Literal["spike", "persistent"]
ClockQuality = Literal["synced", "unsynced", "unknown"]


class Readings(NamedTuple):
    """Rows of an input in order of arrival, not on the grid.

    ``values[i, c]`` is NaN where row ``i`` has no usable value of channel ``c``.
    """

    times: Float64  # (n,) Unix seconds, from the device or from the moment of reading
    values: Float32  # (n, C) in the channels' units


class Samples(NamedTuple):
    """Rows on a bundle's sampling grid, in chronological order, each slot once.

    A slot without a known value is NaN in ``values``. A gap of more slots than the bundle's
    ``reset_gap_samples`` is omitted, so that ``times`` jumps.
    """

    times: Float64  # (n,) Unix seconds, on the grid
    values: Float32  # (n, C) in the channels' units
    quality: Uint8 | None = None  # (n, C) ``GOOD`` to ``MISSING``; None if all are good

    def part(self, begin: int, end: int) -> Samples:
        """Return samples ``begin`` to ``end``, ``end`` not included. The arrays are views."""
        quality = None if self.quality is None else self.quality[begin:end]
        return Samples(self.times[begin:end], self.values[begin:end], quality)

    def quality_bytes(self) -> bytes | None:
        """Return the qualities for the store, n × C bytes by rows; None where all are good."""
        if self.quality is None:
            return None
        codes = self.quality.tobytes()
        return codes if codes.strip(b"\0") else None

    def quality_at(self, time: float) -> Uint8 | None:
        """Return the qualities (C,) of the sample at ``time`` (Unix seconds).

        If there is no such sample, they are those of the last one: an event that is detected at the
        end of a block may belong to a sample of an earlier call. None if all are good.
        """
        if self.quality is None:
            return None
        row: Uint8 = self.quality[self.row_at(time)]
        return row

    def row_at(self, time: float) -> int:
        """Return the index of the sample at ``time`` (Unix seconds), or that of the last sample."""
        (at,) = np.nonzero(self.times == time)
        return int(at[-1]) if len(at) else -1

    def measured(self, position: int) -> tuple[list[float], list[float]]:
        """Return times and values of the channel at ``position`` that were really measured."""
        values = self.values[:, position]
        good = np.isfinite(values)
        if self.quality is not None:
            good &= self.quality[:, position] == GOOD
        return self.times[good].tolist(), values[good].tolist()


def joined(parts: Sequence[Samples]) -> Samples:
    """Concatenate consecutive samples; ``parts`` must not be empty."""
    return Samples(
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        joined_quality([(part.quality, part.values) for part in parts]),
    )


def stored_samples(chunks: Sequence[tuple[bytes, bytes, bytes | None]], channels: int) -> Samples:
    """Decode and concatenate stored samples.

    Args:
        chunks: consecutive samples, as raw arrays: times (n,) float64, values (n, C) float32, and
            qualities (n, C) uint8 or None.
        channels: ``C``.

    Raises:
        ValueError: a chunk does not have a whole number of rows.

    """
    parts = [_stored(*chunk, channels) for chunk in chunks]
    return joined(parts) if parts else Samples(np.empty(0), np.empty((0, channels), np.float32))


def _stored(times: bytes, values: bytes, quality: bytes | None, channels: int) -> Samples:
    rows = np.frombuffer(values, np.float32).reshape(-1, channels)
    codes = None if quality is None else np.frombuffer(quality, np.uint8).reshape(rows.shape)
    return Samples(np.frombuffer(times, np.float64), rows, codes)


def joined_quality(parts: Sequence[tuple[Uint8 | None, Float32]]) -> Uint8 | None:
    """Return the qualities (n, C) of consecutive samples; None where all are good.

    ``parts`` has the qualities and the values of each part, both (n, C).
    """
    if all(quality is None for quality, _ in parts):
        return None
    return np.concatenate(
        [
            np.full(values.shape, GOOD, np.uint8) if quality is None else quality
            for quality, values in parts
        ]
    )


def named_quality(channels: Sequence[str], codes: Uint8 | None) -> dict[str, str]:
    """Return the quality of each channel that was not measured, by its name.

    ``codes`` (C,) are those of one sample; None where all channels were measured.
    """
    found = [] if codes is None else codes.tolist()
    return {name: QUALITIES[code] for name, code in zip(channels, found, strict=False) if code}


class Scores(NamedTuple):
    """The scores of ``n`` samples of one stream.

    ``score`` is the largest ratio of a smoothed error to the current threshold, over all error
    rows: 1 is the threshold. It is NaN if no score is possible: during warm-up, or when all
    channels are missing. ``probability`` is the share of normal operation with a higher score.
    It is NaN while a stream settles, too.
    """

    times: Float64  # (n,) Unix seconds
    score: Float32  # (n,) dimensionless
    probability: Float64  # (n,) 0 to 1; NaN where there is no score, or the bundle has no tail
    predicted: Float32  # (n, C) the expected sample, in the channels' units; NaN: none


class Forecast(NamedTuple):
    """Quantiles of the scored channels (here ``C``) for the ``H`` steps after the last one."""

    time: float  # Unix seconds of the last step of the context
    times: Float64  # (H,) Unix seconds of the forecast steps; the first is one step after ``time``
    last: Float32  # (C,) the last step's values, in the channels' units
    scale: Float32  # (C,) standard deviation of the context, in the channels' units
    quantiles: Float32  # (C, H, Q) in the channels' units, rising along Q
    trained_steps: int  # further steps are forecast recursively and not calibrated
    imputed: int  # number of values of the context that were filled in


class NoForecast(NamedTuple):
    """The reason why a forecast that was due was not made."""

    time: float  # Unix seconds of the last step
    reason: Literal["short_history", "missing_values"]
    detail: str  # for people


@dataclass(frozen=True, slots=True)
class Contribution:
    """The contribution of one channel to an event, at the event's worst sample so far."""

    channel: str
    score: float  # smoothed error / threshold; 1 for stuck and missing
    observed: float | None  # channel units; None where the channel was missing
    expected: float | None  # channel units; None where there was no prediction
    level: bool = False  # the smoothed value is far out; ``expected`` is the nearest known level


@dataclass(frozen=True, slots=True)
class LimitForecast:
    """The time when a channel will pass a limit, by the latest forecast.

    Durations are seconds after ``made``. One is None where its probability is not reached within
    the horizon.
    """

    side: Literal["high", "low"]
    level: Literal["warning", "critical"]
    value: float  # the limit, in unit
    unit: str  # of the channel
    made: float  # time of the forecast's last step, Unix seconds
    probability: float  # of passing it within the horizon, 0 to 1
    median_s: float | None  # with a probability of 50 %
    earliest_s: float | None  # 10 %
    latest_s: float | None  # 90 %
    horizon_s: float

    def moved(self, by_s: float) -> LimitForecast:
        """Return the forecast with its time ``by_s`` seconds later."""
        return replace(self, made=self.made + by_s)


@dataclass(frozen=True, slots=True)
class LimitPassed:
    """A limit that a channel has passed, as measured."""

    side: Literal["high", "low"]
    level: Literal["warning", "critical"]
    value: float  # the limit, in unit
    unit: str  # of the channel
    worst: float  # farthest beyond it so far, in unit
    worst_at: float  # Unix seconds
    newest: float  # in unit
    newest_at: float  # Unix seconds
    back_since: float | None = None  # Unix seconds: start of the off-delay; None: it does not run
    off_delay_s: float | None = None  # delay after which the alarm closes; None: as ``back_since``

    def moved(self, by_s: float) -> LimitPassed:
        """Return a copy with its times ``by_s`` seconds later."""
        back = None if self.back_since is None else self.back_since + by_s
        return replace(
            self,
            worst_at=self.worst_at + by_s,
            newest_at=self.newest_at + by_s,
            back_since=back,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """An abnormal period of a stream. A detector opens it and later closes it.

    Opening and closing are two ``Event`` values with the same ``number``. Times are the Unix
    seconds of samples.
    """

    number: int  # counts up from 1 per stream, over restarts
    kind: EventKind
    detector: str
    onset: float  # the first abnormal sample; at or before the opening
    opened: float  # the sample that opened it
    score: float  # the worst so far, dimensionless; 1 is the threshold
    probability: float | None  # share of normal operation above the score; None: not known
    severity: Severity  # from the probability, by the bundle's ``severities``
    channels: tuple[Contribution, ...] = ()  # worst first
    closed: float | None = None  # the sample that closed it
    limit: LimitForecast | LimitPassed | None = None  # of the kinds "limit" and "limit_passed"
    worst: float | None = None  # the sample to which ``score`` and ``channels`` belong
    accepted: bool = False  # closed because its values are taken as the new normal
    course: Course | None = None  # of an anomaly so far; None: the detector does not tell
    during: int | None = None  # number of the event that was open when this further one began

    @property
    def state(self) -> Literal["opened", "closed"]:
        """The transition that this value describes."""
        return "opened" if self.closed is None else "closed"

    @property
    def time(self) -> float:
        """The time of this transition, in Unix seconds."""
        return self.opened if self.closed is None else self.closed

    def moved(self, by_s: float) -> Event:
        """Return the event with all its times ``by_s`` seconds later."""
        if not by_s:
            return self
        return replace(
            self,
            onset=self.onset + by_s,
            opened=self.opened + by_s,
            closed=None if self.closed is None else self.closed + by_s,
            limit=self.limit and self.limit.moved(by_s),
            worst=None if self.worst is None else self.worst + by_s,
        )
