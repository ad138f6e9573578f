"""Which version of MQTT to speak: 5, or 3.1.1 where the broker does not know 5.

A broker that does not know a version says so, or only hangs up, or says nothing at all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Literal

from agent.config.broker import BrokerTable
from agent.mqtt.connection import (
    UNSUPPORTED_PROTOCOL,
    Connected,
    Connection,
    LinkError,
    Protocol,
)

_OTHER: dict[Protocol, Protocol] = {"5": "3.1.1", "3.1.1": "5"}


class Version:
    """The version for the next connection to one broker, over all connections to it."""

    def __init__(self, wanted: Literal["auto", "5", "3.1.1"]) -> None:
        self._auto = wanted == "auto"
        self.now: Protocol = "5" if wanted == "auto" else wanted

    def answer(self, connection: Connection, stopping: threading.Event) -> Connected | None:
        """Wait for the broker's answer to a connection of the version ``now``.

        None where it wants the older version: that is no failure, and the next connection has it.

        Raises:
            LinkError: it refuses, says nothing, or ``stopping`` is set. Where it may have been
                for the version, the next connection has the other one.

        """
        try:
            answer = connection.answer(stopping)
        except LinkError:
            self._change()
            raise
        if isinstance(answer, Connected):
            return answer
        if answer.code != UNSUPPORTED_PROTOCOL:
            raise LinkError(f"the broker refuses: {answer.reason}")
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
    """Connect once as the agent would, and say goodbye at the end; yield also the version.

    Raises:
        LinkError: the broker cannot be reached, or refuses, with either version.

    """
    version = Version(settings.protocol)
    if (found := _tried(settings, client_id, will_topic, version)) is None:
        found = _tried(settings, client_id, will_topic, version)
    assert found is not None  # of the older version nothing is older
    try:
        yield found
    finally:
        found[0].close(politely=True)


def _tried(
    settings: BrokerTable, client_id: str, will_topic: str | None, version: Version
) -> tuple[Connection, Protocol] | None:
    """Connect by the version ``now``; None where that of the next try is the older one."""
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
    """Connect as the agent would; return the version of MQTT that the broker takes.

    Raises:
        LinkError: it cannot be reached, or refuses.

    """
    with connected(settings, client_id, f"fieldwatch/check/{client_id}") as (_, protocol):
        return protocol
