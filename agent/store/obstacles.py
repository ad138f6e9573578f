"""Reports why a user cannot use a database's files: SQLite only reports "unable to open".

It checks before a file is opened, because opening a named pipe would block.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from models.errors import StoreError
from models.files import kind_of

BESIDE: Final = ("-wal", "-shm")  # SQLite's own files beside a database


def refuse_obstacles(path: Path, writing: bool) -> None:
    """Check a database's file, the files beside it, and their directory.

    Raises:
        StoreError: they cannot be used; the text states which, why, and what to do.

    """
    if writing:
        refuse_directory(path.parent)
    for part in (path, *(path.with_name(path.name + suffix) for suffix in BESIDE)):
        refuse_obstacle(part, writing)


def refuse_obstacle(path: Path, writing: bool) -> None:
    """Check one file, which may be absent; raises StoreError as ``refuse_obstacles`` does."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise StoreError(
                f"{path} links to {path.readlink()}, which does not exist:"
                " bring that back, or remove the link"
            ) from None
        if writing:
            refuse_directory(path.parent)
        return
    except OSError as error:
        raise StoreError(_why(path, error)) from error
    kind = kind_of(mode)
    if kind is not None:
        raise StoreError(f"{path} is {kind}, where a file belongs: move it away")
    if not _may(path, os.R_OK):
        raise StoreError(f"{path} cannot be read by user {_user()}: {_remedy(path)}")
    if writing and not _may(path, os.W_OK):
        raise StoreError(f"{path} cannot be written by user {_user()}: {_remedy(path)}")


def refuse_directory(directory: Path) -> None:
    """Check the directory of a database; raises StoreError as ``refuse_obstacles`` does."""
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        raise StoreError(_why(directory, error)) from error
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{directory} is a file, where a directory belongs: move it away")
    if not _may(directory, os.W_OK | os.X_OK):
        raise StoreError(f"{directory} cannot be written by user {_user()}: {_remedy(directory)}")


def _why(path: Path, error: OSError) -> str:
    """Return why a path is not accessible."""
    if error.errno == errno.ENOENT:
        return f"{path} does not exist: create it, owned by the agent's user"
    if error.errno == errno.ENOTDIR:
        return f"{path} cannot exist: a part of its path is a file, where a directory belongs"
    if error.errno == errno.EACCES:
        return f"{path} cannot be reached by user {_user()}: {_remedy(path.parent)}"
    return f"{path} cannot be used: {error.strerror}"


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=True)


def _remedy(path: Path) -> str:
    try:
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        read_only = 0
    if read_only:
        return "its file system is read-only"
    return "use the agent's user, or give this user access (chown, chmod)"


def _user() -> str:
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
