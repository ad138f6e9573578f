"""Which device a serial input means: a name, a pattern of names, or the only one there is."""

from __future__ import annotations

import errno
import glob
from pathlib import Path

from agent.config.kinds import AUTO


def find(port: Path, by_id: Path) -> Path:
    """Return the device that ``port`` stands for now; it may be another after a reconnect.

    A plain name is returned as it is, there or not.

    Raises:
        OSError: none fits the pattern, or several; says which are there.

    """
    if port != AUTO and (not glob.has_magic(str(port)) or port.exists()):
        return port
    pattern = str(by_id / "*") if port == AUTO else str(port)
    found = sorted(glob.glob(pattern))  # noqa: PTH207 - absolute or not, a pattern in any part
    if len(found) == 1:
        return Path(found[0])
    if found:
        raise OSError(
            f"port = {str(port)!r} fits {len(found)} devices, name one of them: {', '.join(found)}"
        )
    raise FileNotFoundError(errno.ENOENT, f"no device is there as {pattern}; {ports_there(by_id)}")


def named(port: Path, by_id: Path) -> str:
    """Return the name of the device that ``port`` stands for; where that is unclear, its own."""
    try:
        return str(find(port, by_id))
    except OSError:
        return str(port)


def ports_there(by_id: Path) -> str:
    """Say which serial devices have a lasting name."""
    ports = [str(port) for port in devices(by_id)]
    return f"ports there: {', '.join(ports)}" if ports else "no port with a lasting name is there"


def devices(by_id: Path) -> list[Path]:
    """Return the lasting names of the serial devices that are plugged in."""
    try:
        return sorted(by_id.iterdir())
    except OSError:  # udev makes the directory with the first device
        return []
