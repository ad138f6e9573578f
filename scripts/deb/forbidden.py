"""Tries what the agent's unit forbids, inside that unit; ends with 1 if anything is allowed."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PTRACE_ATTACH = 16
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    """Raise the error of a call of the C library."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def execute_written() -> None:
    """Ask for memory that can be written and executed."""
    import mmap

    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


FORBIDDEN: dict[str, Callable[[], object]] = {
    "write to /etc": lambda: Path("/etc/fieldwatch/forbidden").write_text("x"),
    "write to /usr": lambda: Path("/usr/forbidden").write_text("x"),
    "write to its own program": lambda: Path("/opt/fieldwatch/forbidden").write_text("x"),
    "read a home": lambda: list(Path("/root").iterdir()),
    "become root": lambda: os.setuid(0),
    "change the clock": lambda: __import__("time").clock_settime(0, 0),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "open a packet socket": lambda: socket.socket(17, socket.SOCK_RAW),
    "trace a process": lambda: checked(libc.ptrace(PTRACE_ATTACH, 1, 0, 0)),
    "mount": lambda: checked(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "make a namespace": lambda: checked(libc.unshare(0x10000000)),
    "open a disk": lambda: os.open("/dev/mem", os.O_RDONLY),
    "write memory and execute it": execute_written,
    "gain rights by a setuid program": lambda: subprocess.run(
        ["/usr/bin/su", "-c", "true"], check=True, capture_output=True, stdin=subprocess.DEVNULL
    ),
}
allowed = []
for what, act in FORBIDDEN.items():
    try:
        act()
    except (OSError, subprocess.SubprocessError) as error:
        sys.stdout.write(f"refused: {what}: {error}\n")
    else:
        allowed.append(what)
Path("/var/lib/fieldwatch/allowed").write_text("x")  # its own folder is its own
Path("/var/lib/fieldwatch/allowed").unlink()
sys.exit(f"allowed: {', '.join(allowed)}" if allowed else 0)
