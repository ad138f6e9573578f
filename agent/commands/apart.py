"""Tests whether the broker isolates this gateway from another user, by the messages that arrive.

The broker's answers prove little: some brokers grant a subscription to foreign topics and then
deliver nothing. So the other user subscribes while this gateway publishes, and publishes while this
gateway is subscribed. These messages cannot be mistaken for a gateway's: their type is
``fieldwatch.check.v1``, their stream ``_check``, and none is retained.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty
from typing import Final

from agent.commands.finding import Finding
from agent.config.broker import BrokerTable
from agent.config.kinds import CHECK_BEGINS, CHECK_STREAM
from agent.mqtt.connection import (
    CONNECT_TIMEOUT_S,
    Acknowledged,
    Connection,
    ConnectionEvent,
    LinkError,
    Lost,
    Received,
    Subscribed,
)
from agent.mqtt.version import connected

_GRACE_S: Final = 1.0  # a clustered broker may deliver after its answer to a later request
_WHAT: Final = "access list"
NOT_ASKED: Final = Finding(
    True,
    _WHAT,
    "unknown whether the broker prevents other users from receiving this gateway's messages and"
    " from publishing on its topics; to test it, give a second user with --as-other and"
    " --other-password-file",
    mark="unknown",
)


class _Client:
    """One user at the broker."""

    def __init__(self, connection: Connection, who: str = "") -> None:
        """Set up; ``who`` is the prefix of errors on a broken connection."""
        self._connection = connection
        self._who = who
        self.heard: list[Received] = []

    def subscribe(self, *topics: str) -> bool:
        """Return whether the broker grants this; process all earlier messages."""
        packet = self._connection.subscribe(topics)
        answer = self._until(lambda event: isinstance(event, Subscribed) and event.packet == packet)
        assert isinstance(answer, Subscribed)
        return answer.refusal is None

    def publish(self, topic: str, body: bytes) -> bool:
        """Return whether the broker accepts the message, as far as it reports this."""
        packet = self._connection.publish(topic, body)
        answer = self._until(
            lambda event: isinstance(event, Acknowledged) and event.packet == packet
        )
        assert isinstance(answer, Acknowledged)
        return not answer.failed

    def listen(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Receive messages for this time, or until ``done``."""
        deadline = time.monotonic() + seconds
        while not done() and (wait_s := deadline - time.monotonic()) > 0:
            try:
                self._take(self._connection.events.get(timeout=wait_s))
            except Empty:
                return

    def _until(self, is_answer: Callable[[ConnectionEvent], bool]) -> ConnectionEvent:
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            try:
                event = self._connection.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty as error:
                raise LinkError(f"{self._who}the broker does not answer") from error
            self._take(event)
            if is_answer(event):
                return event

    def _take(self, event: ConnectionEvent) -> None:
        if isinstance(event, Lost):
            raise LinkError(f"{self._who}{event.reason}")
        if isinstance(event, Received):
            self.heard.append(event)


class Apart:
    """The test of one gateway's topics with one other user."""

    def __init__(self, topics: str, ours: BrokerTable, other: BrokerTable, client_id: str) -> None:
        """Set up; ``topics`` is the prefix of the gateway's topics."""
        self._alarm = f"{topics}/alarm/{CHECK_STREAM}"
        self._status, self._acknowledged = f"{topics}/status", f"{topics}/acknowledged"
        self._all = f"{topics}/#"
        self._ours, self._other = ours, other
        self._client_id = client_id
        self._mark = secrets.token_hex(8)

    def finding(self) -> Finding:
        """Run the test."""
        user = self._other.username or "the other certificate"
        try:
            with self._as_gateway() as gateway:
                heard, taken = self._overhear(gateway)
                said, listened = self._impersonate(gateway)
        except LinkError as error:
            detail = (
                f"unknown, the test did not finish: {error}. If the agent of this gateway runs,"
                " stop it meanwhile: the broker may allow only one connection per user"
            )
            return Finding(True, _WHAT, detail, mark="unknown")
        faults = [f"{user} receives this gateway's messages on {', '.join(heard)}"] if heard else []
        if said:
            faults.append(f"{user} can publish on its topics; it received {', '.join(said)}")
        if faults:
            return Finding(False, _WHAT, "; ".join(faults), 69)
        if not taken or not listened:
            which = "does not accept its messages" if not taken else "does not send it its status"
            detail = f"unknown: nothing arrived at {user} or from it, but the broker {which}"
            return Finding(True, _WHAT, detail, mark="unknown")
        return Finding(True, _WHAT, f"{user} can neither receive nor publish on its topics")

    def _overhear(self, gateway: _Client) -> tuple[list[str], bool]:
        """Let the other user listen; return the topics received, and whether we could publish."""
        with self._as_other() as other:
            other.subscribe(self._all)
            taken = gateway.publish(self._alarm, self._body("gateway"))
            taken = gateway.publish(self._status, self._body("gateway")) and taken
            other.listen(_GRACE_S)
            return sorted({received.topic for received in other.heard}), taken

    def _impersonate(self, gateway: _Client) -> tuple[list[str], bool]:
        """Let it publish; return the topics received here, and whether any message arrives here."""
        gateway.subscribe(self._status)
        gateway.subscribe(self._acknowledged)
        forged, own = self._body("other"), self._body("end")
        for topic in (self._status, self._acknowledged):
            self._forge(topic, forged)
        gateway.publish(self._status, own)
        gateway.listen(_GRACE_S, lambda: any(each.body == own for each in gateway.heard))
        said = {received.topic for received in gateway.heard if received.body == forged}
        return sorted(said), any(received.body == own for received in gateway.heard)

    def _forge(self, topic: str, body: bytes) -> None:
        with self._as_other() as other:
            try:
                other.publish(topic, body)
            except LinkError:  # some brokers end the connection if this is not allowed
                return

    @contextmanager
    def _as_gateway(self) -> Iterator[_Client]:
        with connected(self._ours, self._client_id) as (connection, _):
            yield _Client(connection)

    @contextmanager
    def _as_other(self) -> Iterator[_Client]:
        who = "the other user: "
        with ExitStack() as until_the_end:
            try:
                connection, _ = until_the_end.enter_context(
                    connected(self._other, f"{self._client_id}-other")
                )
            except LinkError as error:
                raise LinkError(f"{who}{error}") from error
            yield _Client(connection, who)

    def _body(self, who: str) -> bytes:
        return CHECK_BEGINS + f'"id": "{self._mark}/{who}"}}'.encode()
