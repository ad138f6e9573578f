"""Takes marks at the commits of a run, and measures between two marks.

At a commit nothing is unfinished: all lines that were read are scored and stored. So a measurement
goes from one commit to another, with all commits in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.bench.devices import Devices
from agent.bench.machine import disk_bytes_written
from agent.bench.stages import Stopwatch
from agent.health.measured import rss_mb
from agent.inputs.queue import ChunkQueue
from agent.inputs.source import Chunk
from agent.store.batch import Batch
from agent.store.record import Outgoing
from agent.store.writer import Store


class Mark(NamedTuple):
    """The clocks and counters at the end of a commit."""

    wall_s: float  # monotonic
    process_s: float  # CPU time of all threads
    loop_s: float  # of the daemon's loop
    devices_s: float  # of the simulated devices; not in ``loop_s``
    lines: int  # read so far
    disk_bytes: int | None
    store_bytes: int  # size of the store's files
    stages_s: dict[str, float]  # of the loop, in a watched run


@dataclass(slots=True)
class Committed:
    """The content of a watched run's commits, which the bare parts repeat."""

    messages: list[Outgoing] = field(default_factory=list)
    states: list[list[tuple[str, str, bytes]]] = field(default_factory=list)  # by commit


class Meter:
    """Takes marks at commits: the first after the first lines, the last after ``seconds``."""

    def __init__(
        self,
        seconds: float,
        devices: Devices,
        store_bytes: Callable[[], int],
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._seconds = seconds
        self._devices = devices
        self._store_bytes = store_bytes
        self._stopwatch = stopwatch
        self.lines = 0  # read by the loop
        self.first: Mark | None = None
        self.last: Mark | None = None
        self.delays_s: list[float] = []  # of each arrival, from the device to the commit
        self.weights: list[int] = []  # lines of each of these
        self.commits = 0  # after the first mark
        self.rss_mb = 0.0  # at the last mark
        self.committed: Committed | None = None if stopwatch is None else Committed()
        self._lines_done = 0

    def mark(self) -> bool:
        """Take a mark; return whether the time is over."""
        now = self._now()
        begun = self.first is not None
        self._take_delays(now, begun)
        if self.first is None:
            self.first = now if self.lines else None
            return False
        self.last, self.commits, self.rss_mb = now, self.commits + 1, rss_mb()
        return now.wall_s - self.first.wall_s >= self._seconds

    def keep(self, batch: Batch) -> None:
        """Remember the content of the next commit, if requested."""
        if self.committed is not None and self.lines:
            self.committed.messages += batch.messages
            self.committed.states.append(
                [(stream, *part) for stream, parts in batch.state.items() for part in parts.items()]
            )

    def _now(self) -> Mark:
        return Mark(
            wall_s=time.monotonic(),
            process_s=time.process_time(),
            loop_s=time.thread_time() - self._devices.loop_cpu_s(),
            devices_s=self._devices.cpu_s(),
            lines=self.lines,
            disk_bytes=disk_bytes_written(),
            store_bytes=self._store_bytes(),
            stages_s=self._stopwatch.spent_s() if self._stopwatch else {},
        )

    def _take_delays(self, now: Mark, begun: bool) -> None:
        arrivals = self._devices.arrivals
        while arrivals and arrivals[0].lines_so_far <= now.lines:
            arrived = arrivals.popleft()
            if begun:
                self.delays_s.append(now.wall_s - arrived.time_s)
                self.weights.append(arrived.lines_so_far - self._lines_done)
            self._lines_done = arrived.lines_so_far


class MeteredStore(Store):
    """The store, which lets a meter take a mark at each commit."""

    meter: Meter | None = None  # set once the run begins
    enough: Callable[[], None]  # called when the meter's time is over

    def commit(self, batch: Batch, clock: str) -> None:
        """Commit, and take a mark; see ``Store.commit``."""
        if self.meter is not None:
            self.meter.keep(batch)
        super().commit(batch, clock)
        if self.meter is not None and self.meter.mark():
            self.meter = None
            self.enough()


class MeteredQueue(ChunkQueue):
    """The queue, which counts the lines that the loop has taken."""

    meter: Meter
    devices: Devices

    def take(self, timeout_s: float) -> list[Chunk]:
        """Take chunks, and count their lines; see ``ChunkQueue.take``."""
        self.devices.between_turns(self.meter.lines)
        chunks = super().take(timeout_s)
        self.meter.lines += sum(len(chunk.lines) for chunk in chunks)
        return chunks
