"""Gateways that sign: the collector files what they say, and nothing that others say for them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agent.collector import enrolled as enrolled_keys
from agent.collector.enrolled import Enrolled
from agent.config.broker import DialectName
from agent.dialects.kinds import dialect_of
from agent.dialects.received import decoded
from agent.mqtt.signer import CONTEXT, Signer, read_signer
from agent.store.migrations import COLLECTED
from agent.store.record import Origin, Outgoing
from models.errors import ConfigError
from models.keys import Role, new_key, read_secret, revoke
from models.signed import parted, signed
from tests.agent.collector.test_hostile import (
    ENVELOPE,
    GENUINE,
    SOURCE,
    STEPS,
    Central,
    Step,
    gone,
    numbered,
    say_hostile,
    status,
    topic,
)
from tests.conftest import RealBroker, wait_until
from tests.database import asked
from tests.scripted_broker import ScriptedBroker
from tests.sent import Sent
from tests.uplink_rig import Collecting, Gateway, Ops

FILED = "SELECT seq, topic, body, superseded FROM messages ORDER BY gateway, epoch, seq"
BOOKS = "SELECT gateway, epoch, through_seq, gone, dropped FROM books ORDER BY gateway, epoch"


class Keys:
    """The key directory of a collector, and the secret keys to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "keys"
        self._secret = directory / "secret"
        for one in (self.directory, self._secret):
            one.mkdir(parents=True)

    def make(self, name: str, role: Role = "gateway", file: str = "") -> Path:
        """Make and enroll a key; return the secret one."""
        secret = self._secret / (file or name.replace("/", "-"))
        public = new_key(secret, role, name)
        public.rename(self.directory / public.name)
        return secret

    def signer(self, name: str, role: Role = "gateway") -> Signer:
        return Signer(read_secret(self.make(name, role), role))

    def enrolled(self, required: bool = False) -> Enrolled:
        return Enrolled(self.directory, "plant", required)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_what_a_gateway_signed_is_filed_with_its_signature(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolled_keys, "LOOK_S", 0.0)
    ours = keys.signer("plant/gw-1")
    with contextlib.closing(Central(tmp_path / "c", enrolled=keys.enrolled())) as central:
        for kind, body in {
            topic(): numbered(1),
            topic("alarm"): numbered(2, "alarm"),
            topic("health"): numbered(3, "health"),
            topic("gone"): gone((4, 5), seq=5),
            topic("status"): status(5),
        }.items():
            central.hear(kind, ours.signed(kind, body))
        assert not central.collector.rejected
        assert central.acknowledged() == (5, [])
        (body, *_) = (body for _, body in central.collected.messages(SOURCE))
        assert parted(body).message == numbered(1)
        central.hear(topic(), ours.signed(topic(), numbered(1)))
        assert central.collector.counters["repeated"] == 1
        another = read_secret(keys.make("plant/gw-1", file="rotated"), "gateway")
        central.collector.renew()
        central.hear(topic(), signed(numbered(1), topic(), CONTEXT, another))
        assert central.collector.counters["repeated"] == 2


def test_what_another_says_for_a_gateway_with_a_key_is_kept_apart(
    tmp_path: Path, keys: Keys
) -> None:
    key = read_secret(keys.make("plant/gw-1"), "gateway")
    ours, theirs = Signer(key), keys.signer("plant/gw-2")
    operator = keys.signer("plant", "operate")
    lost = keys.make("plant/gw-1", file="lost")
    revoke(keys.directory, read_secret(lost, "gateway").key_id.hex(), "lost")
    foreign = Keys(tmp_path / "foreign").signer("plant/gw-1")
    good = ours.signed(topic(), numbered(1))
    said = {
        "unsigned": [numbered(1), good[:-2] + b'x"}', json.dumps(json.loads(good)).encode()],
        "wrong_gateway": [theirs.signed(topic(), numbered(1))],
        "wrong_role": [operator.signed(topic(), numbered(1))],
        "unknown_key": [foreign.signed(topic(), numbered(1))],
        "revoked_key": [signed(numbered(1), topic(), CONTEXT, read_secret(lost, "gateway"))],
        "bad_signature": [
            good.replace(b'"n":1', b'"n":2'),
            ours.signed(topic("health"), numbered(1)),
            signed(numbered(1), topic(), "another", key),
        ],
    }
    with contextlib.closing(Central(tmp_path / "c", enrolled=keys.enrolled())) as central:
        for body in [body for bodies in said.values() for body in bodies]:
            central.hear(topic(), body)
        for beside, body in {"status": status(2**50), "gone": gone((1, 30))}.items():
            central.hear(ENVELOPE.topic(beside), body)  # type: ignore[arg-type]
        counts = {cause: len(bodies) for cause, bodies in said.items()}
        assert central.collector.rejected == counts | {"unsigned": 5}
        assert central.here() == []
        assert central.acknowledged() == (0, [])
        assert len(central.asked("SELECT * FROM quarantine")) == 12
        central.hear(topic(), good)
        assert central.here() == [1]


