"""The loop's part of commands from central ops, with real signatures: time, room, and the log."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from agent.alarms.handled import Handled
from agent.alarms.points import Points
from agent.clock import Clock
from agent.config.commands import CommandsTable
from agent.control.dispatch import Dispatcher
from agent.control.inbox import Answer, Asker, Command
from agent.dialects.topics import command_topic
from agent.operating import Operating, Roles
from agent.remote.asking import Gateway, body_of, order_for
from agent.remote.execution import VERB, Execution
from agent.remote.message import CONTEXT, Order, Rejected
from agent.remote.proof import Proof
from agent.store.batch import Batch
from models.keys import SecretKey, new_key, read_secret, revoke
from models.messages import ClockQuality
from models.signed import signed

TOPIC = command_topic("plant", "gw-1")
ALARM = {
    "stream": "pump",
    "number": 1,
    "kind": "anomaly",
    "state": "opened",
    "severity": "high",
    "channels": [],
}


class Ordered:
    """A gateway that obeys keys in a directory, without broker and loop."""

    def __init__(self, keys: Path, quality: ClockQuality = "synced", **settings: Any) -> None:
        self.passed_s, began_s = 0.0, time.time()
        clock = Clock(lambda: quality, lambda: began_s + self.passed_s, lambda: self.passed_s)
        points = Points({"pump": Handled()})
        points.take(ALARM, clock.wall_s())
        roles = Roles("operators", "maintainers")
        operating = Operating(points, lambda _, __: ALARM, clock.wall_s, roles)
        self.execution = Execution(CommandsTable(**settings), operating, clock, Batch())
        self._dispatcher = Dispatcher(self.execution.verbs())
        self._proof = Proof(keys, "plant", "gw-1", TOPIC)

    def code(self, body: bytes) -> str:
        """Return the cause of the refusal; "" if it was done."""
        try:
            order = self._proof.read(body)
        except Rejected as error:
            return error.cause
        said = {"digest": hashlib.sha256(body).hexdigest()} | order._asdict()
        said = {name: said[name] for name in ("id", "digest", "expires", "command", "arguments")}
        answers: list[Answer] = []
        asker = Asker("mqtt", order.issuer)
        self._dispatcher.run([Command(VERB, said, asker, answers.append)])
        self._dispatcher.committed(None)
        (answer,) = answers
        assert isinstance(answer, dict)
        return "" if answer["ok"] else str(answer["error"]["code"])


@pytest.fixture
def key(tmp_path: Path) -> SecretKey:
    new_key(tmp_path / "anna.key", "operate", "anna")
    return read_secret(tmp_path / "anna.key", "operate")


def note(key: SecretKey, to: str = "gw-1", valid_s: float = 60.0) -> Order:
    about = {"stream": "pump", "number": 1, "reason": "seen"}
    return order_for(Gateway("plant", to), key, "alarm.note", about, valid_s)


def test_a_gateway_without_a_synchronised_clock_does_nothing(
    tmp_path: Path, key: SecretKey
) -> None:
    unsure = Ordered(tmp_path, "unsynced")
    assert unsure.code(body_of(note(key), key)) == "clock"
    assert unsure.execution.document() == {"counts": {"clock": 1}, "ids": 0}
    trusting = Ordered(tmp_path, "unsynced", require_synced_clock=False)
    assert trusting.code(body_of(note(key), key)) == ""
    assert Ordered(tmp_path, "unknown").code(body_of(note(key), key)) == ""  # a sandbox


def test_a_command_signed_for_this_topic_but_about_another_gateway_is_refused(
    tmp_path: Path, key: SecretKey
) -> None:
    body = signed(note(key, "gw-2").body(), TOPIC, CONTEXT, key)
    assert Ordered(tmp_path).code(body) == "wrong_gateway"


def test_ids_have_a_limit_until_they_expire_and_a_known_one_is_answered(
    tmp_path: Path, key: SecretKey
) -> None:
    gateway = Ordered(tmp_path, ids_max=2)
    bodies = [body_of(note(key, valid_s=60.0 + turn), key) for turn in range(3)]
    assert [gateway.code(body) for body in bodies] == ["", "", "crowded"]
    assert gateway.code(bodies[0]) == ""  # it repeats its answer
    assert gateway.execution.document()["counts"] == {"done": 2, "crowded": 1, "repeated": 1}
    gateway.passed_s = 61.0  # the first one has expired
    assert [gateway.code(body) for body in (bodies[2], bodies[0])] == ["", "expired"]


def test_the_next_command_of_a_revoked_key_is_refused(tmp_path: Path, key: SecretKey) -> None:
    gateway = Ordered(tmp_path)
    assert gateway.code(body_of(note(key), key)) == ""
    revoke(tmp_path, key.key_id.hex(), "lost notebook")
    assert gateway.code(body_of(note(key), key)) == "revoked_key"


def test_the_log_says_who_asked_what_of_which_alarm(
    tmp_path: Path, key: SecretKey, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        Ordered(tmp_path).code(body_of(note(key), key))
    assert "alarm.note pump#1 requested by anna (mqtt)" in caplog.messages
