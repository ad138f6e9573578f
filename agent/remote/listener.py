"""The thread with the connection for commands: receives, asks the loop, answers, acknowledges.

The broker keeps commands in a session while the gateway is away. A command is acknowledged to the
broker once its answer is sent. So after a kill it arrives again, and gets the stored answer.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from agent.backoff import Backoff
from agent.config.broker import MqttTable
from agent.control.inbox import Answer, Asker, Command
from agent.control.protocol import Refused
from agent.dialects.topics import answer_topic, command_topic
from agent.mqtt.connection import (
    Connection,
    LinkError,
    Lost,
    NoTopic,
    Received,
    Subscribed,
    TooLarge,
    Woken,
)
from agent.mqtt.signer import Signer
from agent.mqtt.version import Version
from agent.remote import samples
from agent.remote.execution import VERB
from agent.remote.message import SAMPLES, Cause, Order, Rejected, answer, id_in, refused
from agent.remote.proof import Proof

_LOG = logging.getLogger(__name__)

_WAITING_MAX: Final = 100  # received and not processed
_STOP_S: Final = 3.0  # the unit gives the whole agent 15 s to stop
_LOOK_S: Final = 1.0  # between checks whether to stop, while nothing happens
_ANSWER_EXPIRY_S: Final = 3600.0  # at the broker
_WHY: Final[Mapping[str, str]] = {
    "retained": "a retained command would arrive again with each connection; send it without",
}


class Place(NamedTuple):
    """Where a gateway is, and where its data and its trusted keys are."""

    site: str
    gateway: str
    directory: Path  # of the store
    keys: Path


class _Allowance:
    """Limits the answers to senders that no trusted key vouches for."""

    def __init__(self, per_minute: int) -> None:
        self._most = self._left = float(per_minute)
        self._counted_s = time.monotonic()

    def take(self) -> bool:
        """Whether one more answer is allowed now."""
        now_s = time.monotonic()
        earned = (now_s - self._counted_s) * self._most / 60
        self._left, self._counted_s = min(self._most, self._left + earned), now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Listener:
    """Receives the commands of central ops; used once.

    Args:
        settings: The broker, with the table of the commands.
        place: Of the gateway.
        signer: Signs the answers, if the gateway has a key.
        ask: Puts a command into the inbox of the loop.
        before: The listener that this one replaces; it was asked to stop.

    """

    def __init__(
        self,
        settings: MqttTable,
        place: Place,
        signer: Signer,
        ask: Callable[[Command], None],
        before: Listener | None = None,
    ) -> None:
        self._settings, self._place, self._signer = settings, place, signer
        self._ask, self._before = ask, before
        self._topic = command_topic(place.site, place.gateway)
        self._answers = answer_topic(place.site, place.gateway)
        self._proof = Proof(place.keys, place.site, place.gateway, self._topic)
        self._allowance = _Allowance(settings.commands.refusals_per_minute)
        self._version = Version(settings.protocol)
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)
        self._connection: Connection | None = None
        self._counts: Counter[str] = Counter()
        self._error: str | None = None

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Request the end of receiving; the broker keeps what is not acknowledged."""
        self._stopping.set()
        if (connection := self._connection) is not None:
            connection.events.put(Woken())

    def stop(self) -> None:
        """End receiving, and wait for the end, but not for a broker that does not answer.

        What is not acknowledged arrives again at the next start.
        """
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def document(self) -> dict[str, Any]:
        """Return the state of the link and the commands refused unseen by the loop, by cause."""
        return {
            "listening": self._connection is not None,
            "error": self._error,
            "refused": dict(self._counts.copy()),
        }

    def _run(self) -> None:
        if self._before is not None:
            self._before.stop()
            self._before = None
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._connect_and_listen()
            except LinkError as error:
                if self._error is None:
                    _LOG.warning("no commands from central ops: %s; trying again", error)
                self._error = str(error)
                self._backoff.lasted(time.monotonic() - began_s)
                self._backoff.failed()
            self._stopping.wait(self._backoff.wait_s())

    def _connect_and_listen(self) -> None:
        place = self._place
        connection = Connection(
            self._settings.for_commands,
            f"fieldwatch-commands:{place.site}:{place.gateway}",
            self._version.now,
            received_waiting_max=_WAITING_MAX,
            session_expiry_s=math.ceil(self._settings.commands.validity_max_s),
        )
        try:
            connection.open()
            if self._version.answer(connection, self._stopping) is None:
                return
            connection.subscribe([self._topic], as_published=True)
            self._listen(connection)
        finally:
            self._connection = None
            connection.close(politely=True)

    def _listen(self, connection: Connection) -> None:
        while not self._stopping.is_set():
            try:
                event = connection.events.get(_LOOK_S)
            except Empty:
                continue
            match event:
                case Received() as received:
                    self._take(connection, received)
                case TooLarge():
                    self._counts["too_large"] += 1
                case NoTopic():
                    self._counts["malformed"] += 1
                case Lost(reason):
                    raise LinkError(reason)
                case Subscribed(str(refusal)):
                    raise LinkError(f"the broker refuses the subscription: {refusal}")
                case Subscribed(None):
                    self._connection, self._error = connection, None
                    _LOG.info("commands from central ops are accepted on %s", self._topic)

    def _take(self, connection: Connection, received: Received) -> None:
        """Answer a message, then acknowledge it; neither if the agent is stopping."""
        try:
            if received.retained:
                raise Rejected("retained", _WHY["retained"])
            order = self._proof.read(received.body)
        except Rejected as error:
            self._refuse(connection, received.body, error.cause, str(error))
        else:
            outcomes = self._outcomes(order, received.body)
            if outcomes is None:
                return
            self._send(connection, order.id, outcomes)
        if received.packet:
            connection.acknowledge(received.packet)

    def _refuse(self, connection: Connection, body: bytes, cause: Cause, text: str) -> None:
        if not self._counts[cause]:
            _LOG.warning("a command was refused, %s: %s; more are only counted", cause, text)
        self._counts[cause] += 1
        order_id = id_in(body)
        if order_id is None or not self._allowance.take():
            self._counts["unanswered"] += 1
            return
        self._send(connection, order_id, [refused(cause, f"nothing was done: {text}")])

    def _send(
        self, connection: Connection, order_id: str, outcomes: Sequence[Mapping[str, Any]]
    ) -> None:
        for part, outcome in enumerate(outcomes, 1):
            body = answer(order_id, outcome, part, len(outcomes))
            signed = self._signer.signed(self._answers, body)
            connection.publish(self._answers, signed, expiry_s=_ANSWER_EXPIRY_S)

    def _outcomes(self, order: Order, body: bytes) -> Sequence[Mapping[str, Any]] | None:
        """Return the parts of the answer; None if the agent stops before."""
        said = self._asked(order, hashlib.sha256(body).hexdigest())
        if said is None or (isinstance(said, Refused) and said.code == "stopping"):
            return None
        if isinstance(said, Refused):
            return [refused(said.code, str(said))]
        if order.command != SAMPLES or not said["ok"]:
            return [said]
        limits = self._settings.commands
        return samples.parts(
            self._place.directory, order.arguments, limits.points_max, limits.part_bytes_max
        )

    def _asked(self, order: Order, digest: str) -> Answer | None:
        """Return what the loop answers; None if the agent stops before."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        arguments = {
            "id": order.id,
            "digest": digest,
            "expires": order.expires,
            "command": order.command,
            "arguments": order.arguments,
        }
        self._ask(Command(VERB, arguments, Asker("mqtt", order.issuer), answers.put))
        while not self._stopping.is_set():
            try:
                return answers.get(timeout=_LOOK_S)
            except Empty:
                continue
        return None
