"""The shipped configuration of a broker: what each role may say and hear, by what arrives."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.broker import MqttTable
from agent.mqtt.connection import Acknowledged, Connection, LinkError, Lost, Received, Subscribed
from agent.mqtt.version import connected
from tests.agent_rig import StartAgent
from tests.conftest import ROOT, WAIT_S_MAX, RealBroker, wait_until
from tests.secured_broker import SecuredBroker
from tests.serial_line import Line
from tests.system.test_commands import Commanded
from tests.uplink_rig import Collecting, Gateway

GATEWAY, OTHER = "plant-1/gateway-1", "plant-1/gateway-2"
COMMANDED = f"{GATEWAY}/command"  # the second user of a gateway that accepts commands
V1 = "fieldwatch/v1"
OWN = f"{V1}/{GATEWAY}"
CENTRAL = f"{V1}/plant-1/_central/status"
SAID = {
    f"{OWN}/{kind}"
    for kind in (
        *("status", "summary/pump", "alarm/pump", "transition/pump", "health", "gone"),
        "samples/pump",
    )
}
ACKNOWLEDGED, COMMAND, ANSWER = f"{OWN}/acknowledged", f"{OWN}/command", f"{OWN}/command/answer"
OTHERS_COMMAND = f"{V1}/plant-2/gateway-1/command"
ALL = SAID | {ACKNOWLEDGED, COMMAND, ANSWER, CENTRAL, f"{V1}/plant-1", f"{OWN}/summary"}
NEAR = {f"{V1}/plant-2/gateway-1/status", f"{OWN}/alarm/pump/1", f"{OWN}/status/1"}
NEAR |= {OTHERS_COMMAND, f"{COMMAND}/restart", f"{ANSWER}/1"}
TOPICS = sorted(ALL | NEAR)

MAY_SAY = {
    GATEWAY: SAID,
    COMMANDED: {ANSWER},
    OTHER: set(),
    "collector": {ACKNOWLEDGED, CENTRAL},
    "ops": set(),
    "operate": {
        *(f"{OWN}/status", f"{V1}/plant-2/gateway-1/status", CENTRAL),
        *(COMMAND, OTHERS_COMMAND),
    },
}
MAY_HEAR = {
    GATEWAY: {f"{OWN}/status", ACKNOWLEDGED, CENTRAL},
    COMMANDED: {COMMAND, CENTRAL},
    OTHER: {CENTRAL},
    "collector": SAID | {f"{V1}/plant-2/gateway-1/status", CENTRAL, ANSWER},
    "ops": set(TOPICS),
    "operate": set(TOPICS),
}


class User:
    """One connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard: list[str] = []

    def say(self, topic: str) -> None:
        """Publish; return when the broker has answered, whatever it said."""
        packet = self._connection.publish(topic, b"{}")
        self._until(lambda event: isinstance(event, Acknowledged) and event.packet == packet)

    def listen(self, *topics: str) -> None:
        for topic in topics:
            packet = self._connection.subscribe([topic])
            self._until(lambda event: isinstance(event, Subscribed) and event.packet == packet)  # noqa: B023 - called at once

    def heard(self) -> set[str]:
        """All that came: what the broker sends comes in order, and so before an answer."""
        self.listen("the end")
        return set(self._heard)

    def _until(self, done: Callable[[object], bool]) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            event = self._connection.events.get(timeout=deadline - time.monotonic())
            assert not isinstance(event, Lost), event.reason
            if isinstance(event, Received):
                self._heard.append(event.topic)
            if done(event):
                return


@pytest.fixture(params=["passwords", "certificates"])
def secured(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SecuredBroker]:
    certificates = request.param == "certificates"
    users = (GATEWAY, COMMANDED, OTHER, "plant/gw-1", "plant/gw-1/command")
    made = SecuredBroker(tmp_path, *users, certificates=certificates)
    made.start()
    yield made
    made.kill()


def settings(broker: SecuredBroker, user: str, protocol: str = "5") -> MqttTable:
    return MqttTable(**broker.access(user), protocol=protocol)


def everybody(broker: RealBroker) -> MqttTable:
    """The access that knows no rules, of the tests alone."""
    return MqttTable(host="127.0.0.1", port=broker.port)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("role", MAY_SAY)
def test_what_a_role_says_arrives_where_it_may_say_it(
    secured: SecuredBroker, role: str, protocol: str
) -> None:
    access = settings(secured, role, protocol)
    with connected(everybody(secured), "observer") as (observing, _):
        observer = User(observing)
        observer.listen("#")
        for topic in TOPICS:
            with connected(access, "any") as (speaking, _):  # it ends where something is denied
                User(speaking).say(topic)
        assert observer.heard() == MAY_SAY[role]


@pytest.mark.parametrize("wildcard", [True, False])
@pytest.mark.parametrize("role", MAY_HEAR)
def test_what_a_role_hears_is_what_it_may_hear(
    secured: SecuredBroker, role: str, wildcard: bool
) -> None:
    """Whatever it asks for, and although the broker grants it."""
    with (
        connected(everybody(secured), "speaker") as (speaking, _),
        connected(settings(secured, role), "any") as (listening, _),
    ):
        speaker, listener = User(speaking), User(listening)
        listener.listen(*(["#"] if wildcard else TOPICS))
        for topic in TOPICS:
            speaker.say(topic)
        assert listener.heard() == MAY_HEAR[role]


