"""One topic that the broker does not let us publish to costs the others nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.dialects.dialect import Topic
from agent.health.status import uplink_lines
from agent.mqtt.connection import UNSUPPORTED_PROTOCOL
from agent.uplink.denials import Denials
from tests.conftest import ROOT, WAIT_S_MAX, RealBroker, wait_until
from tests.scripted_broker import DISCONNECT, Published, ScriptedBroker, Session
from tests.uplink_rig import Gateway, Ops

NOT_AUTHORIZED = 0x87
LONG = {"denied_retry_s": 3600}  # no test waits for it
FAN = "fieldwatch/v1/plant/gw-1/summary/fan"


def drop(session: Session, message: Published) -> None:
    session.hang_up()


def answer_and_drop(session: Session, message: Published) -> None:
    session.answer(message, NOT_AUTHORIZED)
    session.hang_up()


def say_why_and_drop(session: Session, message: Published) -> None:
    session.send(DISCONNECT, bytes([NOT_AUTHORIZED, 0]))
    session.hang_up()


def answer(session: Session, message: Published) -> None:
    session.answer(message, NOT_AUTHORIZED)


def denying(how: Callable[[Session, Published], None], *topics: str) -> ScriptedBroker:
    def on_publish(session: Session, message: Published) -> None:
        if any(topic in message.topic for topic in topics):
            how(session, message)
        else:
            session.answer(message)

    return ScriptedBroker(on_publish=on_publish)


def kinds(scripted: ScriptedBroker, *kinds: str) -> list[str]:
    """Of what was published, in order, what has one of these in its topic."""
    return [
        next(kind for kind in kinds if kind in message.topic)
        for session in scripted.sessions
        for message in session.published
        if any(kind in message.topic for kind in kinds)
    ]


@pytest.mark.parametrize(
    ("how", "protocol", "connections"),
    [
        (answer, "5", 1),
        (answer_and_drop, "5", 5),  # the answer may be lost with the connection
        (drop, "5", 5),  # one, perhaps, for an alarm whose answer was lost with the connection
        (say_why_and_drop, "5", 5),
        (drop, "3.1.1", 5),
    ],
)
def test_the_others_go_and_the_link_stays(
    gateway: Callable[..., Gateway],
    how: Callable[[Session, Published], None],
    protocol: str,
    connections: int,
) -> None:
    """It was so that each connection began with the topic again, and ended with it."""
    with denying(how, "fan") as scripted:
        one = gateway(scripted.port, protocol=protocol, **LONG)
        one.put(40, stream="fan")  # the oldest, and more than a window
        one.put(40)
        one.put(3, "alarm")
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 40, "all but the denied ones")
        assert one.uplink.snapshot()["denied"] == [FAN]
        assert f"DENIED by the broker, messages wait: {FAN}" in " ".join(
            uplink_lines(one.uplink.snapshot())
        )
        one.put(1, "alarm")
        one.put(2, stream="fan")
        wait_until(lambda: one.delete_acknowledged() == 42, "a new alarm")
        assert len(scripted.sessions) <= connections
        assert kinds(scripted, "alarm", "fan")[:3] == ["alarm"] * 3


def test_alarms_go_first_while_the_guilty_one_is_looked_for(
    gateway: Callable[..., Gateway],
) -> None:
    """One message at a time, and each connection's first one is an alarm where there is one."""
    denied: SimpleQueue[Session] = SimpleQueue()

    with denying(lambda session, _: denied.put(session), "fan") as scripted:
        one = gateway(scripted.port, **LONG)
        one.put(2, stream="fan")
        one.put(5)
        one.uplink.start()
        for _ in range(3):
            session = denied.get(timeout=WAIT_S_MAX)
            one.put(1, "alarm")  # raised before the link breaks
            session.hang_up()

        def sent_but_the_denied() -> bool:
            while not denied.empty():  # a slow machine may need one try more
                denied.get().hang_up()
            return one.delete_acknowledged() == 2

        wait_until(sent_but_the_denied, "all but the denied ones")
        for session in scripted.sessions[1:3]:
            sent = [message.topic for message in session.published if not message.retain]
            assert "alarm" in sent[0]
            assert session.unanswered_max == 1


def test_an_alarm_topic_may_be_the_guilty_one(gateway: Callable[..., Gateway]) -> None:
    with denying(drop, "alarm/fan") as scripted:
        one = gateway(scripted.port, **LONG)
        one.put(1, "alarm", stream="fan")
        one.put(2, "alarm")
        one.put(5)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 1, "all but the denied one")


def test_the_status_may_be_the_guilty_one(gateway: Callable[..., Gateway]) -> None:
    with denying(drop, "/status") as scripted:
        one = gateway(scripted.port, **LONG)
        one.put(5)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "the messages")
        assert one.uplink.snapshot()["denied"] == ["fieldwatch/v1/plant/gw-1/status"]


def test_two_topics_may_be_guilty(gateway: Callable[..., Gateway]) -> None:
    with denying(drop, "fan", "valve") as scripted:
        one = gateway(scripted.port, **LONG)
        one.put(3, stream="fan")
        one.put(3, stream="valve")
        one.put(5)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 6, "all but the denied ones")
        assert len(one.uplink.snapshot()["denied"]) == 2


