"""Where the files of a gateway are: on this machine, or in the folder of an image."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.rescue.belongings import CREDENTIALS
from models.errors import FieldwatchError

_ENCRYPTED = Path("/etc/credstore.encrypted")
_DROP_IN = Path("/etc/systemd/system/fieldwatch-agent.service.d/encrypted-credentials.conf")
_RUNS = Path("/run/systemd/system")


class NotPermitted(FieldwatchError):
    """The user may not write a file of the gateway, or not start its service."""

    exit_code = 77  # as EX_NOPERM


class CannotWrite(FieldwatchError):
    """A file of the gateway cannot be written."""

    exit_code = 74  # as EX_IOERR


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn errors of files into ours.

    Raises:
        NotPermitted: this user may not write there, or nobody may.
        CannotWrite: the disk is full, or fails.

    """
    try:
        yield
    except OSError as error:
        told = f"{error.filename} cannot be written: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermitted(f"{told}. Run this as root (sudo)") from error
        if error.errno == errno.EROFS:
            raise NotPermitted(f"{told}. Mount it for writing") from error
        raise CannotWrite(told) from error


def make_directory(path: Path, mode: int) -> None:
    """Create a directory with this mode, whatever the umask is; parents are open to all."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, 0o755)
    path.mkdir()
    path.chmod(mode)


class Place(NamedTuple):
    """A gateway's file system."""

    config_file: Path  # as it is here, with the root
    root: Path | None = None  # of an image; None: this machine

    @classmethod
    def of(cls, config_file: Path, root: Path | None) -> Place:
        """Return the place of a gateway whose configuration is ``config_file`` within ``root``."""
        if root is None:
            return cls(config_file.absolute())
        return cls(root / config_file.relative_to(config_file.anchor), root)

    def inside(self, path: Path) -> Path:
        """Return where an absolute path of the gateway is here."""
        return path if self.root is None else self.root / path.relative_to(path.anchor)

    @property
    def plain(self) -> Path:
        """The directory of credentials that only root may read."""
        return self.inside(CREDENTIALS)

    @property
    def encrypted(self) -> Path:
        """The directory of encrypted credentials."""
        return self.inside(_ENCRYPTED)

    @property
    def drop_in(self) -> Path:
        """The file that tells the unit which credentials are encrypted."""
        return self.inside(_DROP_IN)

    @property
    def is_running_system(self) -> bool:
        """Whether systemd runs here, and it is this machine that is set up."""
        return self.root is None and _RUNS.is_dir() and shutil.which("systemctl") is not None
