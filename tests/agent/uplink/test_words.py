"""Who may say what a gateway deletes: the collector with its key, and nobody else on the broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.collector.books import Collected
from agent.collector.voice import Voice
from agent.health.status import uplink_lines
from agent.uplink.trust import Trust
from agent.uplink.words import CONTEXT, Rejected, Words
from models.keys import SecretKey, new_key, read_secret, revoke
from models.signed import parted, signed
from tests.conftest import RealBroker, wait_until
from tests.uplink_rig import Collecting, Gateway, Ops

STATUS = "fieldwatch/v1/plant/_central/status"
ACKNOWLEDGED = "fieldwatch/v1/plant/gw-1/acknowledged"
SLOW = {"acknowledgement": "central", "central_timeout_s": 3600}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The gateway's directory of keys: one of the collector, one for bundles."""
    (directory := tmp_path / "keys").mkdir()
    for role in ("collector", "bundle"):
        new_key(tmp_path / f"{role}.key", role).rename(directory / f"{role}.pub")
    return directory


@pytest.fixture
def key(keys: Path) -> SecretKey:
    return read_secret(keys.parent / "collector.key", "collector")


def enroll(keys: Path, name: str) -> SecretKey:
    """Make another key of a collector; the gateway trusts it, too."""
    new_key(keys.parent / f"{name}.key", "collector", name).rename(keys / f"{name}.pub")
    return read_secret(keys.parent / f"{name}.key", "collector")


def word(
    key: SecretKey, counter: object, topic: str = ACKNOWLEDGED, context: str = CONTEXT, **said: Any
) -> bytes:
    message = json.dumps(said | {"counter": counter}, separators=(",", ":")).encode()
    return signed(message, topic, context, key)


def central(gateway: Gateway) -> dict[str, Any]:
    document: dict[str, Any] = gateway.uplink.snapshot()["central"]
    return document


def rejected(gateway: Gateway) -> dict[str, int]:
    return {cause: count for cause, count in central(gateway)["rejected"].items() if count}


def told(gateway: Gateway) -> str:
    """What ``status`` says."""
    return "\n".join(uplink_lines(gateway.uplink.snapshot()))


def sending(gateway: Gateway, ops: Ops, key: SecretKey, count: int) -> None:
    """Let a gateway send so many messages to a broker, and no collector confirm them."""
    gateway.put(count)
    ops.say(STATUS, word(key, 1, STATUS, state="online"))
    gateway.uplink.start()
    wait_until(lambda: central(gateway)["unconfirmed"] == count, "the broker to have them")


def test_a_collector_with_a_key_that_is_trusted_is_followed(
    broker: RealBroker,
    collecting: Callable[..., Collecting],
    gateway: Callable[..., Gateway],
    keys: Path,
    key: SecretKey,
) -> None:
    one = gateway(broker.port, keys=keys, **SLOW)
    one.uplink.start()
    for _ in range(2):  # it comes again with higher counters
        there = collecting(broker.port, key=key)
        wait_until(lambda: central(one)["state"] == "online", "its word")
        one.put(5)
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
        there.close()
        wait_until(lambda: central(one)["state"] == "offline", "its goodbye")
        assert there.collector.counters["overwritten"] == 0
    assert rejected(one) == {}
    assert "believed" not in told(one)
    assert central(one)["through_seq"] == 10
    assert central(one)["trust"] == {
        "unsigned": False,
        "keys": [key.key_id.hex()],
        "problem": None,
    }


def test_a_status_that_somebody_overwrote_is_said_again(
    broker: RealBroker,
    ops: Ops,
    collecting: Callable[..., Collecting],
    gateway: Callable[..., Gateway],
    keys: Path,
    key: SecretKey,
) -> None:
    """Else one retained message would hold back the backlog of all gateways for good."""
    there = collecting(broker.port, key=key)
    one = gateway(broker.port, keys=keys, **SLOW)
    one.put(5)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    one.close()
    for number, words in enumerate(({"state": "offline"}, b"", b"\xff"), 1):
        ops.say(STATUS, words)
        wait_until(lambda n=number: there.collector.counters["overwritten"] == n, "its notice")
    again = gateway(broker.port, keys=keys, **SLOW)
    again.put(5)
    again.uplink.start()
    wait_until(lambda: again.delete_acknowledged() == 0, "an empty outbox")
    assert central(again)["state"] == "online"
    there.close()
    wait_until(lambda: central(again)["state"] == "offline", "its goodbye")


def unsigned(key: SecretKey, epoch: str) -> bytes:
    return json.dumps({"epoch": epoch, "through_seq": 3, "counter": 2}).encode()


