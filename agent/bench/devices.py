"""The devices at the other end of the inputs, which send all streams' lines.

As fast as it goes (rate 0) they send in ``Rounds``, one line of each stream, and the next round
once the agent has scored the last: the loop never waits, and the queue does not overflow. The
loop's own thread sends them, between two turns: another thread would take the interpreter from
the agent. With a rate (``Steady``) each stream sends so many lines a second, the streams evenly
spread over the time between two lines of one, and a thread sends them.

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

DONE_S_MAX = 30.0  # a round that is not scored in this time was lost

Send = Callable[[int, bytes], None]  # stream, line without its end


class Arrival(NamedTuple):
    """Lines that were sent at one moment."""

    time_s: float  # monotonic
    lines_so_far: int  # with these


class LineLost(FieldwatchError):
    """The agent has not read what was sent."""


class MemoryInput:
    """An input whose lines are put by ``send``; see ``agent.inputs.Input``."""

    def __init__(self, name: str, stream: str) -> None:
        self.name = name
        self.stream = stream
        self._put: Callable[[Chunk], None] | None = None
        self._lines = 0

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Take what is sent from now on."""
        self._put = put

    def ask_to_stop(self) -> None:
        """Have no thread that would have to end."""

    def stop(self) -> None:
        """Take nothing any more."""
        self._put = None

    def status(self) -> InputStatus:
        """Say how it is doing."""
        return InputStatus(self._put is not None, None, None, 0, self._lines, 0, 0)

    def committed(self, tokens: Sequence[int]) -> None:
        """Need not know."""

    def send(self, line: bytes) -> None:
        """Put a line as a chunk of its own, as a reader does with a line that comes alone."""
        if self._put is not None:
            self._lines += 1
            self._put(Chunk(self.name, time.time(), time.monotonic(), [line]))


@contextlib.contextmanager
def terminals(count: int) -> Iterator[tuple[list[str], Send]]:
    """Open pseudo-terminals; return their ports, and what writes a line to one of them."""
    with contextlib.ExitStack() as closing:
        pairs = [pty.openpty() for _ in range(count)]
        for controller, device in pairs:
            closing.callback(os.close, controller)
            closing.callback(os.close, device)
            tty.setraw(device)
            # a real line does not wait for its reader; what nobody reads is lost
            os.set_blocking(controller, False)
        controllers = [controller for controller, _ in pairs]

        def send(stream: int, line: bytes) -> None:
            with contextlib.suppress(BlockingIOError):
                os.write(controllers[stream], line + b"\n")

        yield [os.ttyname(device) for _, device in pairs], send


class Devices(ABC):
    """They send until ``stop``; ``ready`` is asked until the agent listens."""

    def __init__(self, lines: Lines, streams: int, send: Send, ready: Callable[[], bool]) -> None:
        self._lines = lines
        self._streams = streams
        self._send = send
        self._ready = ready
        self._stopping = threading.Event()
        self._sent = 0  # lines
        self.arrivals: deque[Arrival] = deque()  # whoever takes note of them takes them out

    @abstractmethod
    def start(self, lost: Callable[[], None]) -> None:
        """Begin to send; ``lost`` is called where what was sent is not read."""

    def stop(self) -> None:
        """Send no more; does not wait."""
        self._stopping.set()

    @abstractmethod
    def join(self) -> None:
        """Wait for the end of the sending; raises LineLost where what was sent was not read."""

    @abstractmethod
    def cpu_s(self) -> float:
        """Return the CPU time of the sending so far."""

    def loop_cpu_s(self) -> float:
        """Return how much of it the loop's thread has spent."""
        return 0.0

    def between_turns(self, lines: int) -> None:  # noqa: B027 - one of two has to
        """Send, if the loop's thread does; ``lines`` is how many the agent has scored so far."""


class Rounds(Devices):
    """Sends the next round when the last is scored, in the loop's thread."""

    def start(self, lost: Callable[[], None]) -> None:
        """Send from the loop's next turn on; see ``Devices``."""
        self._give_up = lost
        self._lost: str | None = None
        self._cpu_s = self._sent_s = 0.0

    def join(self) -> None:
        """Raise LineLost where what was sent was not read; see ``Devices``."""
        if self._lost:
            raise LineLost(self._lost)

    def cpu_s(self) -> float:
        """Return the CPU time of the sending so far."""
        return self._cpu_s

    def loop_cpu_s(self) -> float:
        """Return the same: it is all the loop's thread's."""
        return self._cpu_s

    def between_turns(self, lines: int) -> None:
        """Send the next round where the last is scored; see ``Devices``."""
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
    """Sends ``rate`` lines a second and stream, from a thread."""

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
        """Wait for the end of the thread; lines that are not read are no error at a rate."""
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
    """Return inputs of these names and streams, and what gives a line to one of them."""
    inputs = [MemoryInput(name, stream) for name, stream in names]

    def send(stream: int, line: bytes) -> None:
        inputs[stream].send(line)

    return inputs, send