def test_a_gateway_without_a_key_is_believed_unless_signatures_are_required(
    tmp_path: Path, keys: Keys
) -> None:
    keys.make("plant/gw-2")
    with contextlib.closing(Central(tmp_path / "c", enrolled=keys.enrolled())) as central:
        central.hear(topic(), numbered(1))
        foreign = Keys(tmp_path / "foreign").signer("plant/gw-1")
        central.hear(topic(), foreign.signed(topic(), numbered(2)))
        assert central.here() == [1, 2]
    enrolled = keys.enrolled(required=True)
    with contextlib.closing(Central(tmp_path / "required", enrolled=enrolled)) as central:
        central.hear(topic(), numbered(1))
        assert central.collector.rejected == {"unsigned": 1}


def test_keys_are_read_again_when_they_change_and_stay_if_they_cannot_be_read(
    tmp_path: Path,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(enrolled_keys, "LOOK_S", 0.0)
    with contextlib.closing(Central(tmp_path / "c", enrolled=keys.enrolled())) as central:
        central.hear(topic(), numbered(1))
        ours = keys.signer("plant/gw-1")
        central.collector.renew()
        central.hear(topic(), numbered(2))
        central.hear(topic(), ours.signed(topic(), numbered(3)))
        assert central.here() == [1, 3]
        (keys.directory / "revoked").write_text("something else\n")
        central.collector.renew()
        central.collector.renew()
        assert caplog.text.count("the keys of gateways stay as before") == 1
        central.hear(topic(), numbered(4))
        assert central.here() == [1, 3]
        (keys.directory / "revoked").write_text(f"key {ours.key_id} lost\n")
        central.collector.renew()
        central.hear(topic(), ours.signed(topic(), numbered(5)))
        assert central.here() == [1, 3]
        assert central.collector.rejected == {"unsigned": 2, "revoked_key": 1}


@settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    order=st.permutations(range(1, GENUINE + 1)),
    hostile=st.lists(st.lists(STEPS, max_size=3), min_size=GENUINE, max_size=GENUINE),
)
def test_with_signatures_all_is_filed_and_acknowledged_as_without_the_hostile_messages(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], hostile: list[list[Step]]
) -> None:
    directory = tmp_path_factory.mktemp("signed")
    keys = Keys(directory)
    ours = keys.signer("plant/gw-1")
    with (
        contextlib.closing(Central(directory / "with", enrolled=keys.enrolled())) as attacked,
        contextlib.closing(Central(directory / "without", enrolled=keys.enrolled())) as calm,
    ):
        sent: list[tuple[str, bytes]] = []
        for seq, steps in zip(order, hostile, strict=True):
            for step in steps:
                say_hostile(attacked, step)
                for what in sent[: step[1] : step[2]]:  # anybody can repeat what was signed
                    attacked.hear(*what)
            merged = {"merged": [[seq - 3, seq - 2]]} if seq % 7 == 6 else {}
            body = ours.signed(topic(), numbered(seq, **merged))
            said = [(topic(), body)]
            if seq % 9 == 0:
                lost = gone((seq + 1, seq + 2), seq=seq + 2)
                said.append((topic("gone"), ours.signed(topic("gone"), lost)))
            for what in said:
                attacked.hear(*what)
                calm.hear(*what)
            sent += said
        for question in (FILED, BOOKS):
            assert attacked.asked(question) == calm.asked(question)
        assert attacked.acknowledged() == calm.acknowledged()
        assert attacked.acknowledged()[0] == GENUINE + (GENUINE % 9 == 0) * 2


FORMS = [
    ("json", "none", "3.1.1"),
    ("json", "zstd", "5"),
    ("cbor", "none", "3.1.1"),
    ("cbor", "zstd", "5"),
]


