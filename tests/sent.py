"""The messages of a gateway as it sends them in JSON, for tests that write their own."""

from __future__ import annotations

from typing import Any

from agent.dialects.cloudevents import CloudEvents
from agent.dialects.topics import gateway_topic
from agent.store.record import Origin, Outgoing


class Sent:
    """Topics and bytes of one gateway's messages, not signed."""

    def __init__(self, site: str, gateway: str, epoch: str) -> None:
        self.site, self._gateway, self.epoch = site, gateway, epoch
        self._dialect = CloudEvents(Origin(site, gateway, epoch))

    def topic(self, kind: str, stream: str | None = None) -> str:
        return gateway_topic(self.site, self._gateway, kind, stream)

    def numbered(self, message: Outgoing, seq: int, clock: str) -> bytes:
        return self._dialect.record(message.numbered(seq, clock)).body

    def status(self, *words: Any) -> bytes:
        return self._dialect.status(*words).body

    def gone(self, *words: Any) -> bytes:
        return self._dialect.gone(*words).body
