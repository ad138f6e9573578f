"""One gateway name used twice: what is a second gateway, and what only looks like one."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.mqtt.connection import Lost, Subscribed
from agent.store.record import Origin
from agent.uplink.twin import Twin, Voice, voice_of
from tests.conftest import RealBroker, wait_until
from tests.scripted_broker import Published, ScriptedBroker, Session
from tests.uplink_rig import Gateway, Ops

ORIGIN = Origin("plant", "gw-1", "0e488f4fc7be439f")
OURS = "0a0a0a0a"


class Gateways:
    """Gateways of one name, each with a store of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Gateway] = []

    def store(self, name: str) -> Path:
        return self._directory / name

    def make(self, port: int, store: str, **settings: Any) -> Gateway:
        self.store(store).mkdir(exist_ok=True)
        self._running.append(Gateway(self.store(store), port, **settings))
        return self._running[-1]

    def start(self, port: int, store: str, **settings: Any) -> Gateway:
        made = self.make(port, store, **settings)
        made.uplink.start()
        return made

    def end(self, gateway: Gateway) -> None:
        self._running.remove(gateway)
        gateway.close()

    def close(self) -> None:
        for one in list(self._running):
            self.end(one)


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[Gateways]:
    made = Gateways(tmp_path)
    yield made
    made.close()


def twin(gateway: Gateway) -> dict[str, Any]:
    found = gateway.uplink.snapshot()["twin"]
    assert isinstance(found, dict)
    return found


def has_twin(gateway: Gateway) -> bool:
    return bool(twin(gateway)["state"] == "found")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("copied", [False, True])
def test_two_gateways_with_one_name_find_each_other(
    broker: RealBroker,
    gateways: Gateways,
    caplog: pytest.LogCaptureFixture,
    copied: bool,
    protocol: str,
) -> None:
    """With a copy of the other's database, which has the same epoch, or with one of their own."""
    one = gateways.start(broker.port, "one", protocol=protocol)
    wait_until(lambda: twin(one)["state"] == "none", "its own status")
    if copied:
        gateways.end(one)
        shutil.copytree(gateways.store("one"), gateways.store("two"))
        one = gateways.start(broker.port, "one", protocol=protocol)
    two = gateways.start(broker.port, "two", protocol=protocol)
    epochs = one.store.origin.epoch, two.store.origin.epoch
    assert (epochs[0] == epochs[1]) == copied
    wait_until(lambda: has_twin(one) and has_twin(two), "each to find the other")
    assert (twin(two)["epoch"], twin(one)["epoch"]) == epochs
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 2
    assert "another gateway uses the name plant/gw-1" in told[0].getMessage()


def test_what_both_send_arrives(broker: RealBroker, ops: Ops, gateways: Gateways) -> None:
    one, two = gateways.start(broker.port, "one"), gateways.start(broker.port, "two")
    for gateway in (one, two):
        gateway.put(100)
    wait_until(lambda: has_twin(one) and has_twin(two), "each to find the other")
    for gateway in (one, two):
        gateway.put(100)
        wait_until(lambda one=gateway: one.delete_acknowledged() == 0, "an empty outbox")  # type: ignore[misc]
    wait_until(lambda: len({each["id"] for each in ops.received}) == 400, "all messages at ops")


def test_they_leave_each_other_the_connection_for_a_while(
    broker: RealBroker, gateways: Gateways
) -> None:
    """A connection that lasts does not shorten the wait any more, as it would without a twin."""
    short = {"backoff_min_s": 1e-4, "backoff_max_s": 1e-4}  # all connections last longer
    one = gateways.start(broker.port, "one", **short)
    two = gateways.start(broker.port, "two", **short)
    wait_until(lambda: has_twin(one) and has_twin(two), "each to find the other")
    wait_until(lambda: one.uplink.backoff.failures > 30, "waits that grow")


