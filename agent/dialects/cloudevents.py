"""The default dialect: JSON with the attribute names of CloudEvents 1.0, a topic for each stream.

``id`` is ``gateway/epoch/seq`` and the same for each repeat, so that ops can drop repeats. Status
and gone have an ``id`` with an additional suffix.

The outbox keeps ``data`` as JSON, which goes into its envelope unchanged: to parse and write it
again would cost more than everything else here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from agent.dialects.dialect import SAMPLES_FOLLOW, Beside, LinkState, Message, Topic
from agent.dialects.topics import gateway_topic
from agent.mqtt.payload import JSON
from agent.mqtt.signer import Signer
from agent.store.record import Origin, Record, packed
from models.times import iso_time


class _Like(NamedTuple):
    """What messages of the same kind, stream, clock and detector have in common."""

    topic: Topic
    type: str  # from ``type`` to ``time``
    about: str  # from ``stream`` to ``data``
    subject: bytes  # what follows the data


class CloudEvents:
    """Encodes the messages of one gateway as JSON."""

    content_type = JSON

    def __init__(self, origin: Origin, signer: Signer | None = None) -> None:
        """Set up; ``signer`` signs each message as JSON; None: they are not signed."""
        self.origin = origin
        self._signer = signer or Signer()
        self._id = json.dumps(f"{origin.gateway}/{origin.epoch}/")[:-1]
        self._source = json.dumps(f"/{origin.site}/{origin.gateway}")
        self._epoch = json.dumps(origin.epoch)
        self._like = lru_cache(maxsize=1000)(self._in_common)  # they come again and again

    def record(self, record: Record, suffix: str = "") -> Message:
        """Return the message to send for a record; ``suffix`` ends the ``id`` of other messages."""
        seq, kind, stream, time, clock, bundle, detector, data = record
        topic, type_, about, subject = self._like(kind, stream, clock, bundle, detector)
        head = (
            f'{{"specversion":"1.0","id":{self._id}{seq}{suffix}","source":{self._source},'
            f'{type_}{time}","datacontenttype":"application/json",'
            f'"epoch":{self._epoch},"seq":{seq},{about}'
        )
        body = b"".join((head.encode(), data, subject))
        return Message(topic, self._signer.signed(topic, body))

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
        return self._beside("status", data, time, seq, suffix, clock)

    def gone(
        self, ranges: Sequence[tuple[int, int]], time: float, seq: int, suffix: str, clock: str
    ) -> Message:
        """Return the message about numbers that will not come; see ``Dialect``."""
        data = packed({"ranges": [list(one) for one in ranges]})
        return self._beside("gone", data, time, seq, suffix, clock)

    def samples(
        self,
        stream: str,
        about: Mapping[str, Any],
        data: bytes,
        time: float,
        seq: int,
        suffix: str,
        clock: str,
    ) -> Message:
        """Return a chunk of samples; see ``Dialect``."""
        topic, head = self._beside("samples", packed(dict(about)), time, seq, suffix, clock, stream)
        return Message(topic, head + SAMPLES_FOLLOW + data)

    def _beside(
        self,
        kind: Beside,
        data: bytes,
        time: float,
        seq: int,
        suffix: str,
        clock: str,
        stream: str | None = None,
    ) -> Message:
        record = Record(seq, kind, stream, iso_time(time), clock, None, None, data)
        return self.record(record, f"/{suffix}")

    def _in_common(
        self,
        kind: str,
        stream: str | None,
        clock: str,
        bundle: str | None,
        detector: str | None,
    ) -> _Like:
        name = gateway_topic(self.origin.site, self.origin.gateway, kind, stream)
        return _Like(
            Topic(name, kind, stream),
            f'"type":"fieldwatch.{kind}.v1","time":"',
            f'"stream":{json.dumps(stream)},"clock":{json.dumps(clock)},'
            f'"bundle":{json.dumps(bundle)},"detector":{json.dumps(detector)},"data":',
            b"}" if stream is None else f',"subject":{json.dumps(stream)}}}'.encode(),
        )
