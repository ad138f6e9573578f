"""The replay input: one thread that plays a recording at its original rate, or faster."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from agent.config.inputs import ReplayTable
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from agent.journal import INPUT
from models.errors import ConfigError
from models.files import open_file
from models.formats.cells import CLOCK, TIME
from models.formats.header import Preamble, Wanted, names_in, plain
from models.formats.recording import each_line, without_last_cell
from models.formats.separated import split
from models.formats.times import Times

_LOG = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_CHUNK_LINES_MAX: Final = 500
_AHEAD_MAX: Final = 50  # uncommitted chunks; at high speed the store limits the rate
_LOOK_S: Final = 0.05
_STEP_S: Final = 1.0  # between two passes, if the recording does not determine it


class ReplayInput(ThreadedInput):
    """Puts the rows of a recording when they are due; see ``agent.inputs.Input``."""

    def __init__(self, settings: ReplayTable) -> None:
        super().__init__(settings)
        if CLOCK in (settings.columns or ()):
            raise ConfigError(
                f"input {settings.name}: a replay shifts its rows' times; it needs them in one"
                f" column: {CLOCK!r} is not allowed for type = 'replay'"
            )
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
                with open_file(self._settings.path) as file:
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
        rows = recorded(self._settings, file)
        head, at = rows.head, rows.time_at
        began = self._next_begin_s or time.monotonic()
        first, last, step, due = math.nan, math.nan, _STEP_S, began
        waiting: list[bytes] = []
        for number, line in rows.lines:
            if self._stopping.is_set():
                break
            recorded_s = self._time(line, at)
            if recorded_s < last:
                raise OSError(_backwards(self._settings.path, number))
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
        return self._times.unix_s(fields[at])

    def _split(self, line: bytes) -> list[str]:
        text = line.decode(self._settings.encoding, errors="replace")
        return split(text, self._settings.separator or ",")

    def _moved(self, line: bytes, at: int, recorded_s: float) -> bytes:
        """Return the row with its new time."""
        if self._shift_s == 0.0:
            return line
        separator = self._settings.separator or ","
        fields = [f'"{cell}"' if separator in cell else cell for cell in self._split(line)]
        fields[at] = self._times.written(recorded_s + self._shift_s)
        return separator.join(fields).encode(self._settings.encoding, errors="replace")

    def _put(self, head: list[bytes], lines: list[bytes], put: Callable[[Chunk], None]) -> None:
        while self._put_so_far - self._committed >= _AHEAD_MAX and not self._stopping.is_set():
            self._stopping.wait(_LOOK_S)
        self._put_so_far += 1
        self._lines += len(lines)
        self._bytes += sum(map(len, lines))
        now, now_mono = time.time(), time.monotonic()
        put(Chunk(self.name, now, now_mono, [*head, *lines], self._put_so_far))

    def _end(self) -> None:
        self._last_error = "the recording has ended"
        self._change(False)
        _LOG.warning("input %s: %s", self.name, self._last_error, extra={INPUT: self.name})


class _Rows(NamedTuple):
    """A recording that is open at its first row."""

    head: list[bytes]  # the header, if there is one
    time_at: int  # the column of the time
    lines: Iterator[tuple[int, bytes]]  # number in the file, from 1, and text


def recorded(settings: ReplayTable, file: BinaryIO) -> _Rows:
    """Read up to the first row.

    Raises:
        OSError: no line names the time column.

    """
    lines = _numbered(settings, file)
    if not settings.header:
        assert settings.columns is not None  # the configuration ensures it
        return _Rows([], settings.columns.index(TIME), lines)
    assert settings.time_key is not None
    time_key = plain(settings.time_key)
    separator = settings.separator or ","
    preamble = Preamble(Wanted(time_key), separator, settings.encoding)
    first = next(((number, line) for number, line in lines if not preamble.takes(line)), None)
    if preamble.header is None or preamble.line is None:
        file.seek(0)
        there = ", ".join(names_in(file.readline(1000).decode(errors="replace"), separator))
        raise OSError(f"{settings.path}: no column {settings.time_key!r} among {there}")
    rest = lines if first is None else itertools.chain([first], lines)
    return _Rows([preamble.line], preamble.header.index(time_key), rest)


def _numbered(settings: ReplayTable, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, (line, cut) in enumerate(each_line(file), 1):
        if line:
            yield number, without_last_cell(line, settings.separator or ",") if cut else line


def probe_recording(settings: ReplayTable) -> str | None:
    """Return what is wrong with a recording, or None."""
    times, last = Times(settings.time_format, settings.time_zone), -math.inf
    try:
        with open_file(settings.path) as file:
            rows = recorded(settings, file)
            for number, line in rows.lines:
                fields = split(line.decode(errors="replace"), settings.separator or ",")
                time_s = times.unix_s(fields[rows.time_at]) if rows.time_at < len(fields) else last
                if time_s < last:
                    return _backwards(settings.path, number)
                last = last if math.isnan(time_s) else time_s
    except OSError as error:
        return str(error)
    return None


def _backwards(path: Path, number: int) -> str:
    return (
        f"{path}:{number}: the time is earlier than in the row above; sort the rows by their time"
        " (in local time, the repeated hour in autumn causes this)"
    )
