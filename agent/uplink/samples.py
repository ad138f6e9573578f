"""The lowest lane: the samples of the ring in chunks, within a daily budget of bytes.

    ring (SQLite, read-only here) ─pass─> chunk by chunk ─QoS 1─> broker
    loop (stores the progress with its next commit) <─progress─┘ or collector

Nothing is copied into the outbox: a **pass** reads the next samples of all streams from the ring,
makes chunks of one stream each, and sends one at a time. Once all are confirmed, the next pass
begins. So all streams get on equally in time, and what the ring drops meanwhile is counted as
missed. A sample is read only when it is on the disk, so that a power cut never gives its number to
another.

The progress outlives the process. A kill repeats at most the current pass; the collector stores a
repeated sample once, by its number.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from agent.clock import clock_quality
from agent.dialects.samples import CONTENT_BYTES_MAX, Samples, content_bytes, packed
from agent.uplink.progress import Progress
from models.errors import StoreError
from models.messages import GOOD, MISSING, stored_samples
from models.times import iso_time

if TYPE_CHECKING:
    from agent.config.broker import SamplesTable
    from agent.dialects.dialect import Dialect, Message
    from agent.store.layouts import Part
    from agent.store.reader import Reader, Ringed
    from agent.uplink.acknowledgements import Central

_LOG = logging.getLogger(__name__)

PASS_BYTES: Final = 2**20  # of a pass, as stored; it is in memory
_ROWS_READ: Final = 200  # of the ring, at a time
_HOLD_S_MAX: Final = 3600.0  # between two tries if nobody takes the chunks
_TRIES: Final = 10  # of a chunk that the broker takes and the collector does not; some 4 hours
_DAY_S: Final = 86_400


@dataclass(slots=True)
class _Chunk:
    """A chunk that is sent, or is about to be."""

    stream: str
    ring_epoch: str
    last: int  # number of its last sample
    samples: int
    message: Message
    tries: int = 0  # taken by the broker, but not confirmed by the collector in time
    taken_s: float | None = None  # monotonic; None: the broker does not have it


@dataclass(eq=False, slots=True)
class _Pass:
    """The part of the ring that is being sent."""

    end: int  # number of the first sample after it
    waiting: deque[tuple[str, Samples]] = field(default_factory=deque)
    missed: int = 0


class SampleLane:
    """Chooses the next chunk; the sender's thread uses it.

    Args:
        settings: of the lane.
        dialect: encodes the chunks.
        last_seq: returns the highest number of a message.
        central: the collector, if it must confirm each chunk.
        central_timeout_s: how long it may take for that.
        retry_s: until the next try after nobody took a chunk; doubled each time.
        wall: returns Unix seconds.

    """

    def __init__(
        self,
        settings: SamplesTable,
        dialect: Dialect,
        last_seq: Callable[[], int],
        central: Central | None,
        central_timeout_s: float,
        retry_s: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self.progress = Progress()
        self._settings, self._dialect, self._last_seq = settings, dialect, last_seq
        self._central, self._timeout_s = central, central_timeout_s
        self._retry_s_min = self._retry_s = retry_s
        self._held_until = 0.0  # monotonic, as the next
        self._next_pass = 0.0
        self._pass: _Pass | None = None
        self._chunk: _Chunk | None = None
        self._waits_for: str | None = None

    def next(self, outbox: Reader, bytes_max: int) -> Message | None:
        """Return the chunk to send now; None if there is none.

        Call ``sent`` if it is sent. ``bytes_max`` is what the broker accepts in a message. If the
        ring cannot be read, the lane waits: that must not delay messages.
        """
        now = time.monotonic()
        self._settle(now)
        if (reason := self._waits(now)) is not None:
            if reason != "retry" or self._waits_for != "store":
                self._waits_for = reason
            return None
        try:
            if self._chunk is None:
                self._chunk = self._made(outbox, now, bytes_max)
        except StoreError as error:
            if self._waits_for != "store":
                _LOG.warning("samples cannot be read, trying again: %s", error)
            self._waits_for = "store"
            self.hold()
            return None
        self._waits_for = None
        if self._chunk is None or self._chunk.taken_s is not None:
            return None
        if self._spent() + len(self._chunk.message.body) > self._settings.day_bytes_max:
            self._waits_for = "budget"
            return None
        return self._chunk.message

    def _waits(self, now: float) -> str | None:
        if now < self._held_until:
            return "retry"
        if self._central is not None and not self._central.takes_samples:
            return "collector"
        if self._settings.require_synced_clock and not self.progress.timely:
            return "clock"
        return None

    def _made(self, outbox: Reader, now: float, bytes_max: int) -> _Chunk | None:
        if self._pass is None:
            self._pass = self._begun(outbox, now)
        if self._pass is None:
            return None
        if not self._pass.waiting:
            self._end_pass()
            return None
        stream, samples = self._pass.waiting.popleft()
        about, data = packed(samples)
        last = about["last"]
        ring_epoch = self.progress.ring_epoch
        ring = {"ring": ring_epoch} if ring_epoch else {}
        message = self._dialect.samples(
            stream,
            about | ring | {"missed": self.progress.at.missed},
            data,
            self._wall(),
            self._last_seq(),
            f"samples-{about['first']}-{last}",
            clock_quality(),
        )
        chunk = _Chunk(stream, ring_epoch, last, len(samples.times), message)
        if message.size() > bytes_max:
            self._refuse(chunk, "longer than the broker accepts; set a smaller chunk_bytes_max")
            return None
        return chunk

    def _begun(self, outbox: Reader, now: float) -> _Pass | None:
        first = self.progress.at.next
        below = self.progress.durable
        if first is None or now < self._next_pass or first >= below:
            return None
        begun = _Pass(first)
        rows = _read(outbox, begun, below, self.progress.between)
        if begun.end >= below:  # else the next one follows at once
            self._next_pass = now + self._settings.interval_s
        wanted = self._settings.streams
        by_stream: dict[str, list[Ringed]] = {}
        for row in rows:
            if wanted is None or row.stream in wanted:
                by_stream.setdefault(row.stream, []).append(row)
        for stream, of_stream in by_stream.items():
            begun.missed += sum(row.number + row.rows - max(row.number, first) for row in of_stream)
            for samples in _joined(of_stream, outbox.layouts(stream), first):
                begun.missed -= len(samples.times)  # what remains has no channels any more
                for some in _split(samples, self._settings.chunk_bytes_max):
                    begun.waiting.append((stream, some))
        return begun

    def _end_pass(self) -> None:
        assert self._pass is not None
        if self._pass.missed:
            _LOG.warning("%d samples were dropped before they were sent", self._pass.missed)
        self._move(next=self._pass.end, missed=self.progress.at.missed + self._pass.missed)
        self._pass = None

    def _move(self, **changes: int) -> None:
        self.progress.at = self.progress.at._replace(**changes)

    def _spent(self) -> int:
        """Return the bytes sent today, so far; a clock that is set back frees none."""
        today, at = int(self._wall()) // _DAY_S, self.progress.at
        if today > at.day:
            self._move(day=today, bytes=0)
        elif today < at.day:  # the clock was ahead
            self._move(day=today)
        return self.progress.at.bytes

    def sent(self) -> None:
        """Count the bytes of the chunk, which is sent now."""
        assert self._chunk is not None
        self._move(bytes=self._spent() + len(self._chunk.message.body))

    def taken(self) -> None:
        """Record that the broker has the chunk."""
        if self._chunk is None:
            return
        if self._central is None:
            self._done()
        else:
            self._chunk.taken_s = time.monotonic()

    def hold(self) -> None:
        """Try again later: nobody has subscribed, or broker or collector have no room."""
        self._held_until = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _HOLD_S_MAX)

    def never(self, reason: str) -> None:
        """Give the chunk up: the broker never accepts it."""
        if self._chunk is not None:
            self._refuse(self._chunk, reason)

    def lost(self) -> None:
        """Send the chunk again on the next connection, unless the collector confirms it there."""
        if self._chunk is not None:
            self._chunk.taken_s = None

    def _settle(self, now: float) -> None:
        """Follow the collector's confirmations; call it often."""
        chunk = self._chunk
        if chunk is None or self._central is None:
            return
        if self._central.has_samples(chunk.ring_epoch, chunk.last):
            self._done()
        elif chunk.taken_s is None:
            return
        elif not self._central.takes_samples:
            chunk.taken_s = now  # it cannot confirm anything
        elif now - chunk.taken_s > self._timeout_s:
            chunk.taken_s = None
            chunk.tries += 1
            self.hold()
            if chunk.tries >= _TRIES:
                self._refuse(chunk, f"the collector did not confirm it {_TRIES} times")

    def _refuse(self, chunk: _Chunk, reason: str) -> None:
        if not self.progress.at.refused:
            _LOG.error("a chunk with samples of %s is not sent: %s", chunk.stream, reason)
        self._move(refused=self.progress.at.refused + chunk.samples)
        self._chunk = None

    def _done(self) -> None:
        assert self._chunk is not None
        self._retry_s = self._retry_s_min
        self._move(sent=self.progress.at.sent + self._chunk.samples)
        self._chunk = None

    def _behind(self) -> int:
        first, newest = self.progress.at.next, self.progress.newest
        return 0 if first is None else max(0, self.progress.between(first, newest))

    def document(self) -> dict[str, Any]:
        """Return its state, for ``status``."""
        at = self.progress.at
        return {
            "sent": at.sent,
            "behind": self._behind(),
            "missed": at.missed,
            "refused": at.refused,
            "day": iso_time(at.day * _DAY_S)[:10],
            "day_bytes": at.bytes,
            "day_bytes_max": self._settings.day_bytes_max,
            "waits_for": self._waits_for,
        }


