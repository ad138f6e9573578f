"""The replay input: one thread that plays a recording at its own pace, or faster."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from agent.config.inputs import TIME, ReplayTable
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from agent.journal import INPUT
from models.formats.times import Times

_LOG = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_CHUNK_LINES_MAX: Final = 500
_AHEAD_MAX: Final = 50  # chunks not committed; at high speed the store sets the pace
_LOOK_S: Final = 0.05
_STEP_S: Final = 1.0  # between two passes, if the recording does not say


class ReplayInput(ThreadedInput):
    """Puts the rows of a recording when they are due; see ``agent.inputs.Input``."""

    def __init__(self, settings: ReplayTable) -> None:
        super().__init__(settings)
        self._settings = settings
        self._times = Times(settings.time_format, settings.time_zone)
        self._put_so_far = self._committed = 0  # chunks
        self._shift_s = 0.0  # added to the recorded times
        self._next_s: float | None = None  # time of the next pass's first row
        self._next_begin_s: float | None = None  # when that is due, monotonic

    def committed(self, tokens: Sequence[int]) -> None:
        """Count the committed chunks."""
        self._committed = max(self._committed, *tokens)

    def _run(self, put: Callable[[Chunk], None]) -> None:
        while not self._stopping.is_set():
            try:
                with self._settings.path.open("rb") as file:
                    self._play(file, put)
            except OSError as error:
                self._lost(str(error))
                self._stopping.wait(_RETRY_S)
                continue
            if not self._settings.loop:
                self._end()
                return

    def _play(self, file: BinaryIO, put: Callable[[Chunk], None]) -> None:
        """Play the recording once; raises OSError if it cannot be played."""
        head, at = recorded(self._settings, file)
        began = self._next_begin_s or time.monotonic()
        first, last, step, due = math.nan, math.nan, _STEP_S, began
        waiting: list[bytes] = []
        while not self._stopping.is_set() and (line := file.readline()):
            line = line.rstrip(b"\r\n")
            recorded_s = self._time(line, at)
            if not math.isnan(recorded_s):
                if math.isnan(first):
                    first = recorded_s
                    self._set_shift(first)
                    self._found(f"playing {self._settings.path}")
                elif recorded_s > last:
                    step = recorded_s - last
                last = recorded_s
                due = began + (recorded_s - first) / self._settings.speed
                line = self._moved(line, at, recorded_s)
            if waiting and (due > time.monotonic() or len(waiting) >= _CHUNK_LINES_MAX):
                self._put(head, waiting, put)
                waiting = []
            self._stopping.wait(max(0.0, due - time.monotonic()))
            waiting.append(line)
        if self._stopping.is_set():
            return
        if math.isnan(first):
            raise OSError(f"{self._settings.path} has no row with a time")
        if waiting:
            self._put(head, waiting, put)
        self._next_s = last + self._shift_s + step
        self._next_begin_s = began + (last - first + step) / self._settings.speed

    def _set_shift(self, first: float) -> None:
        """Shift the first row of a pass to follow the last of the previous pass, or to now."""
        if self._next_s is not None:
            self._shift_s = self._next_s - first
        elif self._settings.times == "now":
            self._shift_s = time.time() - first

    def _time(self, line: bytes, at: int) -> float:
        fields = self._split(line)
        if at >= len(fields):
            return math.nan
        return self._times.unix_s(fields[at].decode(errors="replace"))

    def _split(self, line: bytes) -> list[bytes]:
        if self._settings.decimal == ",":
            line = line.replace(b",", b".")
        separator = self._settings.separator or ","
        return line.split() if separator == " " else line.split(separator.encode())

    def _moved(self, line: bytes, at: int, recorded_s: float) -> bytes:
        """Return the row with its new time."""
        if self._shift_s == 0.0:
            return line
        fields = self._split(line)
        fields[at] = f"{recorded_s + self._shift_s:.6f}".encode()
        return (self._settings.separator or ",").encode().join(fields)

    def _put(self, head: list[bytes], lines: list[bytes], put: Callable[[Chunk], None]) -> None:
        while self._put_so_far - self._committed >= _AHEAD_MAX and not self._stopping.is_set():
            self._stopping.wait(_LOOK_S)
        self._put_so_far += 1
        self._lines += len(lines)
        self._bytes += sum(map(len, lines))
        now, now_mono = time.time(), time.monotonic()
        put(Chunk(self.name, now, now_mono, [*head, *lines], self._put_so_far))

    def _end(self) -> None:
        self._last_error = "the recording is at its end"
        self._change(False)
        _LOG.warning("input %s: %s", self.name, self._last_error, extra={INPUT: self.name})


def recorded(settings: ReplayTable, file: BinaryIO) -> tuple[list[bytes], int]:
    """Read up to the first row; return the header, if there is one, and the place of the time.

    Raises:
        OSError: the header does not name the time.

    """
    if not settings.header:
        assert settings.columns is not None  # the configuration sees to it
        return [], settings.columns.index(TIME)
    header = file.readline(settings.line_bytes_max).rstrip(b"\r\n")
    text = header.decode("utf-8-sig", errors="replace")
    separator = settings.separator or ","
    names = text.split() if separator == " " else [name.strip() for name in text.split(separator)]
    if settings.time_key not in names:
        raise OSError(f"{settings.path}: no column {settings.time_key!r} among {', '.join(names)}")
    return [header], names.index(settings.time_key)


def probe_recording(settings: ReplayTable) -> str | None:
    """Say what is wrong with a recording, or None."""
    try:
        with settings.path.open("rb") as file:
            recorded(settings, file)
    except OSError as error:
        return str(error)
    return None
