"""Checks that results can be written, before the long work that produces them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from models.errors import ConfigError

ROOM_BYTES = 16 * 2**20  # a bundle of usual size, its report and its metrics, several times over


def check_directory(path: Path, files: tuple[str, ...] = (), room_bytes: int = ROOM_BYTES) -> None:
    """Refuse a directory that cannot be created or written to, or whose disk is full.

    This creates nothing.

    Args:
        path: of the directory, which need not exist.
        files: names of the files to write; none may be a directory.
        room_bytes: the bytes that must be free on its disk.

    Raises:
        ConfigError: the text has the path and the reason.

    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ConfigError(f"{path}: cannot be a directory: {there} is a file; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path}: cannot be written: you have no permission for {there}; allow it, or name"
            " another directory"
        )
    if (free := shutil.disk_usage(there).free) < room_bytes:
        raise ConfigError(
            f"{path}: the disk has too little space: {free / 2**20:.3g} MiB are free, but"
            f" {room_bytes / 2**20:.3g} MiB are needed; free some, or name another directory"
        )
    for name in files:
        if (path / name).is_dir():
            raise ConfigError(
                f"{path / name}: is a directory, but a file of that name must be written"
            )


def check_file(path: Path | None) -> None:
    """Refuse a file that cannot be written; None is allowed.

    Raises:
        ConfigError: the text has the path and the reason.

    """
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: cannot be written: there is no directory {path.parent}")
    if path is not None:
        check_directory(path.parent, (path.name,))
