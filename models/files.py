"""Opens files without blocking, and replaces files atomically.

Opening a named pipe blocks until somebody writes to it, and reading a device may never end. Other
users may control what lies at a path of the configuration, so such paths are opened here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
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
    """The path is not a regular file; ``strerror`` says what it is."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file", path)

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def kind_of(mode: int) -> str | None:
    """Return the kind of file that an ``st_mode`` denotes, in words; None for a regular file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def descriptor_of(path: str, flags: int = os.O_RDONLY) -> int:
    """Open a file; a file that ``flags`` create gets the permissions 0o666 less the umask.

    This is an ``opener`` for ``open`` and ``io.FileIO``.

    Raises:
        NotAFile: the path is a pipe, a socket, a device or a directory.
        OSError: the file cannot be opened.

    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    kind = kind_of(os.fstat(descriptor).st_mode)
    if kind is not None:
        os.close(descriptor)
        raise NotAFile(path, kind)
    return descriptor


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading; raises the same errors as ``descriptor_of``."""
    return os.fdopen(descriptor_of(str(path)), "rb")


def read_file(path: Path, bytes_max: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: as ``descriptor_of``; or it cannot be read, or is longer than ``bytes_max``.

    """
    with open_file(path) as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"it has more than {bytes_max} bytes", str(path))
    return data


def replace(path: Path, data: bytes, mode: int | None = None, group: int | None = None) -> None:
    """Replace a file's content; after a power cut the disk has either the new or the old file.

    Args:
        path: of the file.
        data: its new content.
        mode: its permissions, regardless of the umask; None: the umask applies.
        group: its group; None: as the system chooses it.

    Raises:
        OSError: the file cannot be written; ``filename`` is set, and the old file is unchanged.

    """
    with replacing(path, mode, group) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None, group: int | None = None) -> Iterator[BinaryIO]:
    """Replace a file by what is written meanwhile, as ``replace``; an error leaves the old one."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb", opener=descriptor_of) as file:
            if group is not None:
                os.fchown(file.fileno(), -1, group)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the bytes
        partial.replace(path)
    except OSError as error:
        if error.filename is None:  # an error of a write has no name
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or is not a file that we made
            partial.unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Sync a directory's entries to the disk.

    Raises:
        OSError: the disk fails.

    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
