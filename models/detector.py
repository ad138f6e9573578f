"""What a detector is, whatever its family: four small parts, and what it makes of samples.

A detector scores the streams of one bundle. It holds what streams have in common (networks,
settings) and no stream's memory; the memory of ``N`` streams is one object that it makes, that its
owner keeps, and that only the detector looks into. Streams are named by their number in it, 0 to
``N`` - 1. One thread uses a memory; no call does any input or output.

    start ──> step_together … ──> changed_parts ──> (store) ──> restore, adopt ──> step_together …
                    │  └─ silent, open_events, events, forecasts: at any time between two steps
                    └─ the same results, however samples are cut into calls

``models.families`` has the families there are. Throughout, ``C`` is the number of channels, ``R``
of rows that are compared with a threshold, which is the family's own affair, and times are Unix
seconds (float64) on the grid of ``manifest.sampling``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NewType, Protocol, TypeVar

import numpy as np

from models.events import EventState
from models.forecaster import Forecaster, ForecastState
from models.manifest import StreamRules
from models.messages import Event, Float32, Float64, Forecast, Index, Samples, Scores
from models.tail import ScoreTail

M = TypeVar("M")  # the memory of N streams
M_read = TypeVar("M_read", contravariant=True)  # the same, of parts that make none


class Result(NamedTuple):
    """What a detector made of ``n`` samples of one stream."""

    scores: Scores
    events: list[Event]  # opened and closed, in order
    smoothed: Float32  # (n, R) smoothed errors in scaled units, NaN where not scored
    threshold: Float32  # (n, R) that each was compared with
    forecasts: Sequence[Forecast] = ()  # made during these samples, in order


class Together(NamedTuple):
    """What a detector made of ``n`` samples of each of ``B`` streams; streams by their column."""

    score: Float32  # (n, B), see ``models.messages.Scores``
    predicted: Float32  # (n, B, C)
    smoothed: Float32  # (n, B, R)
    threshold: Float32  # (n, B, R)
    events: list[tuple[int, Event]]  # of each stream in order
    forecasts: Sequence[tuple[int, Forecast]] = ()  # of each stream in order

    def first(self, times: Float64, tail: ScoreTail | None) -> Result:
        """Return what was made of the first stream, whose samples are of ``times`` (n,)."""
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
    """From samples to scores; the only part that runs with every sample."""

    def start(self, streams: int = 1) -> M:
        """Return the memory of so many streams before their first samples.

        Called once per fleet at the agent's start, and once per recording offline.
        """

    def step_together(self, memory: M, who: Index, times: Float64, values: Float32) -> Together:
        """Score samples that follow those before; ``memory`` moves on. The hot path.

        Args:
            memory: of ``N`` streams.
            who: which ``B`` of them, none twice: positions, or ``models.messages.ALL``.
            times: (n, B), rising; a jump of more than a period is an interruption.
            values: (n, B, C) in the channels' units, NaN where there is none.

        """

    def step(self, memory: M, samples: Samples) -> Result:
        """Do the same with the only stream of ``memory``; for recordings and known answers."""


class StateCodec(Protocol[M]):
    """From memory to bytes and back: a stream goes on after a restart as if there had been none."""

    def changed_parts(self, memory: M, stream: int = 0) -> dict[str, bytes]:
        """Return the named parts of a stream's memory that changed since the last call.

        Called with a commit; the store keeps the newest of each name. What is returned counts as
        saved. Parts of all other names are the agent's.
        """

    def restore(self, parts: Mapping[str, bytes]) -> M:
        """Return the memory of one stream, of all parts that were ever saved.

        Raises:
            StateMismatch: they are of another bundle (``digest``), or damaged.

        """

    def adopt(self, memory: M, stream: int, one: M) -> None:
        """Set the memory of one of ``N`` streams to that of the only one of ``one``."""


class OpenEvents(Protocol[M_read]):
    """What is open of a stream; asked between two steps."""

    def events(self, memory: M_read, stream: int = 0) -> EventState:
        """Return the stream's events with the number that the next one gets."""

    def open_events(self, memory: M_read, stream: int = 0) -> list[Event]:
        """Return the events that are open, each with its worst sample so far; at each commit."""

    def silent(self, memory: M_read, time: float, since: float, stream: int = 0) -> list[Event]:
        """Say that at ``time`` nothing has come since ``since`` (Unix seconds); return its event.

        Only the owner's clock can tell. The stream's next sample closes the event; until then
        further calls return nothing.
        """


class Forecasting(Protocol[M_read]):
    """What comes; a detector without a forecaster returns None for both."""

    @property
    def forecaster(self) -> Forecaster | None:
        """The forecaster; its forecasts come with ``Together.forecasts``."""

    def forecasts(self, memory: M_read, stream: int = 0) -> ForecastState | None:
        """Return what the forecaster remembers of a stream: steps, accuracy, refusals."""


class DetectorOf(Scorer[M], StateCodec[M], OpenEvents[M], Forecasting[M], Protocol[M]):
    """All four parts, and what is known of every stream; made by its family's builder."""

    @property
    def manifest(self) -> StreamRules:
        """The channels, the grid, and the rules of events."""

    @property
    def digest(self) -> str:
        """The sha256 of all that changes a score; saved state belongs to it."""

    @property
    def detector(self) -> str:
        """The family's name, as in scores, alarms and messages."""

    @property
    def runtime(self) -> str:
        """What runs the network, with its version; for people."""


# the memory of a detector of any family: who keeps it can only hand it back
Memory = NewType("Memory", object)
Detector = DetectorOf[Memory]
