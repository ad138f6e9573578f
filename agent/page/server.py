"""Serves the page: at the socket that systemd passes, or at one of its own.

Started by a socket unit, it costs nothing while nobody looks: the first viewer starts it, and it
ends some time after the last one has gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from agent.page.limits import HEADER_BYTES_MAX, BoundedProtocol
from agent.page.settings import Certificate
from models.errors import ConfigError, FieldwatchError

_FIRST_PASSED: Final = 3  # as SD_LISTEN_FDS_START of sd_listen_fds(3)
_LOOK_S: Final = 1.0
_BACKLOG: Final = 128


class NoAddress(FieldwatchError):
    """The page cannot listen at its address."""

    exit_code = 69  # as EX_UNAVAILABLE of sysexits.h


def passed_sockets() -> list[socket.socket]:
    """Return the sockets that the service manager passed to this process; see sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=number) for number in range(_FIRST_PASSED, _FIRST_PASSED + count)]


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        NoAddress: another program listens there, or the host has no such address.

    """
    try:
        return socket.create_server(
            (host, port), family=_family(host), backlog=_BACKLOG, reuse_port=False
        )
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoAddress(
            f"the page cannot listen at {host}:{port}: {why}. Check page.listen in the"
            " configuration"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _nothing() -> None:
    """Do nothing, where nothing needs to be told that the server ends."""


class Server(uvicorn.Server):
    """A server that ends when it has been idle for long enough.

    Args:
        config: Of uvicorn.
        idle_exit_s: Seconds without any connection after which it ends; None: it never does.
        in_use: Whether it must not end, as somebody is logged in: sessions end with it.
        stopping: Called when it begins to end.

    """

    def __init__(
        self,
        config: uvicorn.Config,
        idle_exit_s: float | None,
        in_use: Callable[[], bool] = lambda: False,
        stopping: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        super().__init__(config)
        self._idle_exit_s, self._in_use, self._stopping = idle_exit_s, in_use, stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, which would never end by themselves; then the rest."""
        await self._stopping()
        await super().shutdown(sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal, or until it has been idle for long enough."""
        watching = asyncio.create_task(self._end_when_idle())
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()

    async def _end_when_idle(self) -> None:
        idle_s = 0.0
        while self._idle_exit_s is not None and idle_s < self._idle_exit_s:
            await asyncio.sleep(_LOOK_S)
            busy = self.server_state.connections or self._in_use()
            idle_s = 0.0 if busy else idle_s + _LOOK_S
        if self._idle_exit_s is not None:
            self.should_exit = True


def serve(
    app: ASGIApp,
    sockets: list[socket.socket],
    idle_exit_s: float | None,
    in_use: Callable[[], bool] = lambda: False,
    stopping: Callable[[], Awaitable[None]] = _nothing,
    certificate: Certificate | None = None,
) -> None:
    """Serve the page until it is stopped; ``certificate``: by TLS. The rest is of ``Server``.

    Raises:
        ConfigError: the certificate or its key cannot be used.

    """
    config = uvicorn.Config(
        app,
        log_config=None,  # its messages go where ours go
        log_level="error",  # not a line for each request that is no HTTP
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        http=BoundedProtocol,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        ssl_certfile=certificate and certificate.file,
        ssl_keyfile=certificate and certificate.key_file,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(filter(None, certificate or ()))
        raise ConfigError(f"the page's certificate cannot be used: {files}: {error}") from error
    asyncio.run(Server(config, idle_exit_s, in_use, stopping).serve(sockets))
