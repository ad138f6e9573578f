"""Accepts a message of the collector only if it is signed and not a replay.

    {"state":"online","counter":1790000000000,"signature":"…"}

A key with the role collector signs the topic, which names site and gateway, and the message. The
counter increases with each message of a key. A broker repeats retained messages, so the last one
may arrive again; an older one is a replay. The highest counter of each key and topic is stored with
the next commit.
"""

from __future__ import annotations

import json
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from agent.store.ranges import is_number
from models.errors import NotAuthentic, Unproven
from models.signed import parted, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.uplink.trust import Trust

CONTEXT: Final = "fieldwatch.collector.v1"
_COUNTER_MAX: Final = 2**63 - 1  # what SQLite can store

Cause = Literal[
    "malformed",
    "foreign_epoch",
    "beyond",
    "too_large",
    "unsigned",
    Unproven,
    "replayed",
]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)


class Rejected(Exception):
    """A message cannot be used."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


class Words:
    """Verifies the collector's messages; the sender's thread uses it."""

    def __init__(self, trust: Trust, unsigned: bool) -> None:
        """Set up; with ``unsigned``, messages need no signature."""
        self._trust = trust
        self._unsigned = unsigned
        self._counters: dict[str, int] = {}  # topic and key -> the highest
        self._latest: dict[str, str] = {}  # topic -> key of the message that is in force
        self._news: SimpleQueue[tuple[str, int]] = SimpleQueue()  # sender -> loop

    def connected(self, counters: Mapping[str, int]) -> None:
        """Begin with the current keys and the stored counters."""
        if not self._unsigned:
            self._trust.read()
        for name, counter in counters.items():
            self._counters[name] = max(counter, self._counters.get(name, 0))
        self._latest = {}

    def renewed(self) -> bool:
        """Whether the keys have changed, so that another message may be in force now."""
        return not self._unsigned and self._trust.renewed()

    def read(self, topic: str, body: bytes) -> dict[str, Any]:
        """Return the content of a message.

        Raises:
            Rejected: the message is not accepted.

        """
        message, signature = parted(body)
        if self._unsigned:
            return _json(message)
        if signature is None:
            raise Rejected("unsigned", "it is not signed")
        try:
            key = self._trust.keyring.verify("collector", CONTEXT, text(topic, message), signature)
        except NotAuthentic as error:
            raise Rejected(error.cause, str(error)) from error
        said = _json(message)
        self._count(topic, key.key_id.hex(), said.get("counter"))
        return said

    def _count(self, topic: str, key_id: str, counter: Any) -> None:
        if not is_number(counter) or not 0 < counter <= _COUNTER_MAX:
            raise Rejected("malformed", "counter is missing or wrong")
        name = f"{topic}/{key_id}"
        last = self._counters.get(name, 0)
        again = counter == last and self._latest.get(topic, key_id) == key_id
        if counter <= last and not again:
            raise Rejected("replayed", f"its counter is {counter}, but {last} was received before")
        self._latest[topic] = key_id
        if counter > last:
            self._counters[name] = counter
            self._news.put((name, counter))

    def news(self) -> dict[str, int]:
        """Return the counters that increased since the last call, for the loop to store."""
        found: dict[str, int] = {}
        try:
            while True:
                name, counter = self._news.get_nowait()
                found[name] = counter
        except Empty:
            return found

    def document(self) -> dict[str, Any]:
        """Return the trusted collectors, for ``status``."""
        return {"unsigned": self._unsigned} | self._trust.document()


def _json(message: bytes) -> dict[str, Any]:
    try:
        said = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Rejected("malformed", "it is not JSON") from error
    if not isinstance(said, dict):
        raise Rejected("malformed", "it is not a JSON object")
    return said
