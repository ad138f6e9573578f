"""The queue between the inputs' threads and the loop."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from threading import Event, Lock

from agent.inputs.source import Chunk

LINES_TAKEN_MAX = 2000  # per call, approximately: bounds the memory of a loop that is behind


class ChunkQueue:
    """Passes chunks from the readers to the loop; bounded, and ``put`` never blocks a reader.

    If a reader blocked, the kernel would drop its bytes uncounted. A chunk with a token is never
    dropped: its input waits for commits, and so limits its own chunks.

    Args:
        chunks_max: Most chunks that wait.
        gather_s: How long ``take`` waits for more chunks once there is one.
        enough: Number of chunks for which ``take`` does not wait.

    """

    def __init__(self, chunks_max: int, gather_s: float = 0.0, enough: int = 1) -> None:
        self._chunks_max = chunks_max
        self._gather_s = gather_s
        self._enough = min(enough, chunks_max)
        self._guard = Lock()
        self._chunks: deque[Chunk] = deque()
        self._many = Event()
        # reentrant: a signal handler may call put while it interrupts get
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self.dropped_chunks = 0
        self.dropped_lines = 0

    def put(self, chunk: Chunk) -> None:
        """Add a chunk; if the queue is full, drop and count the oldest."""
        with self._guard:
            if len(self._chunks) >= self._chunks_max:
                self._drop_oldest()
            self._chunks.append(chunk)
            waiting = len(self._chunks)
            if waiting == 1:
                self._wakes.put(None)
        if 1 < self._enough <= waiting:
            self._many.set()

    def _drop_oldest(self) -> None:
        for at, chunk in enumerate(self._chunks):
            if not chunk.token:
                del self._chunks[at]
                self.dropped_chunks += 1
                self.dropped_lines += len(chunk.rows)
                return

    @property
    def waiting(self) -> int:
        """Number of chunks that wait."""
        return len(self._chunks)

    def wake(self) -> None:
        """Let ``take`` return soon; safe in a signal handler."""
        self._wakes.put(None)

    def take(self, timeout_s: float) -> list[Chunk]:
        """Return the waiting chunks, in order; if there are none, wait up to ``timeout_s``.

        Returns all, or about ``LINES_TAKEN_MAX`` lines.
        """
        if not self._chunks:
            try:
                self._wakes.get(timeout=timeout_s)
            except Empty:
                return []
        if self._chunks and self._enough > 1:
            self._gather()
        found: list[Chunk] = []
        lines = 0
        with self._guard:
            while not self._wakes.empty():
                self._wakes.get_nowait()
            while self._chunks and lines < LINES_TAKEN_MAX and len(found) < self._chunks_max:
                found.append(self._chunks.popleft())
                lines += len(found[-1].lines or found[-1].measurements)
        return found

    def _gather(self) -> None:
        """Wait for more chunks, if there are some."""
        self._many.clear()
        if len(self._chunks) < self._enough:
            self._many.wait(self._gather_s)
