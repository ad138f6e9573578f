"""The write side of the ring: the newest samples of all streams, in the store's transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.store.sqlite import Connection
    from models.messages import Float32, Samples

_ROWS_DROPPED = 1000  # at a time, so that a commit does not take long
_BYTES_DROPPED = 2**19

Chunk = tuple[str, "Samples", "Float32"]  # of a stream, with the scores


class Ring:
    """Samples, numbered over all streams; the store's thread uses it.

    ``next_sample`` and ``rows`` describe the last change, committed or not. After a rollback the
    store resets them.
    """

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.next_sample = 1
        self.rows = 0  # samples in it

    def open(self, readings: Connection, known: int) -> None:
        """Read the state; ``known`` is the first number above those in the history."""
        newest = readings.execute(
            "SELECT number + rows FROM samples ORDER BY number DESC LIMIT 1"
        ).fetchone()
        self.next_sample = max(self.next_sample, newest[0] if newest else 1, known)
        self._count(readings)

    def _count(self, readings: Connection) -> None:
        (oldest,) = readings.execute("SELECT min(number) FROM samples").fetchone()
        self.rows = 0 if oldest is None else self.next_sample - int(oldest)

    def write(self, readings: Connection, chunks: Sequence[Chunk], clock: bytes | None) -> None:
        """Write samples, and drop the oldest above the cap; ``clock`` is the clock's state."""
        if not chunks:
            return
        readings.executemany(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._numbered(chunks, clock)
        )
        self._count(readings)
        if self.rows > self.rows_max:
            self._drop(readings, self.next_sample - self.rows_max, size(chunks))

    def _numbered(self, chunks: Sequence[Chunk], clock: bytes | None) -> Iterator[tuple[Any, ...]]:
        """Yield a row for each; the last one has the clock's state, which takes no extra page."""
        for number, (stream, samples, score) in enumerate(chunks, 1):
            rows = len(samples.times)
            yield (
                self.next_sample,
                rows,
                stream,
                samples.times.tobytes(),
                samples.values.tobytes(),
                score.tobytes(),
                clock if number == len(chunks) else None,
                samples.quality_bytes(),
            )
            self.next_sample += rows

    def evict(self, readings: Connection, bytes_written: int) -> int:
        """Drop some of the oldest samples because the store is too large; return how many."""
        before = self.rows
        if before:
            self._drop(readings, self.next_sample, bytes_written)
        return before - self.rows

    def _drop(self, readings: Connection, below: int, bytes_written: int) -> None:
        """Drop the oldest samples below this number, but not many more than were just written."""
        rows = readings.execute(
            """SELECT number, length(times) + length(readings) + length(scores) FROM samples
            WHERE number < ? ORDER BY number LIMIT ?""",
            [below, _ROWS_DROPPED],
        ).fetchall()
        room = _BYTES_DROPPED + 2 * bytes_written
        sizes = accumulate(size for _, size in rows)
        last = [number for (number, _), size in zip(rows, sizes, strict=True) if size <= room][-1:]
        readings.execute(
            "DELETE FROM samples WHERE number <= ?", last or [number for number, _ in rows[:1]]
        )
        self._count(readings)


def size(chunks: Sequence[Chunk]) -> int:
    """Return the size of times, values and scores in bytes."""
    return sum(
        samples.times.nbytes + samples.values.nbytes + score.nbytes for _, samples, score in chunks
    )