@pytest.mark.parametrize(("dialect", "compression", "protocol"), FORMS)
def test_a_gateway_that_signs_is_collected_and_a_hostile_client_changes_nothing(
    broker: RealBroker,
    gateway: Callable[..., Gateway],
    collecting: Callable[..., Collecting],
    tmp_path: Path,
    keys: Keys,
    dialect: str,
    compression: str,
    protocol: str,
) -> None:
    one = gateway(
        broker.port,
        acknowledgement="central",
        central_timeout_s=2,
        sign=keys.make("plant/gw-1"),
        dialect=dialect,
        compression=compression,
        protocol=protocol,
    )
    central = collecting(broker.port, enrolled=keys.enrolled())
    ours = Sent(*one.store.origin)
    hostile = Ops(broker.port, "fieldwatch/v1/plant/nobody", client_id="hostile")
    forged = Outgoing("summary", "pump", 0.0, {"forged": True, "merged": [[1, 40]]})
    said = [
        (ours.topic("health"), b"{"),
        (ours.topic("status"), ours.status("online", 0.0, 2**50, "x", "synced")),
        (ours.topic("gone"), ours.gone([(1, 2**40)], 0.0, 2**50, "gone", "synced")),
        (ours.topic("summary", "pump"), ours.numbered(forged, 41, "synced")),
    ]
    for where, body in said:
        hostile.say(where, body)
    wait_until(lambda: central.collector.rejected["unsigned"] == 4, "the hostile messages")
    one.put(20)
    one.put(20, "alarm")
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    central.close()
    database = tmp_path / "central" / COLLECTED
    assert len(asked(database, FILED)) == 40
    assert asked(database, "SELECT max(seq), count(superseded) FROM messages") == [(40, 0)]
    assert asked(database, "SELECT through_seq FROM books") == [(40,)]
    assert central.collector.rejected == {"unsigned": 4}
    hostile.close()


def test_status_last_will_and_gone_are_signed(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], tmp_path: Path, keys: Keys
) -> None:
    key = keys.make("plant/gw-1")
    one = gateway(broker.port, acknowledgement="central", sign=key)
    one.put(3)
    ops.say("fieldwatch/v1/plant/_central/status", {"state": "online"})
    one.uplink.start()
    wait_until(lambda: len(ops.received) == 3, "the messages")
    one.delete_acknowledged()
    with contextlib.closing(sqlite3.connect(tmp_path / "fieldwatch.db")) as outbox:
        outbox.execute("DELETE FROM outbox WHERE seq = 2")
        outbox.commit()
    epoch = one.store.origin.epoch
    ops.say("fieldwatch/v1/plant/gw-1/acknowledged", {"epoch": epoch, "through_seq": 1})
    wait_until(lambda: any("gone" in said["type"] for said in ops.received), "what is gone")
    broker.kill()
    broker.start()
    wait_until(lambda: len({said["id"] for said in ops.statuses}) >= 2, "a status")
    one.uplink.stop()
    wait_until(lambda: any(said["data"]["state"] == "offline" for said in ops.statuses), "its end")
    enrolled = keys.enrolled(required=True)
    for said in [*ops.received, *ops.statuses]:
        kind = said["type"].split(".")[1]
        where = Sent(*one.store.origin).topic(kind, said["stream"])
        enrolled.check(where, json.dumps(said, separators=(",", ":")).encode())


def test_the_last_will_is_signed_when_the_connection_opens(
    gateway: Callable[..., Gateway], keys: Keys
) -> None:
    with ScriptedBroker() as scripted:
        one = gateway(scripted.port, sign=keys.make("plant/gw-1"))
        one.uplink.start()
        wait_until(lambda: any(session.published for session in scripted.sessions), "the link")
        session = scripted.sessions[0]
        assert session.will is not None
        said = [session.will, *((one.topic, one.body) for one in session.published)]
        one.close()
    assert [json.loads(body)["id"].rpartition("-")[2] for _, body in said] == ["lost", "online"]
    enrolled = keys.enrolled(required=True)
    for where, body in said:
        assert where == Sent(*one.store.origin).topic("status")
        enrolled.check(where, body)


@pytest.mark.parametrize("name", ["json", "cbor"])
def test_what_only_json_can_write_is_signed_as_it_is_sent(keys: Keys, name: DialectName) -> None:
    dialect = dialect_of(name, Origin("plant", "gw-1", "0" * 16), keys.signer("plant/gw-1"))
    message = Outgoing("summary", "pump", 0.0, {"text": "half \ud800, whole 😀, \\ud800"})
    received = decoded(dialect.record(message.numbered(1, "synced")).body)
    keys.enrolled(required=True).check(topic(), received)
    assert json.loads(received)["data"] == {"text": "half ?, whole 😀, \\ud800"}


def test_a_key_that_cannot_sign_for_this_gateway_is_refused(tmp_path: Path, keys: Keys) -> None:
    for file, why in {
        keys.make("plant/gw-2"): "the key of plant/gw-2, and not of plant/gw-1; make one with",
        keys.make("plant", "operate"): "its role is operate; a key with the role gateway is needed",
        keys.directory / "plant-gw-2.pub": "this is a public key; signing needs the secret key",
        tmp_path / "nowhere": "cannot be read",
    }.items():
        with pytest.raises(ConfigError, match=why):
            read_signer(file, "plant", "gw-1")