def test_a_retained_status_is_not_shown_to_other_gateways(secured: SecuredBroker) -> None:
    with connected(settings(secured, GATEWAY), "any") as (connection, _):
        connection.publish(f"{OWN}/status", b"{}", retain=True)
        User(connection).say(f"{OWN}/health")
    for role, hears in MAY_HEAR.items():
        with connected(settings(secured, role), "any") as (connection, _):
            user = User(connection)
            user.listen(f"{OWN}/status", "#")
            assert (f"{OWN}/status" in user.heard()) == (f"{OWN}/status" in hears), role


def test_nobody_else_may_connect(secured: SecuredBroker, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("of somebody else\n")
    good = secured.access("ops")
    for refused in (
        good | {"password_file": wrong},
        good | {"username": "somebody"},
        good | {"username": None, "password_file": None},
        good | {"port": secured.gateways_port},  # central's users are none there
    ):
        with pytest.raises(LinkError), connected(MqttTable(**refused), "any"):
            pass
    gateway = secured.access(GATEWAY)
    with pytest.raises(LinkError):  # nor are gateways here
        with connected(MqttTable(**gateway | {"port": secured.central_port}), "any"):
            pass
    bare = gateway | {"tls_ca_file": None, "tls_cert_file": None, "tls_key_file": None}
    with pytest.raises(LinkError), connected(MqttTable(**bare), "any"):  # without TLS
        pass


def test_a_gateway_cannot_end_the_connection_of_another_client(secured: SecuredBroker) -> None:
    collector, other = "fieldwatch-collector-plant-1", "fieldwatch-plant-1-gateway-2"
    with (
        connected(settings(secured, "collector"), collector) as (first, _),
        connected(settings(secured, OTHER), other) as (second, _),
    ):
        for client_id in (collector, other, OTHER):
            with connected(settings(secured, GATEWAY), client_id) as (connection, _):
                User(connection).say(f"{OWN}/health")
        for connection in (first, second):
            User(connection).listen("the end")  # it fails if the connection is gone


def given(broker: SecuredBroker, user: str) -> dict[str, Any]:
    """Return what the rigs take beside host and port."""
    return {key: value for key, value in broker.access(user).items() if key not in ("host", "port")}


def test_a_gateway_and_the_collector_work_there_and_a_clone_is_found(
    secured: SecuredBroker, tmp_path: Path
) -> None:
    central = Collecting(secured.central_port, tmp_path / "central", **given(secured, "collector"))
    gateways = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            access = given(secured, "plant/gw-1") | {"acknowledgement": "central"}
            # the turns of two gateways have to be longer than the collector's commits
            access |= {"backoff_min_s": 0.5, "backoff_max_s": 3}
            one = Gateway(tmp_path / name, secured.gateways_port, **access)
            gateways.append(one)
            one.put(20)
            one.put(2, "alarm")
            one.uplink.start()
            wait_until(lambda one=one: one.delete_acknowledged() == 0, "an empty outbox")  # type: ignore[misc]
            if name == "one":
                assert one.uplink.snapshot()["twin"]["state"] == "none"
        assert len(central.numbers()) == 44
        for one in gateways:
            wait_until(
                lambda one=one: one.uplink.snapshot()["twin"]["state"] == "found",  # type: ignore[misc]
                "the other one",
            )
        wait_until(lambda: central.collector.counters["twins"] > 0, "the collector to see both")
    finally:
        for one in gateways:
            one.close()
        central.close()


def test_only_who_may_operate_reaches_a_gateway_with_commands_and_it_answers_over_tls(
    secured: SecuredBroker, tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    (tmp_path / "gateway").mkdir()
    own, second = given(secured, "plant/gw-1"), given(secured, "plant/gw-1/command")
    del second["tls_ca_file"]
    lines = ["".join(f'{name} = "{one[name]}"\n' for name in one) for one in (second, own)]
    port = secured.gateways_port
    gateway = Commanded(tmp_path / "gateway", line, start_agent, port, *lines)
    gateway.trust(tmp_path, "operate", "anna")

    def acknowledge(user: str) -> subprocess.CompletedProcess[str]:
        options = {
            f"--{name.replace('_', '-')}": str(value)
            for name, value in secured.access(user).items()
        }
        to = {"--site": "plant", "--gateway": "gw-1", "--key": str(tmp_path / "operate-anna.key")}
        words = [word for option in (to | options).items() for word in option]
        return subprocess.run(
            [sys.executable, "-m", "agent", "command", *words, "ack", "pump#1.1"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    for user in ("ops", "collector"):
        denied = acknowledge(user)
        assert denied.returncode == 69
        assert "does not pass the command on: Not authorized" in denied.stderr
    done = acknowledge("operate")
    assert done.stdout == "pump#1.2: acknowledged; it is in the logbook\n", done.stderr
    assert gateway.states() == ["UNACK", "ACKED"]
    checked = subprocess.run(
        [sys.executable, "-m", "agent", "check", "--config", str(gateway.config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert f"ok    commands at 127.0.0.1:{port}: accepts" in checked.stdout, checked.stdout
