"""Tracks the last reading of each stream, and determines why a stream is silent.

A silence can have one of three explanations: a lost link, only unusable rows, or an agent that
stood still. Otherwise the device is silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from agent.alarms.document import Reason, link_lost
from agent.scoring.gaps import DEVICE_AWAY, STOOD_STILL, link_away

if TYPE_CHECKING:
    from agent.inputs.source import Chunk, InputStatus
    from agent.scoring.stream import Stream
    from agent.store.batch import Batch

STILL_S: Final = 1.0  # the loop of a busy gateway is late by less than this
Links = Mapping[str, Callable[[], "InputStatus"]]


class Silence:
    """Watches for streams without readings; one thread uses it.

    Args:
        streams: By name. An exchanged stream replaces the former one.
        inputs: Each input's stream, by the input's name.
        links: The state of each input's link, by the input's name.
        unusable: Returns the reason of a silence although rows arrive; None: none arrive.

    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        inputs: Mapping[str, str],
        links: Links,
        unusable: Callable[[str], Reason | None],
    ) -> None:
        self._streams, self._inputs = streams, inputs
        self._links, self._unusable = links, unusable
        self._heard: dict[str, float] = {}  # monotonic time of each stream's last reading
        # by stream: the input without a link since the last reading, and the cause
        self._lost: dict[str, str] = {}
        self._still = (0.0, 0.0)  # from when to when the agent stood still (monotonic)
        self.streams_changed()

    def streams_changed(self) -> None:
        """Update the state after some streams got another detector."""
        # a shorter pause is no gap of any stream
        self._pause_s = min(stream.gaps.least_s for stream in self._streams.values())

    def begin(self, now: float) -> None:
        """Start to wait for readings (monotonic time)."""
        self._heard = dict.fromkeys(self._streams, now)

    def stood_still(self, since: float, until: float) -> None:
        """Record a time (monotonic) in which the agent stood still."""
        if until - since > STILL_S:
            self._still = (since, until)

    def _still_s(self, since: float, until: float) -> float:
        """Return how long the agent stood still in this time, seconds."""
        return max(0.0, min(until, self._still[1]) - max(since, self._still[0]))

    def heard(self, found: Iterable[tuple[Chunk, str]]) -> None:
        """Record chunks with readings, each with its stream's name.

        Most chunks arrive without a pause; these cost almost nothing.
        """
        heard, pause_s = self._heard, -math.inf if self._lost else self._pause_s
        for chunk, name in found:
            now = chunk.arrived_mono_s
            if now - heard.get(name, now) > pause_s:
                self.over(name, now)
            else:
                heard[name] = now

    def over(self, name: str, now: float) -> None:
        """Record a reading of a stream, and the pause before it."""
        heard, self._heard[name] = self._heard.get(name, now), now
        paused_s, gaps = now - heard, self._streams[name].gaps
        if paused_s > gaps.least_s:
            still = self._still_s(heard, now) > paused_s / 2
            gaps.pause(paused_s, STOOD_STILL if still else self._away(name))
        if self._lost:
            self._lost.pop(name, None)

    def look(self, now: float, batch: Batch) -> None:
        """Raise an alarm for silent streams."""
        for name, heard in self._heard.items():
            stream, silent_s = self._streams[name], now - heard - self._still_s(heard, now)
            if silent_s > min(stream.gaps.least_s / 2, stream.silent_after_s):
                self._look_at_links(name)
            if silent_s > stream.silent_after_s:
                stream.open_silence(heard, batch, self._reason(name))

    def _look_at_links(self, name: str) -> None:
        """Record whether an input of a stream without readings has lost its link."""
        for source, stream in self._inputs.items():
            if stream == name and source in self._links:
                link = self._links[source]()
                if not link.connected and link.since is not None:  # it has tried to connect
                    self._lost[name] = f"input {source}: {link.last_error}"

    def _away(self, name: str) -> Reason:
        """Return the reason of a stream's pause, after its end."""
        lost = self._lost.get(name)
        return DEVICE_AWAY if lost is None else link_away(lost)

    def _reason(self, name: str) -> Reason | None:
        """Return the reason why a stream has no readings; None: its device sends nothing."""
        if (lost := self._lost.get(name)) is not None:
            return link_lost(lost)
        return self._unusable(name)
