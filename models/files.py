"""Opens files without blocking, and replaces them as a whole or not at all.

To open a named pipe blocks until somebody writes to it, and a device may never end. So paths from a
configuration are opened here, because other users may control what is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

PARTIAL: Final = ".partial"  # ends the name of a file that is being written
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(OSError):
    """Something else is in a file's place; ``strerror`` says what."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file", path)

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def kind_of(mode: int) -> str | None:
    """Return in words what has this ``st_mode``; None: a file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def descriptor_of(path: str, flags: int = os.O_RDONLY) -> int:
    """Open a file; if ``flags`` create it, it gets the permissions that the umask leaves.

    This is an ``opener`` for ``open`` and ``io.FileIO``.

    Raises:
        NotAFile: it is a pipe, a device or a directory.
        OSError: it cannot be opened.

    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    kind = kind_of(os.fstat(descriptor).st_mode)
    if kind is not None:
        os.close(descriptor)
        raise NotAFile(path, kind)
    return descriptor


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it; raises as ``descriptor_of``."""
    return os.fdopen(descriptor_of(str(path)), "rb")


def read_file(path: Path, bytes_max: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: as ``descriptor_of``, it cannot be read, or it is longer than ``bytes_max``.

    """
    with open_file(path) as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"it has more than {bytes_max} bytes", str(path))
    return data


def replace(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replace a file's content; after a power cut the disk has either the new or the old file.

    Args:
        path: of the file.
        data: its content.
        mode: its permissions, whatever the umask; None: as the umask has them.

    Raises:
        OSError: it cannot be written, with its name; the one before is still there.

    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb", opener=descriptor_of) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the bytes
        partial.replace(path)
    except OSError as error:
        if error.filename is None:  # a write does not know what it writes to
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # not there any more, or no file of ours
            partial.unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Sync the names in a directory to the disk.

    Raises:
        OSError: the disk fails.

    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
