"""What flows through the product: readings, samples, scores, events; and what central ops sees.

Columns, not objects: ``n`` rows of ``C`` channels are two arrays, so that the cost per reading
stays near that of the arrays. Times are Unix seconds, UTC, as float64 (exact to 0.3 µs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from models.manifest import Severity

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Uint8 = npt.NDArray[np.uint8]

# which of N streams whose memory lies together: all (in place, nothing copied), or their numbers
Index = slice | Int64
ALL = slice(None)

# where a sample's value comes from, the better the lower
GOOD, INTERPOLATED, HELD, MISSING = range(4)
QUALITIES = ("good", "interpolated", "held", "missing")

EventKind = Literal["anomaly", "stuck", "missing", "silent", "limit"]
ClockQuality = Literal["synced", "unsynced", "unknown"]


class Readings(NamedTuple):
    """Rows as they came from an input, in its order, off the grid.

    ``values[i, c]`` is NaN where row ``i`` carried nothing (or nothing usable) for channel ``c``.
    """

    times: Float64  # (n,) Unix seconds, from the device or from the moment of reading
    values: Float32  # (n, C) in the channels' units


class Samples(NamedTuple):
    """Rows on a bundle's sampling grid, each slot once, in order.

    A slot nothing was known for is NaN in ``values``. Where more slots are missing than the
    bundle's ``reset_gap_samples``, the slots are absent and ``times`` jumps.
    """

    times: Float64  # (n,) Unix seconds, on the grid
    values: Float32  # (n, C) in the channels' units
    quality: Uint8 | None = None  # (n, C) ``GOOD`` to ``MISSING``; None where all is good

    def part(self, begin: int, end: int) -> Samples:
        """Return samples ``begin`` to ``end``, this one not included."""
        quality = None if self.quality is None else self.quality[begin:end]
        return Samples(self.times[begin:end], self.values[begin:end], quality)

    def quality_bytes(self) -> bytes | None:
        """Return the qualities for the store, a byte each; None where all is good."""
        if self.quality is None:
            return None
        codes = self.quality.tobytes()
        return codes if codes.strip(b"\0") else None

    def quality_at(self, time: float) -> Uint8 | None:
        """Return the qualities, (C,), at a time; at the last sample where there is none of it.

        An event found at a block's end may be of an earlier call's sample.
        """
        if self.quality is None:
            return None
        (at,) = np.nonzero(self.times == time)
        row: Uint8 = self.quality[at[-1] if len(at) else -1]
        return row


def joined(parts: Sequence[Samples]) -> Samples:
    """Return samples that follow each other, at least one part, as one."""
    return Samples(
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        joined_quality([(part.quality, part.values) for part in parts]),
    )


def stored_samples(chunks: Sequence[tuple[bytes, bytes, bytes | None]], channels: int) -> Samples:
    """Return samples of stored times (f8), values (f4) and qualities (u1), in one piece."""
    parts = [_stored(*chunk, channels) for chunk in chunks]
    return joined(parts) if parts else Samples(np.empty(0), np.empty((0, channels), np.float32))


def _stored(times: bytes, values: bytes, quality: bytes | None, channels: int) -> Samples:
    rows = np.frombuffer(values, np.float32).reshape(-1, channels)
    codes = None if quality is None else np.frombuffer(quality, np.uint8).reshape(rows.shape)
    return Samples(np.frombuffer(times, np.float64), rows, codes)


def joined_quality(parts: Sequence[tuple[Uint8 | None, Float32]]) -> Uint8 | None:
    """Return the qualities of samples that follow each other, each beside its values."""
    if all(quality is None for quality, _ in parts):
        return None
    return np.concatenate(
        [
            np.full(values.shape, GOOD, np.uint8) if quality is None else quality
            for quality, values in parts
        ]
    )


def named_quality(channels: Sequence[str], codes: Uint8 | None) -> dict[str, str]:
    """Return the qualities, (C,), of the channels that were not measured; None: all were."""
    found = [] if codes is None else codes.tolist()
    return {name: QUALITIES[code] for name, code in zip(channels, found, strict=False) if code}


class Scores(NamedTuple):
    """What the pipeline says of ``n`` samples: numbers without an opinion.

    ``score`` is the largest smoothed error over the channels, each divided by its channel's
    threshold of that moment: 1 is the threshold. NaN where nothing could be scored (warm-up,
    all channels missing). ``probability`` is how often normal operation exceeds that score.
    """

    times: Float64  # (n,)
    score: Float32  # (n,) dimensionless
    probability: Float64  # (n,) NaN where there is no score, or the bundle has no tail
    predicted: Float32  # (n, C) what the network expected of each sample, in the channels' units


class Forecast(NamedTuple):
    """What is expected of the scored channels after a stream's last step, with quantiles."""

    time: float  # of the last step that it was made from, Unix seconds
    times: Float64  # (H,) of the steps forecast; the first is one step after ``time``
    last: Float32  # (C,) the last step's values, in the channels' units
    scale: Float32  # (C,) deviation of the context, in the channels' units
    quantiles: Float32  # (C, H, Q) in the channels' units, rising along Q
    trained_steps: int  # steps beyond so many were answered recursively: not calibrated
    imputed: int  # values of the context that were filled in