def _read(
    outbox: Reader, begun: _Pass, below: int, between: Callable[[int, int], int]
) -> list[Ringed]:
    """Read the next rows of the ring, and count the samples that are no longer in it."""
    rows: list[Ringed] = []
    size = 0
    while size < PASS_BYTES:
        read = outbox.rows_from(begun.end, below, _ROWS_READ)
        for row in read:
            if row.number > begun.end:
                begun.missed += between(begun.end, row.number)
            begun.end = row.number + row.rows
            size += len(row.stored.times) + len(row.stored.values) + len(row.stored.scores)
        rows += read
        if len(read) < _ROWS_READ:  # all others below are gone
            if below > begun.end:
                begun.missed += between(begun.end, below)
                begun.end = below
            break
    return rows


def _joined(rows: Sequence[Ringed], parts: Sequence[Part], first: int) -> Iterator[Samples]:
    """Yield the samples of a stream from a number on, as many together as have the same channels.

    Rows whose channels are not known are left out, as by ``export``.
    """
    by_part: dict[int, list[Ringed]] = {}
    for row in rows:
        for at, part in enumerate(parts):
            fits = len(row.stored.values) * 2 == len(row.stored.times) * len(part.channels)
            if part.since <= row.number < part.until and fits:
                by_part.setdefault(at, []).append(row)
    for at, some in by_part.items():
        yield _of(some, parts[at].channels).after(first - 1)


def _of(rows: Sequence[Ringed], channels: Sequence[str]) -> Samples:
    stored = [(row.stored.times, row.stored.values, row.stored.quality) for row in rows]
    samples = stored_samples(stored, len(channels))
    numbers = np.concatenate([np.arange(row.number, row.number + row.rows) for row in rows])
    scores = np.concatenate([np.frombuffer(row.stored.scores, np.float32) for row in rows])
    quality = samples.quality
    unknown = np.isnan(samples.values)
    if quality is not None:
        quality = np.where(unknown & (quality == GOOD), MISSING, quality).astype(np.uint8)
    elif unknown.any():
        quality = np.where(unknown, MISSING, GOOD).astype(np.uint8)
    return Samples(channels, numbers, samples.times, samples.values, scores, quality)


def _split(samples: Samples, bytes_max: int) -> Iterator[Samples]:
    """Yield parts with at most ``bytes_max`` bytes before compression, or one sample each."""
    channels = len(samples.channels)
    most = min(bytes_max, CONTENT_BYTES_MAX)
    rows = max(1, most // content_bytes(1, channels))
    for begin in range(0, len(samples.times), rows):
        yield samples.part(begin, begin + rows)