def with_half_a_signature(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2, epoch=epoch, through_seq=3)[:-3] + b'"}'


def by_a_stranger(key: SecretKey, epoch: str) -> bytes:
    path = Path(key.source).with_name("stranger.key")
    new_key(path, "collector")
    return word(read_secret(path, "collector"), 2, epoch=epoch, through_seq=3)


def by_a_key_for_bundles(key: SecretKey, epoch: str) -> bytes:
    path = Path(key.source).with_name("bundle.key")
    return word(read_secret(path, "bundle"), 2, epoch=epoch, through_seq=3)


def altered(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2, epoch=epoch, through_seq=1).replace(b'"through_seq":1', b'"through_seq":3')


def for_another_gateway(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2, ACKNOWLEDGED.replace("gw-1", "gw-2"), epoch=epoch, through_seq=3)


def for_another_site(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2, ACKNOWLEDGED.replace("plant", "plant-2"), epoch=epoch, through_seq=3)


def of_another_kind(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2, context="fieldwatch.command.v1", epoch=epoch, through_seq=3)


def of_another_epoch(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2, epoch="0" * 16, through_seq=3)


def without_a_counter(key: SecretKey, epoch: str) -> bytes:
    return word(key, None, epoch=epoch, through_seq=3)


def with_true_for_a_counter(key: SecretKey, epoch: str) -> bytes:
    return word(key, True, epoch=epoch, through_seq=3)


def with_too_high_a_counter(key: SecretKey, epoch: str) -> bytes:
    return word(key, 2**63, epoch=epoch, through_seq=3)


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (unsigned, "unsigned"),
        (with_half_a_signature, "unsigned"),
        (by_a_stranger, "unknown_key"),
        (by_a_key_for_bundles, "wrong_role"),
        (altered, "bad_signature"),
        (for_another_gateway, "bad_signature"),
        (for_another_site, "bad_signature"),
        (of_another_kind, "bad_signature"),
        (of_another_epoch, "foreign_epoch"),
        (without_a_counter, "malformed"),
        (with_true_for_a_counter, "malformed"),
        (with_too_high_a_counter, "malformed"),
    ],
)
def test_nobody_else_on_the_broker_frees_a_message(
    broker: RealBroker,
    ops: Ops,
    gateway: Callable[..., Gateway],
    keys: Path,
    key: SecretKey,
    made: Callable[[SecretKey, str], bytes],
    cause: str,
) -> None:
    one = gateway(broker.port, keys=keys, **SLOW)
    sending(one, ops, key, 3)
    ops.say(ACKNOWLEDGED, made(key, one.store.origin.epoch))
    wait_until(lambda: rejected(one) == {cause: 1}, "the rejection")
    assert one.delete_acknowledged() == 3
    ops.say(ACKNOWLEDGED, word(key, 3, epoch=one.store.origin.epoch, through_seq=3))
    wait_until(lambda: one.delete_acknowledged() == 0, "the collector's own word")


def test_nobody_else_says_that_the_collector_is_there(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], keys: Path, key: SecretKey
) -> None:
    one = gateway(broker.port, keys=keys, **SLOW)
    one.put(3)
    ops.say(STATUS, {"state": "online"})
    one.uplink.start()
    wait_until(lambda: rejected(one) == {"unsigned": 1}, "the rejection")
    ops.say(STATUS, word(key, 5, STATUS, state="online"))
    wait_until(lambda: ops.numbers() == [1, 2, 3], "the backlog")
    ops.say(STATUS, word(key, 6, STATUS, state="offline"))
    wait_until(lambda: central(one)["state"] == "offline", "the word")
    ops.say(STATUS, word(key, 5, STATUS, state="online"))
    wait_until(lambda: rejected(one) == {"unsigned": 1, "replayed": 1}, "the rejection")
    assert central(one)["state"] == "offline"


def test_a_word_of_before_is_refused_after_a_restart_too_and_the_last_one_holds(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], keys: Path, key: SecretKey
) -> None:
    one = gateway(broker.port, keys=keys, **SLOW)
    sending(one, ops, key, 3)
    epoch = one.store.origin.epoch
    ops.say(ACKNOWLEDGED, word(key, 7, epoch=epoch, through_seq=2))
    wait_until(lambda: one.delete_acknowledged() == 1, "what is confirmed to go")
    one.close()
    ops.say(ACKNOWLEDGED, word(key, 6, epoch=epoch, through_seq=3))
    again = gateway(broker.port, keys=keys, **SLOW)
    again.uplink.start()
    wait_until(lambda: rejected(again) == {"replayed": 1}, "the rejection")
    wait_until(lambda: central(again)["unconfirmed"] == 1, "the last one to be sent again")
    assert again.delete_acknowledged() == 1
    ops.say(ACKNOWLEDGED, word(key, 7, epoch=epoch, through_seq=2))  # as the broker retained it
    wait_until(lambda: central(again)["through_seq"] == 2, "the word that holds")


