"""Tells systemd how the agent is doing (``sd_notify(3)``); does nothing without systemd."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class Notifier:
    """Sends to the socket that systemd names in NOTIFY_SOCKET."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("NOTIFY_SOCKET")

    def ready(self) -> None:
        """Say that the start is over."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show a line in ``systemctl status``."""
        self._send(f"STATUS={text}")

    def watchdog(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that a clean stop has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # an address that begins with @ lies in the abstract namespace
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            # systemd that is gone, or too busy to take it, must not end the agent
            sock.sendto(message.encode(), address)
