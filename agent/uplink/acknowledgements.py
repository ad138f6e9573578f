"""The collector's acknowledgements, and the gateway's reports of messages that are gone.

The collector publishes, in retained messages, whether it is online and which messages it has: all
of an epoch up to ``through_seq``, and the ranges ``also`` above. ``agent.uplink.words`` verifies
the sender. A message that the broker accepted stays in the outbox until the collector has it, and
is sent again after a while (``agent.uplink.unconfirmed``). No acknowledgement removes a message
that this process has not sent; messages sent by an earlier process are sent again. The agent
reports messages that left the outbox (dropped, or merged into another), because the collector would
wait for them forever.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from agent.clock import clock_quality
from agent.dialects.dialect import Dialect, Message
from agent.dialects.topics import acknowledged_topic, central_status_topic
from agent.store.ranges import Range, Ranges, is_number, parse
from agent.uplink.unconfirmed import Unconfirmed
from agent.uplink.words import CAUSES, Cause, Rejected, Words
from models.printable import printable

if TYPE_CHECKING:
    from agent.store.reader import Reader

_LOG = logging.getLogger(__name__)

ALSO_MAX = 100  # ranges above through_seq in an acknowledgement
GONE_MAX = 1000  # ranges in a gone message
SAMPLES_MAX = 16  # chunks of samples in an acknowledgement
_LOOK_ROWS = 5000  # rows of the outbox per search for gone messages
LOOK_S = 1.0  # between two such searches


class Central:
    """The collector as this gateway sees it, over all connections; for the sender's thread."""

    def __init__(self, dialect: Dialect, timeout_s: float, words: Words) -> None:
        self._dialect, self._epoch = dialect, dialect.origin.epoch
        self.words = words
        self._timeout_s = timeout_s
        self.unconfirmed = Unconfirmed(timeout_s)
        site, gateway, _ = dialect.origin
        self._status_topic = central_status_topic(site)
        self._acknowledged_topic = acknowledged_topic(site, gateway)
        self.topics = (self._status_topic, self._acknowledged_topic)
        self.online = False
        self.takes_samples = False
        # the last numbers of chunks of samples that it has stored lately, on this connection
        self._stored_samples: frozenset[int] = frozenset()
        self._stored_ring: str | None = None  # whose numbers these are; None: it does not say
        self.rejected: dict[Cause, int] = dict.fromkeys(CAUSES, 0)
        self.through_seq: int | None = None  # None: nothing received on this connection
        self._also = Ranges()
        self._looked = 0.0  # last search for gone messages, monotonic
        self._told: list[Range] = []
        self._told_at = 0.0

    def has(self, seq: int) -> bool:
        """Whether the collector has acknowledged this message."""
        return (self.through_seq is not None and seq <= self.through_seq) or seq in self._also

    def has_samples(self, ring_epoch: str, last: int) -> bool:
        """Whether the collector has stored a chunk, named by the number of its last sample."""
        return last in self._stored_samples and self._stored_ring in (None, ring_epoch)

    def connected(self, outbox: Reader) -> None:
        """Begin a connection; keep what is known about the collector.

        Raises:
            StoreError: the outbox cannot be read.

        """
        self.words.connected(outbox.counters())

    def disconnected(self) -> None:
        """Discard this connection's messages: on the next one the broker repeats the valid ones."""
        self._be_online(online=False)
        self.through_seq, self._also = None, Ranges()
        self.takes_samples, self._stored_samples = False, frozenset()
        self._told = []

    def _be_online(self, online: bool) -> None:
        self.unconfirmed.be_online(online)
        self.online = online

    def taken(self, seq: int) -> bool:
        """Record that the broker has a message; return whether that alone confirms it."""
        if self.has(seq):
            return self.unconfirmed.confirm(seq)
        self.unconfirmed.taken(seq)
        return False

    def heard(self, topic: str, body: bytes, outbox: Reader) -> None:
        """Process a message of the collector; count it by cause if it cannot be used.

        Raises:
            StoreError: the outbox cannot be read.

        """
        try:
            said = self.words.read(topic, body)
            if topic == self._status_topic:
                self._take_status(said)
            elif topic == self._acknowledged_topic:
                # read the store, not the loop's number: the collector may confirm before its commit
                self._take_acknowledgement(said, int(outbox.meta("last_seq")))
        except Rejected as error:
            self._reject(topic, error)

    def too_large(self, topic: str, size_bytes: int) -> None:
        """Count a message that was dropped because it is too large."""
        self._reject(topic, Rejected("too_large", f"{size_bytes} bytes"))

    def without_topic(self) -> None:
        """Count a message that was dropped because its topic is not text."""
        self._reject("?", Rejected("malformed", "its topic is not text"))

    def _reject(self, topic: str, why: Rejected) -> None:
        if not self.rejected[why.cause]:
            _LOG.warning(
                "message on %s rejected, %s: %s; further ones are only counted",
                printable(topic),
                why.cause,
                why,
            )
        self.rejected[why.cause] += 1

    def _take_status(self, said: dict[str, Any]) -> None:
        state = said.get("state")
        if state not in ("online", "offline"):
            raise Rejected("malformed", "state is neither online nor offline")
        if self.online != (state == "online"):
            _LOG.info("the collector is %s", state)
        self._be_online(state == "online")
        self.takes_samples = self.online and said.get("samples") is True

    def _take_acknowledgement(self, said: dict[str, Any], last_seq: int) -> None:
        through: Any = said.get("through_seq")
        epoch = said.get("epoch")
        if not isinstance(epoch, str) or not is_number(through) or through < 0:
            raise Rejected("malformed", "epoch or through_seq is missing or wrong")
        try:
            also = parse(said.get("also", []), through, ALSO_MAX)
        except ValueError as error:
            raise Rejected("malformed", f"also: {error}") from error
        if epoch != self._epoch:
            raise Rejected(
                "foreign_epoch",
                f"it is for epoch {printable(epoch, 64)}; this database has {self._epoch}",
            )
        self._stored_samples = _samples(said.get("samples", []))
        self._stored_ring = said.get("ring")
        highest = also[-1][1] if also else through
        # numbers that are too high must not hide the valid ones
        self.through_seq, self._also = min(through, last_seq), Ranges(also)
        self._also.remove(last_seq + 1, highest)
        self._looked = 0.0
        if highest > last_seq:
            raise Rejected(
                "beyond",
                f"it is for number {highest}; the highest so far is {last_seq}. If this database is"
                " an older copy, stop the agent and move the files in store.directory away",
            )

    def confirmed(self, outbox: Reader) -> list[int]:
        """Return the messages in the outbox that were sent and that the collector has.

        Raises:
            StoreError: the outbox cannot be read.

        """
        if self.through_seq is None:
            return []
        return self.unconfirmed.confirm_all([(0, self.through_seq), *self._also], outbox)

    def gone(self, outbox: Reader) -> Message | None:
        """Return the report to the collector on numbers that it lacks and will never receive.

        Raises:
            StoreError: the outbox cannot be read.

        """
        now = time.monotonic()
        if not self.online or self.through_seq is None or now - self._looked < LOOK_S:
            return None
        self._looked = now
        waiting, through = outbox.waiting_above(self.through_seq, _LOOK_ROWS)
        known = Ranges([*self._also, *((seq, seq) for seq in waiting)])
        gone = list(known.missing(self.through_seq + 1, through))[:GONE_MAX]
        if gone == self._told and now - self._told_at < self._timeout_s:
            return None
        self._told, self._told_at = gone, now
        return self._message(gone, through) if gone else None

    def _message(self, gone: list[Range], seq: int) -> Message:
        suffix = f"gone-{gone[0][0]}-{gone[-1][1]}"
        return self._dialect.gone(gone, time.time(), seq, suffix, clock_quality())

    def document(self) -> dict[str, Any]:
        """Return its state, for ``status``."""
        return {
            "state": "online" if self.online else "offline",
            "through_seq": self.through_seq,
            "unconfirmed": len(self.unconfirmed),
            "resent": self.unconfirmed.resent,
            "rejected": dict(self.rejected),
            "trust": self.words.document(),
        }


def _samples(numbers: Any) -> frozenset[int]:
    """Return the last numbers of chunks of samples in an acknowledgement."""
    if not isinstance(numbers, list) or len(numbers) > SAMPLES_MAX:
        raise Rejected("malformed", "samples is not a short list")
    if not all(is_number(number) for number in numbers):
        raise Rejected("malformed", "samples has something that is no number")
    return frozenset(numbers)
