"""Inputs: what brings lines from devices into the agent; here what all of them have in common.

An input's own thread only cuts bytes into lines and enqueues them; the agent's loop takes the
chunks and reads the lines (``agent.inputs.lines``), so that all counting and deciding happens
in one place and in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import NamedTuple, Protocol

from agent.input_tables import (
    ENTRY_POINTS,
    FileTable,
    ForeignTable,
    ModbusRtuTable,
    ModbusTcpTable,
    MqttInputTable,
    ReplayTable,
    SerialTable,
    SimulatorTable,
    SourceTable,
)

LINES_TAKEN_MAX = 2000  # at once, about: a loop that is behind takes no more memory for that


class Chunk(NamedTuple):
    """Lines that one read completed."""

    input_name: str
    arrived_s: float  # Unix seconds, by the gateway's clock
    arrived_mono_s: float  # ``time.monotonic``, which no clock step changes
    lines: list[bytes]  # whole lines, without their ends
    token: int = 0  # by which the input knows the chunk when it is committed; 0: need not know
    again: bool = False  # it may have come before: rows of a time that is past are no news
    old: bool = False  # nobody knows when it was sent: without a time of its own it tells nothing
    origin: str = ""  # where in the input it came from: a topic


@dataclass(frozen=True, slots=True)
class InputStatus:
    """How an input is doing; counts since the agent started."""

    connected: bool
    since: float | None  # Unix seconds of the last change of ``connected``; None before any
    last_error: str | None  # kept after the port is back
    bytes: int
    lines: int
    lines_cut: int  # pieces of lines at the ends of a connection, which are not used
    reconnects: int
    messages_too_large: int = 0  # thrown away as they came
    topics_given_up: tuple[str, ...] = ()  # as each connection brought such a message on them


class Input(Protocol):
    """One source of lines.

    The loop's thread calls ``start`` once, then ``status`` as often as it likes (a few times a
    minute), then ``ask_to_stop`` and ``stop`` once; never two of them at a time. ``put`` is called
    from the input's own thread, for each read that completed lines, and returns at once.
    """

    name: str
    stream: str  # the stream that its readings belong to

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Begin to read; an absent device is a normal state and no error."""

    def ask_to_stop(self) -> None:
        """Let the reading end; does not wait for it."""

    def stop(self) -> None:
        """End the reading within a second; nothing is put any more after it returns."""

    def status(self) -> InputStatus:
        """Say how it is doing."""

    def committed(self, tokens: Sequence[int]) -> None:
        """Take note that these chunks are on the disk; called by the loop, returns at once."""


class ChunkQueue:
    """From the readers to the loop; bounded, and a reader never waits in it.

    A reader that waited would leave its bytes to the kernel, which drops them uncounted. What has
    a token is never dropped: its input hears of its commit, and brings no more than so much before.

    Args:
        chunks_max: How many wait at most.
        gather_s: How long ``take`` waits for more once there is one ...
        enough: ... unless there are so many.

    """

    def __init__(self, chunks_max: int, gather_s: float = 0.0, enough: int = 1) -> None:
        self._chunks_max = chunks_max
        self._gather_s = gather_s
        self._enough = min(enough, chunks_max)
        self._guard = Lock()
        self._chunks: deque[Chunk] = deque()
        self._many = Event()
        # its put may be called by a signal handler that interrupts its get
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self.dropped_chunks = 0
        self.dropped_lines = 0

    def put(self, chunk: Chunk) -> None:
        """Add a chunk; where the queue is full, the oldest is dropped and counted."""
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
                self.dropped_lines += len(chunk.lines)
                return

    @property
    def waiting(self) -> int:
        """How many chunks wait."""
        return len(self._chunks)

    def wake(self) -> None:
        """Let ``take`` return soon; safe in a signal handler."""
        self._wakes.put(None)

    def take(self, timeout_s: float) -> list[Chunk]:
        """Return what waits, in order; if nothing does, wait for it up to ``timeout_s``.

        That is all, or about ``LINES_TAKEN_MAX`` lines of it.
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
                lines += len(found[-1].lines)
        return found

    def _gather(self) -> None:
        """Wait for more, where some are there."""
        self._many.clear()
        if len(self._chunks) < self._enough:
            self._many.wait(self._gather_s)


def open_input(settings: SourceTable) -> Input:
    """Return the input of this kind; its device is not touched before ``start``.

    Raises:
        ConfigError: what it needs is not installed, or a setting of another package's is wrong.

    """
    # other kinds are not loaded
    match settings:
        case SerialTable():
            from agent.inputs.serial import SerialInput

            return SerialInput(settings)
        case MqttInputTable():
            from agent.inputs.mqtt import MqttInput

            return MqttInput(settings)
        case FileTable():
            from agent.inputs.file import FileInput

            return FileInput(settings)
        case ReplayTable():
            from agent.inputs.replay import ReplayInput

            return ReplayInput(settings)
        case SimulatorTable():
            from agent.inputs.simulator import SimulatorInput

            return SimulatorInput(settings)
        case ModbusTcpTable() | ModbusRtuTable():
            from agent.inputs.modbus import ModbusInput

            return ModbusInput(settings)
        case ForeignTable():
            from importlib.metadata import entry_points

            (point,) = entry_points(group=ENTRY_POINTS, name=settings.type)
            made: Input = point.load()(settings)
            return made
    raise AssertionError(settings)
