"""What is wrong with a running collector, in a file for ``collected``, which cannot ask it.

The log says the same, each minute; but who looks at what was collected may not see the log.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from agent.store.migrations import COLLECTED
from models.files import read_file, replace

_LOG = logging.getLogger(__name__)

_FILE: Final = f"{COLLECTED}.trouble"  # beside the database
_BYTES_MAX: Final = 10_000


class Trouble:
    """The file, as the collector writes it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._written: str | None = None  # None: not yet, an earlier run may have left a file

    def look(self, trouble: str | None) -> None:
        """Write what is wrong now; None: nothing. Only a change is written."""
        text = trouble or ""
        if text == self._written:
            return
        self._written = text
        try:
            if text:
                replace(self._path, text.encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.error("%s cannot be changed: %s", self._path, error.strerror)


def trouble_in(directory: Path) -> str | None:
    """Return what is wrong with the collector that runs with a directory; None: nothing known."""
    try:
        return read_file(directory / _FILE, _BYTES_MAX).decode(errors="backslashreplace") or None
    except OSError:
        return None
