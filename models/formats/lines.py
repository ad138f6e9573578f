"""Splits bytes into lines."""

from __future__ import annotations

from typing import Literal

LineEnd = Literal["auto", "lf", "cr"]


class Framer:
    """Splits a stream of bytes into lines; holds at most one line.

    Args:
        line_bytes_max: A longer line is truncated to one byte more than this.
        skip_first: Drop everything before the first line end: its beginning may be missing.
        line_end: ``lf`` is a line feed, with or without a carriage return before it; ``cr`` is
            either of the two; with ``auto`` the first line end of the stream decides.

    ``lines_cut`` counts the partial lines that were dropped.
    """

    def __init__(
        self, line_bytes_max: int, skip_first: bool = False, line_end: LineEnd = "auto"
    ) -> None:
        self._kept_max = line_bytes_max + 1
        self._skip_first = self._skip = skip_first
        self._rest = b""
        self._known = line_end != "auto"
        self._cr = line_end == "cr"
        self.lines_cut = 0

    def push(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends; blank ones are dropped.

        A line that is too long is returned as soon as it exceeds the limit.
        """
        data = self._rest + data
        if not self._known and (cr := ends_with_cr(data)) is not None:
            self._known, self._cr = True, cr
        if self._cr:
            data = data.replace(b"\r", b"\n")
        *ended, rest = data.split(b"\n")
        if self._skip and ended:
            self._skip = False
            self.lines_cut += bool(ended.pop(0))
        lines = [line.removesuffix(b"\r")[: self._kept_max] for line in ended]
        self._rest = rest
        if len(rest) > self._kept_max:
            self._shorten(lines)
        return [line for line in lines if line]

    def _shorten(self, lines: list[bytes]) -> None:
        """Return an unfinished line that is too long; drop the rest of it."""
        if not self._skip:
            lines.append(self._rest[: self._kept_max])
            self.lines_cut -= 1  # the dropped rest does not count as a partial line
            self._skip = True
        # keep enough of the dropped rest to know that it was not empty, and half a line end
        self._rest = self._rest[:1] + (b"\r" if self._rest.endswith(b"\r") else b"")

    def skip_line(self) -> None:
        """Drop the bytes before the next line end: the beginning of that line is missing."""
        self._skip = True

    def end(self) -> None:
        """Drop the line in progress: the next bytes begin a new line."""
        self.lines_cut += bool(self._rest)
        self._rest = b""
        self._skip = self._skip_first


def ends_with_cr(data: bytes) -> bool | None:
    """Return whether the first line end is a carriage return alone; None if still unknown."""
    feed, end = data.find(b"\n"), data.find(b"\r")
    if feed >= 0 and (end < 0 or end > feed or end == feed - 1):
        return False
    return True if 0 <= end < len(data) - 1 else None


def whole_lines(data: bytes) -> tuple[list[bytes], bool]:
    """Return all lines of a file or message, and whether the last one has no end.

    Blank lines are included, so that indices match the line numbers of the file.
    """
    if ends_with_cr(data) or (b"\n" not in data and data.endswith(b"\r")):
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, rest = data.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in lines]
    return ([*lines, rest] if rest else lines), bool(rest)
