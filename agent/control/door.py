"""The Unix socket for commands: created at the start, removed at a clean stop."""

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

MODE: Final = 0o660  # whoever may connect may send every command
PATH_BYTES_MAX: Final = 107  # unix(7)


class Door:
    """The socket, from ``open`` to ``close``; the loop's thread uses it.

    An agent whose socket cannot be created continues without commands: it still watches machines.
    ``page_user`` is the user of the web page.
    """

    def __init__(self, path: Path, page_user: str) -> None:
        self._path, self._page_user = path, page_user
        self._error: str | None = None  # the reason why no client can connect
        self._listening: tuple[socket.socket, os.stat_result, Clients] | None = None

    def open(self, put: Put) -> None:
        """Listen on the socket; report a failure in the log and in ``document``."""
        try:
            listener, file = _listen(self._path)
        except OSError as error:
            self._error = f"{self._path}: {error.strerror or error}"
            _LOG.error("cannot take commands: %s", self._error)
            return
        clients = Clients(listener, put, self._page_user)
        self._listening = listener, file, clients
        clients.start()

    def close(self) -> None:
        """Accept no more clients, send the answers that are ready, and remove the socket."""
        if self._listening is not None:
            listener, file, clients = self._listening
            _remove(self._path, file)
            clients.stop()
            listener.close()
            self._listening = None

    def document(self) -> dict[str, Any]:
        """Return the door's state for ``status``, with counts since the start."""
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
        """Return the number of requests that were not a command, by code."""
        return Counter() if self._listening is None else self._listening[2].refused.copy()


def _listen(path: Path) -> tuple[socket.socket, os.stat_result]:
    """Return the listening socket, and the status of its file.

    Raises:
        OSError: another agent listens there, or a socket cannot be created there.

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
        OSError: another agent listens there, or the file is not a socket.

    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file that is not a socket is in its place; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:  # its queue is full, but an agent listens
            raise OSError(errno.EADDRINUSE, "another agent listens there") from None
        else:
            raise OSError(errno.EADDRINUSE, "another agent listens there")


def _remove(path: Path, file: os.stat_result) -> None:
    """Remove the agent's own socket, but not another one in its place."""
    with contextlib.suppress(OSError):  # the socket or its directory no longer exists
        if os.path.samestat(path.lstat(), file):
            path.unlink()
