"""The default dialect: JSON with the attribute names of CloudEvents 1.0, a topic for each stream.

``id`` is ``gateway/epoch/seq`` and the same for each repeat, so that ops drops repeats. Status and
gone have an ``id`` with a suffix of their own.

The outbox keeps ``data`` as JSON. It is put into its envelope as it is: to read and write it again
would cost more than all else that a message costs here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from agent.dialects.dialect import LinkState, Message, Topic
from agent.dialects.topics import gateway_topic
from agent.mqtt.payload import JSON
from agent.store.record import Origin, Record, packed
from models.times import iso_time


@lru_cache(maxsize=1000)
def _json(text: str | None) -> str:
    """Return a text as JSON; names of streams, detectors and bundles come again and again."""
    return json.dumps(text)


class CloudEvents:
    """Encodes the messages of one gateway as JSON."""

    content_type = JSON

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._id = _json(f"{origin.gateway}/{origin.epoch}/")[:-1]
        self._source = _json(f"/{origin.site}/{origin.gateway}")
        self._epoch = _json(origin.epoch)
        self._topics: dict[tuple[str, str | None], Topic] = {}

    def record(self, record: Record) -> Message:
        """Return a record as it is sent."""
        return Message(self._topic(record.kind, record.stream), self._wrap(record))

    def status(
        self,
        state: LinkState,
        time: float,
        seq: int,
        suffix: str,
        clock: str,
        more: Mapping[str, Any] | None = None,
    ) -> Message:
        """Return the retained status; see ``Dialect``."""
        data = packed({"state": state} | dict(more or {}))
        body = self._wrap(Record(seq, "status", None, time, clock, None, None, data), f"/{suffix}")
        return Message(self._topic("status"), body)

    def gone(
        self, ranges: Sequence[tuple[int, int]], time: float, seq: int, suffix: str, clock: str
    ) -> Message:
        """Return which numbers will not come; see ``Dialect``."""
        data = packed({"ranges": [list(one) for one in ranges]})
        body = self._wrap(Record(seq, "gone", None, time, clock, None, None, data), f"/{suffix}")
        return Message(self._topic("gone"), body)

    def _topic(self, kind: str, stream: str | None = None) -> Topic:
        """Return the topic; there are as many as streams, and each is made once."""
        key = kind, stream
        if (known := self._topics.get(key)) is None:
            name = gateway_topic(self.origin.site, self.origin.gateway, kind, stream)
            known = self._topics[key] = Topic(name, kind, stream)
        return known

    def _wrap(self, record: Record, suffix: str = "") -> bytes:
        seq, kind, stream, time, clock, bundle, detector, data = record
        subject = "" if stream is None else f',"subject":{_json(stream)}'
        head = (
            f'{{"specversion":"1.0","id":{self._id}{seq}{suffix}","source":{self._source},'
            f'"type":"fieldwatch.{kind}.v1","time":"{iso_time(time)}",'
            f'"datacontenttype":"application/json","epoch":{self._epoch},"seq":{seq},'
            f'"stream":{_json(stream)},"clock":{_json(clock)},"bundle":{_json(bundle)},'
            f'"detector":{_json(detector)},"data":'
        )
        return b"".join((head.encode(), data, subject.encode(), b"}"))
