"""What the word of a broker is worth, and what that of a collector: the broker's own failures.

It acknowledges, and then its queue overflows, or it is gone with all that waited in its memory.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.collector_process import CollectorProcess
from tests.conftest import RealBroker, wait_until
from tests.uplink_rig import Gateway

MESSAGES = 300


@pytest.fixture
def collector() -> Iterator[Callable[[int, Path], CollectorProcess]]:
    made: list[CollectorProcess] = []

    def make(port: int, directory: Path) -> CollectorProcess:
        made.append(CollectorProcess(port, directory))
        return made[-1]

    yield make
    for one in made:
        one.end()


def overflow(broker: RealBroker) -> None:
    """Nothing to be done: it holds 10 messages, and has dropped the rest."""


def restart(broker: RealBroker) -> None:
    broker.kill()
    broker.start()


@pytest.mark.parametrize("acknowledgement", ["broker", "central"])
@pytest.mark.parametrize(("more", "trouble"), [("max_queued_messages 10", overflow), ("", restart)])
def test_what_a_broker_acknowledged_and_lost_is_lost_unless_the_collector_has_the_word(
    tmp_path: Path,
    collector: Callable[[int, Path], CollectorProcess],
    more: str,
    trouble: Callable[[RealBroker], None],
    acknowledgement: str,
) -> None:
    broker = RealBroker(tmp_path, more + "\n")
    broker.start()
    central = collector(broker.port, tmp_path / "central")
    gateway = Gateway(tmp_path, broker.port, acknowledgement=acknowledgement, central_timeout_s=2)
    try:
        gateway.put(1)
        gateway.uplink.start()
        wait_until(lambda: gateway.delete_acknowledged() == 0, "the first message")
        wait_until(lambda: central.seqs() == [1], "the first message at the collector")
        central.send_signal(signal.SIGSTOP)
        gateway.put(MESSAGES)
        wait_until(lambda: taken_by_the_broker(gateway) == MESSAGES, "the broker to have all")
        trouble(broker)
        central.send_signal(signal.SIGCONT)
        if acknowledgement == "broker":
            wait_until(lambda: a_new_one_arrives(gateway, central), "the collector to hear again")
            assert sum(seq <= MESSAGES + 1 for seq in central.seqs()) < MESSAGES / 2
        else:
            wait_until(lambda: gateway.delete_acknowledged() == 0, "an empty outbox")
            assert sorted(central.seqs()) == list(range(1, MESSAGES + 2))
    finally:
        gateway.close()
        broker.kill()


def a_new_one_arrives(gateway: Gateway, central: CollectorProcess) -> bool:
    """Send one more; the broker drops those too that come before its queue is empty."""
    gateway.put(1, "alarm")
    wait_until(lambda: gateway.delete_acknowledged() == 0, "an empty outbox")
    return max(central.seqs()) > MESSAGES + 1


def taken_by_the_broker(gateway: Gateway) -> int:
    link = gateway.uplink.snapshot()
    if link["central"] is None:
        return MESSAGES - gateway.delete_acknowledged()
    return int(link["central"]["unconfirmed"])
