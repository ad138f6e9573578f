"""Brokers at their worst: the uplink waits, says what is wrong, and loses nothing.

Each case is bad until the test has seen that ``status`` tells of it; then the broker mends, and
everything has to be there.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.health.status import uplink_lines
from tests.conftest import wait_until
from tests.scripted_broker import DISCONNECT, PUBLISH, Published, ScriptedBroker, Session
from tests.uplink_rig import Gateway

MESSAGES = 30
_noise = random.Random(20261123)


def accept(session: Session) -> None:
    session.accept()


def answer(session: Session, message: Published) -> None:
    session.answer(message)


def nothing(*_: Any) -> None:
    pass


def answer_with(code: int) -> Callable[[Session, Published], None]:
    """Of the messages; a status is taken."""

    def on_publish(session: Session, message: Published) -> None:
        session.answer(message, 0 if message.retain else code)

    return on_publish


def half_a_packet(session: Session) -> None:
    session.sock.sendall(b"\x20\x7f\x00")


def garbage(session: Session) -> None:
    session.sock.sendall(_noise.randbytes(200))


def accept_then_garbage(session: Session) -> None:
    session.accept()
    session.sock.sendall(b"\x00\x05" + _noise.randbytes(200))


def a_topic_longer_than_its_packet(session: Session, _: Published) -> None:
    session.send(PUBLISH, b"\x00\x09ab")


def hang_up(session: Session, _: Published) -> None:
    session.hang_up()


def accept_and_leave_in_the_middle(session: Session) -> None:
    session.accept()
    session.sock.recv(20)  # of the first message
    session.hang_up()


def end_with(code: int) -> Callable[[Session, Published], None]:
    def on_publish(session: Session, _: Published) -> None:
        session.send(DISCONNECT, bytes([code, 0]))

    return on_publish


@dataclass(frozen=True)
class Case:
    state: str
    error: str
    on_connect: Callable[[Session], None] = accept
    on_publish: Callable[[Session, Published], None] = answer
    settings: dict[str, Any] = field(default_factory=dict)


CASES = {
    "never answers": Case("offline", "does not answer", nothing),
    "answers by half": Case("offline", "does not answer", half_a_packet),
    "no MQTT at all": Case("offline", "without an answer", garbage),
    "never acknowledges": Case(
        "offline", "no acknowledgement", on_publish=nothing, settings={"ack_timeout_s": 0.2}
    ),
    "drops mid-publish": Case("offline", "broke", on_publish=hang_up),
    "leaves in the middle of a message": Case("offline", "broke", accept_and_leave_in_the_middle),
    "refuses, 3.1.1": Case(
        "offline", "ot authorized", lambda s: s.accept(code=5), settings={"protocol": "3.1.1"}
    ),
    "refuses the password, 3.1.1": Case(
        "offline", "ad user name", lambda s: s.accept(code=4), settings={"protocol": "3.1.1"}
    ),
    "refuses the password": Case("offline", "Bad user name", lambda s: s.accept(code=0x86)),
    "refuses, 5": Case("offline", "Not authorized", lambda s: s.accept(code=0x87)),
    "is busy": Case("offline", "Server busy", lambda s: s.accept(code=0x89)),
    "quota exceeded at the door": Case("offline", "Quota exceeded", lambda s: s.accept(code=0x97)),
    "quota exceeded, and ends": Case("offline", "Quota exceeded", on_publish=end_with(0x97)),
    "quota exceeded": Case("held", "Quota exceeded", on_publish=answer_with(0x97)),
    "nobody is subscribed": Case("held", "No matching subscribers", on_publish=answer_with(0x10)),
    "unspecified error": Case("held", "Unspecified error", on_publish=answer_with(0x80)),
    "packet too large, and ends": Case("offline", "Packet too large", on_publish=end_with(0x95)),
    "garbage later": Case("offline", "Protocol error", accept_then_garbage),
    "a topic longer than its packet": Case(
        "offline", "invalid MQTT", on_publish=a_topic_longer_than_its_packet
    ),
    "session taken over": Case("offline", "Session taken over", on_publish=end_with(0x8E)),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.mqtt.connection.CONNECT_TIMEOUT_S", 0.2)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(port: int, **settings: Any) -> Gateway:
        made.append(Gateway(tmp_path, port, **{"protocol": "5"} | settings))
        made[-1].put(MESSAGES)
        made[-1].uplink.start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def came(scripted: ScriptedBroker) -> set[int]:
    return {json.loads(body)["seq"] for body in scripted.bodies()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_nothing_is_lost_and_status_says_what_is_wrong(
    gateway: Callable[..., Gateway], case: Case
) -> None:
    good = threading.Event()

    def on_connect(session: Session) -> None:
        (accept if good.is_set() else case.on_connect)(session)

    def on_publish(session: Session, message: Published) -> None:
        (answer if good.is_set() else case.on_publish)(session, message)

    with ScriptedBroker(on_connect, on_publish) as scripted:
        one = gateway(scripted.port, **case.settings)
        link = one.uplink.snapshot
        wait_until(lambda: told(link(), case), f"{case.state} and {case.error!r} in one status")
        if case.state == "offline":
            wait_until(lambda: link()["failures"] >= 3, "some more attempts")
            assert link()["last_error"]
            # it waited after each failure, and did not open one connection beside another
            assert len(scripted.sessions) - link()["failures"] <= 1
        assert one.delete_acknowledged() == MESSAGES
        good.set()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert came(scripted) == set(range(1, MESSAGES + 1))
        wait_until(lambda: link()["state"] == "online", "the link")


def told(link: dict[str, Any], case: Case) -> bool:
    """Whether a person reads of the case; its state comes and goes as it is tried again."""
    shown = " ".join(uplink_lines(link))
    return link["state"] == case.state and case.state in shown and case.error in shown


def test_a_topic_not_allowed_for_now_is_parked_and_asks_again(
    gateway: Callable[..., Gateway],
) -> None:
    allowed = threading.Event()

    def on_publish(session: Session, message: Published) -> None:
        session.answer(message, 0 if allowed.is_set() or message.retain else 0x87)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port)
        link = one.uplink.snapshot
        wait_until(lambda: bool(link()["denied"]), "the topic to be parked")
        assert "Not authorized" in link()["last_error"]
        assert "DENIED by the broker" in " ".join(uplink_lines(link()))
        assert one.delete_acknowledged() == MESSAGES
        sent = len(scripted.bodies())
        wait_until(lambda: len(scripted.bodies()) > sent, "another question")
        allowed.set()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        wait_until(lambda: (link()["denied"], link()["parked"]) == ([], 0), "no topic parked")
        assert len(scripted.sessions) == 1


def test_one_message_at_a_time_where_the_broker_wants_no_more(
    gateway: Callable[..., Gateway],
) -> None:
    with ScriptedBroker(lambda session: session.accept(receive_maximum=1)) as scripted:
        one = gateway(scripted.port)
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert [session.unanswered_max for session in scripted.sessions] == [1]
        assert sorted(came(scripted)) == list(range(1, MESSAGES + 1))


def test_a_broker_that_lets_nobody_hear_the_collector_is_told_of(
    gateway: Callable[..., Gateway],
) -> None:
    with ScriptedBroker(on_subscribe=lambda s, packet: s.subscribed(packet, 0x87)) as scripted:
        one = gateway(scripted.port, acknowledgement="central")
        wait_until(lambda: one.uplink.snapshot()["failures"] >= 3, "some attempts")
        assert "refuses the subscription: Not authorized" in one.uplink.snapshot()["last_error"]
        assert one.delete_acknowledged() == MESSAGES
        assert scripted.bodies() == []


def test_what_floods_the_gateway_is_dropped_and_not_kept(
    gateway: Callable[..., Gateway],
) -> None:
    """A broker that sends on and on: what waits is bounded, and the acknowledgement is heard."""
    topic = b"fieldwatch/v1/plant/gw-1/acknowledged"

    def on_subscribe(session: Session, packet: bytes) -> None:
        session.subscribed(packet)
        one = len(topic).to_bytes(2, "big") + topic + b"\0" + b"{}"
        session.sock.sendall((bytes([PUBLISH << 4, len(one)]) + one) * 50_000)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        one = gateway(scripted.port, acknowledgement="central")
        rejected = one.uplink.snapshot()["central"]["rejected"]
        wait_until(lambda: one.uplink.snapshot()["central"]["rejected"]["malformed"] > 1000, "some")
        assert rejected["foreign_epoch"] == 0
        assert one.delete_acknowledged() == MESSAGES
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