class NoForecast(NamedTuple):
    """Why there is no forecast where one was due."""

    time: float  # of the last step, Unix seconds
    reason: Literal["short_history", "missing_values"]
    detail: str  # for people


@dataclass(frozen=True, slots=True)
class Contribution:
    """One channel's part in an event, at the event's worst sample so far."""

    channel: str
    score: float  # smoothed error / threshold; 1 for stuck and missing
    observed: float | None  # channel units; None where the channel was missing
    expected: float | None  # channel units; None where there was no prediction


@dataclass(frozen=True, slots=True)
class LimitForecast:
    """When a channel will pass a limit, as last forecast; times are seconds after ``made``.

    A time is None where its chance is not reached within the horizon.
    """

    side: Literal["high", "low"]
    level: Literal["warning", "critical"]
    value: float  # the limit, in unit
    unit: str  # of the channel
    made: float  # time of the forecast's last step, Unix seconds
    probability: float  # to pass it within the horizon
    median_s: float | None  # with a chance of 50 %
    earliest_s: float | None  # 10 %
    latest_s: float | None  # 90 %
    horizon_s: float

    def moved(self, by_s: float) -> LimitForecast:
        """Return the forecast as a clock tells it that is so much ahead."""
        return replace(self, made=self.made + by_s)


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a stream that a detector finds out of the normal, opened and later closed.

    Opening and closing are two ``Event`` values with the same ``number``. Times are Unix
    seconds of samples.
    """

    number: int  # counts up from 1 per stream, over restarts
    kind: EventKind
    detector: str
    onset: float  # the first sample of the stretch; at or before the opening
    opened: float  # the sample that opened it
    score: float  # the worst so far, 1 is the threshold
    probability: float | None  # how often normal operation exceeds the score; None: not known
    severity: Severity  # follows from the probability, by the bundle
    channels: tuple[Contribution, ...] = ()  # worst first
    closed: float | None = None  # the sample that closed it
    limit: LimitForecast | None = None  # of a predictive alarm

    @property
    def state(self) -> Literal["opened", "closed"]:
        """Which transition this is."""
        return "opened" if self.closed is None else "closed"

    @property
    def time(self) -> float:
        """Of this transition."""
        return self.opened if self.closed is None else self.closed

    def moved(self, by_s: float) -> Event:
        """Return the event as a clock tells it that is so much ahead."""
        if not by_s:
            return self
        return replace(
            self,
            onset=self.onset + by_s,
            opened=self.opened + by_s,
            closed=None if self.closed is None else self.closed + by_s,
            limit=self.limit and self.limit.moved(by_s),
        )
