"""A gateway name that two agents use at a time, as the collector sees it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.collector.twins import Twins
from tests.conftest import RealBroker, wait_until
from tests.hostile import HOSTILE
from tests.scripted_broker import ScriptedBroker, Session
from tests.uplink_rig import Collecting, Gateway


def status(run: str, connection: int, epoch: str = "e1", state: str = "online") -> bytes:
    identity = f"gw-1/{epoch}/7/{run}-{connection}-{state}"
    return json.dumps({"id": identity, "data": {"state": state}}).encode()


ONE, TWO = "aaaaaaaa", "bbbbbbbb"


def test_two_that_take_turns_are_told_whether_or_not_their_epochs_differ() -> None:
    for epoch in ("e1", "e2"):
        twins = Twins()
        assert twins.heard("gw-1", status(ONE, 1)) is None
        assert twins.heard("gw-1", status(TWO, 1, epoch)) is None  # may have been started anew
        assert twins.heard("gw-1", status(ONE, 2)) == f"gw-1: epochs {epoch} and e1"
        assert twins.heard("gw-1", status(TWO, 2, epoch)) == f"gw-1: epochs e1 and {epoch}"


def test_a_restart_a_new_database_and_what_comes_late_are_not() -> None:
    twins = Twins()
    said = [
        status(ONE, 1),
        status(ONE, 2),  # lost its link
        status(TWO, 1),  # was started anew
        status(ONE, 2, state="offline"),  # the will of the life before, late
        status(ONE, 3, state="offline"),  # and one of a connection that the collector missed
        status(ONE, 2),  # what the broker delivers twice
        status(TWO, 1),
        status("cccccccc", 1, "e2"),  # with a new database
        status("cccccccc", 2, "e2"),
    ]
    assert [twins.heard("gw-1", one) for one in said] == [None] * len(said)
    assert twins.heard("gw-2", status(ONE, 3)) is None  # another gateway


def test_what_is_no_status_does_no_harm() -> None:
    twins = Twins()
    for body in (b"", b"null", b"\xff", json.dumps({"id": HOSTILE}).encode(), b"[" * 50_000):
        assert twins.heard(HOSTILE, body) is None


def test_the_collector_says_so(
    broker: RealBroker,
    tmp_path: Path,
    collecting: Callable[..., Collecting],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    central = collecting(broker.port)
    gateways = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        gateways.append(Gateway(tmp_path / name, broker.port, acknowledgement="central"))
        gateways[-1].put(5)
        gateways[-1].uplink.start()
    wait_until(lambda: central.collector.counters["twins"] >= 2, "the collector to notice")
    wait_until(lambda: "under a name that another gateway uses, too" in caplog.text, "the log")
    wait_until(lambda: len(central.numbers()) == 10, "the messages of both")
    for one in gateways:
        one.close()
    assert central.collector.counters["rejected"] == 0


def test_a_broker_that_does_not_show_it_the_statuses_does_not_keep_it_from_its_work(
    collecting: Callable[..., Collecting],
) -> None:
    asked: list[bytes] = []

    def on_subscribe(session: Session, packet: bytes) -> None:
        asked.append(packet)
        session.subscribed(packet, 0x87 if len(asked) == 1 else 1)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        central = collecting(scripted.port)
        wait_until(lambda: len(asked) == 2, "both subscriptions")
        wait_until(lambda: bool(scripted.sessions[0].published), "the collector to be online")
        scripted.sessions[0].publish("fieldwatch/v1/plant/gw-1/health", 5)
        wait_until(lambda: central.collector.counters["rejected"] == 1, "what it receives")
        assert len(scripted.sessions) == 1
        central.close()
