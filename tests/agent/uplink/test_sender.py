"""The uplink over connections that come and go: reconnects, statuses, stops."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config.broker import MqttTable
from agent.mqtt.connection import LinkError
from agent.mqtt.version import probe_broker
from agent.store.record import Origin
from agent.uplink.sender import Uplink
from tests.conftest import ROOT, RealBroker, wait_until
from tests.scripted_broker import Published, ScriptedBroker, Session
from tests.uplink_rig import Gateway, Ops


def test_a_broker_that_dies_half_way_gets_all_it_had_not_acknowledged(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port)
    one.put(3000)
    one.uplink.start()
    wait_until(lambda: len(ops.received) > 500, "a part of the messages")
    broker.kill()
    wait_until(lambda: one.uplink.snapshot()["state"] == "offline", "the loss to be noticed")
    acknowledged = one.uplink.snapshot()["acknowledged"]
    broker.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(lambda: 3000 in ops.numbers(), "the last message at ops")
    # what the dead broker had acknowledged and not handed over is its loss (docs/durability.md);
    # what it had not acknowledged was sent again
    lost = set(range(1, 3001)) - set(ops.numbers())
    assert max(lost, default=0) <= acknowledged
    assert ops.numbers() == sorted(ops.numbers())


def test_no_broker_at_the_start_is_normal(
    broker: RealBroker, gateway: Callable[..., Gateway]
) -> None:
    broker.kill()
    one = gateway(broker.port)
    one.put(3)
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["last_error"] is not None, "a failure")
    assert "refused" in one.uplink.snapshot()["last_error"]
    broker.start()
    collector = Ops(broker.port)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    # not in order, where it subscribed while they were under way
    wait_until(lambda: sorted(collector.numbers()) == [1, 2, 3], "the messages at ops")
    collector.close()


def test_the_status_is_retained_and_a_clean_stop_says_so(
    broker: RealBroker, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port)
    one.put(2)
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] in ("online", "held"), "the link")
    late = Ops(broker.port)
    wait_until(lambda: len(late.statuses) == 1, "the retained status")
    assert late.statuses[0]["data"] == {"state": "online"}
    assert late.statuses[0]["seq"] == 2
    one.uplink.stop()
    wait_until(lambda: len(late.statuses) == 2, "the goodbye")
    assert late.statuses[1]["data"] == {"state": "offline"}
    assert late.statuses[0]["id"] != late.statuses[1]["id"]
    late.close()


def test_a_refusal_says_why(gateway: Callable[..., Gateway]) -> None:
    with ScriptedBroker(lambda session: session.accept(code=0x87)) as scripted:
        one = gateway(scripted.port)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["last_error"] is not None, "the refusal")
        assert "Not authorized" in one.uplink.snapshot()["last_error"]
        settings = MqttTable(host="127.0.0.1", port=scripted.port)
        with pytest.raises(LinkError, match="Not authorized"):
            probe_broker(settings, "check")


def test_mqtt_3_is_taken_where_the_broker_knows_no_5(gateway: Callable[..., Gateway]) -> None:
    def on_connect(session: Session) -> None:
        session.accept(code=0x84 if session.protocol == 5 else 0)

    with ScriptedBroker(on_connect) as scripted:
        one = gateway(scripted.port)
        one.put(3)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert [session.protocol for session in scripted.sessions] == [5, 4]
        settings = MqttTable(host="127.0.0.1", port=scripted.port)
        assert probe_broker(settings, "check") == "3.1.1"


def test_a_broker_that_is_silent_to_mqtt_5_gets_3_next(
    gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mqtt.connection.CONNECT_TIMEOUT_S", 0.2)

    def on_connect(session: Session) -> None:
        if session.protocol != 5:
            session.accept()

    with ScriptedBroker(on_connect) as scripted:
        one = gateway(scripted.port)
        one.put(3)
        one.uplink.start()
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert [session.protocol for session in scripted.sessions] == [5, 4]


_KILLED = """if True:
    import sys
    from pathlib import Path
    from agent.config.load import MqttTable
    from agent.store.writer import Store
    from agent.uplink.sender import Uplink
    store = Store(Path(sys.argv[1]), "plant", "gw-1", 10, 10)
    store.open()
    settings = MqttTable(host="127.0.0.1", port=int(sys.argv[2]))
    Uplink(settings, store.origin, store.directory, lambda: store.last_seq).start()
    sys.stdin.read()
