"""The collectors that the uplink trusts: their keys, read for each connection.

When their directory changes, the uplink reconnects. So the agent accepts a new key, and rejects a
revoked one, within seconds and without a restart. While the directory or a file in it cannot be
read, the agent trusts no collector.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from models.errors import ConfigError
from models.keys import REVOKED, Keyring, ed25519, names, read_keyring

_LOG = logging.getLogger(__name__)

_Files = dict[str, tuple[int, int, int]]  # name -> time of change in ns, bytes, inode


class Trust:
    """The keys in a directory; the sender's thread uses it."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: _Files = {}
        self._told: list[str] = []
        self._problem: str | None = None
        self.keyring = _nobody(directory)

    def read(self) -> None:
        """Read the keys if they have changed."""
        if self._directory is None or not self.renewed():
            return
        self._files = files_of(self._directory)
        try:
            self.keyring, self._problem = _keyring(self._directory), None
        except ConfigError as error:
            self.keyring, self._problem = _nobody(self._directory), str(error)
            _LOG.error("the agent trusts no collector until you correct this: %s", error)
        collectors = self.keyring.of("collector")
        self._told = [key.key_id.hex() for key in collectors]
        _LOG.info("collectors' keys in %s: %s", self._directory, names(collectors) or "none")

    def renewed(self) -> bool:
        """Whether keys were added, removed, changed or revoked since they were read."""
        return self._directory is not None and files_of(self._directory) != self._files

    def document(self) -> dict[str, Any]:
        """Return the trusted collectors, for ``status``."""
        return {"keys": self._told, "problem": self._problem}


def _keyring(directory: Path) -> Keyring:
    keyring = read_keyring(directory)
    if keyring.keys:
        ed25519()
    return keyring


def _nobody(directory: Path | None) -> Keyring:
    return Keyring(directory or Path(), (), {})


def files_of(directory: Path) -> _Files:
    """Return a fingerprint that changes when somebody changes the keys; never empty."""
    found: _Files = {}
    for file in (directory, directory / REVOKED, *sorted(directory.glob("*.pub"))):
        try:
            stat = file.stat()
        except OSError:
            found[file.name] = (0, 0, 0)
        else:
            found[file.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
