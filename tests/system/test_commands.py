"""Central ops handles alarms of an agent that runs, over a real broker; hostile senders cannot."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import paho.mqtt.client as paho
import pytest

from agent.control.client import ask as ask_locally
from agent.control.protocol import Refused
from agent.health import prometheus
from agent.mqtt.client import Client
from agent.remote.asking import Gateway as Asked
from agent.remote.asking import body_of, order_for
from agent.remote.message import CONTEXT
from models.keys import SecretKey, new_key, read_secret, revoke
from models.signed import signed
from tests.agent_rig import StartAgent
from tests.conftest import ROOT, WAIT_S_MAX, RealBroker, wait_until
from tests.serial_line import Line
from tests.system.test_handling import NAME, Gateway
from tests.writers_rig import Writing, answered_truly, explained

COMMAND = "fieldwatch/v1/plant/gw-1/command"
ANSWER = f"{COMMAND}/answer"
GATEWAY = Asked("plant", "gw-1")


class Commanded(Gateway):
    """A gateway that accepts commands of those whose public keys are in ``keys``."""

    def __init__(
        self,
        directory: Path,
        line: Line,
        start: StartAgent,
        port: int,
        limits: str = "",
        broker: str = "",
    ) -> None:
        """``limits``: lines of ``[mqtt.commands]``; ``broker``: lines of ``[mqtt]``."""
        self.keys, self._limits, self._broker = directory / "keys", limits, broker
        self.keys.mkdir()
        super().__init__(directory, line, start, port)
        self.raise_one()

    def start(self) -> None:
        text = self.config.read_text()
        if "[mqtt.commands]" not in text:
            text = text.replace("[mqtt]\n", f"[mqtt]\n{self._broker}")
            self.config.write_text(
                f'{text}[keys]\ndirectory = "{self.keys}"\n[bundles]\nrequire_signature = false\n'
                "[mqtt.commands]\nenabled = true\nrequire_synced_clock = false\n"
                f"refusals_per_minute = 20\n{self._limits}"
            )
        super().start()
        wait_until(lambda: self.commands()["listening"], "the subscription")

    def commands(self) -> dict[str, Any]:
        """Return what the state says of commands; a busy agent is asked again."""
        found: list[dict[str, Any]] = []

        def told() -> bool:
            try:
                found.append(ask_locally(self.socket, "state"))
            except Refused as refusal:
                if refusal.code != "busy":
                    raise
            return bool(found)

        wait_until(told, "the state")
        of_commands: dict[str, Any] = found[0]["control"]["remote"]
        return of_commands

    def trust(self, directory: Path, role: Any, name: str) -> SecretKey:
        public = new_key(directory / f"{role}-{name}.key", role, name)
        public.rename(self.keys / public.name)
        return read_secret(directory / f"{role}-{name}.key", role)


class Central:
    """A client of the broker that publishes anything, and keeps the answers."""

    def __init__(self, port: int) -> None:
        self.answers: list[dict[str, Any]] = []
        subscribed = threading.Event()
        self.client = Client(client_id="central", protocol=paho.MQTTv311)
        self.client.on_connect = lambda client, *_: client.subscribe(ANSWER, 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _, __, message: self.answers.append(
            json.loads(message.payload)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(WAIT_S_MAX)

    def send(self, body: bytes, retain: bool = False) -> None:
        self.client.publish(COMMAND, body, 1, retain).wait_for_publish(WAIT_S_MAX)

    def answers_to(self, order_id: str, count: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            return [one for one in list(self.answers) if one["id"] == order_id]

        wait_until(lambda: len(found()) >= count, f"answer to {order_id}")
        return found()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def code(self, body: bytes, order_id: str) -> str:
        self.send(body)
        (told,) = self.answers_to(order_id)
        return str(told["error"]["code"])


@pytest.fixture
def central(broker: RealBroker) -> Iterator[Central]:
    made = Central(broker.port)
    yield made
    made.close()


@pytest.fixture
def gateway(tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker) -> Commanded:
    return Commanded(tmp_path, line, start_agent, broker.port)


def about(revision: int, **more: Any) -> dict[str, Any]:
    return {"stream": NAME, "number": 1, "revision": revision} | more


def acknowledging(key: SecretKey, revision: int, valid_s: float = 60.0, to: Asked = GATEWAY) -> Any:
    return order_for(to, key, "alarm.acknowledge", about(revision), valid_s)


def test_ops_handles_an_alarm_and_reads_samples_with_the_command_line(
    tmp_path: Path, gateway: Commanded, broker: RealBroker
) -> None:
    gateway.trust(tmp_path, "operate", "anna")
    key = str(tmp_path / "operate-anna.key")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        to = ["--site", "plant", "--gateway", "gw-1", "--key", key]
        to += ["--host", "127.0.0.1", "--port", str(broker.port)]
        return subprocess.run(
            [sys.executable, "-m", "agent", "command", *to, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    ended = command("ack", f"{NAME}#1.1", "--reason", "seen at ops")
    assert (ended.stdout, ended.returncode) == (
        f"{NAME}#1.2: acknowledged; it is in the logbook\n",
        0,
    ), ended.stderr
    row = gateway.logbook()[-1]
    assert (row["by"], row["door"], row["why"]) == ("anna", "ops", "seen at ops")
    stale = command("ack", f"{NAME}#1.1")
    assert stale.returncode == 75
    assert "stale" in stale.stderr
    assert "acknowledged" in stale.stderr
    found = command("samples", NAME, "--alarm", "1", "--points", "50")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("time,score,")
    assert len(found.stdout.splitlines()) > 1
    empty = command("samples", NAME, "--alarm", "1", "--before", "0", "--after", "0")
    assert empty.returncode == 1
    assert "the period is empty" in empty.stderr
    assert command("samples", NAME, "--alarm", "1", "--points", "5").returncode == 0  # it lives on
    status = subprocess.run(
        [sys.executable, "-m", "agent", "status", "--config", str(gateway.config)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert re.search(r"\nops +commands of central ops are accepted; done \d, stale 1\n", status)
    figures = prometheus.text(ask_locally(gateway.socket, "state"))
    assert "fieldwatch_remote_up 1" in figures
    assert 'fieldwatch_remote_commands_total{outcome="stale"} 1' in figures
    assert command("--site", "pl#ant", "note", f"{NAME}#1.2", "x").returncode == 78
    nobody = command("--port", "1", "note", f"{NAME}#1.2", "x")
    assert nobody.returncode == 69, nobody.stderr
    assert nobody.stderr.count("127.0.0.1:1") == 1


def test_each_hostile_command_is_refused_and_counted_by_cause(
    tmp_path: Path, gateway: Commanded, central: Central
) -> None:
    anna = gateway.trust(tmp_path, "operate", "anna")
    bundles = gateway.trust(tmp_path, "bundle", "trainer")
    lost = gateway.trust(tmp_path, "operate", "lost")
    revoke(gateway.keys, lost.key_id.hex(), "stolen")
    new_key(tmp_path / "foreign.key", "operate", "anna")
    foreign = read_secret(tmp_path / "foreign.key", "operate")
    good = acknowledging(anna, 1)
    body = body_of(good, anna)
    cases: list[tuple[str, Any, Callable[[Any], bytes]]] = [
        ("unsigned", acknowledging(anna, 1), lambda one: one.body()),
        ("unknown_key", acknowledging(foreign, 1), lambda one: body_of(one, foreign)),
        ("revoked_key", acknowledging(lost, 1), lambda one: body_of(one, lost)),
        ("wrong_role", acknowledging(bundles, 1), lambda one: body_of(one, bundles)),
        (
            "bad_signature",
            acknowledging(anna, 1),
            lambda one: body_of(one, anna).replace(b'"number":1', b'"number":2'),
        ),
        (  # signed for the topic of another gateway
            "bad_signature",
            acknowledging(anna, 1, to=Asked("plant", "gw-2")),
            lambda one: body_of(one, anna),
        ),
        (  # signed for this topic, but it names another gateway
            "wrong_gateway",
            acknowledging(anna, 1, to=Asked("plant", "gw-2")),
            lambda one: signed(one.body(), COMMAND, CONTEXT, anna),
        ),
        ("expired", acknowledging(anna, 1, -1.0), lambda one: body_of(one, anna)),
        ("too_far", acknowledging(anna, 1, 1e6), lambda one: body_of(one, anna)),
        (
            "wrong_issuer",
            acknowledging(anna, 1)._replace(issuer="bert"),
            lambda one: body_of(one, anna),
        ),
        (
            "unknown_command",
            acknowledging(anna, 1)._replace(command="alarm.out-of-service"),
            lambda one: body_of(one, anna),
        ),
        ("malformed", acknowledging(anna, 1), lambda one: body_of(one, anna)[:-120] + b"}"),
    ]
    for cause, order, make in cases:
        assert central.code(make(order), order.id) == cause
    central.send(body)
    central.answers_to(good.id)
    again = good._replace(arguments=about(2, reason="another"))
    central.send(body_of(again, anna))
    assert central.answers_to(good.id, 2)[-1]["error"]["code"] == "replayed"
    for _ in range(100):
        central.send(secrets.token_bytes(100))
    central.send(b"x" * 70_000)
    wait_until(lambda: gateway.commands()["refused"].get("malformed", 0) >= 100, "the count")
    told = gateway.commands()
    assert told["counts"]["replayed"] == 1
    assert told["refused"]["unanswered"] >= 100


def test_a_retained_command_is_refused_as_it_arrives_and_at_each_new_subscription(
    tmp_path: Path, gateway: Commanded, central: Central
) -> None:
    anna = gateway.trust(tmp_path, "operate", "anna")
    order = acknowledging(anna, 1)
    central.send(body_of(order, anna), retain=True)
    (told,) = central.answers_to(order.id)
    assert told["error"]["code"] == "retained"
    gateway.agent.kill()
    gateway.start()  # its new subscription brings it again
    assert central.answers_to(order.id, 2)[1]["error"]["code"] == "retained"
    assert gateway.commands()["refused"] == {"retained": 1}
    assert gateway.states() == ["UNACK"]


def test_with_mqtt_3_1_1_a_retained_command_is_done_once_and_refused_from_then_on(
    tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker, central: Central
) -> None:
    """That version does not tell a subscriber how a live message was published."""
    older = 'protocol = "3.1.1"\n'
    gateway = Commanded(tmp_path, line, start_agent, broker.port, broker=older)
    anna = gateway.trust(tmp_path, "operate", "anna")
    order = acknowledging(anna, 1)
    central.send(body_of(order, anna), retain=True)
    assert central.answers_to(order.id)[0]["ok"]
    gateway.agent.kill()
    gateway.start()
    assert central.answers_to(order.id, 2)[1]["error"]["code"] == "retained"
    assert gateway.states() == ["UNACK", "ACKED"]


def test_commands_above_the_limit_of_ids_are_refused_and_change_nothing(
    tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker, central: Central
) -> None:
    gateway = Commanded(tmp_path, line, start_agent, broker.port, "ids_max = 2\n")
    anna = gateway.trust(tmp_path, "operate", "anna")
    orders = [
        order_for(GATEWAY, anna, "alarm.note", about(1, reason=f"note {turn}"), 3000.0)
        for turn in range(3)
    ]
    for order in orders[:2]:
        central.send(body_of(order, anna))
        assert central.answers_to(order.id)[0]["ok"]
    gateway.agent.kill()
    gateway.start()  # it knows the ids
    assert central.code(body_of(orders[2], anna), orders[2].id) == "crowded"
    assert [row["why"] for row in gateway.logbook()] == [None, "note 0", "note 1"]
    assert gateway.commands()["counts"] == {"crowded": 1}


def test_check_says_who_may_operate_and_revoke_takes_effect_at_the_next_command(
    tmp_path: Path, gateway: Commanded, central: Central
) -> None:
    anna = gateway.trust(tmp_path, "operate", "anna")

    def agent(*words: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "agent", *words, "--config", str(gateway.config)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        return ended.stdout + ended.stderr

    assert f"on: accepted if signed by {anna.key_id.hex()} (anna)" in agent("check")
    first, second = acknowledging(anna, 1), acknowledging(anna, 2)
    central.send(body_of(first, anna))
    assert central.answers_to(first.id)[0]["ok"]
    told = agent("keys", "revoke", anna.key_id.hex(), "--why", "lost notebook")
    assert "commands by it are refused from now on" in told
    assert central.code(body_of(second, anna), second.id) == "revoked_key"
    assert "has no unrevoked key of the role operate" in agent("check")


def test_senders_without_a_key_cannot_make_the_gateway_flood(
    gateway: Commanded, central: Central
) -> None:
    for _ in range(200):
        central.send(b'{"id":"%s"}' % secrets.token_hex(16).encode())
    wait_until(lambda: gateway.commands()["refused"].get("malformed", 0) == 200, "the count")
    assert 20 <= len(central.answers) <= 60  # 20 a minute


def test_a_command_is_executed_once_through_repeats_kills_and_a_lost_link(
    tmp_path: Path, gateway: Commanded, central: Central
) -> None:
    anna = gateway.trust(tmp_path, "operate", "anna")
    order = order_for(GATEWAY, anna, "alarm.note", about(1, reason="once"), 600.0)
    body = body_of(order, anna)
    central.send(body)
    central.send(body)
    first, second = central.answers_to(order.id, 2)[:2]
    assert first == second
    gateway.agent.kill()
    central.send(body)  # waits at the broker
    gateway.start()
    assert central.answers_to(order.id, 3)[2] == first
    assert [row["why"] for row in gateway.logbook()].count("once") == 1


def test_a_kill_between_command_and_answer_executes_it_once(
    tmp_path: Path, gateway: Commanded, central: Central
) -> None:
    anna = gateway.trust(tmp_path, "operate", "anna")
    for round_ in range(5):
        why = f"round {round_}"
        order = order_for(GATEWAY, anna, "alarm.note", about(1, reason=why), 600.0)
        central.client.publish(COMMAND, body_of(order, anna), 1)
        time.sleep(0.004 * round_)  # any moment is right: before, within or after the commit
        gateway.agent.kill()
        gateway.start()
        assert central.answers_to(order.id)[0]["ok"]
        assert [row["why"] for row in gateway.logbook()].count(why) == 1


def test_two_writers_at_once_leave_a_logbook_that_explains_every_state(
    tmp_path: Path, gateway: Commanded, central: Central
) -> None:
    anna = gateway.trust(tmp_path, "operate", "anna")
    writing = Writing(gateway, central, anna, Random(1))
    counts = writing.run(60)
    assert set(counts) == {"done", "stale", "impossible"}, counts
    assert counts.total() == 60
    explained(gateway.logbook(), gateway.stored())
    answered_truly(writing.answered, gateway.logbook())
