"""Chooses the version of MQTT: 5, or 3.1.1 if the broker does not support 5.

A broker that does not support a version refuses it, closes the connection, or does not answer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final, Literal

from agent.config.broker import BrokerTable
from agent.mqtt.connection import (
    UNSUPPORTED_PROTOCOL,
    Connected,
    Connection,
    LinkError,
    Protocol,
)


class Refusal(LinkError):
    """The broker answers, and does not accept this client; ``code`` is MQTT's."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the broker refuses: {reason}")
        self.code = code


CREDENTIALS_WANTED: Final = frozenset({0x86, 0x87})  # bad user name or password; not authorized
_OTHER: dict[Protocol, Protocol] = {"5": "3.1.1", "3.1.1": "5"}


class Version:
    """The version for the next connection to one broker; it lasts over all connections to it."""

    def __init__(self, wanted: Literal["auto", "5", "3.1.1"]) -> None:
        self._auto = wanted == "auto"
        self.now: Protocol = "5" if wanted == "auto" else wanted

    def answer(self, connection: Connection, stopping: threading.Event) -> Connected | None:
        """Wait for the broker's answer to a connection with the version ``now``.

        None if the broker wants the older version. This is not a failure: the next connection uses
        that version.

        Raises:
            LinkError: the broker refuses or does not answer, or ``stopping`` is set. If the version
                may be the cause, the next connection uses the other one.

        """
        try:
            answer = connection.answer(stopping)
        except LinkError:
            self._change()
            raise
        if isinstance(answer, Connected):
            return answer
        if answer.code != UNSUPPORTED_PROTOCOL:
            raise Refusal(answer.code, answer.reason)
        self._change()
        if self._auto and self.now == "3.1.1":
            return None
        raise LinkError("the broker refuses: it does not speak this version of MQTT")

    def _change(self) -> None:
        if self._auto:
            self.now = _OTHER[self.now]


@contextlib.contextmanager
def connected(
    settings: BrokerTable, client_id: str, will_topic: str | None = None
) -> Iterator[tuple[Connection, Protocol]]:
    """Connect once as the agent would; yield the connection and its version; disconnect at the end.

    Raises:
        LinkError: with either version, the broker cannot be reached or refuses.

    """
    version = Version(settings.protocol)
    if (found := _tried(settings, client_id, will_topic, version)) is None:
        found = _tried(settings, client_id, will_topic, version)
    assert found is not None  # the second try used 3.1.1, and there is no older version
    try:
        yield found
    finally:
        found[0].close(politely=True)


def _tried(
    settings: BrokerTable, client_id: str, will_topic: str | None, version: Version
) -> tuple[Connection, Protocol] | None:
    """Connect with the version ``now``; None if the next try should use the older one."""
    protocol = version.now
    connection = Connection(settings, client_id, protocol)
    answer = None
    try:
        connection.open(will_topic)
        answer = version.answer(connection, threading.Event())
    except LinkError:
        if version.now == protocol or protocol == "3.1.1":
            raise
    finally:
        if answer is None:
            connection.close(politely=True)
    return None if answer is None else (connection, protocol)


def probe_broker(settings: BrokerTable, client_id: str) -> Protocol:
    """Connect as the agent would; return the version of MQTT that the broker accepts.

    Raises:
        LinkError: the broker cannot be reached, or refuses.

    """
    with connected(settings, client_id, f"fieldwatch/check/{client_id}") as (_, protocol):
        return protocol