def test_what_was_never_sent_stays_whoever_says_that_he_has_it(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    """Without signatures, and no collector there: so nothing of the backlog is sent."""
    one = gateway(broker.port, **SLOW)
    one.put(9)
    one.put(10, "alarm")
    one.uplink.start()
    ops.say(ACKNOWLEDGED, {"epoch": one.store.origin.epoch, "through_seq": 9, "also": [[11, 19]]})
    wait_until(lambda: central(one)["through_seq"] == 9, "the word")
    assert "UNSIGNED acknowledgements are accepted" in told(one)
    assert one.delete_acknowledged() == 19
    ops.say(STATUS, {"state": "online"})
    wait_until(lambda: one.delete_acknowledged() == 1, "what was sent and confirmed to go")
    assert sorted(ops.numbers()) == list(range(1, 20))


def test_what_nobody_got_is_not_sent(broker: RealBroker, gateway: Callable[..., Gateway]) -> None:
    """The broker answers that nobody is subscribed: nobody can have it."""
    one = gateway(broker.port, **SLOW, unsubscribed_retry_s=3600)
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
    one.put(3, "alarm")
    one.uplink.committed([])
    wait_until(lambda: one.uplink.snapshot()["state"] == "held", "the broker's answer")
    liar = Ops(broker.port, "nothing", client_id="liar")
    liar.say(ACKNOWLEDGED, {"epoch": one.store.origin.epoch, "through_seq": 3})
    wait_until(lambda: central(one)["through_seq"] == 3, "the word")
    assert one.delete_acknowledged() == 3
    liar.close()


def test_a_key_is_replaced_while_gateways_run(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], keys: Path, key: SecretKey
) -> None:
    one = gateway(broker.port, keys=keys, **SLOW)
    sending(one, ops, key, 4)
    epoch = one.store.origin.epoch
    (aside := keys.parent / "aside").mkdir()
    new = enroll(keys, "new")
    (keys / "new.pub").rename(aside / "new.pub")
    ops.say(ACKNOWLEDGED, word(new, 1, epoch=epoch, through_seq=1))
    wait_until(lambda: rejected(one) == {"unknown_key": 1}, "the rejection")
    (aside / "new.pub").rename(keys / "new.pub")  # what was refused is heard again
    wait_until(lambda: one.delete_acknowledged() == 3, "the new key to be followed")
    ops.say(ACKNOWLEDGED, word(key, 9, epoch=epoch, through_seq=2))
    wait_until(lambda: one.delete_acknowledged() == 2, "the old key to be followed, too")
    revoke(keys, key.key_id.hex(), "replaced")
    wait_until(lambda: rejected(one).get("revoked_key") == 2, "its words to be refused")
    assert one.delete_acknowledged() == 2
    assert central(one)["trust"]["keys"] == [new.key_id.hex()]
    ops.say(STATUS, word(new, 1, STATUS, state="online"))
    ops.say(ACKNOWLEDGED, word(new, 2, epoch=epoch, through_seq=4))
    wait_until(lambda: one.delete_acknowledged() == 0, "the new key's word")


def test_while_the_keys_cannot_be_read_nobody_is_believed(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], keys: Path, key: SecretKey
) -> None:
    one = gateway(broker.port, keys=keys, **SLOW)
    sending(one, ops, key, 1)
    (keys / "revoked").write_text("scribble\n")
    wait_until(lambda: central(one)["trust"]["problem"] is not None, "the problem")
    assert "NO COLLECTOR is trusted" in told(one)
    assert "revoked: line 1" in told(one)
    ops.say(ACKNOWLEDGED, word(key, 9, epoch=one.store.origin.epoch, through_seq=1))
    wait_until(lambda: rejected(one).get("unknown_key") == 2, "the words to be refused")
    assert one.delete_acknowledged() == 1
    (keys / "revoked").unlink()
    wait_until(lambda: one.delete_acknowledged() == 0, "the same word, read again")


def read(words: Words, body: bytes) -> str:
    try:
        return str(words.read(ACKNOWLEDGED, body)["n"])
    except Rejected as error:
        return error.cause


