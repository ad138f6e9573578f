"""The simulator input: one thread that delivers the readings of the simulated pump."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from agent.config.inputs import SimulatorTable
from agent.inputs.plant import PERIOD_S, Fault, Pump, measured
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from agent.parsing.measurement import Measurement


class SimulatorInput(ThreadedInput):
    """Puts a row each period; see ``agent.inputs.Input``."""

    def __init__(self, settings: SimulatorTable) -> None:
        super().__init__(settings)
        faults = []
        if settings.fault is not None:
            duration_s = settings.fault_duration_s or math.inf
            faults.append(Fault(settings.fault, settings.fault_at_s, duration_s))
        self._pump = Pump(settings.seed, faults)
        self._channels = settings.channels

    def _run(self, put: Callable[[Chunk], None]) -> None:
        began_s, began_mono_s = time.time(), time.monotonic()
        self._change(True)
        while not self._stopping.wait(began_mono_s + self._lines * PERIOD_S - time.monotonic()):
            time_s = began_s + self._lines * PERIOD_S  # as a device with a clock of its own
            values = measured(self._pump.run(1)[0])
            if self._channels is not None:
                values = {name: values[name] for name in self._channels if name in values}
            self._lines += 1
            row = Measurement(values, round(time_s, 3))
            put(Chunk(self.name, time.time(), time.monotonic(), measurements=[row]))
