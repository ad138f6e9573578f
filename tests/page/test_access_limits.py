"""Clients that are too slow, at a server with less patience; the page's own takes minutes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from agent.page.limits import BoundedProtocol
from tests.conftest import WAIT_S_MAX, wait_until
from tests.page_rig import read_all

ANSWER_BYTES = 2**26  # more than the kernel keeps for a client that does not read
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Impatient(BoundedProtocol):
    request_s_max = 0.2
    answer_s_max = 0.2


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(ANSWER_BYTES)})


class Served:
    """A server in a thread."""

    def __init__(self, protocol: type[BoundedProtocol]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=protocol, log_config=None, lifespan="off")
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve([self.listener]))
        )
        self._thread.start()
        wait_until(lambda: self.server.started, "the server")

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), WAIT_S_MAX)

    def clients(self) -> int:
        return len(self.server.server_state.connections)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.stop()


@pytest.mark.parametrize("served", [Impatient], indirect=True)
def test_who_reads_the_answer_too_slowly_is_dropped_with_all_that_waits(served: Served) -> None:
    """One who reads nothing at all is dropped by the kernel, after a minute."""
    with served.connect() as connection:
        connection.sendall(ASK)
        wait_until(lambda: served.clients() == 1, "the client")
        read = 0

        def is_dropped() -> bool:
            nonlocal read
            read += len(connection.recv(4096)) if served.clients() else 0
            return served.clients() == 0

        wait_until(is_dropped, "the server to hang up")
        assert read + len(read_all(connection)) < ANSWER_BYTES


@pytest.mark.parametrize("served", [Impatient], indirect=True)
@pytest.mark.parametrize("begun", [b"", ASK[:-2], ASK[:10]])
def test_who_does_not_ask_is_dropped(served: Served, begun: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(begun)
        assert read_all(connection) == b""


@pytest.mark.parametrize("served", [BoundedProtocol], indirect=True)
def test_who_reads_gets_all(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(ASK)
        assert len(read_all(connection)) > ANSWER_BYTES
    wait_until(lambda: served.clients() == 0, "the end")
