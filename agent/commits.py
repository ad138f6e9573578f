"""Commits: the batch of everything that is committed together, and the notifications afterwards.

    loop ─samples, alarms, messages─> batch ─> store ─┬─> inputs: their chunks are stored
                 streams' memory, acknowledged ─┘     ├─> uplink: deleted and new messages
                                                      └─> failed: kept in memory, and reported

Samples, alarms, messages and memory that belong together are in one batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from agent.alarms.points import Points
from agent.clock import Clock
from agent.health.measured import LATENCIES_KEPT, Latencies
from agent.health.sdnotify import Notifier
from agent.inputs.source import Chunk, Input
from agent.onsite.hooks import Hooks
from agent.scoring.streams import Streams
from agent.store.batch import Batch
from agent.store.degraded import Trouble
from agent.store.record import Outgoing
from agent.store.writer import Store
from agent.uplink.handover import Relay
from agent.uplink.progress import SAMPLES
from agent.uplink.sender import DELETED_MAX
from models.errors import StoreError

CLOCK: Final = "_clock"  # a key among the streams' states; no stream's name begins with _
HANDLING: Final = "_handling"  # the same, of the points
_DRAIN_S = 0.1  # between two commits while many messages are deleted


class Commits:
    """Fills the batch and commits it; the loop's thread uses it.

    Args:
        store: The database.
        streams: All streams, whose samples and memory are committed.
        inputs: The inputs by name, which are notified of their stored chunks.
        relay: The uplink, which is notified of deleted messages and of storage failures.
        notifier: Reports storage failures to systemd.
        clock: The clock, whose state is also committed.
        batch: The first batch to commit.
        state_interval_s: Seconds between two saves of the whole memory.
        points: The handling of alarms.
        hooks: The hooks on site, which are told of transitions.

    """

    def __init__(
        self,
        store: Store,
        streams: Streams,
        inputs: Mapping[str, Input],
        relay: Relay,
        notifier: Notifier,
        clock: Clock,
        batch: Batch,
        state_interval_s: float,
        points: Points,
        hooks: Hooks,
    ) -> None:
        self.batch = batch
        self._points, self._hooks = points, hooks
        self.latencies = Latencies()
        self._store, self._streams, self._inputs = store, streams, inputs
        self._relay, self._notifier, self._clock = relay, notifier, clock
        self._state_interval_s = state_interval_s
        self._trouble = Trouble()  # of the store
        # arrival of the chunks in the batch, monotonic seconds
        self._arrivals: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._tokens: dict[str, list[int]] = {}  # of uncommitted chunks, by input
        self._next_save = time.monotonic()
        self._samples = 0  # committed
        self._more_acknowledged = False
        self._mended = 0  # repaired database files, at the last commit
        self._seen = 0  # entries of the batch's samples whose values the points have seen

    @property
    def error(self) -> str | None:
        """Why nothing can be stored; None if everything is stored."""
        return self._trouble.error

    def unstored(self) -> dict[str, Any] | None:
        """Return what waits in memory because the store fails; None if everything is stored."""
        return self._trouble.news(self.batch)

    def took(self, chunks: Sequence[Chunk]) -> None:
        """Record chunks whose readings are now in the batch."""
        self._arrivals.extend([chunk.arrived_mono_s for chunk in chunks])
        for chunk in chunks:
            if chunk.token:
                self._tokens.setdefault(chunk.input_name, []).append(chunk.token)

    def save_soon(self) -> None:
        """Save the whole memory with the next commit."""
        self._next_save = time.monotonic()

    def forgo(self, streams: Collection[str], inputs: Iterable[str]) -> None:
        """Drop everything of these streams and their inputs from the batch."""
        self.batch.forgo(streams)
        for name in inputs:
            self._tokens.pop(name, None)

    def interval_s(self, flush_interval_s: float) -> float:
        """Return the time to the next commit: short if acknowledged messages wait for deletion."""
        return min(flush_interval_s, _DRAIN_S) if self._more_acknowledged else flush_interval_s

    def commit(self, status: Callable[[], str] | None, stopping: bool) -> bool:
        """Commit the batch; if that fails, keep it for the next commit.

        Args:
            status: Returns the status to store after everything else; None: store none.
            stopping: The agent stops normally.

        Returns:
            Whether a damaged database file was repaired.

        """
        batch = self.batch
        batch.acked += self._relay.acknowledged()
        batch.counters |= self._relay.counters()
        if (progress := self._relay.progress.news()) is not None:
            batch.state[SAMPLES] = {SAMPLES: progress}
        batch.settled = list(dict.fromkeys(batch.settled + self._hooks.settled()))
        self._streams.flush(batch)
        self._save(stopping)
        self._handle_alarms()
        batch.status = status
        acked, waiting, settled = batch.acked, batch.rows(), batch.settled
        self._more_acknowledged = len(acked) >= DELETED_MAX and not self.error
        if self._relay.outbox_damaged():
            self._store.outbox_damaged()
        try:
            self._store.commit(batch, self._clock.quality())
        except StoreError as error:
            self._samples += waiting - batch.rows()
            self._failed(error)
            if not batch.acked:  # all of them are deleted
                self._relay.committed(acked)
            if not batch.settled:  # the same; what is not deleted must not be told again
                self._hooks.committed(settled)
            return False
        finally:
            self._seen = len(batch.samples)
        if self._trouble.over():
            self._relay.tell(None)
        self._samples += waiting
        readings = self._store.readings
        self._relay.progress.see(
            readings.next_sample, readings.durable, readings.ring_epoch, readings.stored_by
        )
        committed = time.monotonic()
        for arrived in self._arrivals:
            self.latencies.add(committed - arrived)
        self._arrivals.clear()
        self._relay.committed(acked)
        self._hooks.committed(settled)
        for name, tokens in self._tokens.items():
            self._inputs[name].committed(tokens)
        self._tokens.clear()
        before, self._mended = self._mended, self._store.mended
        return self._mended > before

    def _handle_alarms(self) -> None:
        """Put the transitions of alarms into the batch, and report them to central ops."""
        batch, points, now_s = self.batch, self._points, self._clock.wall_s()
        self._show_values(now_s)
        for alarm in batch.untaken:
            points.take(alarm, now_s)
        batch.untaken = []
        points.tick(now_s)
        made, changed = points.drain()
        if memory := points.memory():
            batch.state.setdefault(HANDLING, {}).update(memory)
        batch.standings |= changed
        batch.transitions += made
        batch.notices += self._hooks.notices(made, batch.alarms)
        batch.messages += [
            Outgoing("transition", one.stream, one.at, one.document()) for one in made
        ]

    def _show_values(self, now_s: float) -> None:
        """Show the points the measured values that may suppress alarms; mostly there are none."""
        if not (watched := self._points.watched):
            return
        channels = self._streams.channels()
        for stream, samples, _ in self.batch.samples[self._seen :]:
            for channel in watched.get(stream, ()):
                if channel in channels.get(stream, ()):
                    times, values = samples.measured(channels[stream].index(channel))
                    self._points.see(stream, channel, times, values, now_s)

    def _save(self, stopping: bool) -> None:
        """Put the streams' memory into the batch, the whole of it if that is due."""
        now, batch = time.monotonic(), self.batch
        due = now >= self._next_save or stopping
        if due:
            self._next_save = now + self._state_interval_s
        self._streams.save(batch, self._store.readings.next_sample + batch.rows(), due, stopping)
        batch.clock = self._clock.packed()
        # no extra sync if the data that needs it goes to the same file
        if due or batch.messages or (batch.state and not batch.samples):
            batch.state[CLOCK] = {CLOCK: self._clock.to_bytes()}

    def _failed(self, error: StoreError) -> None:
        """Keep in memory what was not written, and report it if possible."""
        self._trouble.failed(error, self.batch, self._clock.wall_s())
        self._notifier.status(self._trouble.brief())
        self._relay.tell(self.unstored())
        self.save_soon()  # if samples are dropped, the waiting ones get other numbers

    def counters(self) -> dict[str, int]:
        """Return the counters of committed data, and of data that could not be committed."""
        return {"samples_committed": self._samples} | self._trouble.counters()
