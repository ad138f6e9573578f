"""Logging: to stderr, and under systemd to the journal with fields of its own.

A message about one stream or one input carries its name, so that ``journalctl
FIELDWATCH_STREAM=pump-1`` finds it: ``_LOG.info("…", extra={STREAM: name})``.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from pathlib import Path
from typing import Final

STREAM: Final = "FIELDWATCH_STREAM"
INPUT: Final = "FIELDWATCH_INPUT"

SOCKET: Final = Path("/run/systemd/journal/socket")
_IDENTIFIER = "fieldwatch-agent"  # as in the unit
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def start_logging() -> None:
    """Log to the journal where that listens, else to stderr."""
    handler: logging.Handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(PrefixFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if _stderr_is_the_journal():
        handler = JournalHandler(SOCKET, handler)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _stderr_is_the_journal() -> bool:
    """Whether it still is: somebody may have redirected it."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records to journald's socket; what that does not take goes to ``otherwise``."""

    def __init__(self, address: Path, otherwise: logging.Handler) -> None:
        super().__init__()
        self._address = str(address)
        self._otherwise = otherwise
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never waits for journald."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": _IDENTIFIER,
        }
        fields |= {
            key: str(value) for key, value in vars(record).items() if key.startswith("FIELDWATCH_")
        }
        data = b"".join(_field(name, value.encode()) for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(data, self._address)
        except OSError:  # journald is gone, busy, or the message too long for it
            self._otherwise.emit(record)


def _field(name: str, value: bytes) -> bytes:
    """Return a field as journald's native protocol has it; lines need their length before them."""
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


class PrefixFormatter(logging.Formatter):
    """Prefixes a line with its syslog priority, see ``sd-daemon(3)``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return f"<{_priority(record)}>{super().format(record)}"


def _priority(record: logging.LogRecord) -> int:
    return next(number for level, number in _PRIORITIES if record.levelno >= level)
