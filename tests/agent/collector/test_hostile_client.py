"""A hostile client on a real broker, beside a real gateway: its messages are collected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.dialects.cloudevents import CloudEvents
from agent.store.migrations import COLLECTED
from agent.store.reader import Reader
from agent.store.record import Outgoing
from tests.conftest import RealBroker, wait_until
from tests.database import asked
from tests.sent import Sent
from tests.uplink_rig import Collecting, Gateway, Ops


def kept(database: Path) -> set[bytes]:
    rows = asked(database, "SELECT body FROM messages UNION ALL SELECT body FROM quarantine")
    return {body for (body,) in rows}


def test_what_a_hostile_client_says_costs_a_gateway_no_message_and_no_acknowledgement(
    broker: RealBroker,
    gateway: Callable[..., Gateway],
    collecting: Callable[..., Collecting],
    tmp_path: Path,
) -> None:
    hostile = Ops(broker.port, "fieldwatch/v1/plant/nobody", client_id="hostile")
    one = gateway(broker.port, acknowledgement="central", central_timeout_s=1)
    one.put(20)
    one.put(20, "alarm")
    with Reader(tmp_path) as reader:
        records = reader.outbox(["summary", "alarm"], 0, 100)
    genuine = {CloudEvents(one.store.origin).record(record).body for record in records}
    assert len(genuine) == 40
    central = collecting(broker.port)
    ours = Sent(*one.store.origin)
    theirs = Sent("plant", "gw-2", ours.epoch)
    summary = ours.topic("summary", "pump")

    def forged(seq: int, sent: Sent = ours, **data: object) -> bytes:
        message = Outgoing("summary", "pump", 0.0, {"forged": True} | data)
        return sent.numbered(message, seq, "synced")

    before = [
        (summary, forged(7)),  # before the genuine one
        (summary, forged(7, theirs)),  # another's text on our topic
        (theirs.topic("summary", "pump"), forged(8)),  # ours on another's
        (summary, forged(2**50)),
        (ours.topic("gone"), ours.gone([(1, 2**40)], 0.0, 2**50, "gone", "synced")),
        (ours.topic("gone"), ours.gone([(1, 12)], 0.0, 40, "gone", "synced")),
        (summary, forged(30, merged=[[1, 29]])),  # all of them are acknowledged now
    ]
    hostile.say(ours.topic("health"), b"\xff")  # retained: heard once the collector is subscribed
    wait_until(lambda: central.collector.counters["rejected"] == 1, "the collector")
    for topic, body in before:
        hostile.say(topic, body)
    wait_until(lambda: central.collector.counters["rejected"] == 4, "the hostile messages")
    wait_until(lambda: central.collector.counters["gone"] >= 11, "what is said to be gone")
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    database = tmp_path / "central" / COLLECTED
    wait_until(lambda: genuine <= kept(database), "all at the collector")
    after = [
        (summary, forged(40, merged=[[1, 39]])),
        (summary, forged(41, merged=[[1, 40]])),
        (ours.topic("gone"), ours.gone([(1, 40)], 0.0, 40, "gone", "synced")),
    ]
    for topic, body in after:
        hostile.say(topic, body)
    one.put(1)  # its number was forged already
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(lambda: central.collector.counters["conflict"] == 4, "the last one")
    central.close()
    hostile.close()
    assert genuine <= kept(database)
    assert asked(database, "SELECT count FROM refused WHERE cause = 'conflict'") == [(4,)]
    assert central.collector.counters["far"] == 1
    assert central.collector.rejected == {"disagrees": 2, "implausible": 1, "unreadable": 1}
