"""The simulator input: one thread that sends what the simulated pump's controller would."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from agent.input_tables import SimulatorTable
from agent.inputs import Chunk, InputStatus
from agent.plant import PERIOD_S, Fault, Pump, csv_line


class SimulatorInput:
    """Puts a row each period; see ``agent.inputs.Input``."""

    def __init__(self, settings: SimulatorTable) -> None:
        self.name = settings.name
        self.stream = settings.stream
        faults = []
        if settings.fault is not None:
            duration_s = settings.fault_duration_s or math.inf
            faults.append(Fault(settings.fault, settings.fault_at_s, duration_s))
        self._pump = Pump(settings.seed, faults)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._bytes = self._lines = 0

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Start the pump."""
        self._since = time.time()
        self._thread = threading.Thread(
            target=self._run, args=(put,), name=f"input {self.name}", daemon=True
        )
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let it end; does not wait for it."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop the pump."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join()

    def status(self) -> InputStatus:
        """Say how it is doing."""
        return InputStatus(
            connected=self._since is not None,
            since=self._since,
            last_error=None,
            bytes=self._bytes,
            lines=self._lines,
            lines_cut=0,
            reconnects=0,
        )

    def committed(self, tokens: Sequence[int]) -> None:
        """It does not wait for that."""

    def _run(self, put: Callable[[Chunk], None]) -> None:
        began_s, began_mono_s = time.time(), time.monotonic()
        while not self._stopping.wait(began_mono_s + self._lines * PERIOD_S - time.monotonic()):
            time_s = began_s + self._lines * PERIOD_S  # as a device with a clock of its own
            line = csv_line(time_s, self._pump.run(1)[0]).encode()
            self._lines += 1
            self._bytes += len(line)
            put(Chunk(self.name, time.time(), time.monotonic(), [line]))
