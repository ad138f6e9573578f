"""``acknowledgement = "central"``: what a gateway does on the word of a collector."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from agent.store.batch import Batch
from agent.store.record import Outgoing
from tests.conftest import RealBroker, wait_until
from tests.hostile import HOSTILE, SHOWN
from tests.uplink_rig import Collecting, Gateway, Ops

STATUS = "fieldwatch/v1/plant/_central/status"
ACKNOWLEDGED = "fieldwatch/v1/plant/gw-1/acknowledged"
SLOW = {"acknowledgement": "central", "central_timeout_s": 3600}


def test_a_message_stays_until_the_collector_says_that_it_has_it(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, **SLOW)
    one.put(9)
    one.uplink.start()
    ops.say(STATUS, {"state": "online"})
    wait_until(
        lambda: one.uplink.snapshot()["central"]["unconfirmed"] == 9, "the broker to have it"
    )
    assert one.delete_acknowledged() == 9
    epoch = one.store.origin.epoch
    ops.say(ACKNOWLEDGED, {"epoch": epoch, "through_seq": 3, "also": [[5, 6], [9, 9]]})
    wait_until(lambda: one.delete_acknowledged() == 3, "what was confirmed to be gone")
    wait_until(lambda: one.uplink.snapshot()["central"]["unconfirmed"] == 3, "the rest")
    ops.say(ACKNOWLEDGED, {"epoch": epoch, "through_seq": 9})
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    assert ops.numbers() == list(range(1, 10))
    assert one.uplink.snapshot()["acknowledged"] == 9


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"epoch": "another", "through_seq": 3}, "foreign_epoch"),
        ({"epoch": None, "through_seq": 4}, "beyond"),
        ({"epoch": None, "through_seq": 1, "also": [[3, 4]]}, "beyond"),
        ({"epoch": None, "through_seq": "3"}, "malformed"),
        ({"epoch": None, "through_seq": -1}, "malformed"),
        ({"epoch": None, "through_seq": True}, "malformed"),
        ({"epoch": None, "through_seq": 2, "also": [[1, 3]]}, "malformed"),
        ({"through_seq": 3}, "malformed"),
        ([], "malformed"),
        (b"\xff", "malformed"),
        (b"[" * 5000, "malformed"),
        (b"", "malformed"),
    ],
)
def test_an_acknowledgement_that_cannot_be_right_is_counted_and_deletes_nothing(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway], said: object, cause: str
) -> None:
    one = gateway(broker.port, **SLOW)
    one.put(3)
    if isinstance(said, dict) and said.get("epoch", "") is None:
        said = said | {"epoch": one.store.origin.epoch}
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
    ops.say(ACKNOWLEDGED, b"{}")  # until it is subscribed, which this shows
    wait_until(lambda: one.uplink.snapshot()["central"]["rejected"]["malformed"] == 1, "a word")
    ops.say(ACKNOWLEDGED, said)
    expected = 2 if cause == "malformed" else 1
    wait_until(
        lambda: one.uplink.snapshot()["central"]["rejected"][cause] == expected, "the rejection"
    )
    assert one.delete_acknowledged() == 3


def test_a_retained_acknowledgement_of_any_text_does_not_end_the_link(
    broker: RealBroker,
    ops: Ops,
    gateway: Callable[..., Gateway],
    journal_entries: Callable[[], list[bytes]],
) -> None:
    """The rejection is logged, to the journal: there no text may raise in the sender's thread."""
    ops.say(ACKNOWLEDGED, {"epoch": HOSTILE, "through_seq": 3})
    one = gateway(broker.port, **SLOW)
    one.put(3)
    ops.say(STATUS, {"state": "online"})
    one.uplink.start()
    rejected = "foreign_epoch"
    wait_until(lambda: one.uplink.snapshot()["central"]["rejected"][rejected] == 1, "a rejection")
    ops.say(ACKNOWLEDGED, {"epoch": one.store.origin.epoch, "through_seq": 2})
    wait_until(lambda: one.delete_acknowledged() == 1, "an acknowledgement to be followed")
    assert any(SHOWN.encode() in entry for entry in journal_entries())


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({"through_seq": 10}, 0),
        ({"through_seq": 2, "also": [[4, 2**62]]}, 1),
        ({"through_seq": 2, "also": [[4, 4], [6, 2**62]]}, 1),
        ({"through_seq": 1, "also": [[2**61, 2**62]]}, 3),
    ],
)
def test_an_acknowledgement_counts_as_far_as_there_are_numbers(
    broker: RealBroker,
    ops: Ops,
    gateway: Callable[..., Gateway],
    said: dict[str, object],
    left: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever can publish as this gateway can have a collector acknowledge more."""
    one = gateway(broker.port, **SLOW)
    one.put(4)
    one.uplink.start()
    ops.say(STATUS, {"state": "online"})
    wait_until(lambda: one.uplink.snapshot()["central"]["unconfirmed"] == 4, "the broker")
    ops.say(ACKNOWLEDGED, said | {"epoch": one.store.origin.epoch})
    wait_until(lambda: one.delete_acknowledged() == left, "what was confirmed to be gone")
    central = one.uplink.snapshot()["central"]
    assert central["rejected"]["beyond"] == 1
    assert "If this database is an older copy" in caplog.text
    assert central["through_seq"] <= 4


def test_our_highest_number_is_told_again_when_a_collector_comes(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, **SLOW)
    one.uplink.start()
    wait_until(lambda: [said["seq"] for said in ops.statuses] == [0], "the link")
    one.put(7)
    ops.say(STATUS, {"state": "online"})
    wait_until(lambda: [said["seq"] for said in ops.statuses] == [0, 7], "the status again")


def test_what_is_overdue_is_sent_again_and_nothing_else(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, acknowledgement="central", central_timeout_s=0.5)
    one.put(6)
    ops.say(STATUS, {"state": "online"})
    ops.say(ACKNOWLEDGED, {"epoch": one.store.origin.epoch, "through_seq": 2, "also": [[4, 5]]})
    one.uplink.start()
    wait_until(lambda: len([m for m in ops.received if m["seq"] == 6]) >= 3, "two repeats")
    seqs = [message["seq"] for message in ops.received]
    assert set(seqs[-2:]) == {3, 6}
    assert len(seqs) <= 6 + 2 * (seqs.count(6) - 1)
    assert one.uplink.snapshot()["central"]["resent"] >= 4
    assert one.delete_acknowledged() == 2


def test_the_backlog_waits_for_the_collector_and_new_alarms_do_not(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, **SLOW)
    one.put(5)
    one.put(2, "alarm")
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
    wait_until(lambda: len(ops.statuses) == 1, "the status")
    one.put(1, "alarm")
    one.uplink.committed([])
    wait_until(lambda: ops.numbers() == [8], "the new alarm alone")
    assert one.uplink.snapshot()["central"]["state"] == "offline"
    ops.say(STATUS, {"state": "online"})
    wait_until(lambda: len(ops.received) == 8, "the rest")
    assert ops.numbers() == [8, 6, 7, 1, 2, 3, 4, 5]
    ops.say(STATUS, {"state": "offline"})
    wait_until(lambda: one.uplink.snapshot()["central"]["state"] == "offline", "the word")


def test_the_collector_learns_what_will_not_come_and_goes_on(
    broker: RealBroker, collecting: Callable[..., Collecting], gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, acknowledgement="central", central_timeout_s=5)
    one.put(40)
    # as an eviction does; 3 stays behind a gap, and the highest number is gone too
    one.store.commit(Batch(acked=[1, 2, *range(10, 20), 40]), "synced")
    central = collecting(broker.port)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(
        lambda: one.uplink.snapshot()["central"]["through_seq"] == 40, "the books to be closed"
    )
    assert central.numbers() == [*range(3, 10), *range(20, 40)]
    assert central.collector.counters["gone"] == 13


def test_a_collector_that_lost_its_books_starts_where_the_outbox_does(
    broker: RealBroker, collecting: Callable[..., Collecting], gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, acknowledgement="central", central_timeout_s=0.5)
    first = collecting(broker.port, "first")
    one.put(30)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    first.close()
    wait_until(lambda: one.uplink.snapshot()["central"]["state"] == "offline", "its goodbye")
    second = collecting(broker.port, "second")
    # what meets nobody is held and comes after what follows it in the window
    wait_until(lambda: one.uplink.snapshot()["central"]["state"] == "online", "the second")
    one.put(5)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox again")
    assert second.numbers() == list(range(31, 36))
    wait_until(lambda: second.collector.counters["gone"] == 30, "word of what went before")


def test_what_met_nobody_goes_as_soon_as_the_collector_is_there(
    broker: RealBroker, collecting: Callable[..., Collecting], gateway: Callable[..., Gateway]
) -> None:
    one = gateway(
        broker.port, acknowledgement="central", central_timeout_s=3600, unsubscribed_retry_s=3600
    )
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
    one.put(3)
    one.uplink.committed([])
    wait_until(lambda: one.uplink.snapshot()["state"] == "held", "the answer that nobody is there")
    central = collecting(broker.port)
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    assert central.numbers() == [1, 2, 3]


def test_a_link_that_is_never_up_for_long_gets_everything_through_all_the_same(
    broker: RealBroker, ops: Ops, gateway: Callable[..., Gateway]
) -> None:
    """What the broker took and lost is sent again once the collector was there for the time."""
    one = gateway(broker.port, acknowledgement="central", central_timeout_s=1.0)
    one.put(2)
    one.uplink.start()
    for _ in range(5):
        ops.say(STATUS, {"state": "online"})
        wait_until(lambda: one.uplink.snapshot()["central"]["state"] == "online", "the word")
        time.sleep(0.4)
        ops.say(STATUS, {"state": "offline"})
        wait_until(lambda: one.uplink.snapshot()["central"]["state"] == "offline", "the word")
    assert sorted({message["seq"] for message in ops.received}) == [1, 2]
    assert len([message for message in ops.received if message["seq"] == 1]) >= 2


def test_health_that_is_too_old_is_dropped_counted_and_told(
    broker: RealBroker, collecting: Callable[..., Collecting], gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, acknowledgement="central", health_expiry_s=600)
    one.put(3, "health")  # of 1970
    one.put(2)
    central = collecting(broker.port)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    wait_until(lambda: central.collector.counters["gone"] == 3, "word of it")
    assert central.numbers() == [4, 5]
    assert one.uplink.snapshot()["expired"] == 3


def test_a_collector_that_is_told_of_nothing_new_is_left_alone(
    broker: RealBroker,
    collecting: Callable[..., Collecting],
    ops: Ops,
    gateway: Callable[..., Gateway],
) -> None:
    central = collecting(broker.port)
    one = gateway(broker.port, acknowledgement="central", central_timeout_s=0.3)
    one.uplink.start()
    for _ in range(4):
        one.put(10)
        one.store.commit(Batch(messages=[Outgoing("alarm", "pump", 0.0, {})]), "synced")
        wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    # on a busy machine its word came late, and some were sent again; from now on there is no reason
    wait_until(lambda: one.uplink.snapshot()["central"]["unconfirmed"] == 0, "its last word")
    resent, quiet_s = one.uplink.snapshot()["central"]["resent"], time.monotonic() + 5 * 0.3
    wait_until(lambda: time.monotonic() > quiet_s, "what it could be told after some time")
    assert one.uplink.snapshot()["central"]["resent"] == resent
    assert central.collector.counters["new"] == 44
    assert central.collector.counters["repeated"] <= resent
    assert central.collector.counters.keys() <= {"new", "repeated"}
    assert not [message for message in ops.received if message["type"] == "fieldwatch.gone.v1"]
