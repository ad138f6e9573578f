"""The side of central ops: signs a command, sends it, and waits for the answer of the gateway."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from queue import Empty
from typing import Any, Final, NamedTuple

from agent.config.broker import BrokerTable
from agent.dialects.topics import answer_topic, command_topic
from agent.mqtt.connection import Acknowledged, Connection, LinkError, Lost, Received, Subscribed
from agent.mqtt.version import Version
from agent.remote.message import CONTEXT, Order
from models.errors import FieldwatchError
from models.keys import SecretKey
from models.signed import signed

_PARTS_MAX: Final = 10_000
_ANSWER_BYTES_MAX: Final = 2**20
_TRY_AGAIN: Final = frozenset({"stale", "busy", "crowded", "clock"})


class Unanswered(FieldwatchError):
    """The gateway did not answer in time."""

    exit_code = 69


class NotDone(FieldwatchError):
    """The gateway refused the command; ``code`` is the reason for programs."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.exit_code = 75 if code in _TRY_AGAIN else 77 if code == "not_allowed" else 1


class Gateway(NamedTuple):
    """The gateway that is asked."""

    site: str
    name: str


def order_for(
    gateway: Gateway, key: SecretKey, command: str, arguments: Mapping[str, Any], valid_s: float
) -> Order:
    """Return a new command that expires in ``valid_s`` seconds."""
    issuer = key.name or key.key_id.hex()
    expires = round(time.time() + valid_s, 3)
    return Order(secrets.token_hex(16), *gateway, issuer, expires, command, arguments)


def body_of(order: Order, key: SecretKey) -> bytes:
    """Return the signed message of a command."""
    return signed(order.body(), command_topic(order.site, order.gateway), CONTEXT, key)


def ask(broker: BrokerTable, order: Order, key: SecretKey, timeout_s: float) -> list[Any]:
    """Send a command; return the results of all parts of the answer, in order.

    Raises:
        LinkError: the broker cannot be reached, or refuses.
        Unanswered: no answer came in time. The gateway may still execute the command until it
            expires.
        NotDone: the gateway refused it.

    """
    version = Version(broker.protocol)
    for _ in range(2):  # the second with the older version of MQTT
        name, protocol = f"fieldwatch-ask-{order.id}", version.now
        connection = Connection(broker, name, version.now, received_bytes_max=_ANSWER_BYTES_MAX)
        try:
            connection.open()
            if version.answer(connection, threading.Event()) is None:
                continue
            return _Asking(connection, order, timeout_s).run(body_of(order, key))
        except LinkError:
            if version.now == protocol:
                raise
        finally:
            connection.close(politely=True)
    raise LinkError("the broker refuses both versions of MQTT")


class _Asking:
    """One command on an open connection."""

    def __init__(self, connection: Connection, order: Order, timeout_s: float) -> None:
        self._connection, self._order = connection, order
        self._end_s = time.monotonic() + timeout_s
        self._parts: dict[int, Any] = {}

    def run(self, body: bytes) -> list[Any]:
        self._connection.subscribe([answer_topic(self._order.site, self._order.gateway)])
        while True:
            match self._next():
                case Subscribed(str(refusal)):
                    raise LinkError(f"the broker refuses the subscription: {refusal}")
                case Subscribed(None):
                    left_s = max(1.0, self._order.expires - time.time())
                    topic = command_topic(self._order.site, self._order.gateway)
                    self._connection.publish(topic, body, expiry_s=left_s)
                case Acknowledged(failed=True, reason=reason):
                    raise LinkError(f"the broker does not pass the command on: {reason}")
                case Lost(reason):
                    raise LinkError(reason)
                case Received() as received if self._is_whole(received):
                    return [self._parts[part] for part in sorted(self._parts)]

    def _next(self) -> Any:
        try:
            return self._connection.events.get(max(0.0, self._end_s - time.monotonic()))
        except Empty:
            left_s = max(0.0, self._order.expires - time.time())
            raise Unanswered(
                f"{self._order.site}/{self._order.gateway} has not answered. It may still execute"
                f" the command within the next {left_s:.0f} s; look at the logbook"
            ) from None

    def _is_whole(self, received: Received) -> bool:
        """Keep a part of the answer; return whether it was the last one that was missing."""
        try:
            document = json.loads(received.body)
        except (ValueError, RecursionError):
            return False  # of another sender
        match document:
            case {"id": str(named)} if named != self._order.id:
                return False
            case {"id": str(), "ok": False, "error": {"code": str(code), "message": text}}:
                raise NotDone(code, str(text))
            case {"id": str(), "ok": True, "part": int(part), "parts": int(parts)} if (
                1 <= part <= parts <= _PARTS_MAX
            ):
                self._parts[part] = document.get("result")
                return len(self._parts) == parts
        return False