"""


def test_the_broker_says_offline_for_an_agent_that_was_killed(
    broker: RealBroker, ops: Ops, tmp_path: Path
) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path), str(broker.port)],
        stdin=subprocess.PIPE,
        cwd=ROOT,
    )
    with agent:
        wait_until(lambda: len(ops.statuses) == 1, "the link")
        agent.kill()
    wait_until(lambda: len(ops.statuses) == 2, "the will")
    assert [status["data"]["state"] for status in ops.statuses] == ["online", "offline"]
    assert ops.statuses[1]["id"].endswith("-1-lost")
    assert ops.statuses[0]["id"].endswith("-1-online")
    late = Ops(broker.port, client_id="late")
    wait_until(lambda: late.statuses == ops.statuses[1:], "the will, retained")
    late.close()


def test_a_broker_that_never_answers_does_not_delay_the_stop(
    gateway: Callable[..., Gateway],
) -> None:
    with ScriptedBroker(on_connect=lambda _: None) as scripted:
        one = gateway(scripted.port, protocol="5")
        one.uplink.start()
        wait_until(lambda: len(scripted.sessions) == 1, "the connection")
        one.uplink.stop()
        assert one.uplink.snapshot()["state"] == "stopped"
        assert one.uplink.snapshot()["last_error"] is None


@pytest.mark.parametrize(("receive_maximum", "sent"), [(3, 2), (10, 5)])  # window full, or not
def test_a_broker_that_stops_answering_gets_no_goodbye_so_that_the_will_speaks(
    gateway: Callable[..., Gateway], receive_maximum: int, sent: int
) -> None:
    with ScriptedBroker(lambda s: s.accept(receive_maximum), lambda *_: None) as scripted:
        one = gateway(scripted.port, stop_timeout_s=0.3)
        one.put(5)
        one.uplink.start()
        wait_until(lambda: len(scripted.bodies()) == sent, "what the window takes")
        one.uplink.stop()
        assert one.uplink.snapshot()["state"] == "stopped"
        assert scripted.sessions[0].unanswered_max <= receive_maximum
        assert not scripted.sessions[0].said_goodbye
        assert one.delete_acknowledged() == 5


def test_a_stop_sends_what_is_there_and_says_goodbye(gateway: Callable[..., Gateway]) -> None:
    with ScriptedBroker() as scripted:
        one = gateway(scripted.port, inflight_max=2)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        one.put(200)
        one.uplink.stop()
        assert one.delete_acknowledged() == 0
        wait_until(lambda: scripted.sessions[0].said_goodbye, "the goodbye")
        last = scripted.sessions[0].published[-1]
        assert (last.retain, json.loads(last.body)["data"]) == (True, {"state": "offline"})


def test_a_database_that_cannot_be_read_is_tried_again(
    broker: RealBroker, ops: Ops, tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port)
    records = tmp_path / "fieldwatch.db"
    records.rename(tmp_path / "away")
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["last_error"] is not None, "the trouble")
    assert "no such database" in one.uplink.snapshot()["last_error"]
    (tmp_path / "away").rename(records)
    one.put(1)
    wait_until(lambda: ops.numbers() == [1], "the message")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_that_ends_the_sender_shows(broker: RealBroker, tmp_path: Path) -> None:
    origin = Origin("plant", "gw-1", "e")
    uplink = Uplink(MqttTable(host="127.0.0.1", port=broker.port), origin, tmp_path, lambda: 1 // 0)
    assert uplink.snapshot()["state"] == "offline"
    uplink.start()
    wait_until(lambda: uplink.snapshot()["state"] == "failed", "the failure")


def failures_when_each_connection_breaks(make: Callable[..., Gateway], **settings: Any) -> int:
    def on_publish(session: Session, message: Published) -> None:
        session.hang_up()  # on its first message, the status

    with ScriptedBroker(on_publish=on_publish) as scripted:
        one = make(scripted.port, **settings)
        one.uplink.start()
        wait_until(lambda: len(scripted.sessions) > 5, "some connections")
        one.uplink.stop()
        return one.uplink.backoff.failures


def test_a_connection_that_breaks_soon_makes_the_next_wait_longer(
    gateway: Callable[..., Gateway],
) -> None:
    settings = {"backoff_min_s": 1e-3, "backoff_max_s": 3600}
    assert failures_when_each_connection_breaks(gateway, **settings) >= 5


def test_after_a_stable_connection_the_wait_is_short_again(
    gateway: Callable[..., Gateway],
) -> None:
    settings = {"backoff_min_s": 1e-9, "backoff_max_s": 1e-9}  # any connection is stable by this
    assert failures_when_each_connection_breaks(gateway, **settings) <= 1
