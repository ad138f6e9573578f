"""The log of the work on one stream, as a file: what it said, and where it failed."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Self

from models.printable import printable, printable_lines


class Log:
    """Writes lines with the seconds since the start; an exception leaves its traceback there."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w")
        self._began_s = time.monotonic()

    def __call__(self, line: str) -> None:
        """Write a line; it can be read at once."""
        self._file.write(f"{self.seconds:8.1f} s  {printable(line)}\n")
        self._file.flush()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        if error is not None:
            text = "".join(traceback.format_exception(error))
            self._file.write(f"{printable_lines(text.rstrip())}\n")
        self._file.close()
