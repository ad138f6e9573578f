"""Checks that the results can be written, before the work that makes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from models.errors import ConfigError

ROOM_BYTES = 16 * 2**20  # a bundle of usual size, its report and its metrics, several times over


def check_directory(path: Path, files: tuple[str, ...] = (), room_bytes: int = ROOM_BYTES) -> None:
    """Refuse a directory that cannot be made or written to, or has no room; nothing is made.

    Args:
        path: of the directory, which need not exist.
        files: names that it will have; none may be a directory.
        room_bytes: must be free on its disk.

    Raises:
        ConfigError: names the place, and says why.

    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ConfigError(f"{path}: cannot be a directory: {there} is a file; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path}: cannot be written: {there} does not allow it; permit it, or name another"
            " directory"
        )
    if (free := shutil.disk_usage(there).free) < room_bytes:
        raise ConfigError(
            f"{path}: there is too little room: {free / 2**20:.3g} MiB are free, and"
            f" {room_bytes / 2**20:.3g} MiB are needed; make room, or name another directory"
        )
    for name in files:
        if (path / name).is_dir():
            raise ConfigError(
                f"{path / name}: is a directory, and a file of that name is to be made"
            )


def check_file(path: Path | None) -> None:
    """Refuse a file that cannot be written; None is fine.

    Raises:
        ConfigError: names the place, and says why.

    """
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: cannot be written: there is no directory {path.parent}")
    if path is not None:
        check_directory(path.parent, (path.name,))
