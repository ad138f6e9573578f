"""When each stream last had a reading, and why a stream is silent.

A lost link, rows of which none can be used, or an agent that stood still explain a silence: then
nobody blames the device. If nothing explains it, the device is silent.
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

STILL_S: Final = 1.0  # a busy gateway's loop is late by less
Links = Mapping[str, Callable[[], "InputStatus"]]


class Silence:
    """Watches that streams bring readings; one thread uses it.

    Args:
        streams: By name. An exchanged stream replaces the former one.
        inputs: Each input's stream, by the input's name.
        links: The state of each input's link, by the input's name.
        unusable: Returns why a stream is silent though rows come; None: none come.

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
        # which input of a stream had no link since its last reading, and why
        self._lost: dict[str, str] = {}
        self._still = (0.0, 0.0)  # from when to when the agent stood still (monotonic)
        self.streams_changed()

    def streams_changed(self) -> None:
        """Take note that some streams have another detector."""
        # what is shorter is no gap of any stream
        self._pause_s = min(stream.gaps.least_s for stream in self._streams.values())

    def begin(self, now: float) -> None:
        """Start to wait for readings (monotonic time)."""
        self._heard = dict.fromkeys(self._streams, now)

    def stood_still(self, since: float, until: float) -> None:
        """Take note that the agent did nothing in this time (monotonic), though it was to."""
        if until - since > STILL_S:
            self._still = (since, until)

    def _still_s(self, since: float, until: float) -> float:
        """Return for how long of this time the agent stood still."""
        return max(0.0, min(until, self._still[1]) - max(since, self._still[0]))

    def heard(self, found: Iterable[tuple[Chunk, str]]) -> None:
        """Take note of chunks with readings, each with its stream's name.

        Most come without a pause: these cost next to nothing.
        """
        heard, pause_s = self._heard, -math.inf if self._lost else self._pause_s
        for chunk, name in found:
            now = chunk.arrived_mono_s
            if now - heard.get(name, now) > pause_s:
                self.over(name, now)
            else:
                heard[name] = now

    def over(self, name: str, now: float) -> None:
        """Take note of a reading of a stream, and of the pause before it."""
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
        """Take note if an input of a stream without readings has lost its link."""
        for source, stream in self._inputs.items():
            if stream == name and source in self._links:
                link = self._links[source]()
                if not link.connected and link.since is not None:  # it has tried
                    self._lost[name] = f"input {source}: {link.last_error}"

    def _away(self, name: str) -> Reason:
        """Return why nothing came of a stream, now that something has."""
        lost = self._lost.get(name)
        return DEVICE_AWAY if lost is None else link_away(lost)

    def _reason(self, name: str) -> Reason | None:
        """Return why a stream has no readings; None: apparently its device sends nothing."""
        if (lost := self._lost.get(name)) is not None:
            return link_lost(lost)
        return self._unusable(name)
