"""The devices at the other end of the inputs: one thread that sends all streams' lines.

As fast as it goes (``rate`` 0) they send in rounds, one line of each stream, and the next round
once the agent has read the last: the queue holds what a loop that just keeps up finds in it, and
neither overflows nor runs dry. With a rate each stream sends so many lines a second, the streams
evenly spread over the time between two lines of one.

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
from collections.abc import Callable, Iterator, Sequence

from agent.bench.lines import Lines
from agent.bench.machine import thread_cpu_s
from agent.bench.meters import Arrival, Meter
from agent.inputs import Chunk, InputStatus
from models.errors import FieldwatchError

_DONE_S_MAX = 30.0  # a round that is not scored in this time was lost

Send = Callable[[int, bytes], None]  # stream, line without its end


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


class Devices:
    """Sends until ``stop``; ``ready`` is asked until the agent listens."""

    def __init__(
        self, lines: Lines, streams: int, rate: float, send: Send, ready: Callable[[], bool]
    ) -> None:
        self._lines = lines
        self._streams = streams
        self._rate = rate
        self._send = send
        self._ready = ready
        self._stopping = threading.Event()
        self._all_done = threading.Event()
        self._awaited = 0  # lines, the last round's included
        self._sent = 0
        self._thread = threading.Thread(target=self._run, name="devices", daemon=True)
        self._lost = False

    def start(self, meter: Meter, lost: Callable[[], None]) -> None:
        """Begin to send; ``lost`` is called where what was sent is not read."""
        self._meter, self._give_up = meter, lost
        self._thread.start()

    def stop(self) -> None:
        """Send no more; does not wait."""
        self._stopping.set()
        self._all_done.set()

    def join(self) -> None:
        """Wait for the end of the thread.

        Raises:
            LineLost: what was sent was not read.

        """
        self._thread.join()
        if self._lost:
            raise LineLost(f"{self._sent} lines were sent, and only {self._meter.lines} read")

    def cpu_s(self) -> float:
        """Return the CPU time of the sending so far."""
        return thread_cpu_s(self._thread)

    def done(self, lines: int) -> None:
        """Take note of how many lines the agent has scored so far."""
        if lines >= self._awaited:
            self._all_done.set()

    def _run(self) -> None:
        while not self._ready():
            if self._stopping.wait(0.01):
                return
        if self._rate:
            self._send_at_rate()
        else:
            self._send_in_rounds()

    def _send_in_rounds(self) -> None:
        sample = 0
        while not self._stopping.is_set():
            self._all_done.clear()
            self._awaited += self._streams
            self._meter.arrivals.append(Arrival(time.monotonic(), self._awaited))
            for stream in range(self._streams):
                self._send(stream, self._lines.line(stream, sample))
            self._sent = self._awaited
            sample += 1
            if not self._all_done.wait(_DONE_S_MAX):
                self._lost = True
                self._give_up()
                return

    def _send_at_rate(self) -> None:
        began = time.monotonic()
        every_s = 1 / (self._rate * self._streams)
        while not self._stopping.wait(max(0.0, began + self._sent * every_s - time.monotonic())):
            sample, stream = divmod(self._sent, self._streams)
            self._sent += 1
            self._meter.arrivals.append(Arrival(time.monotonic(), self._sent))
            self._send(stream, self._lines.line(stream, sample))


def memory_inputs(names: Sequence[tuple[str, str]]) -> tuple[list[MemoryInput], Send]:
    """Return inputs of these names and streams, and what gives a line to one of them."""
    inputs = [MemoryInput(name, stream) for name, stream in names]

    def send(stream: int, line: bytes) -> None:
        inputs[stream].send(line)

    return inputs, send
