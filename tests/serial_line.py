"""A serial device for the tests: a pseudo-terminal that can be pulled and plugged in again."""

from __future__ import annotations

import os
import pty
import tty
from pathlib import Path


class Line:
    """A serial device on a path that stays, whatever terminal is behind it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: tuple[int, int] | None = None
        self.plug_in()

    def plug_in(self) -> None:
        self._descriptors = pty.openpty()
        tty.setraw(self._descriptors[1])
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._descriptors[1]))

    def unplug(self) -> None:
        assert self._descriptors is not None
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.path.unlink()
        self._descriptors = None

    @property
    def descriptor(self) -> int:
        """The device's end."""
        assert self._descriptors is not None
        return self._descriptors[0]

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.descriptor, data) :]

    def close(self) -> None:
        if self._descriptors is not None:
            self.unplug()
