"""The simulated pump on a virtual serial line, in real time."""

from __future__ import annotations

import os
import pty
import select
import threading
import time
import tty

from agent.inputs.plant import PERIOD_S, Pump, csv_line


class PumpLine:
    """Writes the pump's samples to a pseudo-terminal, as a device would; a context manager."""

    def __init__(
        self,
        pump: Pump,
        speed: float = 1.0,
        samples: int | None = None,
        goes_on: bool = False,
    ) -> None:
        """Take the pump, whose clock runs ``speed`` times as fast, and stop after ``samples``.

        The pump's clock starts late by so much that it agrees with the real one at the end.
        ``goes_on``: write more samples after these.
        """
        self._pump = pump
        self._every_s = PERIOD_S / speed
        self._samples, self._goes_on = samples, goes_on
        self._behind_s = (speed - 1) * self._every_s * (samples or 0)
        self._controller, self._device = pty.openpty()
        tty.setraw(self._device)
        # a real line does not wait for its reader; unread data is lost
        os.set_blocking(self._controller, False)
        self.port = os.ttyname(self._device)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="pump", daemon=True)
        self.started_s = 0.0  # Unix time of the first sample, by the pump's clock
        self.lines = 0

    def __enter__(self) -> PumpLine:
        """Return itself; ``start`` begins to write."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop writing and close the line."""
        self.stop()
        os.close(self._controller)
        os.close(self._device)

    def start(self) -> None:
        """Begin to write, in a thread."""
        self.started_s = time.time() - self._behind_s
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether ``samples`` are written and read."""
        if self._samples is None or self.lines < self._samples:
            return False
        unread, _, _ = select.select([self._device], [], [], 0)
        return not unread

    def stop(self) -> None:
        """Stop writing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _write(self) -> None:
        began = time.monotonic()
        while (self._goes_on or self.lines != self._samples) and not self._stop.wait(
            max(0.0, began + self.lines * self._every_s - time.monotonic())
        ):
            row = self._pump.run(1)[0]
            text = csv_line(self.started_s + self.lines * PERIOD_S, row)
            try:
                os.write(self._controller, text.encode() + b"\n")
            except BlockingIOError:
                pass  # the terminal's buffer is full, because nobody reads
            self.lines += 1
