"""Store and forward: the single thread that sends the messages in the outbox.

    outbox (SQLite, read-only here) ─agent.uplink.priorities─> window ─QoS 1─> broker
    loop (deletes in its next commit) <─acknowledged────────────────┘ or collector

A message leaves the outbox only after the broker's PUBACK, or, with ``acknowledgement =
"central"``, after the collector's acknowledgement (``agent.uplink.acknowledgements``). Until the
loop has deleted it, the sender remembers it as done, so that a new connection does not send it
again. Only SQLite queues messages: paho holds at most ``inflight_max`` of them, or fewer if the
broker's limit is lower. ``agent.uplink.session`` handles one connection.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.backoff import Backoff
from agent.clock import clock_quality
from agent.dialects.kinds import dialect_of
from agent.guard import Guard
from agent.mqtt.connection import (
    GOODBYE_S_MAX,
    Connected,
    Connection,
    LinkError,
    Woken,
)
from agent.mqtt.payload import Payload
from agent.mqtt.signer import Signer
from agent.mqtt.version import Version
from agent.store.reader import Reader
from agent.store.sqlite import Damaged
from agent.uplink.acknowledgements import Central
from agent.uplink.denials import Denials
from agent.uplink.lasting import Lasting
from agent.uplink.link import Ledger, Link, drain
from agent.uplink.session import Session
from agent.uplink.trust import Trust
from agent.uplink.twin import QUIET_S, Twin
from agent.uplink.words import Words
from models.errors import StoreError
from models.times import iso_time

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.broker import MqttTable
    from agent.dialects.dialect import LinkState, Message
    from agent.store.record import Origin
    from agent.uplink.progress import Progress
    from agent.uplink.samples import SampleLane

_LOG = logging.getLogger(__name__)

DELETED_MAX = 1000  # rows in one commit, which must not delay the loop


class Uplink:
    """Sends the outbox; the loop's thread calls the public methods."""

    def __init__(
        self,
        settings: MqttTable,
        origin: Origin,
        directory: Path,
        last_seq: Callable[[], int],
        guard: Guard | None = None,
        keys: Path | None = None,
        signer: Signer | None = None,
    ) -> None:
        """Set up; ``keys`` is the directory of the trusted public keys."""
        self._settings = settings
        self._dialect = dialect_of(settings.dialect, origin, signer)
        self._directory = directory
        self._last_seq = last_seq
        self._client_id = f"fieldwatch-{origin.site}-{origin.gateway}"
        self._version = Version(settings.protocol)
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._stopping = threading.Event()
        self._stop_by = 0.0  # monotonic; once ``_stopping`` is set
        self._run_id = secrets.token_hex(4)  # together with ``_number`` identifies our own statuses
        self._number = 0  # of the connection, attempted or open
        self._connection: Connection | None = None
        self._link = Link()
        self._ledger = Ledger()
        self._central: Central | None = None
        if settings.acknowledgement == "central":
            words = Words(Trust(keys), settings.unsigned_acknowledgements)
            self._central = Central(self._dialect, settings.central_timeout_s, words)
        self._unstored: dict[str, Any] | None = None  # the report to central ops
        self._news = 0  # counts its changes
        self._damaged = threading.Event()  # the outbox
        # a twin may wait between connections as long as we do without being gone
        self._twin = Twin(origin, self._run_id, max(QUIET_S, 3 * settings.backoff_max_s))
        self._samples = self._lane(settings) if settings.samples.enabled else None
        self._lasting = Lasting(
            settings,
            self._link,
            self._ledger,
            last_seq,
            self._central,
            self._dialect,
            Payload(self._dialect.content_type, settings.compression),
            Denials(settings.denied_retry_s),
            self._twin,
            guard or Guard(),
            self._samples,
        )
        self.backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)

    def _lane(self, settings: MqttTable) -> SampleLane:
        from agent.uplink.samples import SampleLane  # needs numpy, as no other part of the uplink

        return SampleLane(
            settings.samples,
            self._dialect,
            self._last_seq,
            self._central,
            settings.central_timeout_s,
            settings.unsubscribed_retry_s,
        )

    def start(self, progress: Progress | None = None) -> None:
        """Begin to send; ``progress`` is that of the samples."""
        if self._samples is not None and progress is not None:
            progress.begin(self._settings.samples.streams)
            self._samples.progress = progress
        self._thread.start()

    def acknowledged(self) -> list[int]:
        """Return the numbers of messages to delete, each once."""
        return drain(self._ledger.done, DELETED_MAX)

    def counters(self) -> dict[str, int]:
        """Return the counters of central ops' messages that must be stored."""
        return self._central.words.news() if self._central else {}

    def committed(self, deleted: list[int]) -> None:
        """Record that a commit has deleted these from the outbox."""
        for seq in deleted:
            self._ledger.deleted.put(seq)
        self._wake()

    def tell(self, unstored: dict[str, Any] | None) -> None:
        """Report in the status what cannot be stored; None: everything is stored."""
        if unstored != self._unstored:
            self._unstored = unstored
            self._news += 1
            self._wake()

    def outbox_damaged(self) -> bool:
        """Whether the outbox was found damaged since the last call."""
        found = self._damaged.is_set()
        self._damaged.clear()
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the link, for ``status``."""
        link = self._link
        if self._thread.ident and not self._thread.is_alive() and not self._stopping.is_set():
            link.change("failed")  # a defect; the log has its traceback
        return {
            "state": link.state,
            "since": iso_time(link.since_s),
            "broker": f"{self._settings.host}:{self._settings.port}",
            "protocol": self._version.now,
            "last_error": link.last_error,
            "connections": link.connections,
            "failures": link.failures,
            "published": link.published,
            "acknowledged": link.acknowledged,
            "in_flight": link.in_flight,
            "parked": link.parked,
            "held": list(link.held),
            "denied": list(link.denied),
            "expired": link.expired,
            "refused": link.refused,
            "twin": self._twin.document(),
            "central": self._central.document() if self._central else None,
            "samples": self._samples.document() if self._samples else None,
        }

    def stop(self) -> None:
        """Send what is possible, disconnect and end, within ``stop_timeout_s``.

        It does not wait for a thread that hangs in a name look-up or a handshake: that thread holds
        no data, and the process ends without it.
        """
        self._stop_by = time.monotonic() + self._settings.stop_timeout_s
        self._stopping.set()
        self._wake()
        self._thread.join(self._settings.stop_timeout_s + 2 * GOODBYE_S_MAX)

    def _wake(self) -> None:
        connection = self._connection  # the sender may be about to drop it
        if connection is not None:
            connection.events.put(Woken())

    def _run(self) -> None:
        with Reader(self._directory) as outbox:
            while not self._stopping.is_set():
                try:
                    self._connect_and_send(outbox)
                except (LinkError, StoreError) as error:
                    if isinstance(error, Damaged):
                        self._damaged.set()
                    if not self._stopping.is_set():
                        self._failed(str(error))
                self._stopping.wait(self.backoff.wait_s())
        self._link.change("stopped")

    def _connect_and_send(self, outbox: Reader) -> None:
        """Open a connection, and send until its end.

        Raises:
            LinkError: the connection could not be opened, or it ended; the text states why.
            StoreError: the outbox cannot be read.

        """
        self._number += 1
        _LOG.debug(
            "connecting to %s:%d as %s, MQTT %s",
            *(self._settings.host, self._settings.port, self._client_id, self._version.now),
        )
        connection = Connection(self._settings, self._client_id, self._version.now)
        self._connection = connection
        polite = False
        try:
            topic, will = self._status("offline", "lost")
            connection.open(topic, will)
            if broker := self._version.answer(connection, self._stopping):
                self._came_up()
                polite = self._send(connection, broker, outbox)
        finally:
            self._connection = None
            connection.close(polite)
            if self._central is not None:
                self._central.disconnected()
            self._link.in_flight, self._link.parked, self._link.held = 0, 0, ()

    def _send(self, connection: Connection, broker: Connected, outbox: Reader) -> bool:
        """Send until the stop or a renewal; return whether the broker must drop the will."""
        began = time.monotonic()
        session = Session(connection, broker, outbox, self._lasting)
        try:
            session.open(self._online)
            session.send_until(self._stopping)
            if not self._stopping.is_set():
                _LOG.info("password, certificates or keys were renewed; reconnecting")
                return True
            return session.part(self._status("offline", "stopped"), self._stop_by)
        except LinkError:
            session.suspect()
            raise
        finally:
            if not self._twin.found:  # with a twin, delays grow, so that each gets its turn
                self.backoff.lasted(time.monotonic() - began)

    def _online(self, told: int | None, bytes_max: int) -> tuple[int, Message] | None:
        """Return the status and its number if it is newer than number ``told``."""
        number = self._news
        if number == told:
            return None
        why = f"online-{number}" if number else "online"
        unstored = self._unstored
        status = self._status("online", why, unstored)
        if unstored is not None and status.size() > bytes_max:
            status = self._status("online", why, unstored | {"alarms": []})
        return number, status

    def _status(
        self,
        state: LinkState,
        why: str,
        unstored: dict[str, Any] | None = None,
    ) -> Message:
        suffix = f"{self._run_id}-{self._number}-{why}"
        more = {} if unstored is None else {"unstored": unstored}
        quality = clock_quality()
        return self._dialect.status(state, time.time(), self._last_seq(), suffix, quality, more)

    def _came_up(self) -> None:
        _LOG.info("link to central ops is up")
        self._link.connections += 1
        self._link.change("online")

    def _failed(self, reason: str) -> None:
        if self._link.state != "offline" or self._link.last_error is None:
            _LOG.warning("link to central ops lost: %s; retrying until it is back", reason)
        self._link.last_error = reason
        self._link.change("offline")
        self._link.failures += 1
        self.backoff.failed()
