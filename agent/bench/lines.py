"""The lines of the benchmark's devices: normal operation with rare faults, as text and numbers."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.manifest import Manifest
from models.messages import Readings

START_S: Final = 1_700_000_000.0  # Unix seconds
PHASES: Final = 10  # the streams' clocks, so that their summaries do not all end at once
_PHASE_S = 6.0  # between two of them; ten make the default interval of a summary
_FAULT_EVERY_LINES = 20_000  # over all streams; each costs an alarm opened and closed
_FIRST_FAULT = 5_000
_ROWS = 509  # prime, so that no stream's lines repeat in step with anything
_STREAM_STRIDE = 37  # rows between two streams
_DEVIATION = 0.3  # of a channel's scale
_FAULT = 1000.0  # channel scales
_SEED = 5


class Lines:
    """The lines of all streams: the time, then a field per channel; always the same."""

    def __init__(self, manifest: Manifest, streams: int) -> None:
        center = np.array([channel.center for channel in manifest.channels])
        scale = np.array([channel.scale for channel in manifest.channels])
        noise = np.random.default_rng(_SEED).normal(0, _DEVIATION, (_ROWS, len(center)))
        self._values = np.round(center + noise * scale, 3)
        self._tails = [_text(row) for row in self._values.tolist()]
        self._fault = _text((center + _FAULT * scale).tolist())
        self._period_s = manifest.sampling.period_s
        self._streams = streams

    def line(self, stream: int, sample: int) -> bytes:
        """Return a stream's line of a sample, counted from 0, without its end."""
        if (sample * self._streams + stream) % _FAULT_EVERY_LINES == _FIRST_FAULT:
            tail = self._fault
        else:
            tail = self._tails[(sample + stream * _STREAM_STRIDE) % _ROWS]
        return b"%.3f%b" % (_start_s(stream) + sample * self._period_s, tail)

    def before(self, stream: int, samples: int) -> Readings:
        """Return the readings of a stream's last ``samples`` samples before sample 0; no faults."""
        sample = np.arange(-samples, 0)
        values = self._values[(sample + stream * _STREAM_STRIDE) % _ROWS].astype(np.float32)
        times = (_start_s(stream) + sample * self._period_s).astype(np.float64, copy=False)
        return Readings(times, values)


def _start_s(stream: int) -> float:
    """Return the time of a stream's sample 0; the same for streams ``PHASES`` apart."""
    return START_S + stream % PHASES * _PHASE_S


def _text(row: list[float]) -> bytes:
    return "".join(f",{value:.3f}" for value in row).encode()
