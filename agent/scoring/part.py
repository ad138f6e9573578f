"""The parts that a stream has beside its detector: which calls each gets, from whom, and when.

A part belongs to one stream, ``agent.scoring.stream.Stream``, which has a list of them. The loop's
thread makes all calls; no call does any input or output. In the order of a stream's life:

    restore ──> (take | foretell | reconfigure) … ──> to_bytes, document ──> … ──> close
    at the start,  first of what was stored             at each commit         the stream leaves, or
    if saved       after the last save                                         gets another detector

A part sends messages, and opens and closes alarms, through its ``Teller``.
``agent.scoring.parts`` has those that each stream has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Protocol

from agent.alarms.document import Reason
from agent.alarms.lifecycle import Cause
from agent.config.load import StreamTable
from agent.store.batch import Batch
from agent.store.record import Kind
from models.messages import Event, Float32, Forecast, Samples


class Moment(IntEnum):
    """Why the stream saves; each also saves everything that the earlier ones save.

    ``COMMIT``, several per second: samples are stored, and after a crash they are scored again.
    ``MEMORY``: the detector's memory is saved, because something was reported or its interval is
    over. ``STOP``: the agent stops normally.
    """

    COMMIT = 0
    MEMORY = 1
    STOP = 2


class Part:
    """A part that does nothing: a base with a default for each call.

    ``n`` is the number of samples in a call, ``C`` that of the bundle's channels. Times are Unix
    seconds, float64.
    """

    name: ClassVar[str]  # of its saved state; unique in a stream
    # whether it continues when another detector takes over: the new part of this name is then
    # restored with what ``to_bytes(Moment.STOP)`` returns, and its alarms stay open
    lasting: ClassVar[bool] = False
    # the first moment at which it may have something to save: the stream asks it from then on
    saved_from: ClassVar[Moment] = Moment.MEMORY

    @property
    def counters(self) -> Mapping[str, int]:
        """What it counted since the agent started; added to the stream's counters."""
        return {}

    def check(self, settings: StreamTable) -> None:
        """Check whether it could continue with new settings; nothing changes.

        Raises:
            ConfigError: the settings do not fit the stream's bundle.

        """

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue with settings that passed ``check``; called at each reload, changed or not."""

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Take samples, (n, C), n ≥ 1, with their scores, (n,), NaN where there is none.

        Called before each commit with all samples since the last one. After a start it also gets
        those that were stored after the memory was last saved. They are in the order of time,
        unless the clock was set back.
        """

    def foretell(self, forecast: Forecast, batch: Batch) -> None:
        """Take a new forecast, before ``take`` gets the samples that it was made from."""

    def settle(self) -> None:
        """Bring the open events up to date: the agent stops, and stores them."""

    def open_events(self) -> list[Event]:
        """Return its open events in their present state, with the detector's times."""
        return []

    def document(self) -> dict[str, Any]:
        """Return keys of the stream's document, for ``status`` and the health message.

        Called at each commit, so it must be quick.
        """
        return {}

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Return what must be saved now; None: what was saved last is still valid.

        Called from the moment ``saved_from`` on. The returned bytes count as saved, and cost a
        write. A part decides when to save: each time that the memory is saved, only after a change
        (``Changes``), or at a stop.
        """
        return None

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with what ``to_bytes`` returned last.

        Not called if nothing was saved, as by an older version, or if the detector's memory belongs
        to another bundle and the part is not ``lasting``: then the part stays new.
        """

    def close(self, batch: Batch) -> None:
        """Send what is not sent yet, because the stream leaves or gets another detector and parts.

        Not called at a stop: the saved data continues at the next start. The stream closes the
        alarms.
        """


def answers(part: Part, call: str) -> bool:
    """Return whether a part has its own method or property of this name, not the default."""
    return getattr(type(part), call) is not getattr(Part, call)


class Changes:
    """Saves data only if it differs from what was saved last; at first that is empty."""

    def __init__(self) -> None:
        self._saved = b""

    def restore(self, data: bytes) -> None:
        """Record what is saved."""
        self._saved = data

    def of(self, data: bytes) -> bytes | None:
        """Return ``data`` if it must be saved, else None."""
        if data == self._saved:
            return None
        self._saved = data
        return data


class Teller(Protocol):
    """What parts see of their stream: they report and send through it."""

    @property
    def last_time(self) -> float | None:
        """Of the last sample; None before the first since the start."""

    @property
    def correction_s(self) -> float:
        """Seconds to add to the detector's times, for alarms and messages."""

    def take_number(self) -> int:
        """Return the number of a new event; it is never used again."""

    def report(
        self,
        events: list[Event],
        batch: Batch,
        samples: Samples | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Open and close the alarms of events, in the detector's times, in order.

        ``samples``: those in which they were found, if any;
        ``reason``: see ``agent.alarms.document.alarm_document``.
        """

    def close_alarms(
        self, cause: Cause, batch: Batch, numbers: Iterable[int] | None = None
    ) -> None:
        """Close open alarms whose events will not close them; None: all of the stream's."""

    def send(self, kind: Kind, time: float, data: dict[str, Any], batch: Batch) -> None:
        """Send a message of this time; the memory is saved with the commit that has it."""
