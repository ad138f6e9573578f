"""What every message to central ops is wrapped in: the attribute names of CloudEvents 1.0.

Summaries, alarms and health are **numbered**: ``seq`` counts up by one within an ``epoch`` (the
life of the gateway's database), ``id`` is ``gateway/epoch/seq`` and the same for each repeat, so
that ops drops repeats and sees gaps. A **status** (online, offline, the last will) is the state
of the link and no record: it bears the highest ``seq`` given so far, by which ops sees what has
yet to come, and an ``id`` with a suffix of its own. The last will is written when the connection
opens: its ``time`` and ``seq`` are of that moment, not of the loss. A **gone** message is no record
either: it says which numbers will not come (any more). What central ops says is not wrapped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.times import iso_time

Kind = Literal["summary", "alarm", "health", "status", "gone"]
LinkState = Literal["online", "offline"]

_NOTHING: Mapping[str, Any] = {}

ROOT = "fieldwatch/v1"
CENTRAL = "_central"  # in the place of a gateway; no gateway's name begins like this


def central_status_topic(site: str) -> str:
    """Return where the collector of a site says, retained, whether it is there."""
    return f"{ROOT}/{site}/{CENTRAL}/status"


def acknowledged_topic(site: str, gateway: str) -> str:
    """Return where the collector says, retained, what it has of a gateway."""
    return f"{ROOT}/{site}/{gateway}/acknowledged"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message before it has a number."""

    kind: Kind
    stream: str | None
    time: float  # Unix seconds
    data: dict[str, Any]
    bundle: str | None = None  # digest
    detector: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Wraps the messages of one gateway."""

    site: str
    gateway: str
    epoch: str

    def topic(self, kind: Kind, stream: str | None = None) -> str:
        """Return the topic of a kind of message."""
        return "/".join(filter(None, [ROOT, self.site, self.gateway, kind, stream]))

    def numbered(self, message: Outgoing, seq: int, clock: str) -> bytes:
        """Return the message as it is sent; ``clock`` is the quality of the gateway's clock."""
        identity = f"{self.gateway}/{self.epoch}/{seq}"
        return self._wrap(message, identity, seq, clock)

    def status(
        self,
        state: LinkState,
        time: float,
        seq: int,
        suffix: str,
        clock: str,
        more: Mapping[str, Any] = _NOTHING,
    ) -> bytes:
        """Return the retained status; ``seq`` is the highest number given so far."""
        identity = f"{self.gateway}/{self.epoch}/{seq}/{suffix}"
        data = {"state": state, **more}
        return self._wrap(Outgoing("status", None, time, data), identity, seq, clock)

    def gone(
        self, ranges: Sequence[tuple[int, int]], time: float, seq: int, suffix: str, clock: str
    ) -> bytes:
        """Return which numbers will not come; ``seq`` is the highest number given so far."""
        identity = f"{self.gateway}/{self.epoch}/{seq}/{suffix}"
        data = {"ranges": [list(one) for one in ranges]}
        return self._wrap(Outgoing("gone", None, time, data), identity, seq, clock)

    def _wrap(self, message: Outgoing, identity: str, seq: int, clock: str) -> bytes:
        document: dict[str, Any] = {
            "specversion": "1.0",
            "id": identity,
            "source": f"/{self.site}/{self.gateway}",
            "type": f"fieldwatch.{message.kind}.v1",
            "time": iso_time(message.time),
            "datacontenttype": "application/json",
            "epoch": self.epoch,
            "seq": seq,
            "stream": message.stream,
            "clock": clock,
            "bundle": message.bundle,
            "detector": message.detector,
            "data": message.data,
        }
        if message.stream is not None:
            document["subject"] = message.stream
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
