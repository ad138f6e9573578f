"""Finds the device of a serial input by its name or a pattern, or if it is the only one."""

from __future__ import annotations

import errno
import glob
import grp
import os
import stat
from pathlib import Path

from agent.config.kinds import AUTO


def find(port: Path, by_id: Path) -> Path:
    """Return the device that ``port`` stands for now; it may be another after a reconnect.

    A plain name is returned as it is, whether it exists or not.

    Raises:
        OSError: no device or several devices match the pattern; the text lists the devices.

    """
    if port != AUTO and (not glob.has_magic(str(port)) or port.exists()):
        return port
    pattern = str(by_id / "*") if port == AUTO else str(port)
    found = sorted(glob.glob(pattern))  # noqa: PTH207 - absolute or not, a pattern in any part
    if len(found) == 1:
        return Path(found[0])
    if found:
        raise OSError(
            f"port = {str(port)!r} matches {len(found)} devices; name one: {', '.join(found)}"
        )
    raise FileNotFoundError(errno.ENOENT, f"no device matches {pattern}; {ports_there(by_id)}")


def named(port: Path, by_id: Path) -> str:
    """Return the name of the device that ``port`` stands for; if that is unclear, ``port``."""
    try:
        return str(find(port, by_id))
    except OSError:
        return str(port)


def explain(port: Path, by_id: Path, error: OSError) -> str:
    """Return why the device that ``port`` stands for does not open, and how to fix it."""
    try:
        found = find(port, by_id)
    except OSError as unclear:
        return unclear.strerror or str(unclear)
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{found} does not exist: is the device plugged in? {ports_there(by_id)}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to open {found}: add the agent's user to the group {_group(found)}"
    if error.errno in (errno.EBUSY, errno.EAGAIN):
        return f"{found} is in use by another program (a running agent?)"
    if (kind := not_a_port(found)) is not None:
        return (
            f"{found} is {kind}, not a serial port: set port to a serial device, preferably by its"
            f" name below {by_id}; {ports_there(by_id)}"
        )
    return f"{found}: {error.strerror or error}"


def not_a_port(path: Path) -> str | None:
    """Return what kind of file this is; None if it is a serial port, or this is unknown."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "a directory"
        if not stat.S_ISCHR(mode):
            return "a file" if stat.S_ISREG(mode) else "another kind of file"
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return None if os.isatty(descriptor) else "another device"
    finally:
        os.close(descriptor)


def _group(port: Path) -> str:
    """Return the group that may use the port: dialout on Debian, another elsewhere."""
    try:
        return grp.getgrgid(port.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"


def ports_there(by_id: Path) -> str:
    """List the serial devices that have a stable name."""
    ports = [str(port) for port in devices(by_id)]
    return f"the ports are: {', '.join(ports)}" if ports else "there is no port with a stable name"


def devices(by_id: Path) -> list[Path]:
    """Return the stable names of the serial devices that are plugged in."""
    try:
        return sorted(by_id.iterdir())
    except OSError:  # udev creates the directory with the first device
        return []