def test_once_the_other_is_gone_this_is_told(
    broker: RealBroker,
    gateways: Gateways,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("agent.uplink.sender.QUIET_S", 0.0)  # then thrice the longest wait
    one, two = gateways.start(broker.port, "one"), gateways.start(broker.port, "two")
    wait_until(lambda: has_twin(one), "it to be found")
    gateways.end(two)
    wait_until(lambda: twin(one)["state"] == "none", "it to be forgotten")
    assert "the other gateway with this name is gone" in caplog.text


def test_lives_of_one_gateway_are_no_twins(broker: RealBroker, gateways: Gateways) -> None:
    """A clean stop, a new database, a broker that is killed: each leaves its status behind."""
    for directory in ("one", "one", "new database", "one"):
        one = gateways.start(broker.port, directory)
        wait_until(lambda one=one: twin(one)["state"] != "unknown", "its own status")  # type: ignore[misc]
        for _ in range(3):
            connections = one.uplink.snapshot()["connections"]
            broker.kill()
            broker.start()
            wait_until(
                lambda one=one, before=connections: (  # type: ignore[misc]
                    one.uplink.snapshot()["connections"] > before
                ),
                "the connection after the broker's end",
            )
        assert twin(one)["state"] == "none"
        gateways.end(one)


class Wire:
    """Between gateways and broker; the broker does not see that a gateway has gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets = [self._listener]
        self.is_cut = False  # what is sent is lost
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not self.is_cut:
                    sink.sendall(data)

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def test_a_power_cut_that_the_broker_has_not_noticed_leaves_no_twin(
    broker: RealBroker, ops: Ops, gateways: Gateways
) -> None:
    """The broker ends the connection of the life before when the gateway connects again."""
    with contextlib.closing(Wire(broker.port)) as wire:
        for _ in range(3):
            wire.is_cut = False
            one = gateways.start(wire.port, "one", stop_timeout_s=0.1)
            wait_until(lambda one=one: twin(one)["state"] != "unknown", "its own status")  # type: ignore[misc]
            wire.is_cut = True
            gateways.end(one)
        last = gateways.start(broker.port, "one")
        wait_until(lambda: twin(last)["state"] != "unknown", "its own status")
        assert twin(last)["state"] == "none"
        assert [each["id"].endswith("-lost") for each in ops.statuses] == [False, True] * 3 + [
            False
        ]


def status(run: str, connection: int, state: str = "offline", epoch: str = "e1") -> bytes:
    identity = f"gw-1/{epoch}/7/{run}-{connection}-lost"
    return json.dumps({"id": identity, "data": {"state": state}}).encode()


def listening() -> Twin:
    """One whose own status was there."""
    made = Twin(ORIGIN, OURS)
    made.heard(status("bbbbbbbb", 4, "online"), retained=True)  # of an earlier life
    made.heard(status(OURS, 1, "online"), retained=False)
    assert made.document()["state"] == "none"
    return made


def test_the_late_will_of_an_earlier_life_is_no_twin() -> None:
    one = listening()
    for connection in (4, 4):  # it made no connection since
        one.heard(status("bbbbbbbb", connection), retained=False)
    one.heard(status("cccccccc", 9), retained=True)  # nor did that
    assert not one.found


def test_another_run_that_makes_a_new_connection_is_one() -> None:
    one = listening()
    one.heard(status("bbbbbbbb", 5), retained=True)
    one.heard(status("bbbbbbbb", 6), retained=True)
    assert one.found
    assert one.document()["epoch"] == "e1"


def test_another_run_that_comes_online_beside_us_is_one() -> None:
    """As at two brokers with a bridge between them, where neither ends the other's connection."""
    one = listening()
    one.heard(status("bbbbbbbb", 5, "online"), retained=True)
    assert not one.found
    one.heard(status("cccccccc", 1, "online"), retained=False)
    assert one.found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"id": 5}',
        b'{"id": "gw-1/e/7/bbbbbbbb-1-online"}',
        b'{"id": "gw-1/e/7/bbbbbbbb-1-online", "data": []}',
        b'{"id": "gw-1/e/7", "data": {"state": "online"}}',
        b'{"id": "gw-1/e\\u001b[2J/7/bbbbbbbb-1-online", "data": {"state": "online"}}',
        b'{"id": "gw-1/e/7/bbbbbbbb-99999999999999-online", "data": {"state": "online"}}',
        b"[" * 50_000,
        b"\xff",
    ],
)
def test_what_is_no_status_is_nobodys_voice(body: bytes) -> None:
    assert voice_of(body) is None


def test_our_own_statuses_are_read(broker: RealBroker, ops: Ops, gateways: Gateways) -> None:
    """So that the form of the one cannot be changed without the other."""
    one = gateways.start(broker.port, "one")
    wait_until(lambda: len(ops.statuses) == 1, "its status")
    voice = voice_of(json.dumps(ops.statuses[0]).encode())
    assert voice is not None
    assert voice == Voice(one.store.origin.epoch, voice.run, 1, online=True)


def test_of_many_runs_only_some_are_remembered() -> None:
    one = listening()
    for number in range(1000):
        one.heard(status(f"{number:08x}", 1), retained=True)
    one.heard(status("00000000", 2), retained=True)  # long forgotten
    assert not one.found


def test_a_broker_that_refuses_the_subscription_keeps_the_link_and_is_told(
    gateways: Gateways, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedBroker(on_subscribe=lambda s, packet: s.subscribed(packet, 0x87)) as scripted:
        one = gateways.start(scripted.port, "one")
        one.put(3)
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert "another gateway with the same name would not be detected" in caplog.text
        assert twin(one)["state"] == "unknown"
        assert len(scripted.sessions) == 1
        gateways.end(one)


def test_a_broker_that_ends_the_connection_for_it_is_not_asked_for_ever(
    gateways: Gateways,
) -> None:
    asked: list[Session] = []

    def on_subscribe(session: Session, _: bytes) -> None:
        asked.append(session)
        session.hang_up()

    def on_publish(session: Session, message: Published) -> None:
        if session not in asked:
            session.answer(message)

    with ScriptedBroker(on_publish=on_publish, on_subscribe=on_subscribe) as scripted:
        one = gateways.start(scripted.port, "one")
        one.put(3)
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        assert len(asked) == 2
        assert one.uplink.snapshot()["denied"] == []  # nor is the status blamed
        gateways.end(one)


class Asked:
    """A connection whose broker does not answer."""

    def subscribe(self, topics: list[str]) -> int:
        return 7


def test_take_overs_in_a_row_are_told_with_the_likely_cause_though_no_status_was_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Twin(ORIGIN, OURS)

    def ends(taken_over: bool) -> int:
        one.listen(Asked())  # type: ignore[arg-type]
        one.lost(Lost("ended", taken_over))
        return len(caplog.records)

    assert [ends(True), ends(True), ends(False), ends(True), ends(True)] == [0, 0, 0, 1, 1]
    (record,) = caplog.records
    assert record.getMessage() == (
        "another client with our client id has taken over the connection 3 times in a row: probably"
        " another gateway uses the name plant/gw-1, such as a copy of this one. Give it its own"
        " gateway.name and an empty store.directory"
    )


def test_a_connection_that_was_taken_over_does_not_count_as_a_refusal() -> None:
    one = Twin(ORIGIN, OURS)
    for _ in range(5):
        one.listen(Asked())  # type: ignore[arg-type]
        one.lost(Lost("session taken over", taken_over=True))
    assert not one.answered(Subscribed(None, 7))
    one.listen(Asked())  # type: ignore[arg-type]
    assert one.answered(Subscribed(None, 7))
    assert one.document()["taken_over"] == 5
