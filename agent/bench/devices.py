"""The simulated devices at the other end of the inputs; they send the lines of all streams.

At full speed (rate 0) they send in ``Rounds``: one line of each stream, and the next round after
the agent has scored the last. So the loop never waits, and the queue does not overflow. The loop's
own thread sends them between two turns, because another thread would compete for the interpreter.
With a rate (``Steady``), a thread sends that many lines per second for each stream. The streams are
evenly spread over the time between two lines of one stream.

The lines go into the agent's queue, as a reader thread would put them there, or into
pseudo-terminals that the agent's serial inputs read.
"""

from __future__ import annotations

import contextlib
import os
import pty
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from agent.bench.lines import Lines
from agent.bench.machine import thread_cpu_s
from agent.inputs.source import Chunk, InputStatus
from models.errors import FieldwatchError

DONE_S_MAX = 30.0  # a round that is not scored within this time is lost

Send = Callable[[int, bytes], None]  # stream, line without its end


class Arrival(NamedTuple):
    """The lines sent at one moment."""

    time_s: float  # monotonic
    lines_so_far: int  # with these


class LineLost(FieldwatchError):
    """The agent has not read all lines that were sent."""


class MemoryInput:
    """An input whose lines are put by ``send``; see ``agent.inputs.Input``."""

    def __init__(self, name: str, stream: str) -> None:
        self.name = name
        self.stream = stream
        self._put: Callable[[Chunk], None] | None = None
        self._lines = 0

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Accept lines from now on."""
        self._put = put

    def ask_to_stop(self) -> None:
        """Do nothing: there is no thread to end."""

    def stop(self) -> None:
        """Accept no more lines."""
        self._put = None

    def status(self) -> InputStatus:
        """Return the state of the input."""
        return InputStatus(self._put is not None, None, None, 0, self._lines, 0, 0)

    def committed(self, tokens: Sequence[int]) -> None:
        """Do nothing: commits do not matter here."""

    def send(self, line: bytes) -> None:
        """Put a line into the queue as a separate chunk, as a reader does with a single line."""
        if self._put is not None:
            self._lines += 1
            self._put(Chunk(self.name, time.time(), time.monotonic(), [line]))


@contextlib.contextmanager
def terminals(count: int) -> Iterator[tuple[list[str], Send]]:
    """Open pseudo-terminals; return their ports, and a function that writes a line to one."""
    with contextlib.ExitStack() as closing:
        pairs = [pty.openpty() for _ in range(count)]
        for controller, device in pairs:
            closing.callback(os.close, controller)
            closing.callback(os.close, device)
            tty.setraw(device)
            # a real line does not wait for its reader; unread data is lost
            os.set_blocking(controller, False)
        controllers = [controller for controller, _ in pairs]

        def send(stream: int, line: bytes) -> None:
            with contextlib.suppress(BlockingIOError):
                os.write(controllers[stream], line + b"\n")

        yield [os.ttyname(device) for _, device in pairs], send


class Devices(ABC):
    """They send until ``stop``; they call ``ready`` until the agent listens."""

    def __init__(self, lines: Lines, streams: int, send: Send, ready: Callable[[], bool]) -> None:
        self._lines = lines
        self._streams = streams
        self._send = send
        self._ready = ready
        self._stopping = threading.Event()
        self._sent = 0  # lines
        self.arrivals: deque[Arrival] = deque()  # the reader removes them

    @abstractmethod
    def start(self, lost: Callable[[], None]) -> None:
        """Begin to send; call ``lost`` if the agent does not read the lines."""

    def stop(self) -> None:
        """Stop sending; do not wait."""
        self._stopping.set()

    @abstractmethod
    def join(self) -> None:
        """Wait until the sending has ended; raise LineLost if lines were not read."""

    @abstractmethod
    def cpu_s(self) -> float:
        """Return the CPU time of the sending so far."""

    def loop_cpu_s(self) -> float:
        """Return the part of this time that the loop's thread spent."""
        return 0.0

    def between_turns(self, lines: int) -> None:  # noqa: B027 - one of two has to
        """Send, if the loop's thread sends; the agent has scored ``lines`` lines so far."""


class Rounds(Devices):
    """Sends the next round when the last one is scored, in the loop's thread."""

    def start(self, lost: Callable[[], None]) -> None:
        """Send from the loop's next turn on; see ``Devices``."""
        self._give_up = lost
        self._lost: str | None = None
        self._cpu_s = self._sent_s = 0.0

    def join(self) -> None:
        """Raise LineLost if lines were not read; see ``Devices``."""
        if self._lost:
            raise LineLost(self._lost)

    def cpu_s(self) -> float:
        """Return the CPU time of the sending so far."""
        return self._cpu_s

    def loop_cpu_s(self) -> float:
        """Return the same: the loop's thread sends everything."""
        return self._cpu_s

    def between_turns(self, lines: int) -> None:
        """Send the next round if the last one is scored; see ``Devices``."""
        began_s = time.thread_time()
        if lines < self._sent:
            if time.monotonic() > self._sent_s + DONE_S_MAX:
                self._lost = f"{self._sent} lines were sent, and only {lines} read"
                self._give_up()
        elif self._ready() and not self._stopping.is_set():
            self._send_round()
        self._cpu_s += time.thread_time() - began_s

    def _send_round(self) -> None:
        sample = self._sent // self._streams
        self._sent += self._streams
        self._sent_s = time.monotonic()
        self.arrivals.append(Arrival(self._sent_s, self._sent))
        for stream in range(self._streams):
            self._send(stream, self._lines.line(stream, sample))


class Steady(Devices):
    """Sends ``rate`` lines per second and stream, from a thread."""

    def __init__(
        self, lines: Lines, streams: int, rate: float, send: Send, ready: Callable[[], bool]
    ) -> None:
        super().__init__(lines, streams, send, ready)
        self._every_s = 1 / (rate * streams)
        self._thread = threading.Thread(target=self._run, name="devices", daemon=True)

    def start(self, lost: Callable[[], None]) -> None:
        """Begin to send; see ``Devices``."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended; with a rate, unread lines are not an error."""
        self._thread.join()

    def cpu_s(self) -> float:
        """Return the CPU time of the sending so far."""
        return thread_cpu_s(self._thread)

    def _run(self) -> None:
        while not self._ready():
            if self._stopping.wait(0.01):
                return
        began_s = time.monotonic()
        while not self._stopping.wait(self._wait_s(began_s)):
            sample, stream = divmod(self._sent, self._streams)
            self._sent += 1
            self.arrivals.append(Arrival(time.monotonic(), self._sent))
            self._send(stream, self._lines.line(stream, sample))

    def _wait_s(self, began_s: float) -> float:
        return max(0.0, began_s + self._sent * self._every_s - time.monotonic())


def memory_inputs(names: Sequence[tuple[str, str]]) -> tuple[list[MemoryInput], Send]:
    """Return inputs with these names and streams, and a function that sends a line to one."""
    inputs = [MemoryInput(name, stream) for name, stream in names]

    def send(stream: int, line: bytes) -> None:
        inputs[stream].send(line)

    return inputs, send