def words_of(keys: Path, counters: Mapping[str, int]) -> Words:
    words = Words(Trust(keys), unsigned=False)
    words.connected(counters)
    return words


def test_the_last_word_may_come_again_and_no_other(keys: Path, key: SecretKey) -> None:
    other = enroll(keys, "other")
    words = words_of(keys, {})
    assert [read(words, word(key, n, n=n)) for n in (3, 3, 2, 4, 3)] == [
        *("3", "3", "replayed", "4", "replayed")
    ]
    assert read(words, word(other, 1, n=1)) == "1"
    assert read(words, word(key, 4, n=4)) == "replayed"  # the other key's holds now
    assert read(words, word(key, 5, n=5)) == "5"
    news = words.news()
    assert sorted(news.values()) == [1, 5]
    assert words.news() == {}
    again = words_of(keys, news)
    assert read(again, word(key, 4, n=4)) == "replayed"
    assert read(again, word(key, 5, n=5)) == "5"


def test_a_revoked_keys_counters_bind_no_other_key(keys: Path, key: SecretKey) -> None:
    words = words_of(keys, {})
    assert read(words, word(key, 2**63 - 1, n=1)) == "1"
    revoke(keys, key.key_id.hex(), "stolen")
    new = enroll(keys, "new")
    words = words_of(keys, words.news())
    assert read(words, word(key, 2**63 - 1, n=1)) == "revoked_key"
    assert read(words, word(new, 1, n=2)) == "2"


def test_counters_of_the_collector_rise_over_restarts_and_with_a_new_database(
    tmp_path: Path, key: SecretKey
) -> None:
    def counters(directory: str, count: int) -> list[int]:
        with Collected(tmp_path / directory, "plant") as collected:
            voice = Voice(key, collected)
            said = [parted(voice.say(STATUS, b'{"state":"online"}')) for _ in range(count)]
        return [json.loads(message)["counter"] for message, _ in said]

    found = [*counters("a", 3), *counters("a", 20_001), *counters("a", 1)]
    assert found == sorted(set(found))
    with Collected(tmp_path / "a", "plant") as collected:
        ahead = collected.reserve_counters(2**50, 10)
        assert collected.reserve_counters(0, 10) == ahead + 10  # the clock was set back
    assert counters("b", 1)[0] > found[0]


def test_a_collector_without_its_database_and_with_a_clock_that_is_behind_is_followed(
    broker: RealBroker,
    tmp_path: Path,
    collecting: Callable[..., Collecting],
    gateway: Callable[..., Gateway],
    keys: Path,
    key: SecretKey,
) -> None:
    """Else gateways refuse all that it says until the clock has come so far again."""
    (tmp_path / "before").mkdir()
    with Collected(tmp_path / "before", "plant") as collected:  # then its clock was years ahead
        collected.reserve_counters(2**42, 1)
    one = gateway(broker.port, keys=keys, **SLOW)
    one.uplink.start()
    there = collecting(broker.port, "before", key=key)
    one.put(5)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    there.close()
    wait_until(lambda: central(one)["state"] == "offline", "its goodbye")
    collecting(broker.port, "after", key=key)
    wait_until(lambda: central(one)["state"] == "online", "its word")
    one.put(5)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")


def test_only_a_status_of_its_own_tells_the_collector_how_far_it_has_counted(
    tmp_path: Path, key: SecretKey
) -> None:
    other = enroll(tmp_path / "keys", "other")
    with Collected(tmp_path, "plant") as collected:
        voice = Voice(key, collected)
        online, offline = (voice.say(STATUS, b'{"state":"%s"}' % to) for to in (b"online", b"off"))
        not_ours = [
            word(other, 2**50, STATUS, state="online"),
            word(key, 2**50, ACKNOWLEDGED, state="online"),
            word(key, 2**50, STATUS, state="online").replace(b"online", b"offlin"),
            *(b"", b"{}", b"\xff"),
        ]
        for status in (*not_ours, online, word(key, 1, STATUS, state="online")):
            assert not voice.behind(STATUS, status, online)
        # a copy of the database counts on from the same number
        for status in (offline, word(key, 2**50, STATUS, state="online")):
            assert voice.behind(STATUS, status, online)
            assert counter_of(voice.say(STATUS, b'{"state":"online"}')) > counter_of(status)
        assert not Voice(None, collected).behind(STATUS, offline, online)


def counter_of(said: bytes) -> int:
    return int(json.loads(parted(said).message)["counter"])


def test_without_a_key_the_collector_says_what_it_always_said(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant") as collected:
        assert Voice(None, collected).say(STATUS, b'{"state":"online"}') == b'{"state":"online"}'
