"""The Unix socket that commands come through: made at a start, removed at a clean stop."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections import Counter
from pathlib import Path
from typing import Any, Final

from agent.control.clients import CAUSES, CLIENTS_MAX, Clients, Put
from agent.control.protocol import Code

_LOG = logging.getLogger(__name__)

MODE: Final = 0o660  # who may connect may send every command
PATH_BYTES_MAX: Final = 107  # unix(7)


class Door:
    """The socket, from ``open`` to ``close``; the loop's thread uses it.

    An agent whose socket cannot be made works on: it watches machines, commands or not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._error: str | None = None  # why nobody can connect
        self._listening: tuple[socket.socket, os.stat_result, Clients] | None = None

    def open(self, put: Put) -> None:
        """Listen; where that is not possible, say so in the log and in ``document``."""
        try:
            listener, file = _listen(self._path)
        except OSError as error:
            self._error = f"{self._path}: {error.strerror or error}"
            _LOG.error("nobody can send commands to this agent: %s", self._error)
            return
        clients = Clients(listener, put)
        self._listening = listener, file, clients
        clients.start()

    def close(self) -> None:
        """Let nobody in any more, give what answers there are, and remove the socket."""
        if self._listening is not None:
            listener, file, clients = self._listening
            _remove(self._path, file)
            clients.stop()
            listener.close()
            self._listening = None

    def document(self) -> dict[str, Any]:
        """Say how it is doing, for ``status``; counts since the start."""
        clients = None if self._listening is None else self._listening[2]
        return {
            "socket": str(self._path),
            "error": self._error,
            "clients": 0 if clients is None else len(clients),
            "clients_dropped": dict.fromkeys(CAUSES, 0)
            if clients is None
            else clients.dropped.copy(),
        }

    def refused(self) -> Counter[Code]:
        """Return how many requests were no command, by code."""
        return Counter() if self._listening is None else self._listening[2].refused.copy()


def _listen(path: Path) -> tuple[socket.socket, os.stat_result]:
    """Return the listening socket, and the file that it is.

    Raises:
        OSError: another agent listens there, or there cannot be a socket.

    """
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise OSError(
            errno.ENAMETOOLONG,
            f"the path has {size} bytes, a socket's at most {PATH_BYTES_MAX}; set control.socket",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        _clear(path)
        listener.bind(str(path))
        path.chmod(MODE)
        listener.listen(CLIENTS_MAX)
        return listener, path.lstat()
    except OSError:
        listener.close()
        raise


def _clear(path: Path) -> None:
    """Remove the socket of an agent that was killed.

    Raises:
        OSError: another agent listens there, or it is no socket.

    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:  # nobody accepts now, but somebody listens
            raise OSError(errno.EADDRINUSE, "another agent listens there") from None
        else:
            raise OSError(errno.EADDRINUSE, "another agent listens there")


def _remove(path: Path, file: os.stat_result) -> None:
    """Remove our socket; not one that took its place."""
    with contextlib.suppress(OSError):  # removed already, or with its directory
        if os.path.samestat(path.lstat(), file):
            path.unlink()
