"""Shows the state of the alarms on a broker on site, in a thread of its own.

    loop ─view, at most once a second─> panel ─changes, and each interval─> broker ─> stack light,
    Home Assistant ─its birth message─────┘                                           panels

A view replaces the one before: the present state matters here, and no change must be kept. The
broker's last will sets the availability to offline.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from agent.backoff import Backoff
from agent.mqtt.connection import (
    GOODBYE_S_MAX,
    Acknowledged,
    Connection,
    ConnectionEvent,
    LinkError,
    Lost,
    Received,
    Woken,
)
from agent.mqtt.version import Version
from agent.onsite.discovery import description, removed, topics_of
from agent.onsite.view import View

if TYPE_CHECKING:
    from agent.config.onsite import PanelTable
    from agent.store.record import Origin

_LOG = logging.getLogger(__name__)

_RECEIVED_BYTES_MAX: Final = 2**21  # the own description, which the broker keeps
_LOOK_S: Final = 0.5
_VIEW_S: Final = 1.0  # between two views
_STOP_S_MAX: Final = 2.0
_ONLINE: Final = b"online"
_OFFLINE: Final = b"offline"


class Panel:
    """The thread; the loop's thread calls the public methods."""

    def __init__(self, settings: PanelTable, origin: Origin, before: Panel | None = None) -> None:
        """Set up; ``before`` is a panel with other settings, which is ending."""
        self._settings, self._origin, self._before = settings, origin, before
        self._topics = topics_of(settings.discovery_prefix, origin.site, origin.gateway)
        self._client_id = f"fieldwatch-panel:{origin.site}:{origin.gateway}"
        self._version = Version(settings.protocol)
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._thread = threading.Thread(target=self._run, name="panel", daemon=True)
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._view: View | None = None
        self._next_view = 0.0  # monotonic
        self._online = False
        self._last_error: str | None = None
        self._published = self._births = self._failures = 0

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wants(self) -> bool:
        """Return whether a view is due."""
        return time.monotonic() >= self._next_view

    def show(self, view: View) -> None:
        """Show this from now on."""
        self._next_view = time.monotonic() + _VIEW_S
        if view != self._view:
            self._view = view
            self._wake()

    def document(self) -> dict[str, Any]:
        """Return its state, for ``status``."""
        return {
            "broker": f"{self._settings.host}:{self._settings.port}",
            "online": self._online,
            "last_error": self._last_error,
            "published": self._published,
            "births": self._births,
            "failures": self._failures,
        }

    def ask_to_stop(self) -> None:
        """Make the thread say goodbye and end soon."""
        self._stopping.set()
        self._wake()

    def join(self) -> None:
        """Wait for its end; it has no data, so one that hangs is left."""
        if self._thread.ident is not None:
            self._thread.join(_STOP_S_MAX)

    def _wake(self) -> None:
        connection = self._connection  # the thread may be about to drop it
        if connection is not None:
            connection.events.put(Woken())

    # ---- the thread

    def _run(self) -> None:
        if self._before is not None:  # or each would end the other's connection
            self._before.join()
            self._before = None
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._connect()
            except LinkError as error:
                if not self._stopping.is_set():
                    self._failed(str(error))
            self._backoff.lasted(time.monotonic() - began)
            self._stopping.wait(self._backoff.wait_s())

    def _failed(self, reason: str) -> None:
        if self._online or self._last_error is None:
            _LOG.warning("panel's broker lost: %s; retrying until it is back", reason)
        self._online, self._last_error = False, reason
        self._failures += 1
        self._backoff.failed()

    def _connect(self) -> None:
        connection = Connection(
            self._settings,
            self._client_id,
            self._version.now,
            received_bytes_max=_RECEIVED_BYTES_MAX,
        )
        self._connection = connection
        polite = False
        try:
            connection.open(self._topics.status, _OFFLINE)
            if self._version.answer(connection, self._stopping):
                self._online = True
                _LOG.info("panel's broker is up")
                _Showing(connection, self._settings, self._origin, self).run(self._stopping)
                polite = True
        finally:
            self._online, self._connection = False, None
            connection.close(polite)

    @property
    def view(self) -> View | None:
        """What to show; None: the loop has said nothing yet."""
        return self._view

    def published(self, count: int = 1) -> None:
        """Count messages."""
        self._published += count

    def born(self) -> None:
        """Count a start of Home Assistant."""
        self._births += 1


