"""Detects another gateway with our name, such as one started from a copy of our SD card.

Both have the same client id, so at the broker each connection ends the other's, and neither ever
sees the other online. But each receives the status topic, to which both publish. The ``id`` of a
status contains a random identifier of the run (the process) and the number of its connection. A
status of another run proves nothing by itself: an earlier run of this gateway left one, and the
broker may publish its last will late. A new connection of the other run after our own status was
published is proof. The epoch does not help: a copied database has ours, and a new database has
another.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.dialects.topics import gateway_topic
from agent.mqtt.connection import NO_PACKET
from models.times import iso_time

if TYPE_CHECKING:
    from agent.mqtt.connection import Connection, Lost, Subscribed
    from agent.store.record import Origin

_LOG = logging.getLogger(__name__)

QUIET_S: Final = 900.0  # connected this long without a sign of the twin: it is gone
_RUNS_MAX: Final = 8  # remembered; anyone allowed to publish there can invent any number of runs
_HELD_S: Final = 20.0  # a connection that lasted this long was not refused immediately
_OFTEN_S: Final = 300.0  # a take-over within this time counts as quick
_TAKE_OVERS: Final = 3  # quick ones in a row; one may be our own last run, or a person's test
_STRIKES: Final = 2  # fewer than in ``denials``, as the status topic is in flight at the same time
_IDENTITY: Final = re.compile(r"[^/]+/(\w{1,64})/[0-9]+/([0-9a-f]{1,16})-([0-9]{1,9})-.+", re.ASCII)


class Voice(NamedTuple):
    """The publisher of a status."""

    epoch: str  # of its database
    run: str  # of its process
    connection: int  # its number within the run
    online: bool


def voice_of(body: bytes) -> Voice | None:
    """Return the publisher of a status; None if the message is not in a gateway's format."""
    try:
        said = json.loads(body)
        epoch, run, connection = _IDENTITY.fullmatch(said["id"]).groups()  # type: ignore[union-attr]
        return Voice(epoch, run, int(connection), said["data"]["state"] == "online")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


class Twin:
    """Watches for a twin over all connections of an uplink; the sender's thread uses it."""

    def __init__(self, origin: Origin, run: str, quiet_s: float = QUIET_S) -> None:
        """Set up; ``run`` is the identifier in our own statuses."""
        self.topic = gateway_topic(origin.site, origin.gateway, "status")
        self._origin = origin
        self._run = run
        self._quiet_s = quiet_s
        self._ours = False  # our own status was received
        self._first: dict[str, int] = {}  # other run -> the first of its connections seen
        self._found: Voice | None = None
        self._since_s = 0.0  # Unix seconds
        self._heard_at = 0.0  # last sign of the twin, or start of our connection; monotonic
        self._taken_over = 0
        self._quickly = 0  # consecutive quick take-overs
        self._asked: int | None = None  # packet number of the subscription, until it is answered
        self._strikes = 0
        self._began = 0.0  # of our connection, monotonic
        self._refusal: str | None = None

    @property
    def found(self) -> bool:
        """Whether another gateway has our name."""
        return self._found is not None

    def listen(self, connection: Connection) -> None:
        """Subscribe to our own status; call it before that is published.

        Raises:
            LinkError: the connection is gone.

        """
        self._heard_at = time.monotonic()
        if self._asked is not None:  # some brokers end the connection instead of answering
            self._strikes += 1
        elif self._strikes >= _STRIKES and time.monotonic() - self._began < _HELD_S:
            self._strikes = 0  # connections also end without the subscription: it is not the cause
        self._began = time.monotonic()
        self._asked = None
        if self._strikes >= _STRIKES:
            self._deaf("the connection ends each time")
        else:
            self._asked = NO_PACKET  # if this fails, a sent request may be the cause
            self._asked = connection.subscribe([self.topic])

    def answered(self, answer: Subscribed) -> bool:
        """Handle the broker's answer to a subscription; return whether it was for this one."""
        if answer.packet != self._asked:
            return False
        self._asked, self._strikes = None, 0
        if answer.refusal is None:
            self._refusal = None
        else:
            self._deaf(answer.refusal)
        return True

    def _deaf(self, reason: str) -> None:
        if self._refusal is None:
            _LOG.warning(
                "the broker refuses a subscription to our own status (%s): another gateway with"
                " the same name would not be detected",
                reason,
            )
        self._refusal = reason

    def lost(self, event: Lost) -> None:
        """Count a connection that another client with our client id has taken over.

        Its status may not reach us, so repeated take-overs are reported on their own.
        """
        lasted_s = time.monotonic() - self._began
        if not event.taken_over:
            self._quickly = 0 if lasted_s >= _OFTEN_S else self._quickly
            return
        self._taken_over += 1
        self._asked = None  # the take-over was the cause, not the subscription
        self._quickly = self._quickly + 1 if lasted_s < _OFTEN_S else 0
        if self._quickly == _TAKE_OVERS and self._found is None:
            _LOG.warning(
                "another client with our client id has taken over the connection %d times in a row:"
                " probably another gateway uses the name %s/%s, such as a copy of this one. Give"
                " it its own gateway.name and an empty store.directory",
                self._quickly,
                self._origin.site,
                self._origin.gateway,
            )

    def heard(self, body: bytes, retained: bool) -> None:
        """Handle a message on our status topic."""
        voice = voice_of(body)
        if voice is None:
            return
        if voice.run == self._run:
            self._ours = True
        elif self._ours:
            self._consider(voice, live=not retained)

    def _consider(self, voice: Voice, live: bool) -> None:
        first = self._first.setdefault(voice.run, voice.connection)
        if len(self._first) > _RUNS_MAX:
            del self._first[next(iter(self._first))]
        if voice.connection != first or (voice.online and live):
            self._find(voice)

    def _find(self, voice: Voice) -> None:
        if self._found is None:
            self._since_s = time.time()
            origin = self._origin
            _LOG.error(
                "another gateway uses the name %s/%s at this broker: each ends the other's"
                " connection. Its epoch is %s, ours is %s. If it is a copy of this one, give it"
                " its own gateway.name and an empty store.directory",
                origin.site,
                origin.gateway,
                voice.epoch,
                origin.epoch,
            )
        self._found, self._heard_at = voice, time.monotonic()

    def look(self) -> None:
        """Forget the twin after a long time without a sign of it; call this while connected."""
        if self._found is not None and time.monotonic() - self._heard_at > self._quiet_s:
            _LOG.info("the other gateway with this name is gone")
            self._found = None
            self._first.clear()

    def document(self) -> dict[str, Any]:
        """Return what is known about the twin, for ``status``."""
        state = "found" if self._found else "none" if self._ours else "unknown"
        return {
            "state": state,
            "epoch": self._found.epoch if self._found else None,
            "since": iso_time(self._since_s) if self._found else None,
            "taken_over": self._taken_over,
        }
