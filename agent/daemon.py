"""The agent's wiring and its one loop.

    reader threads ─chunks─> [queue] ─> loop: parse, align, score, alarms ─> commit (SQLite)
                                          │            ▲ acknowledged                │ wake
                                          └ watchdog   └───── [queue] <── uplink <───┘

Threads only enqueue; everything between a reading and its commit happens here, in order, so
that what is committed together happened together. Only this thread writes to the database.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from agent import config as configuration
from agent.config import AgentConfig
from agent.health import Health
from agent.inputs import Chunk, ChunkQueue, Input, open_input
from agent.sdnotify import Notifier
from agent.store import Batch, Store
from agent.stream import Stream
from agent.uplink import Uplink
from models.errors import StoreError

_LOG = logging.getLogger(__name__)


class Daemon:
    """One gateway's agent: its inputs, streams, store and uplink, and the loop between them."""

    def __init__(
        self,
        config: AgentConfig,
        store: Store,
        streams: Mapping[str, Stream],
        inputs: Sequence[Input],
        chunks: ChunkQueue,
        uplink: Uplink | None,
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._store = store
        self._streams = streams
        self._inputs = {source.name: source for source in inputs}
        self._chunks = chunks
        self._uplink = uplink
        self._notifier = notifier
        self._batch = Batch()
        self._arrivals: list[float] = []  # of the chunks in the batch, monotonic seconds
        self._heard: dict[str, float] = {}  # stream -> arrival of its last chunk, monotonic
        self._health = Health()
        self._stopping = False

    def stop(self) -> None:
        """Make ``run`` return soon; safe in a signal handler."""
        self._stopping = True
        self._chunks.wake()

    def run(self) -> None:
        """Loop until ``stop``; everything taken in is committed before it returns."""
        for source in self._inputs.values():
            source.start(self._chunks.put)
        if self._uplink:
            self._uplink.start()
        self._notifier.ready()
        _LOG.info("ready: %d streams, %d inputs", len(self._streams), len(self._inputs))
        flush_s = self._config.store.flush_interval_s
        next_commit = time.monotonic() + flush_s
        while not self._stopping:
            for chunk in self._chunks.take(max(0.0, next_commit - time.monotonic())):
                self._take(chunk)
            if self._batch.alarms or time.monotonic() >= next_commit:
                self._tick()
                next_commit = time.monotonic() + flush_s
        self._finish()

    def _take(self, chunk: Chunk) -> None:
        """Parse and score one chunk."""
        readings = self._parsers[chunk.input_name].parse(chunk.lines, chunk.arrived_s)
        stream = self._streams[self._inputs[chunk.input_name].stream]
        stream.take(readings, self._batch)
        if len(readings.times):
            self._heard[stream.name] = (chunk.arrived_mono_s, chunk.arrived_s)
            self._touched.add(stream.name)
        self._arrivals.append(chunk.arrived_mono_s)

    def _tick(self) -> None:
        """What is done once an interval: look for silence, report, commit, feed the watchdog."""
        self._look_for_silence()
        self._report_health()
        self._commit()
        self._notifier.watchdog()  # only a loop that still gets here feeds it
