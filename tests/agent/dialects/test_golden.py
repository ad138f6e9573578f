"""The bytes of each kind of message, as central ops gets them, stay what they are.

``data/messages.json`` was written by the version whose outbox had the messages as they are sent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.config.broker import DialectName
from agent.dialects.dialect import Message
from agent.dialects.kinds import dialect_of
from agent.store.record import Origin, Outgoing

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "messages.json").read_text())
ORIGIN = Origin("plant", "gw-1", "00ff00ff00ff00ff")
DIGEST = "4ce4c9a5d157e6d79b1b3694b40ce6fcb919e3990a261410c3807f3edcc06a5a"
TIME = 1_790_000_000.123456
CHANNEL = {"missing": 1, "min": -0.5, "mean": 1e-07, "max": 93.0, "std": 0.231036}
SUMMARY: dict[str, Any] = {
    "from": "2026-09-21T13:45:20.000Z",
    "to": "2026-09-21T13:46:20.000Z",
    "last_sample": "2026-09-21T13:46:19.900Z",
    "n": 300,
    "scored": 300,
    "score_max": 0.4121,
    "share_anomalous": None,
    "uncertain": 0,
    "channels": {"flow": CHANNEL, 'temp "hot" µ': CHANNEL | {"held": 3}},
}
ALARM: dict[str, Any] = {
    "stream": "pump",
    "number": 3,
    "kind": "limit",
    "state": "opened",
    "closed": None,
    "probability": 2.1e-06,
    "action": "look at the machine\nnow – \ud83d\ude00 \x7f",
    "channels": [{"channel": "flow", "observed": 70.96}],
    "limit": {"side": "high", "value": 80.0, "median_s": None},
}


class Case(NamedTuple):
    """A message before it is numbered; ``seq`` and ``clock`` are given to it."""

    message: Outgoing
    seq: int
    clock: str


CASES = {
    "summary": Case(Outgoing("summary", "pump", TIME, SUMMARY, DIGEST, "telemanom"), 7, "synced"),
    "merged": Case(
        Outgoing("summary", "pump", 60.0, SUMMARY | {"merged": [[1, 3], [7, 7]]}, DIGEST, "hampel"),
        2**40,
        "unsynced",
    ),
    "alarm": Case(Outgoing("alarm", "pump", 0.0, ALARM, DIGEST, "telemanom"), 1, "corrected"),
    "foreign": Case(Outgoing("alarm", "Pumpe-ü", 1e9, ALARM, None, 'so "named" µ'), 9, "unknown"),
    "health": Case(Outgoing("health", None, TIME, {"running": True, "n": 0}), 12, "synced"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dialect", ["json", "cbor"])
def test_a_record_has_the_bytes_that_it_always_had(dialect: DialectName, name: str) -> None:
    message, seq, clock = CASES[name]
    topic, body = dialect_of(dialect, ORIGIN).record(message.numbered(seq, clock))
    assert (topic, topic.kind, topic.stream) == (
        GOLDEN[name]["topic"],
        message.kind,
        message.stream,
    )
    assert (body.decode() if dialect == "json" else body.hex()) == GOLDEN[name][dialect]


def beside(name: DialectName) -> dict[str, Message]:
    """Return what is no record."""
    dialect = dialect_of(name, ORIGIN)
    unstored = {"since": "2026-09-21T13:45:20.000Z", "error": "disk full", "alarms": [ALARM]}
    more = {"unstored": unstored}
    return {
        "offline": dialect.status("offline", TIME, 0, "1f2e-1-lost", "unsynced"),
        "online": dialect.status("online", TIME, 7, "1f2e-2-online", "synced", more),
        "gone": dialect.gone([(1, 3), (7, 7)], TIME, 9, "gone-1-7", "synced"),
    }


@pytest.mark.parametrize("name", ["offline", "online", "gone"])
@pytest.mark.parametrize("dialect", ["json", "cbor"])
def test_what_is_said_of_the_link_has_the_bytes_that_it_always_had(
    dialect: DialectName, name: str
) -> None:
    topic, body = beside(dialect)[name]
    assert topic == GOLDEN[name]["topic"]
    assert body.decode() == GOLDEN[name]["json"]
