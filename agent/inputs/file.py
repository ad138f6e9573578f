"""The file input: one thread that follows a file over rotation and truncation, like ``tail -F``."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.config.inputs import FileTable
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from agent.parsing.documents import OVER_LINES, go_over_lines
from models.files import descriptor_of, open_file
from models.formats.encodings import is_utf16
from models.formats.header import LINES_MAX, Preamble, Wanted, plain
from models.formats.lines import Framer, ends_with_cr

_READ_BYTES_MAX: Final = 65536
_UNCOMMITTED_MAX: Final = 64  # reads; a file can wait, whereas the loop's queue would drop chunks


class FileInput(ThreadedInput):
    """Reads the new lines of a file; see ``agent.inputs.Input``."""

    def __init__(self, settings: FileTable) -> None:
        super().__init__(settings)
        self._settings = settings
        self._file: io.FileIO | None = None
        self._put = self._committed = 0  # reads, by their tokens
        self._there_at_start = 0  # bytes
        self._framer = self._new_framer()
        self._preamble: Preamble | None = None  # until the header or the first row is found
        self._header: bytes | None = None  # of this file, if it has one
        self._begin_anew()

    def committed(self, tokens: Sequence[int]) -> None:
        """Free room for more reads."""
        self._committed = max(tokens)

    def _lines_cut(self) -> int:
        return self._framer.lines_cut

    def _run(self, put: Callable[[Chunk], None]) -> None:
        begin_at_end = self._settings.begin == "end"
        while not self._stopping.is_set():
            try:
                if self._file is None:
                    self._open(begin_at_end)
                begin_at_end = False  # a file that appears later is all new
                self._read(put)
                self._look_whether_replaced()
            except OSError as error:
                self._lost(str(error))
                self._close()
                begin_at_end = False
            self._stopping.wait(self._settings.poll_interval_s)
        self._close()

    def _open(self, at_end: bool) -> None:
        self._file = file = io.FileIO(self._settings.path, opener=descriptor_of)
        begin = file.read(_READ_BYTES_MAX)
        if (why := _unreadable(self._settings, begin)) is not None:
            raise OSError(f"{self._settings.path}: {why}")
        file.seek(0)
        if self._settings.line_end == "auto" and ends_with_cr(begin):
            self._framer = Framer(self._settings.line_bytes_max, line_end="cr")
        if at_end and self._knows_header(begin):
            self._go_to_end(file)
        # the content may have been read before a restart; later files are new
        self._there_at_start = 0 if self._connections else os.fstat(file.fileno()).st_size
        self._found(f"reading {self._settings.path}")

    def _knows_header(self, begin: bytes) -> bool:
        """Search for the header if one is expected; return False if it is not there yet."""
        if self._preamble is None:
            return True
        self._rows(self._new_framer().push(begin))
        if self._header is not None:
            return True
        self._preamble = self._new_preamble()
        return False

    def _go_to_end(self, file: io.FileIO) -> None:
        """Begin with the first complete line after the present end."""
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) not in b"\r\n":
                self._framer.skip_line()

    def _new_framer(self) -> Framer:
        return Framer(self._settings.line_bytes_max, line_end=self._settings.line_end)

    def _new_preamble(self) -> Preamble | None:
        settings = self._settings
        if not settings.header:
            return None
        time_key = None if settings.time_key is None else plain(settings.time_key)
        # channels without a key have the names of their columns, which only the stream knows
        names = frozenset(map(plain, settings.keys.values())) if time_key is None else frozenset()
        return Preamble(Wanted(time_key, names), settings.separator or ",", settings.encoding)

    def _rows(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines that are rows; keep the header, drop the lines around it."""
        if self._preamble is None:
            return lines
        for at, line in enumerate(lines):
            taken = self._preamble.takes(line)
            self._header = self._preamble.line
            if not taken:
                if self._preamble.given_up:
                    self._last_error = f"no header among the first {LINES_MAX} lines"
                self._preamble = None
                return lines[at:]
        return []

    def _read(self, put: Callable[[Chunk], None]) -> None:
        assert self._file is not None
        while not self._stopping.is_set() and self._put - self._committed < _UNCOMMITTED_MAX:
            again = self._file.tell() < self._there_at_start
            if not (data := self._file.read(_READ_BYTES_MAX)):
                break
            lines = self._framer.push(data)
            self._bytes += len(data)
            lines = self._rows(lines)
            self._lines += len(lines)
            if lines:
                # each chunk has the header, so that a dropped chunk does not affect the next
                head = [] if self._header is None else [self._header]
                self._put += 1
                now = time.time(), time.monotonic()
                put(Chunk(self.name, *now, [*head, *lines], token=self._put, again=again))

    def _look_whether_replaced(self) -> None:
        """Start from the beginning if the file was replaced or truncated."""
        assert self._file is not None
        mine, there = os.fstat(self._file.fileno()), self._settings.path.stat()
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            self._close()
        elif there.st_size < self._file.tell():
            self._file.seek(0)
            self._begin_anew()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._framer.end()
        self._header = None
        self._preamble = self._new_preamble()


def probe_file(settings: FileTable) -> str | None:
    """Return why an existing file cannot be read, or None."""
    try:
        with open_file(settings.path) as file:
            why = _unreadable(settings, file.read(_READ_BYTES_MAX))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{settings.path} cannot be read: {error.strerror}"
    return None if why is None else f"{settings.path}: {why}"


def _unreadable(settings: FileTable, begin: bytes) -> str | None:
    """Return why a file with this beginning cannot be read line by line, or None."""
    if is_utf16(begin):
        return "it is UTF-16; make the program that writes it use UTF-8"
    return OVER_LINES if settings.format == "json" and go_over_lines(begin) else None
