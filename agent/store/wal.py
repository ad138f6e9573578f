"""Detects whether a write-ahead log (WAL) of SQLite has lost commits that were on the disk.

SQLite reads a log up to the first frame whose checksum is wrong. It assumes that the rest is a
commit that a power cut interrupted. If complete commits follow, this assumption is wrong: with
``synchronous=FULL`` a commit is on the disk before the next one begins. Then everything after that
frame is lost, including the highest message number.

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import NamedTuple

_HEADER, _FRAME = 32, 24  # bytes of the log's header, and of a frame's header


class Log(NamedTuple):
    """The commits in a log."""

    sound: bool  # whether its header is intact; otherwise SQLite ignores the log
    commits: list[int]  # number of each commit's last frame, counted from 1

    def lost(self, read: int) -> int:
        """Return how many commits SQLite missed when it read ``read`` frames.

        The last one may be part of an unfinished commit, which is no loss.
        """
        beyond = sum(number > read for number in self.commits)
        return beyond if beyond > 1 or not self.sound else 0


def read_log(path: Path) -> Log:
    """Return the commits of the newest round of a log; none if the log is absent.

    Raises:
        OSError: it cannot be read.

    """
    if not path.exists():
        return Log(True, [])
    with path.open("rb") as file:
        header = file.read(_HEADER)
        if len(header) < _HEADER:
            return Log(True, [])
        magic, _, page_bytes = struct.unpack(">3I", header[:12])
        sound = _sums(header[:24], "big" if magic & 1 else "little") == header[24:]
        step = _FRAME + (page_bytes if sound else 4096)
        salt = header[16:24] if sound else b""
        commits = []
        number = 0
        while len(frame := file.read(_FRAME)) == _FRAME:
            number += 1
            salt = salt or frame[8:16]
            if frame[8:16] == salt and frame[4:8] != bytes(4):
                commits.append(number)
            file.seek(_HEADER + number * step)
    return Log(sound, commits)


def _sums(data: bytes, order: str) -> bytes:
    """Return the checksum of 32-bit words, in the byte order that the header states."""
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first = second = 0
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return struct.pack(">2I", first, second)
