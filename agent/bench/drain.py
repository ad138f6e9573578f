"""Measures how fast a full outbox is sent, and paho alone with the same messages and window.

Both run in turns, and the best turn of each counts, because other work disturbed the others. paho's
cost is the mean, as for the other bare parts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from agent.bench.bare import encoded
from agent.bench.mqtt import NoAnswer, Publishing
from agent.bench.new_store import GATEWAY, SITE, new_store
from agent.clock import clock_quality
from agent.config.broker import MqttTable
from agent.store.batch import Batch
from agent.store.record import Outgoing
from agent.store.writer import Store
from agent.uplink.sender import Uplink

_MESSAGES = 3000
_TURNS = 3
_LOOK_S = 0.005  # not more often, because each check takes time from the sender
_DRAIN_S_MAX = 60.0
_UNTHROTTLED = 1e9  # messages per second, so that no limit slows the measurement


class Rates(NamedTuple):
    """Messages per second, and paho's cost."""

    agent: float
    bare: float
    bare_cpu_s: float  # per message


def drain(messages: Sequence[Outgoing], mqtt: MqttTable, directory: Path) -> Rates | None:
    """Measure with some messages, repeated as often as needed; None if there are none.

    Raises:
        NoAnswer: the broker does not acknowledge.

    """
    if not messages:
        return None
    many = list(islice(cycle(messages), _MESSAGES))
    directory.mkdir()
    bare, agent = [], []
    for turn in range(_TURNS):
        bare.append(Publishing(mqtt).run(encoded(many)))
        agent.append(_agent(many, mqtt, directory / str(turn)))
    cpu_s, wall_s = zip(*bare, strict=True)
    return Rates(max(agent), _MESSAGES / min(wall_s), sum(cpu_s) / (_TURNS * _MESSAGES))


def _agent(messages: list[Outgoing], mqtt: MqttTable, directory: Path) -> float:
    new_store(directory)
    store = Store(directory, SITE, GATEWAY, 2 * len(messages), 1)
    store.open()
    store.commit(Batch(messages=messages), clock_quality())
    unthrottled = mqtt.model_copy(update={"replay_rate_max": _UNTHROTTLED})
    uplink = Uplink(unthrottled, store.origin, directory, lambda: store.last_seq)
    uplink.start()
    try:
        return _rate(uplink, len(messages))
    finally:
        uplink.stop()
        store.close()


def _rate(uplink: Uplink, messages: int) -> float:
    """Return messages per second, from the first acknowledgement to the last."""
    deadline = time.monotonic() + _DRAIN_S_MAX
    began, done_before = 0.0, 0
    while time.monotonic() < deadline:
        done: int = uplink.snapshot()["acknowledged"]
        if done == messages:
            return (done - done_before) / (time.monotonic() - began)
        if done and not began:
            began, done_before = time.monotonic(), done
        time.sleep(_LOOK_S)
    raise NoAnswer(f"the broker has not acknowledged {messages} messages")
