"""The interface of a detector, the same for every family: four parts, and their results.

A detector scores the streams of one bundle. It holds what these streams share: networks and
settings. It holds no state of a stream. The state of ``N`` streams is one object, the memory. The
detector creates it, the caller keeps it, and only the detector reads it. A stream is identified by
its index in the memory, 0 to ``N`` - 1. One thread uses a memory at a time. No call does I/O.

    start ──> step_together … ──> changed_parts ──> (store) ──> restore, adopt ──> step_together …
                    │  └─ open_silence, open_events, events, forecasts: between any two steps
                    └─ the same results, however samples are cut into calls

``models.families`` lists the families. Sizes and units are the same in all of them:

- ``N`` streams in a memory, ``B`` of them in a call, ``n`` samples of each;
- ``C`` channels, in the order of ``manifest.channels``;
- ``R`` error rows, each compared with a threshold; a family chooses what its rows are;
- times are float64, Unix seconds in UTC, on the grid of ``manifest.sampling``;
- values are float32, in the unit of their channel (``manifest.channels[c].unit``); NaN is missing;
- scores are float32 and dimensionless; 1 is the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NewType, Protocol, TypeVar

import numpy as np

from models.events import EventState
from models.forecaster import Forecaster, ForecastState
from models.manifest import StreamRules
from models.messages import Event, Float32, Float64, Forecast, Index, Samples, Scores
from models.score_tail import Rating

M = TypeVar("M")  # the memory of N streams
M_read = TypeVar("M_read", contravariant=True)  # the same, of parts that make none


class Result(NamedTuple):
    """The results of ``n`` samples of one stream."""

    scores: Scores  # n of each
    events: list[Event]  # opened or closed by these samples, in order of time
    smoothed: Float32  # (n, R) smoothed errors, in the family's scaled unit; NaN: not scored
    threshold: Float32  # (n, R) the threshold of each error, in the same unit
    forecasts: Sequence[Forecast] = ()  # made from these samples, in order of time


class BatchResult(NamedTuple):
    """The results of ``n`` samples of each of ``B`` streams. A column is a stream of the call."""

    score: Float32  # (n, B) dimensionless, see ``models.messages.Scores``; NaN: not scored
    predicted: Float32  # (n, B, C) the expected samples, in the channels' units; NaN: none
    smoothed: Float32  # (n, B, R) see ``Result.smoothed``
    threshold: Float32  # (n, B, R) see ``Result.threshold``
    events: list[tuple[int, Event]]  # column and event, in order of time within a column
    forecasts: Sequence[tuple[int, Forecast]] = ()  # column and forecast, ordered likewise

    def first(self, times: Float64, tail: Rating | None) -> Result:
        """Return the results of column 0.

        Args:
            times: (n,) Unix seconds of its samples.
            tail: gives each score its probability; None: probabilities are NaN.

        """
        score = self.score[:, 0]
        probability = np.full(len(score), np.nan) if tail is None else tail.probability(score)
        return Result(
            Scores(times, score, probability, self.predicted[:, 0]),
            [event for column, event in self.events if column == 0],
            self.smoothed[:, 0],
            self.threshold[:, 0],
            [forecast for column, forecast in self.forecasts if column == 0],
        )


class Scorer(Protocol[M]):
    """From samples to scores. It is the only part that runs for every sample."""

    def start(self, streams: int = 1) -> M:
        """Return a memory of ``streams`` streams without samples, ``streams`` ≥ 1.

        The agent calls it once per fleet, at its start. Evaluation calls it once per recording.
        """

    def step_together(self, memory: M, who: Index, times: Float64, values: Float32) -> BatchResult:
        """Score the next samples of some streams and update ``memory``. This is the hot path.

        Values of any size are scored: an overflow gives infinity or NaN, and no error.

        Args:
            memory: of ``N`` streams, changed in place.
            who: the ``B`` streams, none twice: (B,) int64 indices, or ``models.messages.ALL``.
            times: (n, B) float64 Unix seconds, rising along n, n ≥ 0. A step of more than one
                period is an interruption.
            values: (n, B, C) float32 in the channels' units, NaN where a value is missing.

        Returns:
            ``n`` results of each of the ``B`` streams, in the order of ``who``.

        """

    def step(self, memory: M, samples: Samples) -> Result:
        """Score the next ``n`` samples of the only stream of ``memory``, as ``step_together``.

        It is for recordings and for known answers.

        Args:
            memory: of one stream, changed in place.
            samples: times (n,), values (n, C); their ``quality`` is not used.

        """


class StateCodec(Protocol[M]):
    """From memory to bytes and back. A restart does not change any later result of a stream."""

    def changed_parts(self, memory: M, stream: int = 0) -> dict[str, bytes]:
        """Return the parts of a stream's memory that changed since the last call, by their name.

        The agent calls it with each commit, and the store keeps the newest part of each name. The
        returned parts count as saved. All names that a detector does not return are the agent's.
        """

    def restore(self, parts: Mapping[str, bytes]) -> M:
        """Return a memory of one stream from the newest saved part of each name.

        Raises:
            StateMismatch: the parts belong to another bundle (``digest``), or are damaged.

        """

    def adopt(self, memory: M, stream: int, one: M) -> None:
        """Copy the only stream of ``one`` into ``memory``, in place of its stream ``stream``."""


class OpenEvents(Protocol[M_read]):
    """The open events of a stream. They are read between two steps."""

    def events(self, memory: M_read, stream: int = 0) -> EventState:
        """Return the state of a stream's events, with the number of the next one. Not a copy."""

    def open_events(self, memory: M_read, stream: int = 0) -> list[Event]:
        """Return the open events of a stream, each with its worst sample so far.

        The agent calls it with each commit.
        """

    def open_silence(
        self, memory: M_read, time: float, since: float, stream: int = 0
    ) -> list[Event]:
        """Open the ``silent`` event of a stream and return it; [] where it is open already.

        Only the caller's clock can detect silence. The stream's next sample closes the event.

        Args:
            memory: of ``N`` streams; the events of ``stream`` change.
            time: now, in Unix seconds.
            since: Unix seconds of the last sample.
            stream: index in the memory.

        """


class Forecasting(Protocol[M_read]):
    """Forecasts of the scored channels. Without a forecaster both members are None."""

    @property
    def forecaster(self) -> Forecaster | None:
        """The forecaster. Its forecasts are in ``Result`` and ``BatchResult``."""

    def forecasts(self, memory: M_read, stream: int = 0) -> ForecastState | None:
        """Return the forecaster's state of a stream: steps, accuracy, refusals. Not a copy."""


class DetectorOf(Scorer[M], StateCodec[M], OpenEvents[M], Forecasting[M], Protocol[M]):
    """The four parts, and the properties of every stream. A family's builder creates it."""

    @property
    def manifest(self) -> StreamRules:
        """The ``C`` channels with their units, the sampling grid, and the rules of events."""

    @property
    def digest(self) -> str:
        """The sha256, 64 hexadecimal digits, of everything that changes a score.

        A saved state belongs to one digest.
        """

    @property
    def detector(self) -> str:
        """The family's name, as it stands in scores, alarms and messages."""

    @property
    def runtime(self) -> str:
        """Name and version of the interpreter that runs the network, for people to read."""


# the memory of a detector of any family: its keeper can only pass it back
Memory = NewType("Memory", object)
Detector = DetectorOf[Memory]
