"""The clients of the control socket, and the thread that serves them.

The loop gets their commands from the inbox and passes each answer to ``_answered``, which only
enqueues it. The agent works on one request per client at a time. The kernel keeps what the client
sends meanwhile, so a client takes the memory of one line and one answer.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from agent.control.inbox import Answer, Asker, Command
from agent.control.protocol import (
    REQUEST_BYTES_MAX,
    Code,
    Person,
    Refused,
    done_line,
    parse_request,
    refused_line,
)
from agent.wording.message import Message

CLIENTS_MAX: Final = 16
REQUEST_S_MAX: Final = 30.0  # for a client to send a whole line
ANSWER_S_MAX: Final = 10.0  # for a client to read an answer
CAUSES: Final = ("too_many", "slow", "gone")  # why a client was dropped
_STOP_S_MAX = 1.0  # for clients to read their answers while the agent stops
_LOOK_S = 1.0  # between two checks for clients that are too slow
_READ_BYTES = 4096
_PEER = struct.Struct("3i")  # pid, uid, gid

Put = Callable[[Command], None]


class _Client:
    """One connection. By ``deadline`` (monotonic) it must have sent a line, or read an answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.asker = _peer(connection)
        self.received = bytearray()
        self.to_send = memoryview(b"")
        self.in_work = False  # whether it waits for the answer to its command
        self.ended = False  # whether it sends no more data; it may still read
        self.deadline = time.monotonic() + REQUEST_S_MAX


class Clients:
    """Serves the clients that connect to ``listener``, from ``start`` to ``stop``.

    ``page_user`` is the user of the web page: it alone may ask for the people who log in there.
    """

    def __init__(self, listener: socket.socket, put: Put, page_user: str) -> None:
        self._listener, self._put, self._page_user = listener, put, page_user
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._wakes = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._clients: set[_Client] = set()
        self._answers: deque[tuple[_Client, bytes]] = deque()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self.refused: Counter[Code] = Counter()  # requests that contain no valid command
        self.dropped = dict.fromkeys(CAUSES, 0)

    def start(self) -> None:
        """Start the thread."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more clients, send the answers that are ready, and end the thread."""
        self._stopping = True
        self._wake()
        self._thread.join()
        self._selector.close()
        os.close(self._wakes)

    def __len__(self) -> int:
        """Return the number of connected clients."""
        return len(self._clients)

    # ---- the thread

    def _run(self) -> None:
        while not self._stopping:
            self._turn(_LOOK_S if self._clients else None)
        self._selector.unregister(self._listener)
        until = time.monotonic() + _STOP_S_MAX
        self._drop_idle_clients()
        while self._clients and time.monotonic() < until:
            self._turn(_LOOK_S / 10)
            self._drop_idle_clients()
        for client in tuple(self._clients):
            self._drop(client, "slow")

    def _turn(self, wait_s: float | None) -> None:
        for key, _ in self._selector.select(wait_s):
            self._ready(key)
        while self._answers:
            self._send(*self._answers.popleft())
        now = time.monotonic()
        for client in tuple(self._clients):
            if not client.in_work and now > client.deadline:
                self._drop(client, "slow")

    def _drop_idle_clients(self) -> None:
        for client in tuple(self._clients):
            if not client.in_work and not client.to_send:
                self._drop(client)

    def _ready(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._listener:
            self._accept()
        elif key.fileobj == self._wakes:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wakes)
        elif key.data.to_send:
            self._go_on_sending(key.data)
        else:
            self._receive(key.data)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # the client is gone, or no descriptors are left
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                self.dropped["too_many"] += 1
                time.sleep(_LOOK_S)  # the waiting client would wake this thread again at once
            return
        connection.setblocking(False)
        if len(self._clients) >= CLIENTS_MAX:
            self.dropped["too_many"] += 1
            told = Refused.of("busy", Message("refused.clients", {"count": str(CLIENTS_MAX)}))
            with connection, contextlib.suppress(OSError):
                connection.send(refused_line(told))
            return
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client, "gone")
            return
        client.ended = not data
        client.received += data
        self._next_request(client)

    def _next_request(self, client: _Client) -> None:
        """Put the next line into the inbox, if it is complete or the client has ended."""
        line, end, rest = client.received.partition(b"\n")
        if len(line) > REQUEST_BYTES_MAX:
            client.ended, client.received = True, bytearray()
            told = f"a request has at most {REQUEST_BYTES_MAX} bytes"
            self._refuse(client, Refused("too_large", told))
        elif end or (client.ended and line):
            client.received = rest
            self._take(client, bytes(line))
        elif client.ended:
            self._drop(client)

    def _take(self, client: _Client, line: bytes) -> None:
        try:
            command, arguments, person = parse_request(line)
            asker = client.asker if person is None else self._behalf(client.asker, person)
        except Refused as refusal:
            self._refuse(client, refusal)
            return
        client.in_work = True
        self._selector.unregister(client.connection)
        self._put(Command(command, arguments, asker, partial(self._answered, client)))

    def _behalf(self, asker: Asker, person: Person) -> Asker:
        """Return the asker of a request for a person, if it comes from the web page."""
        if asker.name != self._page_user:
            names = {"user": self._page_user, "name": asker.name}
            raise Refused.of("not_allowed", Message("refused.page_user", names))
        return asker._replace(person=person)

    def _refuse(self, client: _Client, refusal: Refused) -> None:
        self.refused[refusal.code] += 1
        client.in_work = True
        self._selector.unregister(client.connection)
        self._answers.append((client, refused_line(refusal)))

    def _send(self, client: _Client, line: bytes) -> None:
        client.in_work = False
        client.to_send = memoryview(line)
        client.deadline = time.monotonic() + ANSWER_S_MAX
        self._selector.register(client.connection, selectors.EVENT_WRITE, client)
        self._go_on_sending(client)

    def _go_on_sending(self, client: _Client) -> None:
        try:
            client.to_send = client.to_send[client.connection.send(client.to_send) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(client, "gone")
            return
        if not client.to_send:
            client.deadline = time.monotonic() + REQUEST_S_MAX
            self._selector.modify(client.connection, selectors.EVENT_READ, client)
            self._next_request(client)

    def _drop(self, client: _Client, why: str | None = None) -> None:
        if why is not None:
            self.dropped[why] += 1
        self._clients.discard(client)
        with contextlib.suppress(KeyError):  # not registered during its command
            self._selector.unregister(client.connection)
        client.connection.close()

    # ---- any thread

    def _answered(self, client: _Client, answer: Answer) -> None:
        line = refused_line(answer) if isinstance(answer, Refused) else done_line(answer)
        self._answers.append((client, line))
        self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._wakes, 1)


def _peer(connection: socket.socket) -> Asker:
    """Return the user at the other end, as reported by the kernel."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, gid = _PEER.unpack(told)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return Asker("socket", f"uid {uid}", uid)
    return Asker("socket", name, uid, frozenset(_groups(name, gid)))


def _groups(user: str, gid: int) -> Iterator[str]:
    """Yield the groups of a user, as the system knows them now."""
    for group in os.getgrouplist(user, gid):
        with contextlib.suppress(KeyError):  # a group without a name
            yield grp.getgrgid(group).gr_name