def test_a_link_that_breaks_for_another_reason_parks_nothing(
    gateway: Callable[..., Gateway],
) -> None:
    def on_publish(session: Session, message: Published) -> None:
        session.answer(message)
        if len(session.published) == 5:
            session.hang_up()

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, **LONG)
        one.put(60)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert one.uplink.snapshot()["denied"] == []
        assert len(scripted.sessions) > 5


@pytest.mark.parametrize("how", [answer, answer_and_drop, drop])
def test_what_is_allowed_again_goes(
    gateway: Callable[..., Gateway], how: Callable[[Session, Published], None]
) -> None:
    allowed = threading.Event()

    def on_publish(session: Session, message: Published) -> None:
        denied = "fan" in message.topic and not allowed.is_set()
        (how if denied else lambda s, m: s.answer(m))(session, message)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, denied_retry_s=0.3)
        one.put(40, stream="fan")
        one.put(3)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 40, "all but the denied ones")
        allowed.set()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert one.uplink.snapshot()["denied"] == []
        assert one.uplink.snapshot()["parked"] == 0


def test_one_bad_message_of_a_good_topic_does_not_hold_it_for_ever(
    gateway: Callable[..., Gateway],
) -> None:
    def on_publish(session: Session, message: Published) -> None:
        session.answer(message, NOT_AUTHORIZED if b'"seq":2,' in message.body else 0)

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = gateway(scripted.port, denied_retry_s=0.1)
        one.put(40)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 1, "all but the bad one")
        one.put(5)
        wait_until(lambda: one.delete_acknowledged() == 1, "the new ones")
        wait_until(lambda: one.uplink.snapshot()["parked"] == 1, "it to be parked")


def test_mosquitto_with_an_access_list(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    access = tmp_path / "acl"
    access.write_text(
        "topic read #\n"
        "topic readwrite fieldwatch/v1/plant/gw-1/summary/pump\n"
        "topic readwrite fieldwatch/v1/plant/gw-1/alarm/#\n"
        "topic readwrite fieldwatch/v1/plant/gw-1/status\n"
    )
    broker = RealBroker(tmp_path, f"acl_file {access}\nuser root\n")
    broker.start()
    collector = Ops(broker.port)
    try:
        one = gateway(broker.port, protocol="5", **LONG)
        one.put(30, stream="fan")
        one.put(30)
        one.put(2, "alarm")
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 30, "all but the denied ones")
        assert one.uplink.snapshot()["denied"] == [FAN]
        assert one.uplink.snapshot()["connections"] <= 5  # it ends the first ones, too
        wait_until(lambda: len(collector.numbers()) == 32, "them at ops")
    finally:
        collector.close()
        broker.kill()


def test_alarms_go_also_while_much_is_not_confirmed(
    gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 3.1.1 a denied topic's messages count as taken, and the collector never has them."""
    monkeypatch.setattr("agent.uplink.unconfirmed.UNCONFIRMED_MAX", 10)
    with ScriptedBroker() as scripted:
        one = gateway(scripted.port, acknowledgement="central", protocol="3.1.1", inflight_max=1)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        one.put(40)
        one.uplink.committed([])
        wait_until(lambda: len(kinds(scripted, "summary")) == 10, "as many as may be unconfirmed")
        one.put(1, "alarm")
        one.uplink.committed([])
        wait_until(lambda: kinds(scripted, "alarm") == ["alarm"], "the alarm")
        assert len(kinds(scripted, "summary")) == 10


@pytest.mark.parametrize(("old", "noted"), [(True, True), (False, False)])
def test_check_says_what_mqtt_3_cannot_tell(tmp_path: Path, old: bool, noted: bool) -> None:
    def on_connect(session: Session) -> None:
        session.accept(code=UNSUPPORTED_PROTOCOL if old and session.protocol == 5 else 0)

    with ScriptedBroker(on_connect) as scripted:
        text = (ROOT / "systemd" / "agent.toml").read_text()
        text = text.replace("[mqtt]\n", f"[mqtt]\nport = {scripted.port}\n")
        config = tmp_path / "agent.toml"
        config.write_text(
            "\n".join(
                'host = "127.0.0.1"' if line.startswith("host = ") else line
                for line in text.split("\n")
            )
        )
        outcome = CliRunner().invoke(commands, ["check", "--json", "--config", str(config)])
        (broker,) = [one for one in json.loads(outcome.stdout) if "broker" in one["what"]]
        assert broker["ok"]
        assert ("access list denies a topic" in broker["detail"]) == noted


A, B, C = (Topic(name, "summary", name) for name in "abc")


def test_a_topic_asks_once_in_its_time() -> None:
    denials = Denials(0.0)
    denials.deny(A, "no")
    assert denials.due() == [A]
    denials = Denials(3600)
    denials.deny(A, "no")
    assert denials.due() == []
    assert denials.topics == (A,)
    denials.dropped([B, C])
    assert denials.suspicious
    denials.taken(B)
    assert denials.suspicious
    denials.taken(C)
    assert not denials.suspicious
    denials.dropped([A])  # known already: at once
    assert not denials.suspicious
    denials.dropped([B])
    denials.nothing_waits()
    assert not denials.suspicious
