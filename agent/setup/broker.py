"""Tries a broker as the agent would use it, and names what is wrong."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from queue import Empty
from typing import Final, Literal, NamedTuple

from agent.config.broker import BrokerTable
from agent.config.kinds import CHECK_BEGINS, CHECK_STREAM
from agent.dialects.topics import ROOT
from agent.mqtt.connection import CONNECT_TIMEOUT_S, Acknowledged, Connection, LinkError, Lost
from agent.mqtt.version import Refusal, connected

Cause = Literal[
    "dns", "refused", "unreachable", "tls", "password", "file", "not-authorised", "no-answer"
]
_BAD_USER: Final = (4, 5, 0x86, 0x87)  # of MQTT 3.1.1 and of 5; mosquitto names no cause
_ADVICE: Final[dict[Cause, str]] = {
    "dns": "is the name right, and does this machine reach a name server?",
    "refused": "nothing listens there: is the port right, and does the broker run?",
    "unreachable": "is the address right, and does a firewall or a route stop it?",
    "tls": "does the CA file belong to this broker, is host the name in its certificate, is the"
    " clock right, and does this port have TLS?",
    "password": "is the user right, and is it this user's password or certificate?",
    "file": "can this file be read, and is it what its setting says?",
    "not-authorised": "the broker accepts this user, but does not let it publish. With the shipped"
    " access list the user must be SITE/NAME",
    "no-answer": "is it an MQTT broker, and does it expect TLS on this port?",
}


class Trouble(NamedTuple):
    """Why a broker cannot be used."""

    cause: Cause
    detail: str

    def told(self) -> str:
        """Return it for people, with what to look at."""
        return f"{self.cause}: {self.detail}; {_ADVICE[self.cause]}"


def try_broker(settings: BrokerTable, site: str, name: str) -> Trouble | None:
    """Connect, and publish a message of no meaning on a topic of this gateway; None if it works.

    MQTT 3.1.1 cannot report that a message is denied.
    """
    client_id = f"fieldwatch-check:{site}:{name}"
    try:
        with connected(settings, client_id, f"fieldwatch/check/{client_id}") as (connection, _):
            return _denied(connection, f"{ROOT}/{site}/{name}/alarm/{CHECK_STREAM}")
    except LinkError as error:
        return Trouble(_cause(error), error.without(settings))


def _denied(connection: Connection, topic: str) -> Trouble | None:
    packet = connection.publish(topic, CHECK_BEGINS + b'"id": "setup"}')
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            event = connection.events.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return Trouble("no-answer", "the broker does not acknowledge a message")
        if isinstance(event, Lost):  # as mosquitto 2.0.11 does
            return Trouble("not-authorised", f"{event.reason}, after a message on {topic}")
        if isinstance(event, Acknowledged) and event.packet == packet:
            refused = Trouble("not-authorised", f"{event.reason}: {topic}")
            return refused if event.failed else None


def _cause(error: LinkError) -> Cause:
    if isinstance(error, Refusal):
        return "password" if error.code in _BAD_USER else "no-answer"
    match error.__cause__:
        case socket.gaierror():
            return "dns"
        case ConnectionRefusedError():
            return "refused"
        case ssl.SSLError():  # some are a ValueError, too
            return "tls"
        case OSError(filename=str() | Path()) | ValueError():
            return "file"
        case OSError():
            return "unreachable"
    return "no-answer"
