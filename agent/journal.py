"""Logging: to stderr, and under systemd to the journal with additional fields.

A log message about one stream or one input has its name as a field, so that ``journalctl
FIELDWATCH_STREAM=pump-1`` finds it: ``_LOG.info("…", extra={STREAM: name})``.

Log messages may quote text from outside. This text cannot start a new line of the log, control the
reader's terminal, or stop the thread that logs it.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any, Final

from models.console import stderr_is_the_journal
from models.printable import indented, printable

STREAM: Final = "FIELDWATCH_STREAM"
INPUT: Final = "FIELDWATCH_INPUT"

SOCKET: Final = Path("/run/systemd/journal/socket")
MESSAGE_CHARACTERS_MAX: Final = 8000
IDENTIFIER = "fieldwatch-agent"  # as in the systemd unit
_OURS: Final = ("agent", "models")
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def start_logging() -> None:
    """Log to the journal if it is available, otherwise to stderr."""
    handler: logging.Handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(PrefixFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if stderr_is_the_journal():
        handler = JournalHandler(SOCKET, handler)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def set_level(level: str) -> None:
    """Log from this level on, such as ``debug``; libraries log no more than ``info``."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(number, logging.INFO))
    for package in _OURS:
        logging.getLogger(package).setLevel(number)


def log_to_stderr(form: str, level: int) -> None:
    """Log to stderr in this format of ``logging``, for interactive commands."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])


class JournalHandler(logging.Handler):
    """Sends records to journald's socket; records that it does not accept go to ``otherwise``."""

    def __init__(self, address: Path, otherwise: logging.Handler) -> None:
        super().__init__()
        self._address = str(address)
        self._otherwise = otherwise
        self.setFormatter(LineFormatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never waits for journald."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
        }
        fields |= {
            key: printable(str(value))
            for key, value in vars(record).items()
            if key.startswith("FIELDWATCH_")
        }
        data = b"".join(_field(name, value.encode()) for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(data, self._address)
        except OSError:  # journald is gone or busy, or the message is too long
            self._otherwise.emit(record)


def _field(name: str, value: bytes) -> bytes:
    """Return a field in journald's native protocol; a text of several lines needs its length."""
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


class LineFormatter(logging.Formatter):
    """Formats a message as one printable line, and a traceback as indented lines below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message as one line."""
        return printable(super().formatMessage(record), MESSAGE_CHARACTERS_MAX)

    def formatException(self, ei: Any) -> str:
        """Return the traceback, made printable: an exception may quote text from outside."""
        return indented(super().formatException(ei))


class PrefixFormatter(LineFormatter):
    """Prefixes a line with its syslog priority, see ``sd-daemon(3)``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return f"<{_priority(record)}>{super().format(record)}"


def _priority(record: logging.LogRecord) -> int:
    return next(number for level, number in _PRIORITIES if record.levelno >= level)
