"""Store and forward: the one thread that sends what waits in the outbox.

    outbox (SQLite, read-only here) ─alarms first─> window ─QoS 1─> broker
    loop (deletes in its next commit) <─acknowledged──────────────────┘

A message leaves the outbox only after the broker's PUBACK. Until the loop has deleted it, it is
remembered as done, so that a new connection does not send it again. Nobody but SQLite queues:
at most ``inflight_max`` messages, or what the broker allows, are with paho.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from agent.clock import clock_quality
from agent.mqtt import (
    CONNECT_TIMEOUT_S,
    UNSUPPORTED_PROTOCOL,
    Acknowledged,
    Connected,
    Connection,
    LinkError,
    Lost,
    Protocol,
    Refused,
)
from agent.store import Reader
from models.times import iso_time

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import MqttTable
    from agent.envelope import Envelope

_LOG = logging.getLogger(__name__)

# an alarm overtakes what only informs; within a lane the order is that of the numbers
_LANES = (("alarm",), ("summary", "health"))
_ROWS_READ = 100  # rows of a lane in memory at a time
_POLL_S = 0.2  # how long a new message or a stop may have to wait
_PART_S_MAX = 1.0

NO_SUBSCRIBER = 0x10
_PARK = {0x87, 0x90, 0x99}  # this message will never be taken: not authorised, topic, format

LinkState = Literal["offline", "online", "held", "stopped"]


class Uplink:
    """Sends the outbox; the loop's thread calls the public methods."""

    def __init__(
        self,
        settings: MqttTable,
        envelope: Envelope,
        directory: Path,
        last_seq: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._envelope = envelope
        self._directory = directory
        self._last_seq = last_seq
        self._client_id = f"fieldwatch-{envelope.site}-{envelope.gateway}"
        self._protocol: Protocol = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._stopping = threading.Event()
        self._acknowledged: SimpleQueue[int] = SimpleQueue()
        self._deleted: SimpleQueue[int] = SimpleQueue()
        self._done: set[int] = set()  # acknowledged, and perhaps still in the outbox
        self._link: LinkState = "offline"
        self._since_s = time.time()
        self._last_error: str | None = None
        self._failures = 0  # since the last stable connection, for the backoff
        self._connections = self._published = self._inflight = self._parked = 0
        self._acks = 0

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def acknowledged(self) -> list[int]:
        """Return the numbers acknowledged since the last call, to be deleted."""
        return _drain(self._acknowledged)

    def committed(self, deleted: list[int]) -> None:
        """Say that these are gone from the outbox."""
        for seq in deleted:
            self._deleted.put(seq)

    def snapshot(self) -> dict[str, Any]:
        """Say how the link is doing."""
        return {
            "state": self._link,
            "since": iso_time(self._since_s),
            "broker": f"{self._settings.host}:{self._settings.port}",
            "protocol": self._protocol,
            "last_error": self._last_error,
            "connections": self._connections,
            "published": self._published,
            "acknowledged": self._acks,
            "in_flight": self._inflight,
            "parked": self._parked,
        }

    def stop(self) -> None:
        """Send what can be sent within ``stop_timeout_s``, say goodbye and end."""
        self._stopping.set()
        self._thread.join(self._settings.stop_timeout_s + 2 * CONNECT_TIMEOUT_S)

    def _run(self) -> None:
        with Reader(self._directory) as outbox:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    retry_at_once = self._connect_and_send(outbox)
                except LinkError as error:
                    retry_at_once = False
                    self._failed(str(error))
                if time.monotonic() - began >= self._settings.backoff_max_s:
                    self._failures = 0  # it was stable; new trouble starts with a short wait
                if not retry_at_once and not self._stopping.is_set():
                    self._failures += 1
                    self._stopping.wait(self._delay_s())
        self._change("stopped")

    def _connect_and_send(self, outbox: Reader) -> bool:
        """One connection, from its opening to its end; say whether to try again at once.

        Raises:
            LinkError: why it could not be opened, or why it ended.

        """
        connection = Connection(self._settings, self._client_id, self._protocol)
        number, topic = self._connections + 1, self._envelope.topic("status")
        polite = False
        try:
            connection.open(topic, self._status("offline", f"{number}-lost"))
            answer = self._answer(connection)
            if isinstance(answer, Refused):
                return self._may_fall_back(answer)
            self._connections = number
            self._change("online")
            window = min(self._settings.inflight_max, answer.receive_maximum)
            session = _Session(self, connection, outbox, window)
            session.greet(topic, self._status("online", f"{number}-online"))
            session.send_until(self._stopping)
            session.part(topic, self._status("offline", f"{number}-stopped"))
            polite = True
            return False
        finally:
            self._inflight = 0
            connection.close(polite)

    def _answer(self, connection: Connection) -> Connected | Refused:
        """Wait for the broker; one that says nothing may not have understood the version."""
        try:
            return connection.answer()
        except LinkError:
            if self._settings.protocol == "auto":
                self._protocol = "3.1.1" if self._protocol == "5" else "5"
            raise

    def _may_fall_back(self, answer: Refused) -> bool:
        """Take MQTT 3.1.1 where the broker does not know 5, and we may."""
        may = self._settings.protocol == "auto" and self._protocol == "5"
        if may and answer.code == UNSUPPORTED_PROTOCOL:
            self._protocol = "3.1.1"
            return True
        raise LinkError(f"the broker refuses: {answer.reason}")

    def _status(self, state: Literal["online", "offline"], suffix: str) -> bytes:
        return self._envelope.status(state, time.time(), self._last_seq(), suffix, clock_quality())

    def _failed(self, reason: str) -> None:
        self._last_error = reason
        if self._link != "offline" or self._failures == 0:
            _LOG.warning("link to central ops lost: %s; trying again until it is back", reason)
        self._change("offline")

    def _change(self, link: LinkState) -> None:
        if link == self._link:
            return
        if link == "online" and self._link == "offline":
            _LOG.info("link to central ops is up")
        self._link, self._since_s = link, time.time()

    def _delay_s(self) -> float:
        """Exponential backoff with full jitter, so that a fleet does not come back in step."""
        bound = self._settings.backoff_min_s * 2.0 ** min(self._failures - 1, 32)
        return random.uniform(0, min(bound, self._settings.backoff_max_s))  # noqa: S311 - no secret


class _Session:
    """What is sent and acknowledged on one connection."""

    def __init__(self, uplink: Uplink, connection: Connection, outbox: Reader, window: int) -> None:
        self._uplink = uplink
        self._connection = connection
        self._lanes = [_Lane(outbox, kinds) for kinds in _LANES]
        self._window = window
        self._inflight: dict[int, int | None] = {}  # packet -> seq; None for a status
        self._parked: set[int] = set()  # the broker will not take these
        self._progress = time.monotonic()  # of the last answer, or the first unanswered message
        self._held_until = 0.0

    def greet(self, topic: str, status: bytes) -> None:
        """Publish the retained status."""
        self._publish(topic, status, None, retain=True)

    def send_until(self, stopping: threading.Event) -> None:
        """Send what is in the outbox and what comes into it.

        Once ``stopping`` is set, until the outbox is empty or ``stop_timeout_s`` is over.

        Raises:
            LinkError: the connection is gone, or the broker does not answer any more.

        """
        deadline: float | None = None
        while True:
            for seq in _drain(self._uplink._deleted):
                self._uplink._done.discard(seq)
            sent = self._fill()
            if stopping.is_set():
                deadline = deadline or time.monotonic() + self._uplink._settings.stop_timeout_s
                if time.monotonic() > deadline or not (sent or self._inflight):
                    return
            self._handle(wait_s=_POLL_S)
            self._check_progress()

    def part(self, topic: str, status: bytes) -> None:
        """Say that the agent stops, and wait for the broker to have it."""
        self._publish(topic, status, None, retain=True)
        deadline = time.monotonic() + _PART_S_MAX
        while None in self._inflight.values() and time.monotonic() < deadline:
            self._handle(_POLL_S)

    def _fill(self) -> bool:
        """Fill the window; say whether anything was sent."""
        sent = False
        held = time.monotonic() < self._held_until
        while len(self._inflight) < self._window and not held:
            row = next(filter(None, (lane.next(self._skip) for lane in self._lanes)), None)
            if row is None:
                break
            seq, topic, body = row
            self._publish(topic, body, seq)
            self._uplink._published += 1
            sent = True
        self._uplink._inflight = len(self._inflight)
        return sent

    def _skip(self, seq: int) -> bool:
        return seq in self._uplink._done or seq in self._parked or seq in self._inflight.values()

    def _publish(self, topic: str, body: bytes, seq: int | None, retain: bool = False) -> None:
        if not self._inflight:
            self._progress = time.monotonic()
        packet = self._connection.publish(topic, body, retain)
        if packet is None:
            raise LinkError("the connection is gone")
        self._inflight[packet] = seq

    def _handle(self, wait_s: float) -> None:
        """Take in what happened; wait for it at most so long."""
        try:
            happening = self._connection.happenings.get(timeout=wait_s)
            while True:
                if isinstance(happening, Lost):
                    raise LinkError(happening.reason)
                if isinstance(happening, Acknowledged):
                    self._answered(happening)
                happening = self._connection.happenings.get_nowait()
        except Empty:
            return

    def _answered(self, answer: Acknowledged) -> None:
        seq = self._inflight.pop(answer.packet, None)
        self._progress = time.monotonic()
        if seq is None:
            return
        if answer.code in _PARK:
            _LOG.error("the broker will not take message %d: %s", seq, answer.reason)
            self._parked.add(seq)
            self._uplink._parked = len(self._parked)
        elif answer.failed or answer.code == NO_SUBSCRIBER:
            self._hold(answer.reason)
        else:
            self._uplink._acks += 1
            self._uplink._done.add(seq)
            self._uplink._acknowledged.put(seq)
            if not self._held_until:
                return
            self._held_until = 0.0
            self._uplink._change("online")

    def _hold(self, reason: str) -> None:
        """Nobody would get it, or the broker is full: keep it, and try again slowly."""
        if self._uplink._link != "held":
            _LOG.warning("messages are held: %s", reason)
        self._uplink._last_error = reason
        self._uplink._change("held")
        self._held_until = time.monotonic() + self._uplink._settings.unsubscribed_retry_s
        for lane in self._lanes:
            lane.rewind()

    def _check_progress(self) -> None:
        waited = time.monotonic() - self._progress
        if self._inflight and waited > self._uplink._settings.ack_timeout_s:
            raise LinkError(f"no acknowledgement for {waited:.0f} s")


class _Lane:
    """The messages of some kinds, in the order of their numbers."""

    def __init__(self, outbox: Reader, kinds: tuple[str, ...]) -> None:
        self._outbox = outbox
        self._kinds = kinds
        self._rows: deque[tuple[int, str, bytes]] = deque()
        self._after = 0

    def next(self, skip: Callable[[int], bool]) -> tuple[int, str, bytes] | None:
        """Return the next message not sent on this connection; None if there is none now."""
        while True:
            if not self._rows:
                self._rows.extend(self._outbox.outbox(self._kinds, self._after, _ROWS_READ))
            if not self._rows:
                return None
            row = self._rows.popleft()
            self._after = row[0]
            if not skip(row[0]):
                return row

    def rewind(self) -> None:
        """Begin with the oldest again."""
        self._rows.clear()
        self._after = 0


def _drain(queue: SimpleQueue[int]) -> list[int]:
    found = []
    try:
        while True:
            found.append(queue.get_nowait())
    except Empty:
        return found
