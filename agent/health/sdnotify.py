"""Reports the agent's state to systemd (``sd_notify(3)``); does nothing without systemd."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from models.errors import ConfigError
from models.printable import printable

_READY_WAIT_S_MAX = 30.0  # sent only once, so it must not be lost
_RELOADED_WAIT_S_MAX = 1.0  # the same, but the loop waits meanwhile


class Notifier:
    """Sends to the socket that systemd names in NOTIFY_SOCKET."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("NOTIFY_SOCKET")

    @property
    def watchdog_s(self) -> float | None:
        """The watchdog time-out of systemd in seconds; None if it does not watch this process."""
        if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        interval_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        return interval_us / 1e6 if interval_us else None

    def check(self, flush_interval_s: float) -> None:
        """Refuse a flush interval at which systemd would consider the loop hung.

        Raises:
            ConfigError: it is more than half of the unit's ``WatchdogSec``.

        """
        watchdog_s = self.watchdog_s
        if watchdog_s is not None and flush_interval_s > watchdog_s / 2:
            raise ConfigError(
                f"store.flush_interval_s = {flush_interval_s:g} must be at most half of the unit's"
                f" WatchdogSec, which is {watchdog_s:g}"
            )

    def starting(self, seconds: float, doing: str) -> None:
        """Tell systemd that the start continues, the maximum time left, and what is being done."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}\nSTATUS={printable(doing)}")

    def ready(self) -> None:
        """Tell systemd that the start is over."""
        self._send("READY=1", _READY_WAIT_S_MAX)

    def reloading(self) -> None:
        """Tell systemd that the agent reloads its configuration."""
        self._send(
            f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
            "\nSTATUS=reading the configuration again"
        )

    def reloaded(self) -> None:
        """Tell systemd that the reload is over."""
        self._send("READY=1", _RELOADED_WAIT_S_MAX)

    def status(self, text: str) -> None:
        """Show a line in ``systemctl status``."""
        self._send(f"STATUS={printable(text)}")  # a line end would begin another assignment

    def watchdog(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell systemd that a clean stop has begun."""
        self._send("STOPPING=1\nSTATUS=stopping: storing what has arrived")

    def _send(self, message: str, wait_s_max: float = 0.0) -> None:
        if not self._address:
            return
        # an address that begins with @ lies in the abstract namespace
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            # if systemd is gone or too busy, this must not end or delay the agent
            sock.settimeout(wait_s_max)
            sock.sendto(message.encode(), address)
