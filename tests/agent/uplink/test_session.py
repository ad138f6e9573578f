"""What is sent on a connection, in which order, how much at a time, and what happens to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.store.batch import Batch
from agent.store.record import Outgoing
from tests.conftest import RealBroker, wait_until
from tests.scripted_broker import Published, ScriptedBroker, Session
from tests.uplink_rig import Gateway, Ops


def test_a_backlog_arrives_in_order_and_leaves_the_outbox(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port)
    one.put(500)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(lambda: len(ops.received) == 500, "all messages at ops")
    assert ops.numbers() == list(range(1, 501))
    assert one.uplink.snapshot()["state"] == "online"
    assert one.uplink.snapshot()["acknowledged"] == 500


def test_alarms_overtake_summaries(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port)
    one.put(300)
    one.put(5, "alarm")
    one.uplink.start()
    wait_until(lambda: len(ops.received) == 305, "all messages at ops")
    assert ops.numbers() == [*range(301, 306), *range(1, 301)]


def test_lost_connections_lose_and_reorder_nothing(gateway: Callable[..., Gateway]) -> None:
    def on_publish(session: Session, message: Published) -> None:
        if len(session.published) > 700:
            session.hang_up()
        else:
            session.answer(message)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port)
        one.put(3000)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert len(scripted.sessions) == 5
        sent = [json.loads(body)["seq"] for body in scripted.bodies()]
        assert list(dict.fromkeys(sent)) == list(range(1, 3001))
        assert len(sent) <= 3000 + 4 * 20  # at most a window again


def test_nobody_subscribed_holds_the_messages_until_somebody_is(
    broker: RealBroker, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port)
    one.put(50)
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] == "held", "the hold")
    wait_until(lambda: one.uplink.snapshot()["in_flight"] == 0, "the other answers")
    assert one.delete_acknowledged() == 50
    collector = Ops(broker.port)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(lambda: collector.numbers() == list(range(1, 51)), "the messages at ops")
    assert one.uplink.snapshot()["state"] == "online"
    collector.close()


def test_the_window_is_what_the_broker_allows_also_after_a_reconnect(
    gateway: Callable[..., Gateway],
) -> None:
    def on_publish(session: Session, message: Published) -> None:
        if len(scripted.sessions) > 2 or len(session.published) <= 2:
            session.answer(message)
        elif session.unanswered == 3:
            session.hang_up()

    with ScriptedBroker(lambda session: session.accept(receive_maximum=3), on_publish) as scripted:
        one = gateway(scripted.port)
        one.put(40)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert len(scripted.sessions) > 2
        assert max(session.unanswered_max for session in scripted.sessions) <= 3


def test_a_broker_that_never_acknowledges_is_left_and_nothing_is_deleted(
    gateway: Callable[..., Gateway],
) -> None:
    with ScriptedBroker(on_publish=lambda *_: None) as scripted:
        one = gateway(scripted.port, ack_timeout_s=0.3)
        one.put(5)
        one.uplink.start()
        wait_until(lambda: len(scripted.sessions) >= 3, "new connections")
        assert "no acknowledgement" in one.uplink.snapshot()["last_error"]
        assert one.delete_acknowledged() == 5
        one.uplink.stop()


def test_a_message_that_the_broker_will_not_take_is_parked_and_the_rest_goes(
    gateway: Callable[..., Gateway],
) -> None:
    def on_publish(session: Session, message: Published) -> None:
        session.answer(message, 0x87 if b'"seq":2,' in message.body else 0)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port)
        one.put(4)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 1, "all but the refused one")
        wait_until(lambda: one.uplink.snapshot()["parked"] == 1, "it to be parked")


def test_a_full_broker_gets_the_message_again_later(gateway: Callable[..., Gateway]) -> None:
    refused: set[bytes] = set()

    def on_publish(session: Session, message: Published) -> None:
        first = message.body not in refused and b"summary" in message.body
        refused.add(message.body)
        session.answer(message, 0x97 if first else 0)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port)
        one.put(30)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")


def test_what_was_acknowledged_is_not_sent_again_after_a_reconnect(
    gateway: Callable[..., Gateway],
) -> None:
    def on_publish(session: Session, message: Published) -> None:
        session.answer(message)
        if b'"seq":10,' in message.body and len(scripted.sessions) == 1:
            session.hang_up()

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, inflight_max=1)
        one.put(20)
        one.uplink.start()
        # the loop has not deleted anything yet when the connection is lost
        wait_until(lambda: one.uplink.snapshot()["acknowledged"] >= 19, "the rest")
        repeats = len(scripted.bodies()) - len(set(scripted.bodies()))
        assert repeats <= 1  # the one whose acknowledgement was under way
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")


def test_ops_that_wants_only_some_topics_gets_those_without_delay(
    broker: RealBroker, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, inflight_max=5, unsubscribed_retry_s=3600)
    wanted = "fieldwatch/v1/plant/gw-1/summary/fan"
    collector = Ops(broker.port, wanted, "fieldwatch/v1/+/+/alarm/#")
    one.put(20)  # more than the window: they must not stand in the way
    one.put(20, stream="fan")
    one.put(1, "alarm")
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 20, "all but what nobody wants")
    assert collector.numbers() == [41, *range(21, 41)]
    link = one.uplink.snapshot()
    assert link["state"] == "held"
    assert link["held"] == ["fieldwatch/v1/plant/gw-1/summary/pump"]
    one.put(1, stream="fan")
    one.put(1, "alarm")  # of the stream whose summaries are held
    wait_until(lambda: one.delete_acknowledged() == 20, "the new ones")
    collector.close()


def test_one_message_asks_for_all_that_are_held(gateway: Callable[..., Gateway]) -> None:
    subscribed = threading.Event()

    def on_publish(session: Session, message: Published) -> None:
        session.answer(message, 0 if subscribed.is_set() else 0x10)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, inflight_max=5, unsubscribed_retry_s=0.05)
        one.put(50)
        one.uplink.start()
        wait_until(lambda: len(scripted.bodies()) >= 10, "some to ask")
        bodies = scripted.bodies()
        window = len(set(bodies))
        assert window <= 5
        assert set(bodies[window:]) == {bodies[0]}
        subscribed.set()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        sent = [json.loads(body)["seq"] for body in scripted.bodies()]
        assert sent[-49:] == list(range(2, 51))


def test_held_messages_that_were_evicted_are_forgotten_and_new_ones_ask(
    broker: RealBroker, tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, unsubscribed_retry_s=0.05)
    one.put(3)
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] == "held", "the hold")
    one.store.commit(Batch(acked=[1, 2, 3]), "synced")
    collector = Ops(broker.port)
    one.put(1)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(lambda: 4 in collector.numbers(), "the new one at ops")
    collector.close()


def test_a_commit_wakes_the_sender(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.uplink.scheduler.LOOK_S", 3600.0)
    one = gateway(broker.port)
    one.uplink.start()
    wait_until(lambda: len(ops.statuses) == 1, "the link")
    one.put(1, "alarm")
    one.uplink.committed([])
    wait_until(lambda: ops.numbers() == [1], "the alarm")


def test_a_message_longer_than_the_broker_takes_is_parked_and_not_sent(
    gateway: Callable[..., Gateway],
) -> None:
    with ScriptedBroker(lambda session: session.accept(packet_bytes_max=1000)) as scripted:
        one = gateway(scripted.port)
        one.store.commit(
            Batch(messages=[Outgoing("health", None, 0.0, {"long": "x" * 1000})]), "synced"
        )
        one.put(3)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 1, "all but the long one")
        wait_until(lambda: one.uplink.snapshot()["parked"] == 1, "it to be parked")
        assert "longer" in one.uplink.snapshot()["last_error"]
        assert max(len(body) for body in scripted.bodies()) < 1000
        assert len(scripted.sessions) == 1


def test_an_alarm_does_not_wait_for_answers_to_what_was_sent_before(
    gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.uplink.scheduler.LOOK_S", 3600.0)

    def on_publish(session: Session, message: Published) -> None:
        if "/summary/" not in message.topic:
            session.answer(message)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port)
        one.put(1)
        one.uplink.start()
        wait_until(lambda: len(scripted.bodies()) == 1, "the summary, which stays unanswered")
        one.put(1, "alarm")
        one.uplink.committed([])
        wait_until(lambda: len(scripted.bodies()) == 2, "the alarm")


def test_what_is_under_way_is_not_sent_again_because_a_topic_is_held(
    gateway: Callable[..., Gateway],
) -> None:
    unanswered: list[tuple[Session, Published]] = []

    def on_publish(session: Session, message: Published) -> None:
        if message.topic.endswith("/fan"):
            unanswered.append((session, message))
        else:
            session.answer(message, 0x10 if message.topic.endswith("/pump") else 0)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, unsubscribed_retry_s=0.02)
        one.put(3, stream="fan")
        one.put(1)
        one.uplink.start()
        wait_until(lambda: len(scripted.bodies()) >= 8, "the pump's message to ask again")
        assert len(unanswered) == 3
        for session, message in unanswered[:3]:
            session.answer(message)
        wait_until(lambda: one.delete_acknowledged() == 1, "all but the held one")


def test_what_is_parked_stays_so_on_this_connection(gateway: Callable[..., Gateway]) -> None:
    def on_publish(session: Session, message: Published) -> None:
        code = {"fan": 0x99, "pump": 0x10}.get(message.topic.rsplit("/", 1)[-1], 0)
        session.answer(message, code)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, unsubscribed_retry_s=0.02)
        one.put(2, stream="fan")
        one.put(1)
        one.uplink.start()
        wait_until(lambda: len(scripted.bodies()) >= 8, "the pump's message to ask again")
        seqs = [json.loads(body)["seq"] for body in scripted.bodies()]
        assert (seqs.count(1), seqs.count(2)) == (1, 1)
        assert one.uplink.snapshot()["parked"] == 2