class _Showing:
    """One connection of the panel's thread."""

    def __init__(
        self, connection: Connection, settings: PanelTable, origin: Origin, panel: Panel
    ) -> None:
        self._connection, self._settings, self._panel = connection, settings, panel
        self._origin = origin
        self._topics = topics_of(settings.discovery_prefix, origin.site, origin.gateway)
        self._kept = b""  # the description that the broker has kept
        self._described: list[str] | None = None  # streams
        self._shown: View | None = None
        self._full_at = 0.0  # monotonic; when everything is sent again
        self._describe_at: float | None = None  # monotonic

    def run(self, stopping: threading.Event) -> None:
        """Show until the stop.

        Raises:
            LinkError: the connection is gone.

        """
        if self._settings.discovery:
            self._connection.subscribe([self._topics.config, self._topics.birth])
        # the broker answers in order: what it has kept has come before this acknowledgement
        ready = self._publish(self._topics.status, _ONLINE, retain=True)
        while not stopping.is_set():
            event = self._next()
            match event:
                case Lost(reason):
                    raise LinkError(reason)
                case Received():
                    self._received(event)
                case Acknowledged(packet) if packet == ready:
                    ready, self._describe_at = -1, time.monotonic()
                    if self._settings.discovery:
                        self._connection.unsubscribe([self._topics.config])
            if ready == -1 and (view := self._panel.view) is not None:
                self._show(view)
        packet = self._publish(self._topics.status, _OFFLINE, retain=True)
        self._await(packet)

    def _next(self) -> ConnectionEvent | None:
        try:
            return self._connection.events.get(timeout=_LOOK_S)
        except Empty:
            return None

    def _await(self, packet: int) -> None:
        """Wait for an acknowledgement, or a moment."""
        deadline = time.monotonic() + GOODBYE_S_MAX
        while time.monotonic() < deadline:
            match self._next():
                case Lost():
                    return
                case Acknowledged(found) if found == packet:
                    return

    def _received(self, message: Received) -> None:
        if message.topic == self._topics.config:
            if message.retained:
                self._kept = message.body
        elif message.body == _ONLINE and not message.retained:
            self._panel.born()
            wait_s = random.uniform(0, self._settings.discovery_delay_s_max)  # noqa: S311 - no secret
            self._describe_at = time.monotonic() + wait_s
            self._described = None

    def _show(self, view: View) -> None:
        now = time.monotonic()
        names = list(view.streams)
        if self._describe_at is not None and now >= self._describe_at:
            self._describe(names)
            self._describe_at, self._full_at = None, 0.0
        elif self._describe_at is None and names != self._described:
            self._describe(names)
        if now >= self._full_at:
            self._shown, self._full_at = None, now + self._settings.interval_s
        self._send(view)

    def _describe(self, names: list[str]) -> None:
        self._described = names
        if not self._settings.discovery:
            return
        origin, seconds = self._origin, self._settings.expire_after_s
        said = description(self._topics, origin.site, origin.gateway, names, seconds)
        if gone := removed(self._kept, said):
            partly = said | {"components": said["components"] | gone}
            self._publish(self._topics.config, _packed(partly), retain=True)
        self._kept = _packed(said)
        self._publish(self._topics.config, self._kept, retain=True)

    def _send(self, view: View) -> None:
        """Send what has changed; states are not retained."""
        shown = self._shown
        if shown == view:
            return
        for name, state in view.streams.items():
            if shown is None or shown.streams.get(name) != state:
                self._publish(self._topics.stream(name), _packed(state))
        if shown is None or shown.gateway != view.gateway:
            self._publish(self._topics.state, _packed(view.gateway))
            self._publish(self._topics.worst, view.worst.encode())
        self._shown = view

    def _publish(self, topic: str, body: bytes, retain: bool = False) -> int:
        expiry_s = None if retain else self._settings.expire_after_s
        packet = self._connection.publish(topic, body, retain, expiry_s)
        if packet is None:
            raise LinkError("the connection is gone")
        self._panel.published()
        return packet


def _packed(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
