"""The parts that a stream has beside its detector: their calls, the callers and the order.

A part belongs to one stream, ``agent.scoring.stream.Stream``, which has a list of parts. The loop's
thread makes all calls, and no call does any I/O. The order of the calls in a stream's life:

    restore ──> (take | foretell | reconfigure) … ──> to_bytes, document ──> … ──> close
    at the start,  first of what was stored             at each commit         the stream leaves, or
    if saved       after the last save                                         gets another detector

A part sends messages, and opens and closes alarms, through its ``Teller``.
``agent.scoring.parts`` has the parts that each stream has.
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
    """The occasion of a save; each occasion includes the data of the ones before it.

    ``COMMIT``, several per second: samples are stored; after a crash they are scored again.
    ``MEMORY``: the detector's memory is saved, because something was reported or the saving
    interval is over. ``STOP``: the agent stops normally.
    """

    COMMIT = 0
    MEMORY = 1
    STOP = 2


class Part:
    """A base with a default for each call, which does nothing.

    ``n`` is the number of samples in a call, and ``C`` the number of the bundle's channels.
    Times are Unix seconds, float64.
    """

    name: ClassVar[str]  # of its saved state; unique in a stream
    # whether it continues when another detector takes over; then the new part of this name is
    # restored from ``to_bytes(Moment.STOP)``, and its alarms stay open
    lasting: ClassVar[bool] = False
    # the first moment at which it may have data to save; the stream asks it from this one on
    saved_from: ClassVar[Moment] = Moment.MEMORY

    @property
    def counters(self) -> Mapping[str, int]:
        """Counts since the agent started; they are added to the stream's counters."""
        return {}

    def check(self, settings: StreamTable) -> None:
        """Check whether the part can continue with new settings; nothing changes.

        Raises:
            ConfigError: the settings do not fit the stream's bundle.

        """

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue with settings that passed ``check``; called at each reload, changed or not."""

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Take samples, (n, C), n ≥ 1, with their scores, (n,), NaN where there is none.

        Called before each commit with all samples since the last one. After a start it also gets
        those that were stored after the memory was last saved. They are in chronological order,
        unless the clock was set back.
        """

    def foretell(self, forecast: Forecast, batch: Batch) -> None:
        """Take a new forecast, before ``take`` gets the samples that it was made from."""

    def settle(self) -> None:
        """Update the open events, because the agent stops and stores them."""

    def open_events(self) -> list[Event]:
        """Return the part's open events in their present state, in the detector's times."""
        return []

    def document(self) -> dict[str, Any]:
        """Return keys of the stream's document, for ``status`` and the health message.

        Called at each commit, so it must be quick.
        """
        return {}

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Return the data to save now; None: the data saved last is still valid.

        Called from the moment ``saved_from`` on. The returned bytes count as saved, and cost a
        write. A part decides when to save: whenever the memory is saved, only after a change
        (``Changes``), or at a stop.
        """
        return None

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue from the last result of ``to_bytes``.

        Not called if nothing was saved, for example by an older version. Also not called if the
        detector's memory belongs to another bundle and the part is not ``lasting``. In both cases
        the part stays in its initial state.
        """

    def close(self, batch: Batch) -> None:
        """Send unsent data, because the stream is removed or gets another detector and other parts.

        Not called at a stop: the saved data continues at the next start. The stream closes the
        alarms.
        """


def answers(part: Part, call: str) -> bool:
    """Return whether a part overrides the default method or property of this name."""
    return getattr(type(part), call) is not getattr(Part, call)


class Changes:
    """Saves data only if it differs from the last saved data, which is empty at first."""

    def __init__(self) -> None:
        self._saved = b""

    def restore(self, data: bytes) -> None:
        """Record the saved data."""
        self._saved = data

    def of(self, data: bytes) -> bytes | None:
        """Return ``data`` if it must be saved, else None."""
        if data == self._saved:
            return None
        self._saved = data
        return data


class Teller(Protocol):
    """The interface of a stream for its parts: they report and send through it."""

    @property
    def last_time(self) -> float | None:
        """The time of the last sample; None before the first one since the start."""

    @property
    def correction_s(self) -> float:
        """Seconds to add to the detector's times, for alarms and messages."""

    def take_number(self) -> int:
        """Return a new, unique event number."""

    def report(
        self,
        events: list[Event],
        batch: Batch,
        samples: Samples | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Open and close the alarms of events, in the detector's times, in order.

        ``samples``: the samples in which the events were found, if any;
        ``reason``: see ``agent.alarms.document.alarm_document``.
        """

    def close_alarms(
        self, cause: Cause, batch: Batch, numbers: Iterable[int] | None = None
    ) -> None:
        """Close open alarms whose events will not close them; None: all of the stream's."""

    def send(self, kind: Kind, time: float, data: dict[str, Any], batch: Batch) -> None:
        """Send a message with this time; the commit that contains it also saves the memory."""
