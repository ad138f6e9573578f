"""Limits of what a client may take: connections, time for a request, time for an answer, bytes.

uvicorn limits neither the time of a request that never completes nor that of an answer that nobody
reads: ``BoundedProtocol`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import Any, ClassVar, Final

import h11
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX: Final = 300  # a viewer has one for events, and some for moments
CONNECTIONS_OF_ADDRESS_MAX: Final = 100  # if it is another machine
HEADER_BYTES_MAX: Final = 16 * 1024  # of all headers of a request, with its first line
BODY_BYTES_MAX: Final = 64 * 1024
REQUEST_S_MAX: Final = 20.0  # from its first byte to its last
ANSWER_S_MAX: Final = 120.0  # until all is sent that waits to be sent
_LOOK_S: Final = 1.0
_GONE_MS: Final = 60_000  # a client that acknowledges nothing for this long is gone; see tcp(7)


class TooLarge(Exception):
    """The body of a request has too many bytes."""


class Gone(Exception):
    """The client has hung up before its request was complete."""


class BoundedProtocol(H11Protocol):
    """A connection that ends if its client is too slow; see ``uvicorn.Config(http=...)``."""

    request_s_max: ClassVar[float] = REQUEST_S_MAX
    answer_s_max: ClassVar[float] = ANSWER_S_MAX

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the client, or hang up if there are too many."""
        super().connection_made(transport)
        self._asks_since_s: float | None = self.loop.time()  # None: no request is incomplete
        self._sends_since_s: float | None = None  # None: nothing waits to be sent
        self._looking: asyncio.TimerHandle | None = None
        if self._is_one_too_many():
            transport.abort()
            return
        _end_if_gone(transport.get_extra_info("socket"))
        self._looking = self.loop.call_later(_LOOK_S, self._look)

    def data_received(self, data: bytes) -> None:
        """Note when a request begins, and when it is complete."""
        if self._asks_since_s is None:
            self._asks_since_s = self.loop.time()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._asks_since_s = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > CONNECTIONS_MAX:
            return True
        if self.client is None or _is_local(self.client[0]):
            return False
        clients = [one.client for one in self.connections if isinstance(one, H11Protocol)]
        same = sum(one is not None and one[0] == self.client[0] for one in clients)
        return same > CONNECTIONS_OF_ADDRESS_MAX

    def _look(self) -> None:
        now_s = self.loop.time()
        if self.transport.get_write_buffer_size() == 0:
            self._sends_since_s = None
        elif self._sends_since_s is None:
            self._sends_since_s = now_s
        asks_too_long = _over(self._asks_since_s, self.request_s_max, now_s)
        if asks_too_long or _over(self._sends_since_s, self.answer_s_max, now_s):
            self.transport.abort()  # to close it would wait until all is sent
            return
        self._looking = self.loop.call_later(_LOOK_S, self._look)


def _over(since_s: float | None, seconds_max: float, now_s: float) -> bool:
    return since_s is not None and now_s - since_s > seconds_max


def _is_local(address: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False


def _end_if_gone(connection: Any) -> None:
    """Let the kernel end a connection whose client has vanished, such as a phone."""
    with contextlib.suppress(OSError):  # no TCP
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_MS)


async def read_body(receive: Receive) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: it has more than ``BODY_BYTES_MAX``.
        Gone: the client has hung up.

    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge
        if not message.get("more_body", False):
            return bytes(body)


def given_back(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was read already, and then what follows."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
